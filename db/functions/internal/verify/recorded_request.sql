-- List the values of the request that an answer is of, as far as the record and the names in the answer show them.
create or replace function ledger_internal.recorded_request(
  operation text,
  answer    jsonb,
  named     bigint,
  entry     ledger.entries
) returns text[]
language sql immutable parallel safe
as $$
  select case recorded_request.operation
    when 'transfer' then ledger_internal.transfer_request(entry.from_id, entry.to_id, entry.amount, entry.metadata)
    else
      recorded_request.operation || case recorded_request.operation
        when 'join_group' then array[answer ->> 'username', entry.amount::text, entry.metadata::text]
        when 'deposit' then array[entry.to_id::text, entry.amount::text, entry.metadata::text]
        when 'exit_group' then array[entry.from_id::text, entry.metadata::text]
        when 'reverse_transfer' then array[entry.reverses::text, entry.metadata::text]
        when 'settle_exit' then array[entry.id::text, answer ->> 'reference']
        when 'create_group' then array[answer ->> 'name']
        when 'rename_group' then array[answer ->> 'name']
        when 'rename_participant' then array[recorded_request.named::text, answer ->> 'username']
        when 'bind_address' then array[recorded_request.named::text, answer ->> 'address']
      end
  end
$$;

alter function ledger_internal.recorded_request owner to ledger_owner;
comment on function ledger_internal.recorded_request is
  'The operation and the values of a request with an idempotency key, for its fingerprint, from its answer and the entry that this names; without an address that a join or an exit may have bound. For answer_discrepancies.';
revoke execute on function ledger_internal.recorded_request from public;
