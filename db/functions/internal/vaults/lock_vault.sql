-- Lock the vault of a group, so that one change by the bridge follows the other.
create or replace function ledger_internal.lock_vault(
  group_id bigint
) returns ledger.vaults
language plpgsql volatile
as $$
declare
  vault ledger.vaults;
begin
  -- The group before its vault, as a removal does.
  perform from ledger.groups as g
  where g.id = lock_vault.group_id
  for key share;
  if not found then
    perform ledger_internal.refuse_unknown_group(group_id);
  end if;

  select v.*
  into vault
  from ledger.vaults as v
  where v.group_id = lock_vault.group_id
  for no key update;
  if not found then
    perform ledger_internal.refuse_mismatch('group_id', format('group %s is linked to no vault', group_id));
  end if;
  return vault;
end
$$;

alter function ledger_internal.lock_vault owner to ledger_owner;
comment on function ledger_internal.lock_vault is
  'Lock the group and its vault until the transaction ends, and return the vault. Raises LG001, LG002, LG013.';
revoke execute on function ledger_internal.lock_vault from public;
