-- Find what is wrong with a group's total.
create or replace function ledger.verify_total(
  group_id bigint
) returns setof ledger.fault
language sql stable
as $$
  select
    verify_total.group_id,
    f.entry_id,
    null::bigint,
    f.fault,
    f.detail
  from (
    select
      null::bigint,
      'total',
      format('counter %s stands at %s, and came to %s last', c.slot, c.total, coalesce(last.total, 0))
    from ledger.group_counters as c
    left join lateral (
      select t.total
      from ledger.group_totals as t
      where t.group_id = c.group_id
        and t.slot = c.slot
      order by t.created_at desc, t.entry_id desc
      limit 1
    ) as last on true
    where c.group_id = verify_total.group_id
      and c.total <> coalesce(last.total, 0)
    union all
    select null, 'total', format('the counters add up to %s, the balances to %s', c.total, p.total)
    from (
      select coalesce(sum(c.total), 0) as total from ledger.group_counters as c where c.group_id = verify_total.group_id
    ) as c
    cross join (
      select coalesce(sum(p.amount), 0) as total from ledger.participants as p where p.group_id = verify_total.group_id
    ) as p
    where c.total <> p.total
    union all
    select null, 'total', format('there are %s counters, from %s to %s', count(*), min(c.slot), max(c.slot))
    from ledger.group_counters as c
    where c.group_id = verify_total.group_id
    having count(*) <> 8
      or min(c.slot) <> 0
      or max(c.slot) <> 7
    union all
    select t.entry_id, 'total', format('counter %s came to %s with it, and it is no join or exit of that time', t.slot, t.total)
    from ledger.group_totals as t
    left join ledger.entries as e on e.group_id = t.group_id and e.id = t.entry_id
    where t.group_id = verify_total.group_id
      and (e.kind is null or e.kind = 'transfer' or e.created_at <> t.created_at or t.slot not between 0 and 7)
    union all
    select s.entry_id, 'settlement', 'it is settled, and is no exit'
    from ledger.settlements as s
    left join ledger.entries as e on e.group_id = s.group_id and e.id = s.entry_id
    where s.group_id = verify_total.group_id
      and e.kind is distinct from 'exit'
  ) as f (entry_id, fault, detail)
$$;

alter function ledger.verify_total owner to ledger_owner;
comment on function ledger.verify_total is
  'What is wrong with a group''s counters, their history and its settlements as a whole. For the owner.';
revoke execute on function ledger.verify_total from public;
