-- Answer a health check.
create or replace function ledger.health(
  out status text
)
language sql stable security definer parallel safe
set search_path = ledger, ledger_internal, pg_temp
as $$
  select 'ok'
$$;

alter function ledger.health owner to ledger_owner;
comment on function ledger.health is
  'Returns ok while the database answers.';
revoke execute on function ledger.health from public;
grant execute on function ledger.health to ledger_api;
grant execute on function ledger.health to ledger_bridge;
