-- Parse a cursor of the feed.
create or replace function ledger_internal.parse_feed_cursor(
  after text
) returns ledger_internal.feed_position
language plpgsql stable
as $$
declare
  feed  ledger.feeds := ledger_internal.current_feed('after');
  part  text[];
  place ledger_internal.feed_position;
begin
  place.generation := feed.generation;
  place.last_restored := feed.last_restored;
  place.xid := feed.first_xid;
  place.id := 0;
  if after is null then
    if feed.last_restored > 0 then
      place.restored_xid := '0';
      place.restored_id := 0;
    end if;
    return place;
  end if;

  -- The type xid8 reads digits after a zero in base 8.
  part := regexp_match(after collate "C", '^([0-9]+)-(0|[1-9][0-9]*)-([0-9]+)$');
  if part is null or length(part[1]) > 9 or length(part[2]) > 19 or ledger_internal.parse_id(part[3]) is null then
    perform ledger_internal.refuse_invalid(array['after'], array['must be a cursor of the feed']);
  end if;
  if part[1]::integer <> feed.generation
    or (
      part[3]::bigint > feed.last_restored
      and (part[2]::xid8 < feed.first_xid or part[2]::xid8 >= pg_snapshot_xmax(pg_current_snapshot()))
    )
  then
    raise exception using
      errcode = 'LG009',
      column  = 'after',
      message = 'the cursor belongs to a feed that has ended',
      detail  = 'after: belongs to a feed that has ended',
      hint    = 'The ledger was reset, or restored from a backup. Read the feed from its beginning, without a cursor.';
  end if;
  if part[3]::bigint <= feed.last_restored then
    place.restored_xid := part[2]::xid8;
    place.restored_id := part[3]::bigint;
  else
    place.xid := part[2]::xid8;
    place.id := part[3]::bigint;
  end if;
  return place;
end
$$;

alter function ledger_internal.parse_feed_cursor owner to ledger_owner;
comment on function ledger_internal.parse_feed_cursor is
  'The position of a cursor in the feed; its beginning for null. Raises LG001 for an invalid cursor, LG009 for one of a feed that a reset or a restored backup ended.';
revoke execute on function ledger_internal.parse_feed_cursor from public;
