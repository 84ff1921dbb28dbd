-- Find the feed in use, unless it is another server's.
create or replace function ledger_internal.current_feed(
  blamed text
) returns ledger.feeds
language plpgsql stable
as $$
declare
  feed ledger.feeds;
begin
  select f.*
  into feed
  from ledger.feeds as f
  order by f.generation desc
  limit 1;
  if feed.system_identifier <> (select c.system_identifier from pg_control_system() as c) then
    raise exception using
      errcode = 'LG009',
      column  = blamed,
      message = 'the ledger was restored into another server, so the feed has ended',
      detail  = format('%s: belongs to the feed of another server', blamed),
      hint    = 'As the owner call ledger.restart_feed(). Readers of the feed then begin again, without a cursor.';
  end if;
  return feed;
end
$$;

alter function ledger_internal.current_feed owner to ledger_owner;
comment on function ledger_internal.current_feed is
  'The newest feed. Raises LG009 that blames this parameter where it began in another server and was not restarted in this one.';
revoke execute on function ledger_internal.current_feed from public;
