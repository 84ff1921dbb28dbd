-- Report what delays the feed and vacuum.
create or replace function ledger.activity(
  out feed_lag           numeric,
  out oldest_transaction numeric
)
language sql stable security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
  select
    -- Entries that have committed and are not in the feed yet, because an older transaction is open. No entry that this
    -- snapshot sees has a transaction number above the snapshot's; restored entries may have any number.
    coalesce(greatest(extract(epoch from clock_timestamp() - (
      select e.created_at
      from entries as e
      where e.xid >= pg_snapshot_xmin(pg_current_snapshot())
        and e.xid < pg_snapshot_xmax(pg_current_snapshot())
        and e.id > (select f.last_restored from feeds as f order by f.generation desc limit 1)
      order by e.xid, e.id
      limit 1
    )), 0), 0),
    -- Without that role only the owner's own sessions show their age, and no role logs in as the owner.
    case when pg_has_role('pg_read_all_stats', 'usage') then (
      select coalesce(greatest(extract(epoch from clock_timestamp() - min(a.xact_start)), 0), 0)
      from pg_stat_activity as a
      where a.datname = current_database()
        and a.backend_type = 'client backend'
        and a.pid <> pg_backend_pid()
    ) end
$$;

alter function ledger.activity owner to ledger_owner;
comment on function ledger.activity is
  'How long, in seconds, the oldest entry that the feed cannot return yet has waited, and how long the oldest transaction of this database has been open; null unless ledger_owner is a member of pg_read_all_stats, which this needs.';
revoke execute on function ledger.activity from public;
grant execute on function ledger.activity to ledger_api;
