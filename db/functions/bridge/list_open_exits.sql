-- List the exits of a group with a vault that are not settled.
create or replace function ledger.list_open_exits(
  group_id bigint
) returns setof ledger.open_exit
language plpgsql stable security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
begin
  perform require_vault(group_id);
  return query
  select
    e.id,
    e.from_id,
    format_address(p.address),
    e.amount::numeric,
    exists (
      select from exit_requests as r
      where r.group_id = list_open_exits.group_id
        and r.participant_id = e.from_id
    )
  from settlements as s
  join entries as e on e.group_id = s.group_id and e.id = s.entry_id
  join participants as p on p.group_id = s.group_id and p.id = e.from_id
  where s.group_id = list_open_exits.group_id
    and s.settled_at is null
  order by e.id;
end
$$;

alter function ledger.list_open_exits owner to ledger_owner;
comment on function ledger.list_open_exits is
  'The exits of the group that are not settled, in a checkpoint or not yet, by ascending entry, and whether each was requested at the vault. Raises LG001, LG002, LG013.';
revoke execute on function ledger.list_open_exits from public;
grant execute on function ledger.list_open_exits to ledger_bridge;
