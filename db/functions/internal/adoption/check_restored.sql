-- Check that a restored group agrees with a checkpoint.
create or replace function ledger_internal.check_restored(
  vault      ledger.vaults,
  checkpoint ledger.checkpoints
) returns void
language plpgsql stable
as $$
declare
  status ledger.vault_status := ledger_internal.describe_vault(vault);
begin
  if (status.deposits, status.cumulative, status.settled)
    is distinct from (checkpoint.deposits, checkpoint.credited, checkpoint.settled)
  then
    perform ledger_internal.refuse_mismatch(
      'payouts',
      format('group %s was paid %s with those that were given, and checkpoint %s says %s', vault.group_id, status.settled, checkpoint.number, checkpoint.settled)
    );
  end if;
end
$$;

alter function ledger_internal.check_restored owner to ledger_owner;
comment on function ledger_internal.check_restored is
  'Check that what a restored group holds and was paid is what the checkpoint says that it agrees with now. Raises LG013.';
revoke execute on function ledger_internal.check_restored from public;
