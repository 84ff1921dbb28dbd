-- Raise LG010 for an address that cannot be bound.
create or replace function ledger_internal.refuse_bound_address(
  message text,
  reason  text,
  field   text default 'address'
) returns void
language plpgsql immutable
as $$
begin
  raise exception using
    errcode = 'LG010',
    column  = refuse_bound_address.field,
    message = refuse_bound_address.message,
    detail  = field || ': ' || reason,
    hint    = 'Look at the participant''s address with ledger.get_address(); it is bound for good, and to one participant of a group.';
end
$$;

alter function ledger_internal.refuse_bound_address owner to ledger_owner;
comment on function ledger_internal.refuse_bound_address is
  'Raises LG010: another address is bound to the participant, or the address to another participant.';
revoke execute on function ledger_internal.refuse_bound_address from public;
