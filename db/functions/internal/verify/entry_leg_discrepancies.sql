-- Compare both legs of an entry with the previous entries of their participants.
create or replace function ledger_internal.entry_leg_discrepancies(
  entry     ledger.entries,
  sender    ledger_internal.leg,
  recipient ledger_internal.leg
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
    select
      entry.from_id,
      'running balance',
      format('the sender has %s after it, and had %s before it', entry.from_amount, sender.balance)
    where sender.id is not null
      and entry.from_amount is distinct from sender.balance - entry.amount
    union all
    select entry.from_id, 'running balance', format('the participant left with %s and kept %s', entry.amount, entry.from_amount)
    where entry.kind = 'exit'
      and entry.from_amount <> 0
    union all
    select
      entry.to_id,
      'running balance',
      format('the recipient has %s after it, and had %s before it', entry.to_amount, coalesce(recipient.balance, 0))
    where (entry.kind = 'join' or recipient.id is not null)
      and entry.to_amount is distinct from coalesce(recipient.balance, 0) + entry.amount
    union all
    select s.participant_id, 'presence', 'the participant has not joined before it'
    from (values (entry.from_id, sender.id), (entry.to_id, recipient.id)) as s (participant_id, earlier)
    where entry.kind <> 'join'
      and s.participant_id is not null
      and s.earlier is null
    union all
    select entry.to_id, 'presence', 'the participant was there before joining'
    where entry.kind = 'join'
      and recipient.id is not null
    union all
    select s.participant_id, 'presence', 'the participant had left before it'
    from (values (entry.from_id, sender.kind), (entry.to_id, recipient.kind)) as s (participant_id, earlier)
    where entry.kind <> 'join'
      and s.earlier = 'exit'
    union all
    select s.participant_id, 'time', format('entry %s is earlier and has a higher id', s.earlier)
    from (values (entry.from_id, sender.id), (entry.to_id, recipient.id)) as s (participant_id, earlier)
    where s.earlier > entry.id
      -- An exit that was made again after a restore has the id that it had.
      and not exists (
        select from ledger.adoptions as a
        where a.group_id = entry.group_id
          and a.xid = entry.xid
          and entry.kind = 'exit'
      )
    union all
    select s.participant_id, 'participant', 'there never was such a participant'
    from (values (entry.from_id, sender.id), (entry.to_id, recipient.id)) as s (participant_id, earlier)
    -- What comes later leads back to the participant's first entry.
    where s.participant_id is not null
      and s.earlier is null
      and not exists (
        select from ledger.participants as p
        where p.group_id = entry.group_id
          and p.id = s.participant_id
      )
  ) as f (participant_id, kind, detail)
$$;

alter function ledger_internal.entry_leg_discrepancies owner to ledger_owner;
comment on function ledger_internal.entry_leg_discrepancies is
  'The discrepancies between an entry and the latest entries of its sender and its recipient before it, nulls where there is none: balances, presence, and the order of times. If every step is right, so is every balance. For verify_entries.';
revoke execute on function ledger_internal.entry_leg_discrepancies from public;
