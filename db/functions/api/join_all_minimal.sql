-- Make many joins of one group in one step, and return no line of them.
create or replace function ledger.join_all_minimal(
  group_id        bigint,
  participants    jsonb,
  idempotency_key text default null
) returns ledger.list_summary
language plpgsql volatile security definer
set search_path = ledger, ledger_internal, pg_temp
set enable_seqscan = off
-- As for join_all().
set plan_cache_mode = force_generic_plan
as $$
declare
  result join_all_result;
begin
  -- An idempotency key stores the whole answer: the request may be repeated by join_all().
  if idempotency_key is not null then
    result := join_all(group_id, participants, idempotency_key);
  else
    result := execute_joins(group_id, check_join_list(group_id, participants, null), with_participants => false);
  end if;
  return (
    (result.entries[1]).id, (result.entries[cardinality(result.entries)]).id, cardinality(result.entries), result.replayed
  )::list_summary;
end
$$;

alter function ledger.join_all_minimal owner to ledger_owner;
comment on function ledger.join_all_minimal is
  'Do what join_all does, and return only the first and the last entry that were written and their number. A repetition may be of either function. Raises LG001, LG002, LG005, LG006, LG010, LG012, LG014.';
revoke execute on function ledger.join_all_minimal from public;
grant execute on function ledger.join_all_minimal to ledger_api;
