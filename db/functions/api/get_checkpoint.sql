-- Show one checkpoint of a group.
create or replace function ledger.get_checkpoint(
  group_id bigint,
  number   bigint default null
) returns ledger.checkpoint_headers
language plpgsql stable security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  found_one checkpoints := find_checkpoint(group_id, number);
  header    checkpoint_headers;
begin
  select h.*
  into header
  from checkpoint_headers as h
  where h.group_id = get_checkpoint.group_id
    and h.number = found_one.number;
  return header;
end
$$;

alter function ledger.get_checkpoint owner to ledger_owner;
comment on function ledger.get_checkpoint is
  'A checkpoint of the group, the newest one for null. Raises LG001, LG002.';
revoke execute on function ledger.get_checkpoint from public;
grant execute on function ledger.get_checkpoint to ledger_api;
grant execute on function ledger.get_checkpoint to ledger_bridge;
