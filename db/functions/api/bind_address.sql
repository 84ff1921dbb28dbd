-- Bind a participant's address on the main network, once.
create or replace function ledger.bind_address(
  group_id        bigint,
  participant_id  bigint,
  address         text,
  idempotency_key text default null
) returns ledger.address_result
language plpgsql volatile security definer
set search_path = ledger, ledger_internal, pg_temp
set enable_seqscan = off
as $$
declare
  request text[];
  bound   address_result;
  proved  boolean;
begin
  perform refuse_invalid(
    array['group_id', 'participant_id', 'address', 'idempotency_key'],
    array[invalid_id(group_id), invalid_id(participant_id), invalid_address(address), invalid_idempotency_key(idempotency_key)]
  );
  bound.address := format_address(parse_address(address));

  request := array['bind_address', participant_id::text, bound.address];
  bound := claim_idempotency_key(group_id, idempotency_key, request, bound);
  if bound.replayed then
    return bound;
  end if;

  -- The condition on the exit fits no partial index, as in lock_pair().
  select
    p.id,
    p.group_id,
    p.address_proved
  into
    bound.id,
    bound.group_id,
    proved
  from participants as p
  where p.group_id = bind_address.group_id
    and p.id = bind_address.participant_id
    and coalesce(p.exited_at, 'infinity') = 'infinity'
  for no key update;
  if not found then
    perform refuse_unknown_participants(group_id, array['participant_id'], array[participant_id]);
  end if;
  -- Every participant of a group with a vault has it, and no other one.
  if proved is not null then
    perform refuse_linked(group_id, 'address', 'Prove the address with a signature of its key.');
  end if;
  perform assign_address(group_id, participant_id, parse_address(address));

  bound.replayed := false;
  perform store_answer(group_id, idempotency_key, request, bound);
  return bound;
end
$$;

alter function ledger.bind_address owner to ledger_owner;
comment on function ledger.bind_address is
  'Bind an address, 0x and 40 hex digits, to a participant present in the group, for good; the same address again changes nothing. Refused in a group with a vault, where an address is proved. Raises LG001, LG002, LG006, LG010, LG012.';
revoke execute on function ledger.bind_address from public;
grant execute on function ledger.bind_address to ledger_api;
