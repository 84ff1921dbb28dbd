-- Make a restored group agree with a snapshot of a checkpoint that it lacks.
create or replace function ledger_internal.restore_group(
  vault    ledger.vaults,
  adopted  ledger_internal.parsed_snapshot,
  deposits ledger.vault_deposits[],
  payouts  ledger.payouts[]
) returns void
language plpgsql volatile
as $$
declare
  checkpoint ledger.checkpoints := adopted.checkpoint;
  feed       ledger.feeds := ledger_internal.current_feed('group_id');
  targets    ledger_internal.adoption_target[];
  payout     ledger.payouts;
begin
  perform from ledger.participants as p
  where p.group_id = vault.group_id
  order by p.id
  for no key update;
  select array_agg((t.participant_id, t.exit_entry, t.owner, t.amount)::ledger_internal.adoption_target order by t.participant_id)
  into targets
  from (
    select l.participant_id, l.exit_entry, l.owner, l.amount from unnest(adopted.leaves) as l
    union all
    select p.participant_id, p.subject, p.owner, p.amount from unnest(payouts) as p
  ) as t;
  perform ledger_internal.raise_sequence('ledger.participants_id_seq', (select max(t.participant_id) from unnest(targets) as t));
  perform ledger_internal.raise_sequence('ledger.entries_id_seq', (select max(t.exit_entry) from unnest(targets) as t));
  perform ledger_internal.check_targets(vault, targets);

  perform ledger_internal.restore_participants(vault, targets);
  perform ledger_internal.restore_deposits(vault, checkpoint, targets, deposits);
  perform ledger_internal.restore_balances(checkpoint, targets);
  perform ledger_internal.restore_exits(checkpoint, targets);
  foreach payout in array payouts loop
    perform ledger_internal.settle_paid_exit(vault, payout);
    perform ledger_internal.add_payout(payout);
  end loop;

  -- Its own entries are of after this snapshot: the next checkpoint seals them.
  checkpoint.snapshot := pg_current_snapshot();
  checkpoint.generation := feed.generation;
  checkpoint.created_at := clock_timestamp();
  checkpoint.adopted_at := checkpoint.created_at;
  insert into ledger.checkpoint_chunks
  select k.*
  from unnest(adopted.chunks) as k;
  insert into ledger.checkpoints
  select checkpoint.*;
  perform ledger_internal.check_restored(vault, checkpoint);
end
$$;

alter function ledger_internal.restore_group owner to ledger_owner;
comment on function ledger_internal.restore_group is
  'Make again what a restore lost of a group up to a checkpoint, and write the checkpoint; this transaction has locked the group. Raises LG009, LG013.';
revoke execute on function ledger_internal.restore_group from public;
