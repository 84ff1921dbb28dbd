-- Read the leaves of a chunk.
create or replace function ledger_internal.unpack_leaves(
  chunk ledger.checkpoint_chunks
) returns setof ledger.leaf
language sql immutable
as $$
  select
    1024 * (chunk).chunk::bigint + l.place - 1,
    ('x' || encode(substr(l.leaf, 1, 8), 'hex'))::bit(64)::bigint,
    nullif(('x' || encode(substr(l.leaf, 9, 8), 'hex'))::bit(64)::bigint, 0),
    ledger_internal.hex(substr(l.leaf, 17, 20)),
    ledger_internal.word_amount(substr(l.leaf, 37))
  from ledger_internal.unpack_chunk(chunk) with ordinality as l (leaf, place)
$$;

alter function ledger_internal.unpack_leaves owner to ledger_owner;
comment on function ledger_internal.unpack_leaves is
  'The leaves of a chunk, by ascending participant.';
revoke execute on function ledger_internal.unpack_leaves from public;
