-- Show what is recorded of a group's vault.
create or replace function ledger.get_vault(
  group_id bigint
) returns ledger.vault_status
language plpgsql stable security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
begin
  return describe_vault(require_vault(group_id));
end
$$;

alter function ledger.get_vault owner to ledger_owner;
comment on function ledger.get_vault is
  'The vault of a group, what was credited and paid, how far the chain was followed, whether it is frozen or closed, the number of the next checkpoint, and the last one that was accepted. Raises LG001, LG002, LG013.';
revoke execute on function ledger.get_vault from public;
grant execute on function ledger.get_vault to ledger_bridge;
