-- Mark a participant's address as proved.
create or replace function ledger.bind_proved_address(
  group_id       bigint,
  participant_id bigint,
  address        text
) returns ledger.address_result
language plpgsql volatile security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  bound       address_result;
  participant participants;
begin
  perform refuse_invalid(
    array['group_id', 'participant_id', 'address'],
    array[invalid_id(group_id), invalid_id(participant_id), invalid_address(address)]
  );
  -- No credit of a deposit for the address is under way.
  perform lock_vault(group_id);
  select p.*
  into participant
  from participants as p
  where p.group_id = bind_proved_address.group_id
    and p.id = bind_proved_address.participant_id
    and p.exited_at is null
  for no key update;
  if not found then
    perform refuse_unknown_participants(group_id, array['participant_id'], array[participant_id]);
  end if;
  if not participant.address_proved or participant.address is distinct from parse_address(address) then
    perform refuse_frozen(group_id);
  end if;
  perform assign_address(group_id, participant_id, parse_address(address));
  bound.id := participant_id;
  bound.group_id := group_id;
  bound.address := format_address(parse_address(address));
  bound.replayed := participant.address_proved;
  if not participant.address_proved then
    perform refuse_taken_address(group_id, participant_id, parse_address(address));
    begin
      update participants as p
      set address_proved = true
      where p.group_id = bind_proved_address.group_id
        and p.id = bind_proved_address.participant_id;
    exception when unique_violation then
      -- Above READ COMMITTED: another one was credited or proved since the snapshot.
      perform refuse_bound_address(
        format('another participant has address %s', bound.address), 'is bound to another participant'
      );
    end;
  end if;
  return bound;
end
$$;

alter function ledger.bind_proved_address owner to ledger_owner;
comment on function ledger.bind_proved_address is
  'Mark the address of a participant present as proved, so that deposits for it are theirs: for a process that has checked a signature of its key over the group''s domain and the participant. The same again changes nothing, and replayed is true. Raises LG001, LG002, LG010, LG013, LG014.';
revoke execute on function ledger.bind_proved_address from public;
grant execute on function ledger.bind_proved_address to ledger_bridge;
