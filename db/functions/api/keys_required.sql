-- Report whether requests need an API key.
create or replace function ledger.keys_required(
  out keys_required boolean
)
language sql stable security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
  select exists (select from api_keys)
    -- A reset dropped some, and was not completed.
    or to_regclass('public.ledger_keys_were_dropped') is not null
$$;

alter function ledger.keys_required owner to ledger_owner;
comment on function ledger.keys_required is
  'Whether an API key has ever been made: from then on each request needs one. Revoking the last, or a reset, does not change that.';
revoke execute on function ledger.keys_required from public;
grant execute on function ledger.keys_required to ledger_api;
