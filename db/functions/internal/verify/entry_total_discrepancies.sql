-- Compare a join, deposit or exit with the history of the group's total.
create or replace function ledger_internal.entry_total_discrepancies(
  entry ledger.entries
) returns setof ledger.discrepancy
language sql stable
as $$
  select
    entry.group_id,
    entry.id,
    f.participant_id,
    f.kind,
    f.detail
  from (
    select null::bigint, 'total', format('the total is noted %s times', n.times)
    from (
      select count(*) as times
      from generate_series(0, 7) as s (slot)
      cross join lateral (
        select from ledger.group_total_history as t
        where t.group_id = entry.group_id
          and t.slot = s.slot
          and t.created_at = entry.created_at
          and t.entry_id = entry.id
        -- Kept from being merged into a join: a look-up for each shard, whose key begins with the slot.
        offset 0
      ) as t
    ) as n
    where entry.kind <> 'transfer'
      and n.times <> 1
    union all
    select
      null,
      'total',
      format('shard %s came to %s, and stood at %s before', s.slot, t.total, coalesce(before.total, 0))
    from generate_series(0, 7) as s (slot)
    cross join lateral (
      select t.total
      from ledger.group_total_history as t
      where t.group_id = entry.group_id
        and t.slot = s.slot
        and t.created_at = entry.created_at
        and t.entry_id = entry.id
      offset 0
    ) as t
    left join lateral (
      select b.total
      from ledger.group_total_history as b
      where b.group_id = entry.group_id
        and b.slot = s.slot
        and (b.created_at, b.entry_id) < (entry.created_at, entry.id)
      order by b.created_at desc, b.entry_id desc
      limit 1
    ) as before on true
    where entry.kind <> 'transfer'
      and t.total <> coalesce(before.total, 0) + case when entry.kind = 'exit' then -entry.amount else entry.amount end
  ) as f (participant_id, kind, detail)
$$;

alter function ledger_internal.entry_total_discrepancies owner to ledger_owner;
comment on function ledger_internal.entry_total_discrepancies is
  'The discrepancies between a join, a deposit or an exit and what it changed a shard of its group''s total to, none of a transfer. For verify_entries.';
revoke execute on function ledger_internal.entry_total_discrepancies from public;
