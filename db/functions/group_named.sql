-- Find the existing group that has the first of some names that is in use.
create or replace function ledger.group_named(
  names   text[],
  besides bigint default null
) returns bigint
language plpgsql stable
as $$
declare
  wanted   text;
  group_id bigint;
begin
  -- One by one: a look-up through the unique index, whatever is known of the table.
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

alter function ledger.group_named owner to ledger_owner;
comment on function ledger.group_named is
  'The id of the existing group that has the first of these names that another group than besides has; null where none has one.';
revoke execute on function ledger.group_named from public;
