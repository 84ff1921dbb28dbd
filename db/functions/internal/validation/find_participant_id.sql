-- Find the present participant that uses one of several usernames; the first username in use decides.
create or replace function ledger_internal.find_participant_id(
  group_id  bigint,
  usernames text[],
  besides   bigint default null
) returns bigint
language plpgsql stable
as $$
declare
  wanted         text;
  participant_id bigint;
begin
  -- One by one: each is a look-up in the unique index, whatever the table's statistics.
  foreach wanted in array usernames loop
    select p.id
    into participant_id
    from ledger.current_participants as p
    where p.group_id = find_participant_id.group_id
      and p.username = wanted collate "C"
      and p.id is distinct from besides;
    exit when participant_id is not null;
  end loop;
  return participant_id;
end
$$;

alter function ledger_internal.find_participant_id owner to ledger_owner;
comment on function ledger_internal.find_participant_id is
  'The id of the participant present in the group, other than besides, who has the first of these usernames in use; null if none is in use.';
revoke execute on function ledger_internal.find_participant_id from public;
