-- Find the discrepancies of a group as a whole.
create or replace function ledger_internal.verify_total(
  group_id bigint
) returns setof ledger.discrepancy
language sql stable
as $$
  select
    verify_total.group_id,
    f.entry_id,
    f.participant_id,
    f.kind,
    f.detail
  from (
    select t.entry_id, t.participant_id, t.kind, t.detail
    from ledger_internal.total_discrepancies(verify_total.group_id) as t
    union all
    select s.entry_id, null, 'settlement', 'it is settled, and is no exit'
    from ledger.settlements as s
    left join ledger.entries as e on e.group_id = s.group_id and e.id = s.entry_id
    where s.group_id = verify_total.group_id
      and e.kind is distinct from 'exit'
    union all
    select
      null,
      null,
      'total time',
      format('shard %s changed at %s, and with its last join, deposit or exit at %s', c.slot, c.changed_at, last.created_at)
    from ledger.group_total_shards as c
    cross join ledger_internal.verify_bounds() as b
    left join lateral (
      select t.created_at
      from ledger.group_total_history as t
      where t.group_id = c.group_id
        and t.slot = c.slot
      order by t.created_at desc, t.entry_id desc
      limit 1
    ) as last on true
    where c.group_id = verify_total.group_id
      and (c.changed_at > b.latest or c.changed_at = '-infinity' or c.changed_at < last.created_at)
    union all
    select s.entry_id, s.participant_id, s.kind, s.detail
    from ledger_internal.shared_identity_discrepancies(verify_total.group_id) as s
    union all
    select r.entry_id, r.participant_id, r.kind, r.detail
    from ledger_internal.rename_discrepancies(verify_total.group_id) as r
    union all
    select v.entry_id, v.participant_id, v.kind, v.detail
    from ledger_internal.vault_discrepancies(verify_total.group_id) as v
    union all
    select b.entry_id, b.participant_id, b.kind, b.detail
    from ledger_internal.bridge_record_discrepancies(verify_total.group_id) as b
    union all
    select d.entry_id, d.participant_id, d.kind, d.detail
    from ledger_internal.vault_deposit_discrepancies(verify_total.group_id) as d
    union all
    select p.entry_id, p.participant_id, p.kind, p.detail
    from ledger_internal.payout_discrepancies(verify_total.group_id) as p
    union all
    select m.entry_id, m.participant_id, m.kind, m.detail
    from ledger_internal.emergency_payout_discrepancies(verify_total.group_id) as m
    union all
    select l.entry_id, l.participant_id, 'sequence', 'it will give ids again that are in use'
    from (
      select
        (select max(e.id) from ledger.entries as e where e.group_id = verify_total.group_id),
        null,
        (select s.last_value - (not s.is_called)::integer from ledger.entries_id_seq as s)
      union all
      select
        null,
        (select max(p.id) from ledger.participants as p where p.group_id = verify_total.group_id),
        (select s.last_value - (not s.is_called)::integer from ledger.participants_id_seq as s)
    ) as l (entry_id, participant_id, given)
    where coalesce(l.entry_id, l.participant_id) > l.given
    union all
    select null, null, 'idempotency key', 'there is an empty key'
    from ledger.idempotency_keys as k
    where k.group_id = verify_total.group_id
      and k.key = ''
  ) as f (entry_id, participant_id, kind, detail)
$$;

alter function ledger_internal.verify_total owner to ledger_owner;
comment on function ledger_internal.verify_total is
  'The discrepancies of a group as a whole: its shards and their history, its settlements, changes of names, usernames and addresses that two have, its vault with its deposits and payouts, and ids above those that were given. For the owner.';
revoke execute on function ledger_internal.verify_total from public;
