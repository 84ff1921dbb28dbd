-- Make the chunks of a checkpoint from its leaves.
create or replace function ledger_internal.pack_leaves(
  checkpoint ledger.checkpoints,
  domain     bytea,
  leaves     ledger_internal.unpacked_leaf[]
) returns ledger.checkpoint_chunks[]
language sql immutable
as $$
  select array_agg(k order by k.chunk)
  from (
    select
      (l.place - 1) / 1024 as chunk,
      array_agg(l.amount order by l.place) as amounts,
      array_agg(ledger_internal.pack_leaf(l.participant_id, l.exit_entry, l.owner, l.amount) order by l.place) as leaves
    from unnest(pack_leaves.leaves) with ordinality as l (participant_id, exit_entry, owner, amount, place)
    group by (l.place - 1) / 1024
  ) as p
  cross join lateral ledger_internal.pack_chunk(
    checkpoint.group_id, checkpoint.number, p.chunk::integer, pack_leaves.domain, p.amounts, p.leaves
  ) as k
$$;

alter function ledger_internal.pack_leaves owner to ledger_owner;
comment on function ledger_internal.pack_leaves is
  'The chunks of a checkpoint with these leaves, of 1,024 each.';
revoke execute on function ledger_internal.pack_leaves from public;
