-- Activity.
-- depends: 0013.api-keys

set local lock_timeout = '5s';
set local role ledger_owner;
-- Functions may call each other in any order.
set local check_function_bodies = off;

-- >>> db/functions/activity.sql
-- Tell what holds the ledger up, for who watches it.
create or replace function ledger.activity(
  out feed_lag           numeric,
  out oldest_transaction numeric
)
language sql stable security definer
set search_path = ledger, pg_temp
as $$
  select
    -- What has committed and is not in the feed yet, because an older transaction is open. Nothing that this snapshot sees
    -- has a number above its own; what a restored dump brought along may have any.
    coalesce(greatest(extract(epoch from clock_timestamp() - (
      select e.created_at
      from entries as e
      where e.xid >= pg_snapshot_xmin(pg_current_snapshot())
        and e.xid < pg_snapshot_xmax(pg_current_snapshot())
        and e.id > (select f.last_restored from feeds as f order by f.generation desc limit 1)
      order by e.xid, e.id
      limit 1
    )), 0), 0),
    -- Without that role only our own sessions would tell since when, and nobody logs in as the owner.
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
  'How long, in seconds, the oldest entry has waited that the feed cannot tell yet, and for how long the oldest transaction of this database has been open; null while ledger_owner is no member of pg_read_all_stats, without which it cannot be seen.';
revoke execute on function ledger.activity from public;
grant execute on function ledger.activity to ledger_api;
-- <<< db/functions/activity.sql
