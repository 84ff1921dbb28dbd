-- Make many transfers of one group in one step: all of them in their order, or none.
create or replace function ledger.transfer_all(
  group_id        bigint,
  transfers       jsonb,
  idempotency_key text default null
) returns ledger.transfer_all_result
language plpgsql volatile security definer
set search_path = ledger, ledger_internal, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
-- One plan serves every list: planning takes longer than executing a short list.
set plan_cache_mode = force_generic_plan
as $$
declare
  lines     transfer_lines;
  legs      transfer_legs;
  decisions transfer_decisions;
  request   text[];
  result    transfer_all_result;
begin
  perform refuse_invalid(
    array['group_id', 'transfers', 'idempotency_key'],
    array[
      invalid_id(group_id),
      case
        when transfers is null
        then 'must be given'
        when jsonb_typeof(transfers) <> 'array'
        then 'must be a list'
        when jsonb_array_length(transfers) not between 1 and 10000
        then 'must have 1 to 10000 lines'
      end,
      invalid_idempotency_key(idempotency_key)
    ]
  );
  lines := parse_transfer_lines(group_id, transfers);

  if idempotency_key is not null then
    request := transfer_all_request(lines.from_ids, lines.to_ids, lines.amounts, lines.metadatas);
    result := claim_idempotency_key(group_id, idempotency_key, request, result);
    if result.replayed then
      return result;
    end if;
  end if;

  legs := lock_legs(lines, wait => true);
  if array_position(legs.numbers, null) is not null then
    perform refuse_unknown_legs(lines, legs);
  end if;
  decisions := decide_transfers(lines, legs, all_or_nothing => true);
  if decisions.violation is not null then
    perform refuse_transfer(
      decisions.violation,
      format('transfers[%s].amount', decisions.refused - 1),
      lines.from_ids[decisions.refused],
      decisions.balances[legs.numbers[decisions.refused]],
      lines.amounts[decisions.refused]
    );
  end if;
  perform post_transfers(lines, legs, decisions);

  result.entries := decisions.entries;
  select array_agg((l.username, l.id, l.group_id, l.balance)::current_participants)
  into result.participants
  from unnest(legs.usernames, legs.ids, legs.group_ids, decisions.balances) as l (username, id, group_id, balance);
  result.replayed := false;
  perform store_answer(group_id, idempotency_key, request, result);
  return result;
end
$$;

alter function ledger.transfer_all owner to ledger_owner;
comment on function ledger.transfer_all is
  'Make 1 to 10,000 transfers of a group, a JSON list of {"from", "to", "amount", "metadata"}, all or none, in order: a line may spend what an earlier line transferred. entries are the entries written, by line; participants are the participants of all lines, with their balances at the end. A field of a line is named as transfers[0].amount. Raises LG001, LG002, LG003, LG006, LG014.';
revoke execute on function ledger.transfer_all from public;
grant execute on function ledger.transfer_all to ledger_api;
