-- Find the participant present in a group who has the first of some usernames that is in use.
create or replace function ledger.participant_named(
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
  -- One by one: a look-up through the unique index, whatever is known of the table.
  foreach wanted in array usernames loop
    select p.id
    into participant_id
    from ledger.current_participants as p
    where p.group_id = participant_named.group_id
      and p.username = wanted collate "C"
      and p.id is distinct from besides;
    exit when participant_id is not null;
  end loop;
  return participant_id;
end
$$;

alter function ledger.participant_named owner to ledger_owner;
comment on function ledger.participant_named is
  'The id of the participant present in the group who has the first of these usernames that another one than besides has; null where nobody has one.';
revoke execute on function ledger.participant_named from public;
