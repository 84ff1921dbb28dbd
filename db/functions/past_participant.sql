-- Show a participant as of a past moment.
create or replace function ledger.past_participant(
  group_id       bigint,
  participant_id bigint,
  moment         ledger.history_moment
) returns ledger.current_participants
language sql stable
as $$
  select
    p.username,
    p.id,
    p.group_id,
    l.balance
  from ledger.participants as p
  cross join lateral ledger.last_leg(p.group_id, p.id, moment) as l
  where p.group_id = past_participant.group_id
    and p.id = past_participant.participant_id
    and l.kind <> 'exit'
$$;

alter function ledger.past_participant owner to ledger_owner;
comment on function ledger.past_participant is
  'A participant who was present at a moment, with the balance then and the username of now; null for one who was not.';
revoke execute on function ledger.past_participant from public;
