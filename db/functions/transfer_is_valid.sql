-- Say whether the values of a transfer are such as it can have.
create or replace function ledger.transfer_is_valid(
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
    and ledger.amount_fault(transfer_is_valid.amount, 1) is null
    and ledger.key_fault(transfer_is_valid.idempotency_key) is null
    and ledger.metadata_fault(transfer_is_valid.metadata) is null
  ) is true
$$;

alter function ledger.transfer_is_valid owner to ledger_owner;
comment on function ledger.transfer_is_valid is
  'Whether a transfer has a group, two different sides, an amount from 1 to 2^256 - 1, and an idempotency key and metadata that can be ones where it has them. What is wrong with it, transfer says.';
revoke execute on function ledger.transfer_is_valid from public;
