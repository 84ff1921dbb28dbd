-- Show one participant with the balance, now or at a past moment.
create or replace function ledger.get_participant(
  group_id       bigint,
  participant_id bigint,
  at_time        timestamptz default null,
  at_entry       bigint      default null
) returns ledger.current_participants
language plpgsql stable security definer
set search_path = ledger, ledger_internal, pg_temp
set enable_seqscan = off
as $$
declare
  in_history  boolean := at_time is not null or at_entry is not null;
  participant current_participants;
begin
  if in_history then
    perform refuse_invalid(
      array['group_id', 'participant_id'],
      array[invalid_id(group_id), invalid_id(participant_id)]
    );
    participant := participant_at(group_id, participant_id, history_position(group_id, at_time, at_entry));
  else
    -- Not from current_participants: this condition on the exit fits no partial index, as in lock_pair().
    select
      p.username,
      p.id,
      p.group_id,
      p.amount
    into participant
    from participants as p
    where p.group_id = get_participant.group_id
      and p.id = get_participant.participant_id
      and coalesce(p.exited_at, 'infinity') = 'infinity';
  end if;

  if participant.id is null then
    perform refuse_unknown_participants(group_id, array['participant_id'], array[participant_id], in_history);
  end if;
  return participant;
end
$$;

alter function ledger.get_participant owner to ledger_owner;
comment on function ledger.get_participant is
  'One participant present in the group; with a time, or an entry of the group, one who was present then, with the balance of then. Raises LG001, LG002.';
revoke execute on function ledger.get_participant from public;
grant execute on function ledger.get_participant to ledger_api;
grant execute on function ledger.get_participant to ledger_bridge;
