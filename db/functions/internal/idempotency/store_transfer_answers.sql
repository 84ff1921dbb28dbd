-- Store the answers to the transfers of a list under their idempotency keys, permanently.
create or replace function ledger_internal.store_transfer_answers(
  lines     ledger_internal.transfer_lines,
  legs      ledger_internal.transfer_legs,
  decisions ledger_internal.transfer_decisions
) returns void
language plpgsql volatile
as $$
declare
  last      integer := cardinality(lines.amounts);
  usernames text[] := legs.usernames;
  keyed     integer;
  written   integer;
begin
  insert into ledger.idempotency_keys (group_id, key, operation, fingerprint, answer)
  select
    l.group_id,
    l.key,
    'transfer',
    ledger_internal.fingerprint(ledger_internal.transfer_request(l.from_id, l.to_id, l.amount, l.metadata)),
    to_json((
      (usernames[l.recipient], l.to_id, l.group_id, l.to_amount)::ledger.current_participants,
      (usernames[l.sender], l.from_id, l.group_id, l.from_amount)::ledger.current_participants,
      l.entry_id,
      false
    )::ledger.transfer_result)
  from unnest(
    lines.group_ids, lines.amounts, lines.idempotency_keys, lines.metadatas, legs.numbers[: last], legs.numbers[last + 1 :],
    decisions.entries
  ) as l (
    group_id, amount, key, metadata, sender, recipient, entry_id, from_id, to_id, entry_amount, from_amount, to_amount
  )
  where l.entry_id is not null
    and l.key is not null
  -- As in store_answer().
  on conflict do nothing;
  get diagnostics written = row_count;
  keyed := (
    select count(*) from unnest(lines.idempotency_keys, decisions.moments) as l (key, moment)
    where l.key is not null
      and l.moment is not null
  );
  if written <> keyed then
    raise exception using
      errcode = 'serialization_failure',
      message = format('of %s idempotency keys %s were new', keyed, written);
  end if;
end
$$;

alter function ledger_internal.store_transfer_answers owner to ledger_owner;
comment on function ledger_internal.store_transfer_answers is
  'Store the answers to the transfers that were made and have an idempotency key. Call claim_idempotency_keys first. Raises 40001 when a key has been used, also by a request that the snapshot does not show.';
revoke execute on function ledger_internal.store_transfer_answers from public;
