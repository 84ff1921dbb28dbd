-- Add up what a group's participants hold.
create or replace function ledger.group_total(
  group_id bigint
) returns numeric
language plpgsql stable security definer
set search_path = ledger, pg_temp
as $$
declare
  total numeric;
begin
  -- A transfer does not change the total, so joins and exits keep it in a few counters that need no adding up of balances.
  select sum(c.total)
  into total
  from groups as g
  join group_counters as c on c.group_id = g.id
  where g.id = group_total.group_id
    and g.closed_at is null;

  if total is null then
    perform refuse_unknown_group(group_id);
  end if;
  return total;
end
$$;

alter function ledger.group_total owner to ledger_owner;
comment on function ledger.group_total is
  'What the participants present in the group hold together; 0 when it is empty. Raises LG001, LG002.';
revoke execute on function ledger.group_total from public;
grant execute on function ledger.group_total to ledger_api;
