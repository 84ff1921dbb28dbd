-- Show one entry.
create or replace function ledger.get_entry(
  group_id bigint,
  entry_id bigint
) returns ledger.record
language plpgsql stable security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  entry ledger.record;
begin
  select r.*
  into entry
  from ledger.record as r
  where r.group_id = get_entry.group_id
    and r.id = get_entry.entry_id;

  if not found then
    perform refuse_unknown_entry(group_id, 'entry_id', entry_id);
  end if;
  return entry;
end
$$;

alter function ledger.get_entry owner to ledger_owner;
comment on function ledger.get_entry is
  'One entry of a group, also of one that was removed. Raises LG001, LG002.';
revoke execute on function ledger.get_entry from public;
grant execute on function ledger.get_entry to ledger_api;
