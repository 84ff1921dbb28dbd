-- Find rows whose group is missing.
create or replace function ledger_internal.orphan_discrepancies(
  after bigint,
  upto  bigint
) returns setof ledger.discrepancy
language sql stable
as $$
  select
    o.group_id,
    null::bigint,
    null::bigint,
    'group',
    format('there is no such group, and it has %s', string_agg(format('%s: %s', o.name, o.rows), ', ' order by o.name))
  from (
    select p.group_id, 'participants', count(*)
    from ledger.participants as p
    where p.group_id > orphan_discrepancies.after
      and p.group_id <= orphan_discrepancies.upto
    group by p.group_id
    union all
    select e.group_id, 'entries', count(*)
    from ledger.entries as e
    where e.group_id > orphan_discrepancies.after
      and e.group_id <= orphan_discrepancies.upto
    group by e.group_id
    union all
    select s.group_id, 'settlements', count(*)
    from ledger.settlements as s
    where s.group_id > orphan_discrepancies.after
      and s.group_id <= orphan_discrepancies.upto
    group by s.group_id
    union all
    select c.group_id, 'shards', count(*)
    from ledger.group_total_shards as c
    where c.group_id > orphan_discrepancies.after
      and c.group_id <= orphan_discrepancies.upto
    group by c.group_id
    union all
    select t.group_id, 'totals', count(*)
    from ledger.group_total_history as t
    where t.group_id > orphan_discrepancies.after
      and t.group_id <= orphan_discrepancies.upto
    group by t.group_id
    union all
    select c.group_id, 'changes of names', count(*)
    from ledger.name_changes as c
    where c.group_id > orphan_discrepancies.after
      and c.group_id <= orphan_discrepancies.upto
    group by c.group_id
    union all
    select v.group_id, 'vaults', count(*)
    from ledger.vaults as v
    where v.group_id > orphan_discrepancies.after
      and v.group_id <= orphan_discrepancies.upto
    group by v.group_id
    union all
    select d.group_id, 'vault deposits', count(*)
    from ledger.vault_deposits as d
    where d.group_id > orphan_discrepancies.after
      and d.group_id <= orphan_discrepancies.upto
    group by d.group_id
    union all
    select p.group_id, 'payouts', count(*)
    from ledger.payouts as p
    where p.group_id > orphan_discrepancies.after
      and p.group_id <= orphan_discrepancies.upto
    group by p.group_id
    union all
    select p.group_id, 'publications', count(*)
    from ledger.publications as p
    where p.group_id > orphan_discrepancies.after
      and p.group_id <= orphan_discrepancies.upto
    group by p.group_id
    union all
    select k.group_id, 'idempotency keys', count(*)
    from ledger.idempotency_keys as k
    where k.group_id > orphan_discrepancies.after
      and k.group_id <= orphan_discrepancies.upto
      -- Those of requests that created a group.
      and k.group_id <> 0
    group by k.group_id
  ) as o (group_id, name, rows)
  group by o.group_id
$$;

alter function ledger_internal.orphan_discrepancies owner to ledger_owner;
comment on function ledger_internal.orphan_discrepancies is
  'The rows of groups whose ids are above after and not above upto, where no group has such an id. For verify_groups.';
revoke execute on function ledger_internal.orphan_discrepancies from public;
