-- Credit the deposits again that a restore lost.
create or replace function ledger_internal.restore_deposits(
  vault      ledger.vaults,
  checkpoint ledger.checkpoints,
  targets    ledger_internal.adoption_target[],
  deposits   ledger.vault_deposits[]
) returns void
language plpgsql volatile
as $$
declare
  status  ledger.vault_status := ledger_internal.describe_vault(vault);
  deposit ledger.vault_deposits;
begin
  for deposit in
    select d.*
    from unnest(deposits) as d
    where d.deposit_index >= status.deposits
      and d.deposit_index < checkpoint.deposits
    order by d.deposit_index
  loop
    exit when deposit.deposit_index <> status.deposits or deposit.cumulative <> status.cumulative + deposit.amount;
    perform ledger_internal.post_credit(
      vault.group_id,
      (
        select min(t.participant_id)
        from unnest(targets) as t
        join ledger.participants as p on p.group_id = vault.group_id and p.id = t.participant_id
        where t.owner = deposit.address
          and p.exited_at is null
      ),
      deposit
    );
    status.deposits := status.deposits + 1;
    status.cumulative := deposit.cumulative;
  end loop;
  if (status.deposits, status.cumulative) is distinct from (checkpoint.deposits, checkpoint.credited) then
    perform ledger_internal.refuse_mismatch(
      'deposits',
      format(
        'group %s has %s deposits of %s with those that were given, and checkpoint %s includes %s of %s',
        vault.group_id, status.deposits, status.cumulative, checkpoint.number, checkpoint.deposits, checkpoint.credited
      )
    );
  end if;
end
$$;

alter function ledger_internal.restore_deposits owner to ledger_owner;
comment on function ledger_internal.restore_deposits is
  'Credit the deposits that a checkpoint includes and a restored group lacks, to participants of their addresses; their balances are those of the snapshot afterwards. Raises LG013 where they are not all there.';
revoke execute on function ledger_internal.restore_deposits from public;
