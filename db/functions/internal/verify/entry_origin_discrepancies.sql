-- Check an entry's id, time, transaction and metadata.
create or replace function ledger_internal.entry_origin_discrepancies(
  entry     ledger.entries,
  times     bigint,
  latest    timestamptz,
  restored  bigint,
  first_xid xid8,
  next_xid  xid8
) returns setof ledger.discrepancy
language sql stable
as $$
  select
    entry.group_id,
    entry.id,
    f.participant_id,
    f.kind,
    f.detail
  from (
    select null::bigint, 'time', format('it is of %s', entry.created_at)
    where entry.created_at > entry_origin_discrepancies.latest
      or entry.created_at = '-infinity'
    union all
    select
      null,
      'transaction',
      format('it is of transaction %s, and the feed from %s on', entry.xid, entry_origin_discrepancies.first_xid)
    where entry.id > entry_origin_discrepancies.restored
      and entry.xid < entry_origin_discrepancies.first_xid
    union all
    select
      null,
      'transaction',
      format('it is of transaction %s, and none from %s on has ended', entry.xid, entry_origin_discrepancies.next_xid)
    where entry.id > entry_origin_discrepancies.restored
      and entry.xid >= entry_origin_discrepancies.next_xid
    union all
    select null, 'metadata', 'they are no object'
    where jsonb_typeof(entry.metadata) <> 'object'
    union all
    select null, 'entry id', format('%s entries have it', entry_origin_discrepancies.times)
    where entry_origin_discrepancies.times > 1
    union all
    select null, 'entry id', 'it is below 1'
    where entry.id < 1
  ) as f (participant_id, kind, detail)
$$;

alter function ledger_internal.entry_origin_discrepancies owner to ledger_owner;
comment on function ledger_internal.entry_origin_discrepancies is
  'The discrepancies of an entry whose id so many entries have, and of its time, its transaction and its metadata, within the bounds of verify_bounds. For verify_entries.';
revoke execute on function ledger_internal.entry_origin_discrepancies from public;
