-- Find the username that a participant had when an entry was written.
create or replace function ledger_internal.username_at(
  group_id       bigint,
  participant_id bigint,
  entry_id       bigint
) returns text
language sql stable
as $$
  -- A change of name takes a number of the entries while the participant is locked, and so do entries.
  select coalesce(
    (
      select c.old_name
      from ledger.name_changes as c
      where c.group_id = username_at.group_id
        and c.participant_id = username_at.participant_id
        and c.before_entry > username_at.entry_id
      order by c.before_entry
      limit 1
    ),
    (
      select p.username
      from ledger.participants as p
      where p.group_id = username_at.group_id
        and p.id = username_at.participant_id
    )
  )
$$;

alter function ledger_internal.username_at owner to ledger_owner;
comment on function ledger_internal.username_at is
  'The username that a participant of a group had when an entry of theirs was written.';
revoke execute on function ledger_internal.username_at from public;
