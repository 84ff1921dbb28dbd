-- Fold the leaves of a chunk.
create or replace function ledger_internal.chunk_tree(
  chunk  ledger.checkpoint_chunks,
  domain bytea,
  place  integer default null
) returns ledger_internal.tree
language sql immutable
as $$
  select t.*
  from (
    select
      array_agg(ledger_internal.word_amount(substr(l.leaf, 37)) order by l.place) as sums,
      array_agg(substr(l.leaf, 37) || ledger_internal.leaf_hash(chunk_tree.domain, l.leaf) order by l.place) as nodes
    from ledger_internal.unpack_chunk(chunk) with ordinality as l (leaf, place)
  ) as n
  cross join ledger_internal.fold_tree(n.sums, n.nodes, chunk_tree.place) as t
$$;

alter function ledger_internal.chunk_tree owner to ledger_owner;
comment on function ledger_internal.chunk_tree is
  'The root of the tree of a chunk''s leaves, and the siblings of the one at a place, from 0.';
revoke execute on function ledger_internal.chunk_tree from public;
