-- Restart the feed after the ledger was restored from a backup.
create or replace function ledger.restart_feed()
returns integer
language plpgsql volatile
as $$
declare
  generation integer;
begin
  -- No session writes until this commits, so that every entry is either restored or new. Nor does any lock participants
  -- or exits: it would wait for this one at its next write, and this one for its rows.
  lock table ledger.participants, ledger.settlements in exclusive mode;
  lock table ledger.entries in share row exclusive mode;
  insert into ledger.feeds (generation, system_identifier, last_restored, first_xid)
  select
    (select max(f.generation) from ledger.feeds as f) + 1,
    c.system_identifier,
    (select coalesce(max(e.id), 0) from ledger.entries as e),
    pg_snapshot_xmin(pg_current_snapshot())
  from pg_control_system() as c
  on conflict do nothing
  returning feeds.generation into generation;
  if not found then
    raise exception using
      errcode = 'serialization_failure',
      message = 'the feed has just begun again';
  end if;

  -- The numbers of another server's transactions mean nothing here. Every snapshot of the new feed has what was restored,
  -- and every snapshot shows transaction 3.
  update ledger.participants as p
  set address_xid = '3'
  where p.address_xid is not null;
  update ledger.settlements as s
  set settled_xid = '3'
  where s.settled_xid is not null;
  return generation;
end
$$;

alter function ledger.restart_feed owner to ledger_owner;
comment on function ledger.restart_feed is
  'Restart the feed after a restore: earlier cursors are refused, the restored entries come first, and restored addresses and settlements are in every later checkpoint. Returns the number of the new feed. Raises 40001 when another call began it. For the owner.';
revoke execute on function ledger.restart_feed from public;
