-- Say what is wrong with an idempotency key, or null when nothing is or there is none.
create or replace function ledger.key_fault(
  key text
) returns text
language sql immutable parallel safe
as $$
  select case
    when octet_length(key_fault.key) not between 1 and 255
      or key_fault.key collate "C" ~ '[^\u0021-\u007e]'
    then 'must be 1 to 255 visible ASCII characters'
  end
$$;

alter function ledger.key_fault owner to ledger_owner;
comment on function ledger.key_fault is
  'What is wrong with an idempotency key that must be 1 to 255 visible ASCII characters where there is one; null when nothing is.';
revoke execute on function ledger.key_fault from public;
