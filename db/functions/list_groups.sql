-- List the groups that exist, a page at a time.
create or replace function ledger.list_groups(
  after    bigint  default 0,
  max_rows integer default 1000
) returns setof ledger.current_groups
language sql stable security definer
set search_path = ledger, pg_temp
as $$
  select g.*
  from current_groups as g
  where g.id > coalesce(list_groups.after, 0)
  order by g.id
  limit greatest(coalesce(list_groups.max_rows, 1000), 0)
$$;

alter function ledger.list_groups owner to ledger_owner;
comment on function ledger.list_groups is
  'The groups that exist with an id above after, at most max_rows of them, by ascending id.';
revoke execute on function ledger.list_groups from public;
grant execute on function ledger.list_groups to ledger_api;
