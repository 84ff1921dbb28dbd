-- Compare a participant with their entries.
create or replace function ledger_internal.participant_record_discrepancies(
  participant ledger.participants,
  last        ledger_internal.leg,
  latest      timestamptz
) returns setof ledger.discrepancy
language sql stable
as $$
  select
    participant.group_id,
    null::bigint,
    participant.id,
    f.kind,
    f.detail
  from (
    select 'balance', format('holds %s, and the record says %s', participant.amount, last.balance)
    where participant.amount is distinct from last.balance
      and last.id is not null
      and last.kind <> 'exit'
    union all
    select 'balance', format('left and holds %s', participant.amount)
    where last.kind = 'exit'
      and participant.amount <> 0
    union all
    select 'presence', 'is not in the record'
    where last.id is null
    union all
    select 'presence', 'left without an exit, or is present after one'
    where (participant.exited_at is not null) <> (last.kind is not distinct from 'exit')
    union all
    select 'presence', 'is present in a group that was removed'
    where participant.exited_at is null
      and exists (select from ledger.groups as g where g.id = participant.group_id and g.closed_at is not null)
    union all
    select 'presence time', format('joined at %s, and the record says %s', participant.joined_at, joined.created_at)
    from (
      select e.created_at
      from ledger.entries as e
      where e.group_id = participant.group_id
        and e.to_id = participant.id
      order by e.created_at, e.id
      limit 1
    ) as joined
    where participant.joined_at <> joined.created_at
    union all
    select 'presence time', format('left at %s, and the record says %s', participant.exited_at, last.created_at)
    where last.kind = 'exit'
      and participant.exited_at <> last.created_at
    union all
    select 'presence time', format('last moved at %s, and the record says %s', participant.moved_at, last.created_at)
    where participant.moved_at < last.created_at
      or participant.moved_at > participant_record_discrepancies.latest
      -- What moved before moved_at was there has no transaction's number, and a later time.
      or (
        participant.moved_at > last.created_at
        and exists (
          select from ledger.entries as e
          where e.group_id = participant.group_id
            and e.id = last.id
            and e.xid <> '0'
        )
      )
  ) as f (kind, detail)
$$;

alter function ledger_internal.participant_record_discrepancies owner to ledger_owner;
comment on function ledger_internal.participant_record_discrepancies is
  'The discrepancies between a participant''s row and their entries, of which last is the latest: balance, presence, and times. For verify_participants.';
revoke execute on function ledger_internal.participant_record_discrepancies from public;
