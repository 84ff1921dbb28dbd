-- Insert a participant under the first free form of a username.
create or replace function ledger_internal.add_participant(
  group_id bigint,
  address  bytea,
  proved   boolean,
  id       bigint default null
) returns ledger.participants
language plpgsql volatile
as $$
declare
  username    text := ledger_internal.format_address(address);
  number      bigint;
  participant ledger.participants;
begin
  -- Until there is one that nobody has: a credit does not fail for a name. Others can take names with the next few ids,
  -- and each attempt has another id.
  for attempt in 1 .. 1000000 loop
    number := nextval('ledger.participants_id_seq');
    insert into ledger.participants (group_id, id, username, amount, address, address_xid, address_proved)
    overriding system value
    values (
      add_participant.group_id,
      coalesce(add_participant.id, number),
      username || case when attempt > 1 then ' ' || number else '' end,
      0,
      add_participant.address,
      pg_current_xact_id(),
      add_participant.proved
    )
    on conflict do nothing
    returning participants.* into participant;
    exit when found;
  end loop;
  return participant;
end
$$;

alter function ledger_internal.add_participant owner to ledger_owner;
comment on function ledger_internal.add_participant is
  'Insert a participant of a group with a vault, with nothing, and return the row. The username is the address, with an id where it is taken. The caller has made sure that nobody present has the proved address, and writes the join. Give an id only if it is new to the group.';
revoke execute on function ledger_internal.add_participant from public;
