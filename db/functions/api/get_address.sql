-- Show a participant's address on the main network.
create or replace function ledger.get_address(
  group_id       bigint,
  participant_id bigint,
  out address    text
)
language plpgsql stable security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
begin
  select format_address(p.address)
  into address
  from participants as p
  where p.group_id = get_address.group_id
    and p.id = get_address.participant_id
    and p.exited_at is null;
  if not found then
    perform refuse_unknown_participants(group_id, array['participant_id'], array[participant_id]);
  end if;
end
$$;

alter function ledger.get_address owner to ledger_owner;
comment on function ledger.get_address is
  'The address of a participant present in the group, with the checksum of EIP-55; null while none is bound. Raises LG001, LG002.';
revoke execute on function ledger.get_address from public;
grant execute on function ledger.get_address to ledger_api;
grant execute on function ledger.get_address to ledger_bridge;
