-- List the existing groups, a page at a time, or find one by its name.
create or replace function ledger.list_groups(
  after    bigint  default 0,
  max_rows integer default 1000,
  name     text    default null
) returns setof ledger.current_groups
language plpgsql stable security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  named bigint;
begin
  if name is not null then
    named := find_group_id(name_spellings(name));
    return query
    select g.*
    from current_groups as g
    where g.id = named
      and g.id > coalesce(list_groups.after, 0)
    limit greatest(coalesce(list_groups.max_rows, 1000), 0);
    return;
  end if;

  return query
  select g.*
  from current_groups as g
  where g.id > coalesce(list_groups.after, 0)
  order by g.id
  limit greatest(coalesce(list_groups.max_rows, 1000), 0);
end
$$;

alter function ledger.list_groups owner to ledger_owner;
comment on function ledger.list_groups is
  'The groups that exist with an id above after, at most max_rows of them, by ascending id; with a name, the one that has it, if any.';
revoke execute on function ledger.list_groups from public;
grant execute on function ledger.list_groups to ledger_api;
