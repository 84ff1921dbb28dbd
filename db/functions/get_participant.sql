-- Show one participant with the balance.
create or replace function ledger.get_participant(
  group_id       bigint,
  participant_id bigint
) returns ledger.current_participants
language plpgsql stable security definer
set search_path = ledger, pg_temp
as $$
declare
  participant current_participants;
begin
  select p.*
  into participant
  from current_participants as p
  where p.group_id = get_participant.group_id
    and p.id = get_participant.participant_id;

  if not found then
    perform refuse_unknown_participants(group_id, array['participant_id'], array[participant_id]);
  end if;
  return participant;
end
$$;

alter function ledger.get_participant owner to ledger_owner;
comment on function ledger.get_participant is
  'One participant who is present in the group. Raises LG001, LG002.';
revoke execute on function ledger.get_participant from public;
grant execute on function ledger.get_participant to ledger_api;
