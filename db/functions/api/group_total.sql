-- Return what a group's participants hold together, now or at a past moment.
create or replace function ledger.group_total(
  group_id bigint,
  at_time  timestamptz default null,
  at_entry bigint      default null
) returns numeric
language plpgsql stable security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  total numeric;
begin
  -- A transfer does not change the total, so joins, deposits and exits maintain it in eight shards, and no balances are added up.
  if at_time is null and at_entry is null then
    select sum(c.total)
    into total
    from groups as g
    join group_total_shards as c on c.group_id = g.id
    where g.id = group_total.group_id
      and g.closed_at is null;
  else
    total := group_total_at(group_id, history_position(group_id, at_time, at_entry));
  end if;

  if total is null then
    perform refuse_unknown_group(group_id);
  end if;
  return total;
end
$$;

alter function ledger.group_total owner to ledger_owner;
comment on function ledger.group_total is
  'What the participants present in the group hold together; 0 when it is empty. With a time, or an entry of the group, what they held then. Raises LG001, LG002.';
revoke execute on function ledger.group_total from public;
grant execute on function ledger.group_total to ledger_api;
