-- Find the number of a group's next checkpoint.
create or replace function ledger_internal.next_checkpoint_number(
  group_id bigint
) returns bigint
language sql stable
as $$
  select 1 + greatest(
    0,
    (
      select max(c.number)
      from ledger.checkpoints as c
      where c.group_id = next_checkpoint_number.group_id
    ),
    (
      select max(u.number)
      from ledger.unknown_roots as u
      where u.group_id = next_checkpoint_number.group_id
    )
  )
$$;

alter function ledger_internal.next_checkpoint_number owner to ledger_owner;
comment on function ledger_internal.next_checkpoint_number is
  'The number after those of the group''s checkpoints, and of the roots that its vault had and the ledger did not make.';
revoke execute on function ledger_internal.next_checkpoint_number from public;
