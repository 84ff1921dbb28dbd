-- Read the entries of all groups, each once, in an order that can be resumed.
create or replace function ledger.read_feed(
  after    text    default null,
  max_rows integer default 1000
) returns setof ledger.feed_entry
language plpgsql stable security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  place feed_position := parse_feed_cursor(after);
  rows  integer := greatest(coalesce(max_rows, 1000), 0);
  shown integer := 0;
begin
  -- Restored entries come first: their numbers are those of another server's transactions, which have all ended.
  if place.restored_xid is not null then
    return query
    select
      format('%s-%s-%s', place.generation, page.xid, page.id),
      r.*
    from (
      select
        e.group_id,
        e.xid,
        e.id
      from entries as e
      where (e.xid, e.id) > (place.restored_xid, place.restored_id)
        and e.id <= place.last_restored
      order by e.xid, e.id
      limit rows
    ) as page
    cross join lateral (
      select r.* from ledger.record as r where r.group_id = page.group_id and r.id = page.id offset 0
    ) as r
    order by page.xid, page.id;
    get diagnostics shown = row_count;
  end if;

  -- Transactions do not commit in the order of their numbers. Below the number of the oldest open transaction no entry
  -- can be added, so the entries there are complete.
  if shown < rows then
    return query
    select
      format('%s-%s-%s', place.generation, page.xid, page.id),
      r.*
    from (
      select
        e.group_id,
        e.xid,
        e.id
      from entries as e
      where (e.xid, e.id) > (place.xid, place.id)
        and e.xid < pg_snapshot_xmin(pg_current_snapshot())
        and e.id > place.last_restored
      order by e.xid, e.id
      limit rows - shown
    ) as page
    cross join lateral (
      select r.* from ledger.record as r where r.group_id = page.group_id and r.id = page.id offset 0
    ) as r
    order by page.xid, page.id;
  end if;
end
$$;

alter function ledger.read_feed owner to ledger_owner;
comment on function ledger.read_feed is
  'The entries of all groups that come after a cursor, the first ones for null, at most max_rows of them, each with its cursor. An entry comes once every transaction as old as its own has ended, so none is ever skipped. Raises LG001, LG009.';
revoke execute on function ledger.read_feed from public;
grant execute on function ledger.read_feed to ledger_api;
