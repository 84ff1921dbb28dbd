-- Raise LG010 if another participant present in a group has an address.
create or replace function ledger_internal.refuse_taken_address(
  group_id       bigint,
  participant_id bigint,
  address        bytea,
  field          text default 'address'
) returns void
language plpgsql stable
as $$
begin
  if exists (
    select from ledger.participants as p
    where p.group_id = refuse_taken_address.group_id
      and p.address = refuse_taken_address.address
      and p.exited_at is null
      and p.address_proved is not false
      and p.id is distinct from refuse_taken_address.participant_id
  ) then
    perform ledger_internal.refuse_bound_address(
      format('another participant has address %s', ledger_internal.format_address(address)),
      'is bound to another participant',
      field
    );
  end if;
end
$$;

alter function ledger_internal.refuse_taken_address owner to ledger_owner;
comment on function ledger_internal.refuse_taken_address is
  'Raises LG010 if another participant than this one, who may be null, is present in the group and has the address, proved where the group has a vault; nothing for a null address.';
revoke execute on function ledger_internal.refuse_taken_address from public;
