-- Hash a request, to compare it with others.
create or replace function ledger_internal.fingerprint(
  request text[]
) returns bytea
language sql stable parallel safe
as $$
  -- Nulls are left out, so that a fingerprint stays the same when a function gets a new optional parameter.
  select sha256(convert_to(array_remove(fingerprint.request, null)::text, 'UTF8'))
$$;

alter function ledger_internal.fingerprint owner to ledger_owner;
comment on function ledger_internal.fingerprint is
  'SHA-256 of a request, an operation and its values, those that are null left out; equal for equal requests only.';
revoke execute on function ledger_internal.fingerprint from public;
