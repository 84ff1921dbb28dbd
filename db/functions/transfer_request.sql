-- Say what a transfer asks for, to tell it from other requests under its idempotency key.
create or replace function ledger.transfer_request(
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

alter function ledger.transfer_request owner to ledger_owner;
comment on function ledger.transfer_request is
  'The operation and the values of a transfer, for its fingerprint.';
revoke execute on function ledger.transfer_request from public;
