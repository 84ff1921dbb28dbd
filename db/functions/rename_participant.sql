-- Give a participant another username.
create or replace function ledger.rename_participant(
  group_id        bigint,
  participant_id  bigint,
  username        text,
  idempotency_key text default null
) returns ledger.participant_result
language plpgsql volatile security definer
set search_path = ledger, pg_temp
as $$
declare
  request     text[] := array['rename_participant', participant_id::text, username];
  answer      json;
  participant participant_result;
begin
  perform refuse_invalid(
    array['group_id', 'participant_id', 'username', 'idempotency_key'],
    array[id_fault(group_id), id_fault(participant_id), name_fault(username), key_fault(idempotency_key)]
  );

  if idempotency_key is not null then
    answer := replay(group_id, idempotency_key, request);
    if answer is not null then
      participant := json_populate_record(participant, answer);
      participant.replayed := true;
      return participant;
    end if;
  end if;

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
    returning p.username, p.id, p.group_id, p.amount
    into participant.username, participant.id, participant.group_id, participant.amount;
  exception when unique_violation then
    perform refuse_taken('username', username);
  end;

  if participant.id is null then
    perform get_participant(group_id, participant_id);
    perform refuse_taken('username', username);
  end if;

  participant.replayed := false;
  if idempotency_key is not null then
    perform remember(group_id, idempotency_key, request, to_json(participant));
  end if;
  return participant;
end
$$;

alter function ledger.rename_participant owner to ledger_owner;
comment on function ledger.rename_participant is
  'Give a participant who is present a username that no one else present has. Raises LG001, LG002, LG005, LG006.';
revoke execute on function ledger.rename_participant from public;
grant execute on function ledger.rename_participant to ledger_api;
