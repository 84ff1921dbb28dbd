-- Check that nothing of a group has moved since its newest checkpoint.
create or replace function ledger_internal.checkpoint_is_current(
  checkpoint ledger.checkpoints
) returns boolean
language plpgsql stable
as $$
declare
  feed         ledger.feeds;
  newest_entry ledger.entries;
begin
  select f.*
  into feed
  from ledger.feeds as f
  order by f.generation desc
  limit 1;
  -- A snapshot means something among the transactions of its own feed only.
  if checkpoint.number is null or checkpoint.generation <> feed.generation then
    return false;
  end if;

  -- A transaction gets its number before its entries get their ids. So an entry of one that began after the snapshot has
  -- a higher id than all that the snapshot shows, and would be the newest.
  select e.*
  into newest_entry
  from ledger.entries as e
  where e.group_id = checkpoint.group_id
  order by e.id desc
  limit 1;
  if newest_entry.id > feed.last_restored and not pg_visible_in_snapshot(newest_entry.xid, checkpoint.snapshot) then
    return false;
  end if;

  return not exists (
    -- Those that were in progress at the snapshot.
    select from pg_snapshot_xip(checkpoint.snapshot) as x (xid)
    join ledger.entries as e on e.xid = x.xid
    where e.group_id = checkpoint.group_id
      and e.id > feed.last_restored
  ) and not exists (
    select from ledger.settlements as s
    where s.group_id = checkpoint.group_id
      and s.settled_xid >= pg_snapshot_xmin(checkpoint.snapshot)
      and not pg_visible_in_snapshot(s.settled_xid, checkpoint.snapshot)
      and s.settled_at >= feed.began_at
  ) and not exists (
    select from ledger.participants as p
    where p.group_id = checkpoint.group_id
      and p.address_xid >= pg_snapshot_xmin(checkpoint.snapshot)
      and not pg_visible_in_snapshot(p.address_xid, checkpoint.snapshot)
  );
end
$$;

alter function ledger_internal.checkpoint_is_current owner to ledger_owner;
comment on function ledger_internal.checkpoint_is_current is
  'Whether the newest checkpoint of a group includes every entry, settlement and address of it that is committed: some look-ups of indexes, however large the group. After a restore from a dump it is false for a group with an address, until the new server has counted as many transactions as the old one.';
revoke execute on function ledger_internal.checkpoint_is_current from public;
