-- Record the transaction on the main network that paid an exit, once.
create or replace function ledger.settle_exit(
  group_id        bigint,
  entry_id        bigint,
  reference       text,
  idempotency_key text default null
) returns ledger.entry_result
language plpgsql volatile security definer
set search_path = ledger, ledger_internal, pg_temp
set enable_seqscan = off
as $$
declare
  request    text[] := array['settle_exit', entry_id::text, reference];
  settlement settlements;
  settled    entry_result;
begin
  perform refuse_invalid(
    array['group_id', 'entry_id', 'reference', 'idempotency_key'],
    array[invalid_id(group_id), invalid_id(entry_id), invalid_reference(reference), invalid_idempotency_key(idempotency_key)]
  );

  settled := claim_idempotency_key(group_id, idempotency_key, request, settled);
  if settled.replayed then
    return settled;
  end if;

  if (find_vault(group_id)).group_id is not null then
    perform refuse_linked(group_id, 'group_id', 'The bridge settles an exit when the vault has paid it.');
  end if;

  select s.*
  into settlement
  from settlements as s
  where s.group_id = settle_exit.group_id
    and s.entry_id = settle_exit.entry_id
  for no key update;
  if not found then
    perform get_entry(group_id, entry_id);
    perform refuse_invalid(array['entry_id'], array['must be an exit']);
  end if;
  if settlement.reference <> reference then
    raise exception using
      errcode = 'LG008',
      column  = 'reference',
      message = format('exit %s of group %s was settled with another reference', entry_id, group_id),
      detail  = format('reference: is %s already', settlement.reference),
      hint    = 'Look at the exit with ledger.get_entry(); a settlement is final.';
  end if;

  if settlement.settled_at is null then
    update settlements as s
    set
      reference = settle_exit.reference,
      settled_at = greatest(clock_timestamp(), settlement.exited_at),
      settled_xid = pg_current_xact_id()
    where s.group_id = settle_exit.group_id
      and s.entry_id = settle_exit.entry_id;
  end if;

  -- The same reference again is a repeated request, also without a key.
  select
    r.*,
    settlement.settled_at is not null
  into settled
  from ledger.record as r
  where r.group_id = settle_exit.group_id
    and r.id = settle_exit.entry_id;
  perform store_answer(group_id, idempotency_key, request, settled);
  return settled;
end
$$;

alter function ledger.settle_exit owner to ledger_owner;
comment on function ledger.settle_exit is
  'Record the transaction on the main network that paid an exit, once; the same reference again changes nothing, and replayed is true. Refused in a group with a vault. Raises LG001, LG002, LG006, LG008, LG012.';
revoke execute on function ledger.settle_exit from public;
grant execute on function ledger.settle_exit to ledger_api;
