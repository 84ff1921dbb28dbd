-- Compare what a group's vault paid with the settlements of its exits.
create or replace function ledger_internal.payout_discrepancies(
  group_id bigint
) returns setof ledger.discrepancy
language sql stable
as $$
  select
    payout_discrepancies.group_id,
    f.entry_id,
    f.participant_id,
    'payout',
    f.detail
  from (
    select o.subject, o.participant_id, format('%s was paid to %s, and the exit or its settlement is another one', o.amount, ledger_internal.hex(o.owner))
    from ledger.payouts as o
    left join ledger.entries as e on e.group_id = o.group_id and e.id = o.subject
    left join ledger.settlements as s on s.group_id = o.group_id and s.entry_id = o.subject
    left join ledger.participants as p on p.group_id = o.group_id and p.id = o.participant_id
    where o.group_id = payout_discrepancies.group_id
      and o.kind = 'exit'
      and (
        e.kind = 'exit'
        and e.from_id = o.participant_id
        and e.amount = o.amount
        and p.address = o.owner
        and s.settled_at is not null
        and s.reference = coalesce(ledger_internal.hex(o.transaction), 'nothing to pay')
      ) is not true
    union all
    select s.entry_id, null, 'the exit is settled, and the vault did not pay it'
    from ledger.vaults as v
    join ledger.settlements as s on s.group_id = v.group_id
    where v.group_id = payout_discrepancies.group_id
      and s.settled_at is not null
      and not exists (
        select from ledger.payouts as o
        where o.group_id = s.group_id
          and o.kind = 'exit'
          and o.subject = s.entry_id
      )
    union all
    select null, o.participant_id, format('%s of %s was paid without an emergency, or to another participant', o.kind, o.subject)
    from ledger.payouts as o
    left join ledger.vaults as v on v.group_id = o.group_id
    where o.group_id = payout_discrepancies.group_id
      and (
        v.group_id is null
        or (o.kind <> 'exit' and v.emergency_number is null)
        or (o.kind = 'present' and o.participant_id is distinct from o.subject)
        or (o.kind = 'reclaim') <> (o.participant_id is null)
        or o.kind not in ('exit', 'present', 'reclaim')
      )
    union all
    select null, o.participant_id, format('it has an amount of %s, no transaction, or the log of another payout', o.amount)
    from (
      select
        o.*,
        count(*) over (partition by o.transaction, o.log) as times
      from ledger.payouts as o
      where o.group_id = payout_discrepancies.group_id
    ) as o
    where (o.amount >= 0 and o.amount < 2::numeric ^ 256) is not true
      or (o.amount > 0 and o.transaction is null)
      or (o.transaction is null) <> (o.block is null)
      or (o.log is null) <> (o.kind = 'reclaim' or o.transaction is null)
      or (o.log is not null and o.times > 1)
  ) as f (entry_id, participant_id, detail)
$$;

alter function ledger_internal.payout_discrepancies owner to ledger_owner;
comment on function ledger_internal.payout_discrepancies is
  'The discrepancies of what a group''s vault paid: exits with their settlements, and the form of each payout. For verify_total.';
revoke execute on function ledger_internal.payout_discrepancies from public;
