-- Move money between two participants of one group.
create or replace function ledger.transfer(
  group_id        bigint,
  from_id         bigint,
  to_id           bigint,
  amount          numeric,
  idempotency_key text  default null,
  metadata        jsonb default null
) returns ledger.transfer_result
language plpgsql volatile security definer
set search_path = ledger, ledger_internal, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
as $$
declare
  request text[];
  result  transfer_result;
begin
  if not transfer_is_valid(group_id, from_id, to_id, amount, idempotency_key, metadata) then
    perform refuse_invalid(
      array['group_id', 'from_id', 'to_id', 'amount', 'idempotency_key', 'metadata'],
      array[
        invalid_id(group_id),
        invalid_id(from_id),
        case when to_id = from_id then 'must be another participant' else invalid_id(to_id) end,
        invalid_amount(amount, 1),
        invalid_idempotency_key(idempotency_key),
        invalid_metadata(metadata)
      ]
    );
  end if;

  if idempotency_key is null then
    return execute_transfer(group_id, from_id, to_id, amount, metadata, null);
  end if;

  request := transfer_request(from_id, to_id, amount, metadata);
  result := claim_idempotency_key(group_id, idempotency_key, request, result);
  if result.replayed then
    return result;
  end if;
  result := execute_transfer(group_id, from_id, to_id, amount, metadata, null);
  perform store_entry(group_id, idempotency_key, request, result.entry_id);
  return result;
end
$$;

alter function ledger.transfer owner to ledger_owner;
comment on function ledger.transfer is
  'Move amount from one participant to another of the same group. entry_id is the entry written. Raises LG001, LG002, LG003, LG006, LG014.';
revoke execute on function ledger.transfer from public;
grant execute on function ledger.transfer to ledger_api;
