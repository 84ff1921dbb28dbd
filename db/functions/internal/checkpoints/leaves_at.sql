-- Find the leaves of a group in a past snapshot.
create or replace function ledger_internal.leaves_at(
  group_id bigint,
  snapshot pg_snapshot,
  feed     ledger.feeds
) returns setof ledger_internal.unpacked_leaf
language sql stable
as $$
  select
    p.id,
    case when last.kind = 'exit' then last.id end,
    case when pg_visible_in_snapshot(p.address_xid, leaves_at.snapshot) then p.address end,
    case when last.kind = 'exit' then last.amount else last.balance end
  from ledger.participants as p
  cross join lateral (
    select l.*
    from (
      (
        select
          e.id,
          e.kind,
          e.created_at,
          e.amount,
          e.from_amount as balance
        from ledger.entries as e
        where e.group_id = p.group_id
          and e.from_id = p.id
          and (e.id <= (feed).last_restored or pg_visible_in_snapshot(e.xid, leaves_at.snapshot))
        order by e.created_at desc, e.id desc
        limit 1
      )
      union all
      (
        select
          e.id,
          e.kind,
          e.created_at,
          e.amount,
          e.to_amount
        from ledger.entries as e
        where e.group_id = p.group_id
          and e.to_id = p.id
          and (e.id <= (feed).last_restored or pg_visible_in_snapshot(e.xid, leaves_at.snapshot))
        order by e.created_at desc, e.id desc
        limit 1
      )
    ) as l
    order by l.created_at desc, l.id desc
    limit 1
  ) as last
  left join ledger.settlements as s on s.group_id = p.group_id and s.entry_id = last.id
  where p.group_id = leaves_at.group_id
    -- Without a transaction it was settled before there were checkpoints.
    and (s.settled_at is null or not coalesce(pg_visible_in_snapshot(s.settled_xid, leaves_at.snapshot), true))
$$;

alter function ledger_internal.leaves_at owner to ledger_owner;
comment on function ledger_internal.leaves_at is
  'The leaves of a group in a snapshot of the feed: participants who were present, and exits that were not settled. Two index look-ups for each participant, and as many more entries as each has moved since.';
revoke execute on function ledger_internal.leaves_at from public;
