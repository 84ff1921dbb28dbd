-- Rename a group.
create or replace function ledger.rename_group(
  group_id        bigint,
  name            text,
  idempotency_key text default null
) returns ledger.group_result
language plpgsql volatile security definer
set search_path = ledger, ledger_internal, pg_temp
set enable_seqscan = off
as $$
declare
  request       text[] := array['rename_group', name];
  new_name      text;
  old_name      text;
  taken_by      bigint;
  renamed_group group_result;
begin
  perform refuse_invalid(
    array['group_id', 'name', 'idempotency_key'],
    array[
      invalid_id(group_id),
      invalid_new_name(name, group_id, idempotency_key, request),
      invalid_idempotency_key(idempotency_key)
    ]
  );

  renamed_group := claim_idempotency_key(group_id, idempotency_key, request, renamed_group);
  if renamed_group.replayed then
    return renamed_group;
  end if;

  select g.name
  into old_name
  from groups as g
  where g.id = rename_group.group_id
    and g.closed_at is null
  for no key update;
  if not found then
    perform refuse_unknown_group(group_id);
  end if;

  -- Do not wait for a taken name: two groups that are renamed to each other's names would wait for each other.
  taken_by := find_group_id(name_spellings(name), group_id);
  if taken_by is not null then
    perform refuse_taken_name('name', name, 'group ' || taken_by::text);
  end if;
  new_name := normalize(name, NFC);
  begin
    update groups as g
    set name = new_name
    where g.id = rename_group.group_id
    returning g.name, g.id into renamed_group.name, renamed_group.id;
  exception when unique_violation then
    perform refuse_taken_name('name', name, 'group ' || find_group_id(name_spellings(name), group_id)::text);
  end;

  perform record_name_change(group_id, null, old_name, new_name);
  renamed_group.replayed := false;
  perform store_answer(group_id, idempotency_key, request, renamed_group);
  return renamed_group;
end
$$;

alter function ledger.rename_group owner to ledger_owner;
comment on function ledger.rename_group is
  'Give an existing group a name, composed (NFC), that no other existing group has; the change is kept in ledger.renames. Raises LG001, LG002, LG005, LG006.';
revoke execute on function ledger.rename_group from public;
grant execute on function ledger.rename_group to ledger_api;
