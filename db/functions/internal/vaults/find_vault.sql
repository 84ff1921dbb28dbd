-- Find the vault of a group.
create or replace function ledger_internal.find_vault(
  group_id bigint
) returns ledger.vaults
language sql stable
as $$
  select v.*
  from ledger.vaults as v
  where v.group_id = find_vault.group_id
$$;

alter function ledger_internal.find_vault owner to ledger_owner;
comment on function ledger_internal.find_vault is
  'The row of the vault that a group is linked to, nulls without one.';
revoke execute on function ledger_internal.find_vault from public;
