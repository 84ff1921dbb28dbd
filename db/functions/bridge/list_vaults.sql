-- List the vaults of all groups.
create or replace function ledger.list_vaults()
returns setof ledger.vault_status
language sql stable security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
  select s.*
  from vaults as v
  cross join lateral describe_vault(v) as s
  order by v.group_id
$$;

alter function ledger.list_vaults owner to ledger_owner;
comment on function ledger.list_vaults is
  'What get_vault shows, of each group that is linked to a vault, removed ones included, by ascending group.';
revoke execute on function ledger.list_vaults from public;
grant execute on function ledger.list_vaults to ledger_bridge;
