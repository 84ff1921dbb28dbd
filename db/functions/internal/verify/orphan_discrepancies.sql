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
    select
      r.group_id,
      r.name,
      count(*)
    from (
      select p.group_id, 'participants' from ledger.participants as p
      union all
      select e.group_id, 'entries' from ledger.entries as e
      union all
      select s.group_id, 'settlements' from ledger.settlements as s
      union all
      select c.group_id, 'shards' from ledger.group_total_shards as c
      union all
      select t.group_id, 'totals' from ledger.group_total_history as t
      union all
      select c.group_id, 'changes of names' from ledger.name_changes as c
      union all
      select v.group_id, 'vaults' from ledger.vaults as v
      union all
      select d.group_id, 'vault deposits' from ledger.vault_deposits as d
      union all
      select p.group_id, 'payouts' from ledger.payouts as p
      union all
      select p.group_id, 'publications' from ledger.publications as p
      union all
      -- Those of requests that created a group have group 0.
      select k.group_id, 'idempotency keys' from ledger.idempotency_keys as k where k.group_id <> 0
    ) as r (group_id, name)
    where r.group_id > orphan_discrepancies.after
      and r.group_id <= orphan_discrepancies.upto
    group by r.group_id, r.name
  ) as o (group_id, name, rows)
  group by o.group_id
$$;

alter function ledger_internal.orphan_discrepancies owner to ledger_owner;
comment on function ledger_internal.orphan_discrepancies is
  'The rows of groups whose ids are above after and not above upto, where no group has such an id. For verify_groups.';
revoke execute on function ledger_internal.orphan_discrepancies from public;
