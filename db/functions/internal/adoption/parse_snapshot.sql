-- Read a snapshot of a group with a vault, and check it as its vault and its participants do.
create or replace function ledger_internal.parse_snapshot(
  vault    ledger.vaults,
  snapshot jsonb
) returns ledger_internal.parsed_snapshot
language plpgsql stable
as $$
declare
  checkpoint ledger.checkpoints := ledger_internal.parse_checkpoint(vault, snapshot -> 'checkpoint');
  parsed     ledger_internal.parsed_snapshot;
  chunks     ledger.checkpoint_chunks[];
  tree       ledger_internal.tree;
begin
  if jsonb_typeof(snapshot -> 'leaves') is distinct from 'array' then
    perform ledger_internal.refuse_invalid(array['snapshot'], array['must have leaves']);
  end if;
  select array_agg(
    (
      ledger_internal.parse_id(ledger_internal.json_digits(l.leaf -> 'participant_id')),
      ledger_internal.parse_id(ledger_internal.json_digits(l.leaf -> 'exit_entry')),
      ledger_internal.json_hex(l.leaf -> 'owner', 20),
      ledger_internal.parse_amount(ledger_internal.json_digits(l.leaf -> 'amount'))
    )::ledger_internal.unpacked_leaf
    order by l.place
  )
  into parsed.leaves
  from jsonb_array_elements(snapshot -> 'leaves') with ordinality as l (leaf, place);

  if exists (
    select from (
      select
        l.*,
        lag(l.participant_id, 1, 0::bigint) over (order by l.place) as before
      from unnest(parsed.leaves) with ordinality as l (participant_id, exit_entry, owner, amount, place)
    ) as l
    where (l.participant_id > l.before and l.owner is not null and l.amount < 2::numeric ^ 256) is not true
  ) or coalesce(cardinality(parsed.leaves), 0) <> checkpoint.leaf_count then
    perform ledger_internal.refuse_mismatch('snapshot', 'the leaves of the snapshot are not as many as it says, or not of ascending participants');
  end if;
  chunks := ledger_internal.pack_leaves(checkpoint, vault.domain, parsed.leaves);
  select t.*
  into tree
  from (
    select
      array_agg(k.sum order by k.chunk) as sums,
      array_agg(ledger_internal.word(k.sum) || k.hash order by k.chunk) as nodes
    from unnest(chunks) as k
  ) as n
  cross join ledger_internal.fold_tree(n.sums, n.nodes) as t;
  if tree.hash <> checkpoint.root or tree.sum <> checkpoint.total then
    perform ledger_internal.refuse_mismatch('snapshot', 'the leaves of the snapshot have another root');
  end if;
  parsed.checkpoint := checkpoint;
  parsed.chunks := chunks;
  return parsed;
exception when numeric_value_out_of_range then
  perform ledger_internal.refuse_mismatch('snapshot', 'the amounts of the snapshot come to 2^256 or more');
end
$$;

alter function ledger_internal.parse_snapshot owner to ledger_owner;
comment on function ledger_internal.parse_snapshot is
  'The checkpoint of a snapshot, with its group, vault and header, and its leaves, of which the root is computed. Raises LG001 for what cannot be read, LG013 where the parts of it do not belong together or to this vault.';
revoke execute on function ledger_internal.parse_snapshot from public;
