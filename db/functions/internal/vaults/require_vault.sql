-- Find the vault of a group that must have one.
create or replace function ledger_internal.require_vault(
  group_id bigint
) returns ledger.vaults
language plpgsql stable
as $$
declare
  vault ledger.vaults := ledger_internal.find_vault(group_id);
begin
  if vault.group_id is null then
    perform from ledger.groups as g where g.id = require_vault.group_id;
    if not found then
      perform ledger_internal.refuse_unknown_group(group_id);
    end if;
    perform ledger_internal.refuse_mismatch('group_id', format('group %s is linked to no vault', group_id));
  end if;
  return vault;
end
$$;

alter function ledger_internal.require_vault owner to ledger_owner;
comment on function ledger_internal.require_vault is
  'The row of the vault that a group is linked to. Raises LG001, LG002, LG013.';
revoke execute on function ledger_internal.require_vault from public;
