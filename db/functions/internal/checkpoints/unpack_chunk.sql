-- Read the leaves of a chunk as they were packed.
create or replace function ledger_internal.unpack_chunk(
  chunk ledger.checkpoint_chunks
) returns setof bytea
language sql immutable
as $$
  select
    substr(c.leaves, i.start, 36)
      || substr('\x0000000000000000000000000000000000000000000000000000000000000000'::bytea, 1, 32 - c.width)
      || substr(c.leaves, i.start + 36, c.width)
  -- Read from the disk once, and not for each leaf.
  from (select (chunk).leaves || ''::bytea as leaves, (chunk).width::integer as width offset 0) as c
  cross join lateral generate_series(1, octet_length(c.leaves), 36 + c.width) as i (start)
  order by i.start
$$;

alter function ledger_internal.unpack_chunk owner to ledger_owner;
comment on function ledger_internal.unpack_chunk is
  'The leaves of a chunk in their order, 68 bytes each, as pack_leaf makes them.';
revoke execute on function ledger_internal.unpack_chunk from public;
