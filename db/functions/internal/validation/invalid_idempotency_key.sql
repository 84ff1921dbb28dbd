-- Return why an idempotency key is invalid; null if it is valid or not given.
create or replace function ledger_internal.invalid_idempotency_key(
  key text
) returns text
language sql immutable parallel safe
as $$
  select case
    when octet_length(invalid_idempotency_key.key) not between 1 and 255
      or invalid_idempotency_key.key collate "C" ~ '[^\u0021-\u007e]'
    then 'must be 1 to 255 visible ASCII characters'
  end
$$;

alter function ledger_internal.invalid_idempotency_key owner to ledger_owner;
comment on function ledger_internal.invalid_idempotency_key is
  'Why an idempotency key is not 1 to 255 visible ASCII characters; null if it is valid or null.';
revoke execute on function ledger_internal.invalid_idempotency_key from public;
