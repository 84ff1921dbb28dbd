-- Answer, so that a health check knows that the database can.
create or replace function ledger.health(
  out status text
)
language sql stable security definer parallel safe
set search_path = ledger, pg_temp
as $$
  select 'ok'
$$;

alter function ledger.health owner to ledger_owner;
comment on function ledger.health is
  'Returns ok while the database answers.';
revoke execute on function ledger.health from public;
grant execute on function ledger.health to ledger_api;
