-- Return why the text of a hash is invalid; null if it is valid.
create or replace function ledger_internal.invalid_hash(
  hash text
) returns text
language sql immutable parallel safe
as $$
  select case
    when ledger_internal.parse_hex(invalid_hash.hash, 32) is null then 'must be 0x and 64 hex digits'
  end
$$;

alter function ledger_internal.invalid_hash owner to ledger_owner;
comment on function ledger_internal.invalid_hash is
  'Why the text of a SHA-256 is invalid: it must be 0x and 64 hex digits; null if it is valid.';
revoke execute on function ledger_internal.invalid_hash from public;
