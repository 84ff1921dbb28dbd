-- Record the change of a name.
create or replace function ledger_internal.record_name_change(
  group_id       bigint,
  participant_id bigint,
  old_name       text,
  new_name       text
) returns void
language sql volatile
as $$
  -- The participant is locked: entries written before have smaller numbers, those written after have greater ones.
  insert into ledger.name_changes (group_id, participant_id, old_name, new_name, before_entry)
  select
    record_name_change.group_id,
    record_name_change.participant_id,
    record_name_change.old_name,
    record_name_change.new_name,
    nextval('ledger.entries_id_seq')
  where record_name_change.old_name <> record_name_change.new_name
$$;

alter function ledger_internal.record_name_change owner to ledger_owner;
comment on function ledger_internal.record_name_change is
  'Record that a participant was renamed, or the group where the participant is null; nothing where the name stayed the same.';
revoke execute on function ledger_internal.record_name_change from public;
