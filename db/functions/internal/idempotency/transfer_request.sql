-- List the values that identify a transfer among requests with the same idempotency key.
create or replace function ledger_internal.transfer_request(
  from_id  bigint,
  to_id    bigint,
  amount   numeric,
  metadata jsonb
) returns text[]
language sql immutable parallel safe
as $$
  select array[
    'transfer',
    transfer_request.from_id::text,
    transfer_request.to_id::text,
    trunc(transfer_request.amount)::text,
    transfer_request.metadata::text
  ]
$$;

alter function ledger_internal.transfer_request owner to ledger_owner;
comment on function ledger_internal.transfer_request is
  'The operation and the values of a transfer, for its fingerprint.';
revoke execute on function ledger_internal.transfer_request from public;
