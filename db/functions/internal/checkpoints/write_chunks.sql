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
  resumed timestamptz := clock_timestamp();
  -- A statement with a time-out has no time for pauses.
  pauses  boolean := current_setting('statement_timeout') = '0';
begin
  -- One statement and so one snapshot for all figures and leaves; a volatile function in it would see newer rows.
  for piece in
    -- The first row has the figures, each of the others the leaves of a chunk.
    select
      -1 as chunk,
      null::numeric[] as amounts,
      null::bytea[] as leaves,
      b as books
    from ledger_internal.checkpoint_books(checkpoint.group_id) as b
    union all
    select
      (l.place / 1024)::integer,
      array_agg(l.amount order by l.place),
      array_agg(ledger_internal.pack_leaf(l.participant_id, l.exit_entry, l.owner, l.amount) order by l.place),
      null
    from (
      select
        u.*,
        row_number() over (order by u.participant_id) - 1 as place
      from ledger_internal.current_leaves(checkpoint.group_id) as u
    ) as l
    group by l.place / 1024
    order by chunk
  loop
    if piece.chunk = -1 then
      figures := piece.books;
      figures.leaf_count := 0;
      perform ledger_internal.refuse_large_group(checkpoint.group_id, figures.credited);
      checkpoint.snapshot := figures.snapshot;
      checkpoint.generation := figures.generation;
      figures.seal := ledger_internal.seal_entries(checkpoint, previous, pauses);
      resumed := clock_timestamp();
      continue;
    end if;

    chunk := ledger_internal.pack_chunk(
      checkpoint.group_id, checkpoint.number, piece.chunk, domain, piece.amounts, piece.leaves
    );
    chunks := chunks || chunk;
    sums := sums || chunk.sum::numeric;
    nodes := nodes || (ledger_internal.word(chunk.sum) || chunk.hash);
    figures.leaf_count := figures.leaf_count + cardinality(piece.leaves);
    if pauses and cardinality(piece.leaves) = 1024 then
      resumed := ledger_internal.pause_after(resumed);
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
  'Write the chunks of a checkpoint of this group and number in one snapshot, and return the snapshot, the figures, the seal and the root of it. In a session without a statement time-out it pauses five times as long as it works. Call it where no other transaction makes a checkpoint of the group. Raises LG011.';
revoke execute on function ledger_internal.write_chunks from public;
