-- Make many transfers of one group in one step, and return no line of them.
create or replace function ledger.transfer_all_minimal(
  group_id        bigint,
  transfers       jsonb,
  idempotency_key text default null
) returns ledger.list_summary
language plpgsql volatile security definer
set search_path = ledger, ledger_internal, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
-- As for transfer_all().
set plan_cache_mode = force_generic_plan
as $$
declare
  result transfer_all_result;
begin
  -- An idempotency key stores the whole answer: the request may be repeated by transfer_all().
  if idempotency_key is not null then
    result := transfer_all(group_id, transfers, idempotency_key);
  else
    result := execute_transfers(check_transfer_list(group_id, transfers, null), with_participants => false);
  end if;
  return (
    (result.entries[1]).id, (result.entries[cardinality(result.entries)]).id, cardinality(result.entries), result.replayed
  )::list_summary;
end
$$;

alter function ledger.transfer_all_minimal owner to ledger_owner;
comment on function ledger.transfer_all_minimal is
  'Do what transfer_all does, and return only the first and the last entry that were written and their number. A repetition may be of either function. Raises LG001, LG002, LG003, LG006, LG014.';
revoke execute on function ledger.transfer_all_minimal from public;
grant execute on function ledger.transfer_all_minimal to ledger_api;
