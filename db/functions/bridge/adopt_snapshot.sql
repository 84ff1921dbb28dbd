-- Make a restored group agree with a snapshot of its last accepted checkpoint.
create or replace function ledger.adopt_snapshot(
  group_id bigint,
  snapshot jsonb,
  deposits jsonb default '[]',
  payouts  jsonb default '[]'
) returns ledger.bridge_result
language plpgsql volatile security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  vault    vaults;
  adopted  parsed_snapshot;
  changes  boolean;
begin
  perform refuse_invalid(array['group_id'], array[invalid_id(group_id)]);
  -- No checkpoint is being made, and no join, deposit or exit is under way.
  perform pg_advisory_xact_lock(hashtextextended('', group_id));
  perform from groups as g
  where g.id = adopt_snapshot.group_id
  for update;
  vault := lock_vault(group_id);
  adopted := parse_snapshot(vault, snapshot);
  perform raise_sequence(
    'ledger.participants_id_seq', (select max(l.participant_id) from unnest(adopted.leaves) as l)
  );
  perform raise_sequence('ledger.entries_id_seq', (select max(l.exit_entry) from unnest(adopted.leaves) as l));

  changes := not checkpoint_is_known(adopted.checkpoint);
  if changes then
    perform refuse_frozen(group_id);
    perform restore_group(vault, adopted, parse_deposits(vault, deposits), parse_payouts(vault, payouts));
  end if;
  return row(not (accept_publication(adopted.checkpoint) or changes))::bridge_result;
end
$$;

alter function ledger.adopt_snapshot owner to ledger_owner;
comment on function ledger.adopt_snapshot is
  'Make a group agree, after a restore, with a snapshot of the last checkpoint that its vault accepted: JSON as ledger snapshot prints it. Where the restored ledger has this checkpoint, what became of it and of those before it is recorded, and replayed is true if that was known. Where it does not, all is made again that the restore lost: participants and exits under their ids, balances by transfers; deposits are the lost ones that the checkpoint includes, payouts those of checkpoints before it. Whatever does not fit is refused, and nothing changes. Ids of this snapshot are not given again. Raises LG001, LG002, LG009, LG013, LG014.';
revoke execute on function ledger.adopt_snapshot from public;
grant execute on function ledger.adopt_snapshot to ledger_bridge;
