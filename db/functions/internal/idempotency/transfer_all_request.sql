-- List the values that identify a multi-party transfer among requests with the same idempotency key.
create or replace function ledger_internal.transfer_all_request(
  from_ids  bigint[],
  to_ids    bigint[],
  amounts   numeric[],
  metadatas jsonb[]
) returns text[]
language sql immutable parallel safe
as $$
  select array[
    'transfer_all',
    transfer_all_request.from_ids::text,
    transfer_all_request.to_ids::text,
    transfer_all_request.amounts::text,
    transfer_all_request.metadatas::text
  ]
$$;

alter function ledger_internal.transfer_all_request owner to ledger_owner;
comment on function ledger_internal.transfer_all_request is
  'The operation and the values of a multi-party transfer, by columns, for its fingerprint; metadatas is null where no line has any.';
revoke execute on function ledger_internal.transfer_all_request from public;
