-- Raise LG002 for a group that does not exist or was removed.
create or replace function ledger_internal.refuse_unknown_group(
  group_id bigint
) returns void
language plpgsql immutable
as $$
begin
  perform ledger_internal.refuse_invalid(array['group_id'], array[ledger_internal.invalid_id(group_id)]);
  raise exception using
    errcode = 'LG002',
    column  = 'group_id',
    message = format('no group %s', group_id),
    detail  = 'group_id: no such group',
    hint    = 'List the groups that exist with ledger.list_groups().';
end
$$;

alter function ledger_internal.refuse_unknown_group owner to ledger_owner;
comment on function ledger_internal.refuse_unknown_group is
  'Raise LG002 for a group that does not exist or was removed, LG001 for a null.';
revoke execute on function ledger_internal.refuse_unknown_group from public;
