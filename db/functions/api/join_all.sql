-- Make many joins of one group in one step: all of them in their order, or none.
create or replace function ledger.join_all(
  group_id        bigint,
  participants    jsonb,
  idempotency_key text default null
) returns ledger.join_all_result
language plpgsql volatile security definer
set search_path = ledger, ledger_internal, pg_temp
set enable_seqscan = off
-- One plan serves every list: with the values of one it would be planned for ten thousand lines at each call.
set plan_cache_mode = force_generic_plan
as $$
declare
  lines   join_lines := check_join_list(group_id, participants, idempotency_key);
  request text[];
  result  join_all_result;
begin
  if idempotency_key is not null then
    request := join_all_request(lines.usernames, lines.amounts, lines.addresses, lines.metadatas);
    result := claim_idempotency_key(group_id, idempotency_key, request, result);
    if result.replayed then
      return result;
    end if;
  end if;

  result := execute_joins(group_id, lines, with_participants => true);
  perform store_answer(group_id, idempotency_key, request, result);
  return result;
end
$$;

alter function ledger.join_all owner to ledger_owner;
comment on function ledger.join_all is
  'Make 1 to 10,000 joins of a group, a JSON list of {"username", "amount", "metadata", "address"}, all or none, in order, each as join_group would. entries are the entries written and participants the participants who joined, by line. A field of a line is named as participants[0].username. Raises LG001, LG002, LG005, LG006, LG010, LG012, LG014.';
revoke execute on function ledger.join_all from public;
grant execute on function ledger.join_all to ledger_api;
