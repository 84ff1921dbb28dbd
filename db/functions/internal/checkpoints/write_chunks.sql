-- Write the leaves of a new checkpoint, and return what it finds.
create or replace function ledger_internal.write_chunks(
  checkpoint ledger.checkpoints,
  previous   ledger.checkpoints,
  domain     bytea
) returns ledger_internal.figures
language plpgsql volatile
as $$
declare
  figures ledger_internal.figures;
  piece   record;
  chunk   ledger.checkpoint_chunks;
  chunks  ledger.checkpoint_chunks[] := array[]::ledger.checkpoint_chunks[];
  sums    numeric[] := array[]::numeric[];
  nodes   bytea[] := array[]::bytea[];
  tree    ledger_internal.tree;
begin
  figures.leaf_count := 0;

  -- One statement and so one snapshot for all figures and leaves; a volatile function in it would see newer rows.
  for piece in
    -- The first row has the figures, each of the others the leaves of a chunk.
    select
      -1 as chunk,
      null::numeric[] as amounts,
      null::bytea[] as leaves,
      pg_current_snapshot() as snapshot,
      (select max(f.generation) from ledger.feeds as f) as generation,
      credited.deposits,
      credited.amount as credited,
      settled.amount as settled
    from (
      select
        count(*) as deposits,
        coalesce(sum(e.amount), 0) as amount
      from ledger.entries as e
      where e.group_id = checkpoint.group_id
        and e.kind in ('join', 'deposit')
    ) as credited
    cross join (
      select coalesce(sum(e.amount), 0) as amount
      from ledger.settlements as s
      join ledger.entries as e on e.group_id = s.group_id and e.id = s.entry_id
      where s.group_id = checkpoint.group_id
        and s.settled_at is not null
    ) as settled
    union all
    select
      (l.place / 1024)::integer,
      array_agg(l.amount order by l.place),
      array_agg(ledger_internal.pack_leaf(l.participant_id, l.exit_entry, l.owner, l.amount) order by l.place),
      null,
      null,
      null,
      null,
      null
    from (
      select
        u.*,
        row_number() over (order by u.participant_id) - 1 as place
      from (
        select
          p.id as participant_id,
          null::bigint as exit_entry,
          p.address as owner,
          p.amount
        from ledger.participants as p
        where p.group_id = checkpoint.group_id
          and p.exited_at is null
        union all
        select
          p.id,
          e.id,
          p.address,
          e.amount
        from ledger.settlements as s
        join ledger.entries as e on e.group_id = s.group_id and e.id = s.entry_id
        join ledger.participants as p on p.group_id = e.group_id and p.id = e.from_id
        where s.group_id = checkpoint.group_id
          and s.settled_at is null
      ) as u
    ) as l
    group by l.place / 1024
    order by chunk
  loop
    if piece.chunk = -1 then
      figures.snapshot := piece.snapshot;
      figures.generation := piece.generation;
      figures.deposits := piece.deposits;
      figures.credited := piece.credited;
      figures.settled := piece.settled;
      if figures.credited >= 2::numeric ^ 256 then
        raise exception using
          errcode = 'LG011',
          column  = 'group_id',
          message = format(
            'group %s was credited %s in all, and a checkpoint holds less than 2^256', checkpoint.group_id, figures.credited
          ),
          detail  = 'group_id: was credited 2^256 or more in all',
          hint    = 'Go on in a new group.';
      end if;
      checkpoint.snapshot := figures.snapshot;
      checkpoint.generation := figures.generation;
      figures.seal := ledger_internal.seal_entries(checkpoint, previous);
    else
      chunk := ledger_internal.pack_chunk(
        checkpoint.group_id, checkpoint.number, piece.chunk, domain, piece.amounts, piece.leaves
      );
      chunks := chunks || chunk;
      sums := sums || chunk.sum::numeric;
      nodes := nodes || (ledger_internal.word(chunk.sum) || chunk.hash);
      figures.leaf_count := figures.leaf_count + cardinality(piece.leaves);
    end if;
  end loop;
  tree := ledger_internal.fold_tree(sums, nodes);
  figures.total := tree.sum;
  figures.root := tree.hash;

  -- The first change of the transaction, and so what the feed of all groups waits for: only when all is computed. One
  -- at a time: a list of them would be copied.
  for place in 1 .. cardinality(chunks) loop
    chunk := chunks[place];
    insert into ledger.checkpoint_chunks
    select chunk.*
    -- Above READ COMMITTED another checkpoint since the snapshot ends in 40001 here.
    on conflict do nothing;
  end loop;
  return figures;
end
$$;

alter function ledger_internal.write_chunks owner to ledger_owner;
comment on function ledger_internal.write_chunks is
  'Write the chunks of a checkpoint of this group and number in one snapshot, and return the snapshot, the figures, the seal and the root of it. Call it where no other transaction makes a checkpoint of the group. Raises LG011.';
revoke execute on function ledger_internal.write_chunks from public;
