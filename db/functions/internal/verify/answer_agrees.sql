-- Whether a stored answer agrees with the record.
create or replace function ledger_internal.answer_agrees(
  kept   ledger.idempotency_keys,
  answer jsonb,
  named  bigint,
  entry  ledger.entries
) returns boolean
language plpgsql stable
as $$
declare
  -- The entry in the form in which a reversal or a settlement returns it.
  written jsonb;
begin
  if kept.operation in ('reverse_transfer', 'settle_exit') then
    written := jsonb_build_object(
      'group_id', entry.group_id, 'id', entry.id, 'kind', entry.kind, 'from_id', entry.from_id, 'to_id', entry.to_id,
      'amount', entry.amount, 'from_amount', entry.from_amount, 'to_amount', entry.to_amount,
      'created_at', entry.created_at, 'metadata', entry.metadata, 'reverses', entry.reverses
    );
  end if;

  case kept.operation
    when 'transfer' then
      return entry.kind = 'transfer' and entry.reverses is null and answer @> jsonb_build_object(
        'to_participant', jsonb_build_object('id', entry.to_id, 'group_id', entry.group_id, 'amount', entry.to_amount),
        'from_participant', jsonb_build_object('id', entry.from_id, 'group_id', entry.group_id, 'amount', entry.from_amount)
      );
    when 'join_group' then
      return entry.kind = 'join'
        and answer @> jsonb_build_object('id', entry.to_id, 'group_id', entry.group_id, 'amount', entry.amount);
    when 'deposit' then
      return entry.kind = 'deposit'
        and answer @> jsonb_build_object('id', entry.to_id, 'group_id', entry.group_id, 'amount', entry.to_amount);
    when 'exit_group' then
      return entry.kind = 'exit' and answer @> jsonb_build_object('final_amount', entry.amount);
    when 'reverse_transfer' then
      return entry.reverses is not null and answer @> written;
    when 'settle_exit' then
      return answer @> written and exists (
        select from ledger.settlements as s
        where s.group_id = entry.group_id
          and s.entry_id = entry.id
          and s.reference is not null
          and answer @> jsonb_build_object('reference', s.reference, 'settled_at', s.settled_at)
      );
    when 'create_group' then
      return kept.group_id = 0 and exists (select from ledger.groups as g where g.id = named);
    when 'rename_group' then
      return named = kept.group_id;
    when 'rename_participant' then
      return answer @> jsonb_build_object('group_id', kept.group_id) and exists (
        select from ledger.participants as p
        where p.group_id = kept.group_id
          and p.id = named
      );
    when 'bind_address' then
      return answer @> jsonb_build_object('group_id', kept.group_id) and exists (
        select from ledger.participants as p
        where p.group_id = kept.group_id
          and p.id = named
          and p.address = ledger_internal.parse_address(answer ->> 'address')
      );
    when 'checkpoint' then
      return exists (
        select from ledger.checkpoint_headers as h
        where h.group_id = kept.group_id
          and h.number = ledger_internal.parse_id(answer ->> 'number')
          and answer @> (to_jsonb(h) - 'state')
      );
    when 'remove_group' then
      return exists (select from ledger.groups as g where g.id = kept.group_id and g.closed_at is not null);
    else
      return false;
  end case;
end
$$;

alter function ledger_internal.answer_agrees owner to ledger_owner;
comment on function ledger_internal.answer_agrees is
  'Whether the answer stored under an idempotency key agrees with the record: with the entry that it names, or with the group, the participant or the checkpoint that it names; null or false where it does not. Names are not compared. For answer_discrepancies.';
revoke execute on function ledger_internal.answer_agrees from public;
