-- Rename a participant.
create or replace function ledger.rename_participant(
  group_id        bigint,
  participant_id  bigint,
  username        text,
  idempotency_key text default null
) returns ledger.participant_result
language plpgsql volatile security definer
set search_path = ledger, ledger_internal, pg_temp
set enable_seqscan = off
as $$
declare
  request     text[] := array['rename_participant', participant_id::text, username];
  new_name    text;
  old_name    text;
  taken_by    bigint;
  participant participant_result;
begin
  perform refuse_invalid(
    array['group_id', 'participant_id', 'username', 'idempotency_key'],
    array[
      invalid_id(group_id),
      invalid_id(participant_id),
      invalid_new_name(username, group_id, idempotency_key, request),
      invalid_idempotency_key(idempotency_key)
    ]
  );

  participant := claim_idempotency_key(group_id, idempotency_key, request, participant);
  if participant.replayed then
    return participant;
  end if;

  -- The condition on the exit fits no partial index, as in lock_pair().
  select p.username
  into old_name
  from participants as p
  where p.group_id = rename_participant.group_id
    and p.id = rename_participant.participant_id
    and coalesce(p.exited_at, 'infinity') = 'infinity'
  for no key update;
  if not found then
    perform refuse_unknown_participants(group_id, array['participant_id'], array[participant_id]);
  end if;

  -- Do not wait for a taken name: two participants that are renamed to each other's names would wait for each other.
  taken_by := find_participant_id(group_id, name_spellings(username), participant_id);
  if taken_by is not null then
    perform refuse_taken_name('username', username, 'participant ' || taken_by::text);
  end if;
  new_name := normalize(username, NFC);
  begin
    update participants as p
    set username = new_name
    where p.group_id = rename_participant.group_id
      and p.id = rename_participant.participant_id
    returning p.username, p.id, p.group_id, p.amount
    into participant.username, participant.id, participant.group_id, participant.amount;
  exception when unique_violation then
    perform refuse_taken_name(
      'username', username, 'participant ' || find_participant_id(group_id, name_spellings(username), participant_id)::text
    );
  end;

  perform record_name_change(group_id, participant_id, old_name, new_name);
  participant.replayed := false;
  perform store_answer(group_id, idempotency_key, request, participant);
  return participant;
end
$$;

alter function ledger.rename_participant owner to ledger_owner;
comment on function ledger.rename_participant is
  'Give a present participant a username, composed (NFC), that no other present participant has; ledger.renames records the change. Raises LG001, LG002, LG005, LG006.';
revoke execute on function ledger.rename_participant from public;
grant execute on function ledger.rename_participant to ledger_api;
