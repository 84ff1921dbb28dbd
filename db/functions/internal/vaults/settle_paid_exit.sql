-- Settle the exit that a vault has paid, where all values agree.
create or replace function ledger_internal.settle_paid_exit(
  vault  ledger.vaults,
  payout ledger.payouts
) returns void
language plpgsql volatile
as $$
declare
  settlement ledger.settlements;
begin
  select s.*
  into settlement
  from ledger.settlements as s
  join ledger.entries as e on e.group_id = s.group_id and e.id = s.entry_id
  join ledger.participants as p on p.group_id = e.group_id and p.id = e.from_id
  where s.group_id = payout.group_id
    and s.entry_id = payout.subject
    and e.from_id = payout.participant_id
    and e.amount = payout.amount
    and p.address = payout.owner
  for no key update of s;
  if not found then
    perform ledger_internal.refuse_mismatch(
      'exit_entry',
      format(
        'entry %s of group %s is no exit of participant %s with %s to %s',
        payout.subject, payout.group_id, payout.participant_id, payout.amount, ledger_internal.format_address(payout.owner)
      )
    );
  end if;
  if settlement.settled_at is not null then
    perform ledger_internal.refuse_mismatch('exit_entry', format('exit %s of group %s is settled, and no payout of it is recorded', payout.subject, payout.group_id));
  end if;

  if payout.block > vault.emergency_block then
    perform ledger_internal.check_emergency_leaf(vault, payout);
  end if;

  update ledger.settlements as s
  set
    reference = coalesce(ledger_internal.hex(payout.transaction), 'nothing to pay'),
    settled_at = greatest(clock_timestamp(), settlement.exited_at),
    settled_xid = pg_current_xact_id()
  where s.group_id = payout.group_id
    and s.entry_id = payout.subject;
end
$$;

alter function ledger_internal.settle_paid_exit owner to ledger_owner;
comment on function ledger_internal.settle_paid_exit is
  'Settle the exit that a payout is of. Raises LG013 where no exit has its values, or it is settled.';
revoke execute on function ledger_internal.settle_paid_exit from public;
