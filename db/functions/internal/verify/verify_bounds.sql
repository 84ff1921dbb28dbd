-- Find the bounds that every committed row is within.
create or replace function ledger_internal.verify_bounds(
  out latest    timestamptz,
  out restored  bigint,
  out first_xid xid8,
  out next_xid  xid8
)
language sql stable
as $$
  select
    -- Clocks differ, and are set back.
    clock_timestamp() + interval '1 minute',
    f.last_restored,
    f.first_xid,
    -- Another server counts transactions differently, until restart_feed() is called there. A transaction that is under way
    -- may have a number above those that have ended.
    case when f.system_identifier = c.system_identifier then
      greatest(
        pg_snapshot_xmax(pg_current_snapshot()),
        (pg_current_xact_id_if_assigned()::text::numeric + 1)::text::xid8
      )
    end
  from pg_control_system() as c
  left join (select * from ledger.feeds order by generation desc limit 1) as f on true
$$;

alter function ledger_internal.verify_bounds owner to ledger_owner;
comment on function ledger_internal.verify_bounds is
  'What verify holds each row against: the latest time that a clock may show, the last entry that came with a backup, the oldest transaction of the feed, and the first that this snapshot does not show, null in another server than the feed''s.';
revoke execute on function ledger_internal.verify_bounds from public;
