-- List a group's checkpoints, a page at a time.
create or replace function ledger.list_checkpoints(
  group_id bigint,
  after    bigint  default 0,
  max_rows integer default 1000
) returns setof ledger.checkpoint_headers
language plpgsql stable security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
begin
  perform refuse_invalid(array['group_id'], array[invalid_id(group_id)]);
  perform from groups as g where g.id = list_checkpoints.group_id;
  if not found then
    perform refuse_unknown_group(group_id);
  end if;

  return query
  select h.*
  from checkpoint_headers as h
  where h.group_id = list_checkpoints.group_id
    and h.number > coalesce(list_checkpoints.after, 0)
  order by h.number
  limit greatest(coalesce(list_checkpoints.max_rows, 1000), 0);
end
$$;

alter function ledger.list_checkpoints owner to ledger_owner;
comment on function ledger.list_checkpoints is
  'The checkpoints of the group, also of one that was removed, with a number above after, at most max_rows of them, by ascending number. Raises LG001, LG002.';
revoke execute on function ledger.list_checkpoints from public;
grant execute on function ledger.list_checkpoints to ledger_api;
grant execute on function ledger.list_checkpoints to ledger_bridge;
