-- Leave a group with the final amount, which returns to the main network.
create or replace function ledger.exit_group(
  group_id        bigint,
  participant_id  bigint,
  idempotency_key text  default null,
  metadata        jsonb default null,
  address         text  default null
) returns ledger.exit_result
language plpgsql volatile security definer
set search_path = ledger, ledger_internal, pg_temp
set enable_seqscan = off
as $$
declare
  request     text[];
  exited      exit_result;
  participant participants;
begin
  perform refuse_invalid(
    array['group_id', 'participant_id', 'idempotency_key', 'metadata', 'address'],
    array[
      invalid_id(group_id), invalid_id(participant_id), invalid_idempotency_key(idempotency_key), invalid_metadata(metadata),
      case when address is not null then invalid_address(address) end
    ]
  );

  request := array['exit_group', participant_id::text, metadata::text, format_address(parse_address(address))];
  exited := claim_idempotency_key(group_id, idempotency_key, request, exited);
  if exited.replayed then
    return exited;
  end if;

  -- A row that its transaction has written before is checked against its group again when it is written: with the group
  -- locked first, as by a join, this cannot deadlock with a removal.
  perform from groups as g
  where g.id = exit_group.group_id
  for key share;

  -- The condition on the exit fits no partial index, as in lock_pair().
  select p.*
  into participant
  from participants as p
  where p.group_id = exit_group.group_id
    and p.id = exit_group.participant_id
    and coalesce(p.exited_at, p.frozen_at) is null
  for no key update;
  if not found then
    perform refuse_frozen(group_id);
    perform refuse_unknown_participants(group_id, array['participant_id'], array[participant_id]);
  end if;
  -- Every participant of a group with a vault has one; without, an exit could never be paid.
  if participant.address_proved is not null and participant.address is null then
    perform refuse_linked(group_id, 'address', 'Bind an address first.');
  end if;
  if address is not null then
    perform assign_address(group_id, participant_id, parse_address(address));
  end if;

  exited.final_amount := participant.amount;
  exited.entry_id := post_exit(participant, metadata);
  exited.replayed := false;
  perform store_answer(group_id, idempotency_key, request, exited);
  return exited;
end
$$;

alter function ledger.exit_group owner to ledger_owner;
comment on function ledger.exit_group is
  'Leave the group with all that the participant holds, the final amount; an address is bound first, where none is. entry_id is the entry written. Raises LG001, LG002, LG006, LG010, LG012, LG014.';
revoke execute on function ledger.exit_group from public;
grant execute on function ledger.exit_group to ledger_api;
