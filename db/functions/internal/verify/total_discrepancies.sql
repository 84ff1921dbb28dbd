-- Compare a group's total with its history, with the balances and with the entries.
create or replace function ledger_internal.total_discrepancies(
  group_id bigint
) returns setof ledger.discrepancy
language sql stable
as $$
  select
    total_discrepancies.group_id,
    f.entry_id,
    f.participant_id,
    f.kind,
    f.detail
  from (
    select
      null::bigint,
      null::bigint,
      'total',
      format('shard %s stands at %s, and came to %s last', c.slot, c.total, coalesce(last.total, 0))
    from ledger.group_total_shards as c
    left join lateral (
      select t.total
      from ledger.group_total_history as t
      where t.group_id = c.group_id
        and t.slot = c.slot
      order by t.created_at desc, t.entry_id desc
      limit 1
    ) as last on true
    where c.group_id = total_discrepancies.group_id
      and c.total <> coalesce(last.total, 0)
    union all
    select null, null, 'total', format('the shards add up to %s, the balances to %s', c.total, p.total)
    from (
      select coalesce(sum(c.total), 0) as total from ledger.group_total_shards as c where c.group_id = total_discrepancies.group_id
    ) as c
    cross join (
      select coalesce(sum(p.amount), 0) as total from ledger.participants as p where p.group_id = total_discrepancies.group_id
    ) as p
    where c.total <> p.total
    union all
    select null, null, 'total', format('there are %s shards, from %s to %s', count(*), min(c.slot), max(c.slot))
    from ledger.group_total_shards as c
    where c.group_id = total_discrepancies.group_id
    having count(*) <> 8
      or min(c.slot) <> 0
      or max(c.slot) <> 7
    union all
    select t.entry_id, null, 'total', format('shard %s came to %s with it, and it is no join, deposit or exit of that time and participant', t.slot, t.total)
    from ledger.group_total_history as t
    left join ledger.entries as e on e.group_id = t.group_id and e.id = t.entry_id
    where t.group_id = total_discrepancies.group_id
      and (
        e.kind is null
        or e.kind = 'transfer'
        or e.created_at <> t.created_at
        or t.slot not between 0 and 7
        or t.participant_id is distinct from case when e.kind = 'deposit' then e.to_id end
      )
  ) as f (entry_id, participant_id, kind, detail)
$$;

alter function ledger_internal.total_discrepancies owner to ledger_owner;
comment on function ledger_internal.total_discrepancies is
  'The discrepancies of a group''s total: its shards, the history of each, the balances that they add up to, and entries that changed none. For verify_total.';
revoke execute on function ledger_internal.total_discrepancies from public;
