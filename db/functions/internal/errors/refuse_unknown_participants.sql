-- Raise LG002 for participants that are not present in a group, or for the group itself.
create or replace function ledger_internal.refuse_unknown_participants(
  group_id        bigint,
  fields          text[],
  participant_ids bigint[],
  in_history      boolean default false
) returns void
language plpgsql stable
as $$
begin
  perform ledger_internal.refuse_invalid(
    array['group_id'] || fields,
    array(select ledger_internal.invalid_id(i.id) from unnest(group_id || participant_ids) as i (id))
  );

  if not exists (
    select from ledger.groups as g
    where g.id = refuse_unknown_participants.group_id
      and (g.closed_at is null or in_history)
  ) then
    perform ledger_internal.refuse_unknown_group(group_id);
  end if;

  raise exception using
    errcode = 'LG002',
    column  = fields[1],
    message = format('no participant %s in group %s', array_to_string(participant_ids, ' and no participant '), group_id),
    detail  = array_to_string(fields, E': no such participant in the group\n') || ': no such participant in the group',
    hint    = 'List those who are present with ledger.list_participants().';
end
$$;

alter function ledger_internal.refuse_unknown_participants owner to ledger_owner;
comment on function ledger_internal.refuse_unknown_participants is
  'Raise LG002 that blames the fields for naming participants that are not present in the group, or the group when it does not exist, or in history never did; LG001 for a null.';
revoke execute on function ledger_internal.refuse_unknown_participants from public;
