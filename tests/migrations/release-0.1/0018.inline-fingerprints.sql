-- Inline fingerprints.
-- depends: 0017.write-balances-where-they-are-locked

set local lock_timeout = '5s';
set local role ledger_owner;
-- Functions may call each other in any order.
set local check_function_bodies = off;

-- >>> db/functions/fingerprint.sql
-- Tell two requests apart.
create or replace function ledger.fingerprint(
  request text[]
) returns bytea
language sql stable parallel safe
as $$
  -- What is not given leaves no trace, so that a key outlives the coming of a new optional parameter.
  select sha256(convert_to(array_remove(fingerprint.request, null)::text, 'UTF8'))
$$;

alter function ledger.fingerprint owner to ledger_owner;
comment on function ledger.fingerprint is
  'SHA-256 of a request, an operation and its values, those that are null left out; equal for equal requests only.';
revoke execute on function ledger.fingerprint from public;
-- <<< db/functions/fingerprint.sql
