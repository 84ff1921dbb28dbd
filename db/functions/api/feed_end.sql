-- Find the end of the feed: the cursor that only entries come after which cannot be read yet.
create or replace function ledger.feed_end()
returns text
language plpgsql stable security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  feed     ledger.feeds := current_feed('after');
  complete numeric := pg_snapshot_xmin(pg_current_snapshot())::text::numeric - 1;
begin
  -- Up to this transaction the feed is complete, and every later entry is of one above it.
  if complete >= feed.first_xid::text::numeric then
    return format('%s-%s-%s', feed.generation, complete, '9223372036854775807');
  end if;
  -- A transaction as old as the feed is open, and may write the first entry that is not restored. Up to the last restored
  -- id the numbers are those of another server's transactions: this one is above them all.
  if feed.last_restored > 0 then
    return format('%s-%s-%s', feed.generation, '9223372036854775807', feed.last_restored);
  end if;
  return null;
end
$$;

alter function ledger.feed_end owner to ledger_owner;
comment on function ledger.feed_end is
  'The cursor at the end of the feed: read_feed returns after it what it cannot return yet, and nothing else. Null is the beginning, while nothing can be read. Raises LG009.';
revoke execute on function ledger.feed_end from public;
grant execute on function ledger.feed_end to ledger_api;
