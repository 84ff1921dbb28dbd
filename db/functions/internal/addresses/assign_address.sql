-- Set the address of a participant whose row this transaction has locked, unless the participant has it already.
create or replace function ledger_internal.assign_address(
  group_id       bigint,
  participant_id bigint,
  address        bytea
) returns void
language plpgsql volatile
as $$
declare
  bound bytea;
begin
  select p.address
  into bound
  from ledger.participants as p
  where p.group_id = assign_address.group_id
    and p.id = assign_address.participant_id;
  if bound <> address then
    perform ledger_internal.refuse_bound_address(
      format('participant %s has another address', participant_id),
      format('is %s already', ledger_internal.format_address(bound))
    );
  end if;

  if bound is null then
    -- Do not wait for a participant who has the address: a renaming of theirs may wait for this transaction.
    perform ledger_internal.refuse_taken_address(group_id, participant_id, address);
    begin
      -- Waits for another session that binds the same address.
      update ledger.participants as p
      set
        address = assign_address.address,
        address_xid = pg_current_xact_id()
      where p.group_id = assign_address.group_id
        and p.id = assign_address.participant_id;
    exception when unique_violation then
      perform ledger_internal.refuse_bound_address(
        format('another participant has address %s', ledger_internal.format_address(address)),
        'is bound to another participant'
      );
    end;
  end if;
end
$$;

alter function ledger_internal.assign_address owner to ledger_owner;
comment on function ledger_internal.assign_address is
  'Set the address of a locked participant for good, if it has none. Raises LG010 where it has another one, or another participant present in the group has this one.';
revoke execute on function ledger_internal.assign_address from public;
