-- Compare a stored answer and its fingerprint with the record.
create or replace function ledger_internal.answer_discrepancies(
  kept ledger.idempotency_keys
) returns setof ledger.discrepancy
language plpgsql stable
as $$
declare
  answer      jsonb := case
    when kept.entry_id is null
    then ledger_internal.parse_answer(kept.answer)
    else jsonb_build_object('entry_id', kept.entry_id) || coalesce(ledger_internal.stored_answer(kept), '{}')
  end;
  of_entry    boolean := kept.operation in (
    'transfer', 'join_group', 'deposit', 'exit_group', 'reverse_transfer', 'settle_exit'
  );
  named       bigint := ledger_internal.parse_id(coalesce(answer ->> 'entry_id', answer ->> 'id'));
  entry       ledger.entries;
  request     text[];
  -- Of the participant who joined or left; the request may have had it.
  address     text;
  discrepancy ledger.discrepancy := (kept.group_id, null, null, 'idempotency key', null);
begin
  if octet_length(kept.fingerprint) is distinct from 32 then
    discrepancy.detail := 'has no fingerprint';
    return next discrepancy;
    return;
  elsif kept.entry_id is not null and kept.answer is not null then
    discrepancy.detail := 'has both an entry and an answer';
    return next discrepancy;
    return;
  elsif answer is null then
    discrepancy.detail := 'has an answer that cannot be read';
    return next discrepancy;
    return;
  elsif kept.operation = 'transfer_all' then
    return query select l.* from ledger_internal.transfer_all_discrepancies(kept.group_id, answer, kept.fingerprint) as l;
    return;
  elsif kept.operation = 'join_all' then
    return query select l.* from ledger_internal.join_all_discrepancies(kept.group_id, answer, kept.fingerprint) as l;
    return;
  end if;

  if of_entry then
    discrepancy.entry_id := named;
    select e.*
    into entry
    from ledger.entries as e
    where e.group_id = kept.group_id
      and e.id = named
    limit 1;
    if not found then
      discrepancy.detail := 'names an entry that is not there';
      return next discrepancy;
      return;
    end if;
  end if;

  if ledger_internal.answer_agrees(kept, answer, named, entry) is not true then
    discrepancy.detail := format('has an answer to %s that contradicts the record', kept.operation);
    return next discrepancy;
    return;
  end if;

  request := ledger_internal.recorded_request(kept.operation, answer, named, entry);
  if kept.operation in ('join_group', 'exit_group') then
    select ledger_internal.format_address(p.address)
    into address
    from ledger.participants as p
    where p.group_id = kept.group_id
      and p.id = coalesce(entry.to_id, entry.from_id);
  end if;

  -- A name is kept in NFC, and another spelling may have been asked for, unless it has none: of ASCII these three have one.
  if kept.fingerprint not in (ledger_internal.fingerprint(request), ledger_internal.fingerprint(request || address))
    and coalesce(answer ->> 'name', answer ->> 'username', '') !~ '[K;`\u0080-\uffff\U00010000-\U0010ffff]'
  then
    discrepancy.detail := 'has the fingerprint of another request than the record says';
    return next discrepancy;
  end if;
end
$$;

alter function ledger_internal.answer_discrepancies owner to ledger_owner;
comment on function ledger_internal.answer_discrepancies is
  'The discrepancies of the answer stored under an idempotency key, and of the fingerprint of its request; names in the answer are not compared. For verify_keys.';
revoke execute on function ledger_internal.answer_discrepancies from public;
