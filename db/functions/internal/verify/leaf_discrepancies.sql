-- Compare a checkpoint's leaves with its root.
create or replace function ledger_internal.leaf_discrepancies(
  checkpoint ledger.checkpoints,
  domain     bytea
) returns setof ledger.discrepancy
language sql stable
as $$
  select
    checkpoint.group_id,
    null::bigint,
    null::bigint,
    'checkpoint',
    f.detail
  from (
    select 'has other leaves than its root is of'
    from (
      select
        ledger_internal.fold_tree(
          array_agg(k.sum order by k.chunk), array_agg(ledger_internal.word(k.sum) || k.hash order by k.chunk)
        ) as tree,
        bool_and(t.sum = k.sum and t.hash = k.hash) as fits
      from ledger.checkpoint_chunks as k
      cross join lateral ledger_internal.chunk_tree(k, leaf_discrepancies.domain) as t
      where k.group_id = checkpoint.group_id
        and k.number = checkpoint.number
      having count(*) > 0
    ) as k
    where (k.fits and (k.tree).hash = checkpoint.root and (k.tree).sum = checkpoint.total) is not true
    union all
    select format('has %s leaves of ascending participants, and says %s', l.leaves, checkpoint.leaf_count)
    from (
      select count(*) filter (where l.participant_id > l.before) as leaves
      from (
        select
          l.participant_id,
          lag(l.participant_id, 1, 0::bigint) over (order by l.index) as before
        from ledger.checkpoint_chunks as k
        cross join lateral ledger_internal.unpack_leaves(k) as l
        where k.group_id = checkpoint.group_id
          and k.number = checkpoint.number
      ) as l
      having count(*) > 0
    ) as l
    where l.leaves <> checkpoint.leaf_count
  ) as f (detail)
$$;

alter function ledger_internal.leaf_discrepancies owner to ledger_owner;
comment on function ledger_internal.leaf_discrepancies is
  'The discrepancies of the leaves that are kept of a checkpoint, none if they were dropped: their tree, their number, and their order. For verify_checkpoints.';
revoke execute on function ledger_internal.leaf_discrepancies from public;
