-- Create a group, which is one off-chain ledger.
create or replace function ledger.create_group(
  name            text,
  idempotency_key text default null
) returns ledger.group_result
language plpgsql volatile security definer
set search_path = ledger, ledger_internal, pg_temp
set enable_seqscan = off
as $$
declare
  request   text[] := array['create_group', name];
  new_group group_result;
begin
  perform refuse_invalid(
    array['name', 'idempotency_key'],
    array[invalid_new_name(name, 0, idempotency_key, request), invalid_idempotency_key(idempotency_key)]
  );

  -- The group does not exist yet, so the idempotency key belongs to group 0, as for every request of create_group.
  new_group := claim_idempotency_key(0, idempotency_key, request, new_group);
  if new_group.replayed then
    return new_group;
  end if;

  -- Names stored before NFC was enforced also count as taken.
  insert into groups (name)
  select normalize(create_group.name, NFC)
  where find_group_id(array_remove(name_spellings(create_group.name), normalize(create_group.name, NFC))) is null
  on conflict do nothing
  returning groups.name, groups.id into new_group.name, new_group.id;
  if not found then
    perform refuse_taken_name('name', name, 'group ' || find_group_id(name_spellings(name))::text);
  end if;

  insert into group_total_shards (group_id, slot)
  select new_group.id, s.slot
  from generate_series(0, 7) as s (slot);

  new_group.replayed := false;
  perform store_answer(0, idempotency_key, request, new_group);
  return new_group;
end
$$;

alter function ledger.create_group owner to ledger_owner;
comment on function ledger.create_group is
  'Open a group under a name, composed (NFC), that no other existing group has. Raises LG001, LG005, LG006.';
revoke execute on function ledger.create_group from public;
grant execute on function ledger.create_group to ledger_api;
