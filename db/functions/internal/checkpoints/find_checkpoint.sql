-- Find a checkpoint of a group, or its newest one.
create or replace function ledger_internal.find_checkpoint(
  group_id bigint,
  number   bigint default null
) returns ledger.checkpoints
language plpgsql stable
as $$
declare
  checkpoint ledger.checkpoints;
begin
  select c.*
  into checkpoint
  from ledger.checkpoints as c
  where c.group_id = find_checkpoint.group_id
    and c.number = coalesce(
      find_checkpoint.number,
      (select max(n.number) from ledger.checkpoints as n where n.group_id = find_checkpoint.group_id)
    );
  if not found then
    perform ledger_internal.refuse_unknown_checkpoint(group_id, number);
  end if;
  return checkpoint;
end
$$;

alter function ledger_internal.find_checkpoint owner to ledger_owner;
comment on function ledger_internal.find_checkpoint is
  'The row of a checkpoint, the newest of the group for null. Raises LG001, LG002.';
revoke execute on function ledger_internal.find_checkpoint from public;
