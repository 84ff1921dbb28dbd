-- Show one group.
create or replace function ledger.get_group(
  group_id bigint
) returns ledger.current_groups
language plpgsql stable security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  found_group current_groups;
begin
  select g.*
  into found_group
  from current_groups as g
  where g.id = get_group.group_id;

  if not found then
    perform refuse_unknown_group(group_id);
  end if;
  return found_group;
end
$$;

alter function ledger.get_group owner to ledger_owner;
comment on function ledger.get_group is
  'One group that exists. Raises LG001, LG002.';
revoke execute on function ledger.get_group from public;
grant execute on function ledger.get_group to ledger_api;
