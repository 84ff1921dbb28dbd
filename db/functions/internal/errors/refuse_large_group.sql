-- Raise LG011 if no checkpoint can hold what was credited to a group.
create or replace function ledger_internal.refuse_large_group(
  group_id bigint,
  credited numeric
) returns void
language plpgsql immutable
as $$
begin
  if credited >= 2::numeric ^ 256 then
    raise exception using
      errcode = 'LG011',
      column  = 'group_id',
      message = format('group %s was credited %s in all, and a checkpoint holds less than 2^256', group_id, credited),
      detail  = 'group_id: was credited 2^256 or more in all',
      hint    = 'Go on in a new group.';
  end if;
end
$$;

alter function ledger_internal.refuse_large_group owner to ledger_owner;
comment on function ledger_internal.refuse_large_group is
  'Raises LG011 if all deposits of a group come to 2^256 or more.';
revoke execute on function ledger_internal.refuse_large_group from public;
