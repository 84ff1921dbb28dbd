-- Show a participant as of a past moment.
create or replace function ledger_internal.participant_at(
  group_id       bigint,
  participant_id bigint,
  moment         ledger_internal.history_position
) returns ledger.current_participants
language sql stable
as $$
  select
    p.username,
    p.id,
    p.group_id,
    l.balance
  from ledger.participants as p
  cross join lateral ledger_internal.latest_leg_at(p.group_id, p.id, moment) as l
  where p.group_id = participant_at.group_id
    and p.id = participant_at.participant_id
    and l.kind <> 'exit'
$$;

alter function ledger_internal.participant_at owner to ledger_owner;
comment on function ledger_internal.participant_at is
  'A participant who was present at a moment, with the balance of then and the username of now; null for any other participant.';
revoke execute on function ledger_internal.participant_at from public;
