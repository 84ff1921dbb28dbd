-- List API keys without their secrets, revoked ones included.
create or replace function ledger.list_api_keys(
  after    bigint  default 0,
  max_rows integer default 1000
) returns setof ledger.api_key
language sql stable
set search_path = ledger, ledger_internal, pg_temp
as $$
  select
    k.id,
    k.name,
    k.scope,
    k.group_id,
    k.created_at,
    k.revoked_at
  from api_keys as k
  where k.id > coalesce(list_api_keys.after, 0)
  order by k.id
  limit greatest(coalesce(list_api_keys.max_rows, 1000), 0)
$$;

alter function ledger.list_api_keys owner to ledger_owner;
comment on function ledger.list_api_keys is
  'The API keys with an id above after, at most max_rows of them, by ascending id. For the owner.';
revoke execute on function ledger.list_api_keys from public;
