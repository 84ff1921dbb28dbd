-- Give a group another name.
create or replace function ledger.rename_group(
  group_id bigint,
  name     text
) returns ledger.current_groups
language plpgsql volatile security definer
set search_path = ledger, pg_temp
as $$
declare
  renamed_group current_groups;
begin
  perform refuse_invalid(array['group_id', 'name'], array[id_fault(group_id), name_fault(name)]);

  -- A name that is taken is not waited for: of two groups that are renamed to each other, each would.
  begin
    update groups as g
    set name = rename_group.name
    where g.id = rename_group.group_id
      and g.closed_at is null
      and not exists (
        select from current_groups as other
        where other.name = rename_group.name collate "C"
          and other.id <> g.id
      )
    returning g.name, g.id into renamed_group;
  exception when unique_violation then
    perform refuse_taken('name', name);
  end;

  if renamed_group.id is null then
    perform get_group(group_id);
    perform refuse_taken('name', name);
  end if;
  return renamed_group;
end
$$;

alter function ledger.rename_group owner to ledger_owner;
comment on function ledger.rename_group is
  'Give an existing group a name that no other existing group has. Raises LG001, LG002, LG005.';
revoke execute on function ledger.rename_group from public;
grant execute on function ledger.rename_group to ledger_api;
