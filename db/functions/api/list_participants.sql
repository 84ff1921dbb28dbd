-- List the participants present in a group, a page at a time, or find one by username.
create or replace function ledger.list_participants(
  group_id bigint,
  after    bigint  default 0,
  max_rows integer default 1000,
  username text    default null
) returns setof ledger.current_participants
language plpgsql stable security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  named bigint;
begin
  perform get_group(group_id);

  if username is not null then
    named := find_participant_id(group_id, name_spellings(username));
    return query
    select p.*
    from current_participants as p
    where p.group_id = list_participants.group_id
      and p.id = named
      and p.id > coalesce(list_participants.after, 0)
    limit greatest(coalesce(list_participants.max_rows, 1000), 0);
    return;
  end if;

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
  'The participants present in the group with an id above after, at most max_rows of them, by ascending id; with a username, the participant who has it, if any. Raises LG001, LG002.';
revoke execute on function ledger.list_participants from public;
grant execute on function ledger.list_participants to ledger_api;
