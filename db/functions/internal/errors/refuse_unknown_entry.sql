-- Raise LG002 for an entry that a group does not have, or for the group itself.
create or replace function ledger_internal.refuse_unknown_entry(
  group_id bigint,
  field    text,
  entry_id bigint
) returns void
language plpgsql stable
as $$
begin
  perform ledger_internal.refuse_invalid(
    array['group_id', field],
    array[ledger_internal.invalid_id(group_id), ledger_internal.invalid_id(entry_id)]
  );
  if not exists (select from ledger.groups as g where g.id = refuse_unknown_entry.group_id) then
    perform ledger_internal.refuse_unknown_group(group_id);
  end if;
  raise exception using
    errcode = 'LG002',
    column  = field,
    message = format('no entry %s in group %s', entry_id, group_id),
    detail  = format('%s: no such entry in the group', field),
    hint    = 'List the group''s entries with ledger.list_entries().';
end
$$;

alter function ledger_internal.refuse_unknown_entry owner to ledger_owner;
comment on function ledger_internal.refuse_unknown_entry is
  'Raise LG002 that blames the field for naming an entry that is not in the group, or the group when there never was one; LG001 for a null.';
revoke execute on function ledger_internal.refuse_unknown_entry from public;
