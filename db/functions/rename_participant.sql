-- Give a participant another username.
create or replace function ledger.rename_participant(
  group_id       bigint,
  participant_id bigint,
  username       text
) returns ledger.current_participants
language plpgsql volatile security definer
set search_path = ledger, pg_temp
as $$
declare
  participant current_participants;
begin
  perform refuse_invalid(
    array['group_id', 'participant_id', 'username'],
    array[id_fault(group_id), id_fault(participant_id), name_fault(username)]
  );

  -- A name that is taken is not waited for: of two participants who rename themselves to each other, each would.
  begin
    update participants as p
    set username = rename_participant.username
    where p.group_id = rename_participant.group_id
      and p.id = rename_participant.participant_id
      and p.exited_at is null
      and not exists (
        select from current_participants as other
        where other.group_id = p.group_id
          and other.username = rename_participant.username collate "C"
          and other.id <> p.id
      )
    returning p.username, p.id, p.group_id, p.amount into participant;
  exception when unique_violation then
    perform refuse_taken('username', username);
  end;

  if participant.id is null then
    perform get_participant(group_id, participant_id);
    perform refuse_taken('username', username);
  end if;
  return participant;
end
$$;

alter function ledger.rename_participant owner to ledger_owner;
comment on function ledger.rename_participant is
  'Give a participant who is present a username that no one else present has. Raises LG001, LG002, LG005.';
revoke execute on function ledger.rename_participant from public;
grant execute on function ledger.rename_participant to ledger_api;
