-- Make a chunk of a checkpoint from its leaves.
create or replace function ledger_internal.pack_chunk(
  group_id bigint,
  number   bigint,
  chunk    integer,
  domain   bytea,
  amounts  numeric[],
  leaves   bytea[]
) returns ledger.checkpoint_chunks
language plpgsql immutable
as $$
declare
  packed ledger.checkpoint_chunks;
  nodes  bytea[];
  tree   ledger_internal.tree;
begin
  packed.width := octet_length(ltrim(ledger_internal.word((select max(a.amount) from unnest(amounts) as a (amount))), '\x00'));
  select
    array_agg(substr(l.leaf, 37) || ledger_internal.leaf_hash(domain, l.leaf) order by l.place),
    string_agg(substr(l.leaf, 1, 36) || substr(l.leaf, 69 - packed.width), '' order by l.place)
  into nodes, packed.leaves
  from unnest(leaves) with ordinality as l (leaf, place);
  tree := ledger_internal.fold_tree(amounts, nodes);

  packed.group_id := group_id;
  packed.number := number;
  packed.chunk := chunk;
  packed.first_id := ('x' || encode(substr(leaves[1], 1, 8), 'hex'))::bit(64)::bigint;
  packed.sum := tree.sum;
  packed.hash := tree.hash;
  return packed;
end
$$;

alter function ledger_internal.pack_chunk owner to ledger_owner;
comment on function ledger_internal.pack_chunk is
  'The row of a chunk: its leaves, at most 1,024 by ascending participant, each as pack_leaf makes it, and the node above them.';
revoke execute on function ledger_internal.pack_chunk from public;
