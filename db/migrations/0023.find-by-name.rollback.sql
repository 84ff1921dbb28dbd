-- Undo: find by name.

set local lock_timeout = '5s';
set local role ledger_owner;
-- Functions may call each other in any order.
set local check_function_bodies = off;

-- >>> db/functions/list_groups.sql
drop function if exists ledger.list_groups;
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
-- <<< db/functions/list_groups.sql

-- >>> db/functions/list_participants.sql
drop function if exists ledger.list_participants;
-- List the participants present in a group, a page at a time.
create or replace function ledger.list_participants(
  group_id bigint,
  after    bigint  default 0,
  max_rows integer default 1000
) returns setof ledger.current_participants
language plpgsql stable security definer
set search_path = ledger, pg_temp
as $$
begin
  perform get_group(group_id);

  return query
  select p.*
  from current_participants as p
  where p.group_id = list_participants.group_id
    and p.id > coalesce(list_participants.after, 0)
  order by p.id
  limit greatest(coalesce(list_participants.max_rows, 1000), 0);
end
$$;

alter function ledger.list_participants owner to ledger_owner;
comment on function ledger.list_participants is
  'The participants present in the group with an id above after, at most max_rows of them, by ascending id. Raises LG001, LG002.';
revoke execute on function ledger.list_participants from public;
grant execute on function ledger.list_participants to ledger_api;
-- <<< db/functions/list_participants.sql
