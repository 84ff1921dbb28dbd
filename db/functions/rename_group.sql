-- Give a group another name.
create or replace function ledger.rename_group(
  group_id        bigint,
  name            text,
  idempotency_key text default null
) returns ledger.group_result
language plpgsql volatile security definer
set search_path = ledger, pg_temp
as $$
declare
  request       text[] := array['rename_group', name];
  answer        json;
  renamed_group group_result;
begin
  perform refuse_invalid(
    array['group_id', 'name', 'idempotency_key'],
    array[id_fault(group_id), name_fault(name), key_fault(idempotency_key)]
  );

  if idempotency_key is not null then
    answer := replay(group_id, idempotency_key, request);
    if answer is not null then
      renamed_group := json_populate_record(renamed_group, answer);
      renamed_group.replayed := true;
      return renamed_group;
    end if;
  end if;

  -- A name that is taken is not waited for: of two groups that are renamed to each other, each would.
  begin
    update groups as g
    set name = rename_group.name
    where g.id = rename_group.group_id
      and g.closed_at is null
      and not exists (
        select from current_groups as other
        where other.name = rename_group.name collate "C"
          and other.id <> g.id
      )
    returning g.name, g.id into renamed_group.name, renamed_group.id;
  exception when unique_violation then
    perform refuse_taken('name', name);
  end;

  if renamed_group.id is null then
    perform get_group(group_id);
    perform refuse_taken('name', name);
  end if;

  renamed_group.replayed := false;
  if idempotency_key is not null then
    perform remember(group_id, idempotency_key, request, to_json(renamed_group));
  end if;
  return renamed_group;
end
$$;

alter function ledger.rename_group owner to ledger_owner;
comment on function ledger.rename_group is
  'Give an existing group a name that no other existing group has. Raises LG001, LG002, LG005, LG006.';
revoke execute on function ledger.rename_group from public;
grant execute on function ledger.rename_group to ledger_api;
