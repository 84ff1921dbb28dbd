-- Check the feeds.
create or replace function ledger_internal.feed_discrepancies()
returns setof ledger.discrepancy
language sql stable
as $$
  select
    null::bigint,
    null::bigint,
    null::bigint,
    'feed',
    f.detail
  from ledger_internal.verify_bounds() as b
  cross join lateral (
    select 'there is none'
    where not exists (select from ledger.feeds)
    union all
    select format('feed %s began at %s', d.generation, d.began_at)
    from ledger.feeds as d
    where d.began_at > b.latest
      or d.began_at = '-infinity'
    union all
    select format('feed %s begins after entry %s, and none above %s was written', d.generation, d.last_restored, g.given)
    from ledger.feeds as d
    cross join (select s.last_value - (not s.is_called)::integer as given from ledger.entries_id_seq as s) as g
    where d.last_restored not between 0 and g.given
    union all
    select format('feed %s begins with transaction %s, and none from %s on has ended', d.generation, b.first_xid, b.next_xid)
    from (select max(d.generation) as generation from ledger.feeds as d) as d
    where b.first_xid >= b.next_xid
    union all
    select format('%s feeds have number %s', count(*), d.generation)
    from ledger.feeds as d
    group by d.generation
    having count(*) > 1
  ) as f (detail)
$$;

alter function ledger_internal.feed_discrepancies owner to ledger_owner;
comment on function ledger_internal.feed_discrepancies is
  'The discrepancies of the feeds: their numbers, their times, and where each begins. For verify_ledger.';
revoke execute on function ledger_internal.feed_discrepancies from public;
