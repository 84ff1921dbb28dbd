-- Find the API key whose secret has this digest.
create or replace function ledger.authenticate(
  key_id bigint,
  digest bytea
) returns setof ledger.principal
language sql stable security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
  select
    k.id,
    k.name,
    k.scope,
    k.group_id
  from api_keys as k
  cross join (select uuid_send(gen_random_uuid()) as salt offset 0) as s
  where k.id = authenticate.key_id
    and k.revoked_at is null
    -- Both are salted and hashed again, so that the time of the comparison reveals nothing of either digest.
    and sha256(s.salt || k.digest) = sha256(s.salt || authenticate.digest)
$$;

alter function ledger.authenticate owner to ledger_owner;
comment on function ledger.authenticate is
  'The API key with this id, if it is not revoked and digest is the SHA-256 of its secret: its id and name, its scope and its group. No row otherwise.';
revoke execute on function ledger.authenticate from public;
grant execute on function ledger.authenticate to ledger_api;
