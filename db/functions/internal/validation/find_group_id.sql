-- Find the group that uses one of several names; the first name in use decides.
create or replace function ledger_internal.find_group_id(
  names   text[],
  besides bigint default null
) returns bigint
language plpgsql stable
as $$
declare
  wanted   text;
  group_id bigint;
begin
  -- One by one: each is a look-up in the unique index, whatever the table's statistics.
  foreach wanted in array names loop
    select g.id
    into group_id
    from ledger.current_groups as g
    where g.name = wanted collate "C"
      and g.id is distinct from besides;
    exit when group_id is not null;
  end loop;
  return group_id;
end
$$;

alter function ledger_internal.find_group_id owner to ledger_owner;
comment on function ledger_internal.find_group_id is
  'The id of the existing group, other than besides, that has the first of these names in use; null if none is in use.';
revoke execute on function ledger_internal.find_group_id from public;
