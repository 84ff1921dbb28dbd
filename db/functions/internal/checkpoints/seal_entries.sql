-- Hash a group's entries from one checkpoint to the next.
create or replace function ledger_internal.seal_entries(
  checkpoint ledger.checkpoints,
  previous   ledger.checkpoints,
  pauses     boolean default false
) returns bytea
language plpgsql stable
as $$
declare
  seal    bytea := coalesce(previous.seal, decode(repeat('00', 32), 'hex'));
  feed    record;
  entry   bytea;
  hashed  bigint := 0;
  resumed timestamptz := clock_timestamp();
begin
  -- The entries of each feed, in its order: a snapshot means something among the transactions of its own only.
  for feed in
    select
      f.generation,
      f.last_restored as after,
      lead(f.last_restored, 1, 9223372036854775807) over (order by f.generation) as upto
    from ledger.feeds as f
    order by f.generation
  loop
    continue when feed.generation < previous.generation;
    exit when feed.generation > checkpoint.generation;

    -- Planned at each call: from the previous checkpoint on is little of the record, or all of it.
    for entry in execute
      $query$
        select convert_to(
          concat_ws(
            '|',
            e.group_id,
            e.id,
            e.kind,
            coalesce(e.from_id::text, ''),
            coalesce(e.to_id::text, ''),
            e.amount,
            coalesce(e.from_amount::text, ''),
            coalesce(e.to_amount::text, ''),
            trunc(extract(epoch from e.created_at) * 1000000),
            coalesce(e.reverses::text, ''),
            coalesce(e.metadata::text, '')
          ),
          'UTF8'
        )
        from ledger.entries as e
        where e.group_id = $1
          and e.id > $2
          and e.id <= $3
          and e.xid >= $4
          and ($5 is null or not pg_visible_in_snapshot(e.xid, $5))
          and ($6 is null or pg_visible_in_snapshot(e.xid, $6))
        order by e.xid, e.id
      $query$
    using
      checkpoint.group_id,
      feed.after,
      feed.upto,
      case when feed.generation = previous.generation then pg_snapshot_xmin(previous.snapshot) else '0' end,
      case when feed.generation = previous.generation then previous.snapshot end,
      case when feed.generation = checkpoint.generation then checkpoint.snapshot end
    loop
      seal := sha256('\x05'::bytea || seal || entry);
      hashed := hashed + 1;
      if pauses and hashed % 1024 = 0 then
        resumed := ledger_internal.pause_after(resumed);
      end if;
    end loop;
  end loop;
  return seal;
end
$$;

alter function ledger_internal.seal_entries owner to ledger_owner;
comment on function ledger_internal.seal_entries is
  'The seal of a checkpoint. It begins as the seal of the previous one, 32 zero bytes for the first, and for each entry that the checkpoint includes and the previous one does not, in the feed''s order, it becomes SHA-256 of 0x05 | seal 32 | entry. An entry is the text, in UTF-8, of group_id|id|kind|from_id|to_id|amount|from_amount|to_amount|created_at|reverses|metadata: created_at in microseconds since 1970, empty what is null. With pauses it leaves the processor to others between 1,024 entries. So the seal of a checkpoint that is kept elsewhere shows whether any entry before it was changed, removed or added.';
revoke execute on function ledger_internal.seal_entries from public;
