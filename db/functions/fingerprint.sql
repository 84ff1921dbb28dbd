-- Tell two requests apart.
create or replace function ledger.fingerprint(
  request text[]
) returns bytea
language sql immutable parallel safe
as $$
  select sha256(convert_to(fingerprint.request::text, 'UTF8'))
$$;

alter function ledger.fingerprint owner to ledger_owner;
comment on function ledger.fingerprint is
  'SHA-256 of a request, an operation and its values; equal for equal requests only.';
revoke execute on function ledger.fingerprint from public;
