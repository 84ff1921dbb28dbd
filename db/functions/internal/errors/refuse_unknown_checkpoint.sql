-- Raise LG002 for a checkpoint that a group does not have, or for the group itself.
create or replace function ledger_internal.refuse_unknown_checkpoint(
  group_id bigint,
  number   bigint
) returns void
language plpgsql stable
as $$
begin
  perform ledger_internal.refuse_invalid(array['group_id'], array[ledger_internal.invalid_id(group_id)]);
  if not exists (select from ledger.groups as g where g.id = refuse_unknown_checkpoint.group_id) then
    perform ledger_internal.refuse_unknown_group(group_id);
  end if;
  raise exception using
    errcode = 'LG002',
    column  = 'number',
    message = concat('no checkpoint ', number || ' ', 'of group ', group_id),
    detail  = 'number: no such checkpoint of the group',
    hint    = 'List the group''s checkpoints with ledger.list_checkpoints(), or make one with ledger.checkpoint().';
end
$$;

alter function ledger_internal.refuse_unknown_checkpoint owner to ledger_owner;
comment on function ledger_internal.refuse_unknown_checkpoint is
  'Raise LG002 that blames number for a checkpoint that the group does not have, for null one at all, or the group when there never was one; LG001 for a null group.';
revoke execute on function ledger_internal.refuse_unknown_checkpoint from public;
