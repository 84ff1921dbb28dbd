-- Find the leaves of a group in the snapshot of the statement.
create or replace function ledger_internal.current_leaves(
  group_id bigint
) returns setof ledger_internal.unpacked_leaf
language sql stable
as $$
  select
    p.id,
    null::bigint,
    p.address::bytea,
    p.amount
  from ledger.participants as p
  where p.group_id = current_leaves.group_id
    and p.exited_at is null
  union all
  select
    p.id,
    e.id,
    p.address::bytea,
    e.amount
  from ledger.settlements as s
  join ledger.entries as e on e.group_id = s.group_id and e.id = s.entry_id
  join ledger.participants as p on p.group_id = e.group_id and p.id = e.from_id
  where s.group_id = current_leaves.group_id
    and s.settled_at is null
$$;

alter function ledger_internal.current_leaves owner to ledger_owner;
comment on function ledger_internal.current_leaves is
  'The leaves of a group: participants who are present, and exits that are not settled, in no order.';
revoke execute on function ledger_internal.current_leaves from public;
