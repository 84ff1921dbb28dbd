-- Compute the chunks of a checkpoint from the record.
create or replace function ledger_internal.recompute_chunks(
  checkpoint ledger.checkpoints
) returns setof ledger.checkpoint_chunks
language plpgsql stable
as $$
declare
  domain bytea := ledger_internal.domain_hash(checkpoint.chain_id, checkpoint.vault, checkpoint.group_id);
  feed   ledger.feeds;
  chunk  ledger.checkpoint_chunks;
  sums   numeric[] := array[]::numeric[];
  nodes  bytea[] := array[]::bytea[];
  tree   ledger_internal.tree;
begin
  select f.*
  into feed
  from ledger.feeds as f
  join pg_control_system() as c on c.system_identifier = f.system_identifier
  where f.generation = (select max(n.generation) from ledger.feeds as n);
  if feed.generation is distinct from checkpoint.generation then
    raise exception using
      errcode = 'LG002',
      column  = 'number',
      message = format('the leaves of checkpoint %s of group %s were deleted before a restore', checkpoint.number, checkpoint.group_id),
      detail  = 'number: its leaves were deleted, and cannot be computed since the ledger was restored from a backup',
      hint    = 'Use a checkpoint whose leaves are kept: a new one, for example.';
  end if;

  for chunk in
    select k.*
    from (
      select
        l.place / 1024 as chunk,
        array_agg(l.amount order by l.place) as amounts,
        array_agg(ledger_internal.pack_leaf(l.participant_id, l.exit_entry, l.owner, l.amount) order by l.place) as leaves
      from (
        select
          u.*,
          row_number() over (order by u.participant_id) - 1 as place
        from ledger_internal.leaves_at(checkpoint.group_id, checkpoint.snapshot, feed) as u
      ) as l
      group by l.place / 1024
    ) as p
    cross join lateral ledger_internal.pack_chunk(
      checkpoint.group_id, checkpoint.number, p.chunk::integer, domain, p.amounts, p.leaves
    ) as k
    order by p.chunk
  loop
    sums := sums || chunk.sum::numeric;
    nodes := nodes || (ledger_internal.word(chunk.sum) || chunk.hash);
    return next chunk;
  end loop;

  tree := ledger_internal.fold_tree(sums, nodes);
  if tree.hash <> checkpoint.root or tree.sum <> checkpoint.total then
    raise exception using
      errcode = 'data_corrupted',
      message = format('the record gives another root for checkpoint %s of group %s', checkpoint.number, checkpoint.group_id),
      hint    = 'Run ledger verify: the books have changed since the checkpoint.';
  end if;
end
$$;

alter function ledger_internal.recompute_chunks owner to ledger_owner;
comment on function ledger_internal.recompute_chunks is
  'The chunks of a checkpoint in their order, from the entries, settlements and addresses that its snapshot shows. Raises LG002 where the ledger was restored since, XX001 where they have another root than the checkpoint.';
revoke execute on function ledger_internal.recompute_chunks from public;
