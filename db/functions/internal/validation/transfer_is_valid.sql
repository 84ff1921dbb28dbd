-- Check the values of a transfer.
create or replace function ledger_internal.transfer_is_valid(
  group_id        bigint,
  from_id         bigint,
  to_id           bigint,
  amount          numeric,
  idempotency_key text,
  metadata        jsonb
) returns boolean
language sql immutable parallel safe
as $$
  select (
    transfer_is_valid.group_id is not null
    and transfer_is_valid.from_id <> transfer_is_valid.to_id
    and ledger_internal.invalid_amount(transfer_is_valid.amount, 1) is null
    and ledger_internal.invalid_idempotency_key(transfer_is_valid.idempotency_key) is null
    and ledger_internal.invalid_metadata(transfer_is_valid.metadata) is null
  ) is true
$$;

alter function ledger_internal.transfer_is_valid owner to ledger_owner;
comment on function ledger_internal.transfer_is_valid is
  'Whether a transfer has a group, two different participants, an amount from 1 to 2^256 - 1, and a valid idempotency key and valid metadata, if any. transfer reports why it is invalid.';
revoke execute on function ledger_internal.transfer_is_valid from public;
