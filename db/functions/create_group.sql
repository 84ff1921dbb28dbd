-- Open a group, which is one off-chain ledger.
create or replace function ledger.create_group(
  name text
) returns ledger.current_groups
language plpgsql volatile security definer
set search_path = ledger, pg_temp
as $$
declare
  new_group current_groups;
begin
  perform refuse_invalid(array['name'], array[name_fault(name)]);

  insert into groups (name)
  values (create_group.name)
  on conflict do nothing
  returning groups.name, groups.id into new_group;
  if not found then
    perform refuse_taken('name', name);
  end if;

  insert into group_counters (group_id, slot)
  select new_group.id, s.slot
  from generate_series(0, 7) as s (slot);

  return new_group;
end
$$;

alter function ledger.create_group owner to ledger_owner;
comment on function ledger.create_group is
  'Open a group under a name that no other existing group has. Raises LG001, LG005.';
revoke execute on function ledger.create_group from public;
grant execute on function ledger.create_group to ledger_api;
