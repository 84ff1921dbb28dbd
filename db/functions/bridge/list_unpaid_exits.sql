-- List the exits of a checkpoint that its vault has not paid.
create or replace function ledger.list_unpaid_exits(
  group_id bigint,
  number   bigint
) returns setof ledger.unpaid_exit
language plpgsql stable security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  checkpoint checkpoints;
begin
  perform refuse_invalid(array['group_id', 'number'], array[invalid_id(group_id), invalid_id(number)]);
  perform require_vault(group_id);
  checkpoint := find_checkpoint(group_id, number);

  return query
  with unpaid as materialized (
    select
      e.id,
      e.from_id
    from settlements as s
    join entries as e on e.group_id = s.group_id and e.id = s.entry_id
    where s.group_id = list_unpaid_exits.group_id
      and s.settled_at is null
  ), chunks as materialized (
    select
      k,
      k.first_id,
      lead(k.first_id, 1, 9223372036854775807) over (order by k.chunk) as next_id
    from chunks_of(checkpoint) as k
  )
  select
    l.index,
    l.participant_id,
    l.exit_entry,
    format_address(decode(substr(l.owner, 3), 'hex')),
    l.amount,
    exists (
      select from exit_requests as r
      where r.group_id = list_unpaid_exits.group_id
        and r.participant_id = l.participant_id
    )
  from chunks as c
  cross join lateral unpack_leaves(c.k) as l
  join unpaid as u on u.id = l.exit_entry
  -- Most chunks have no exit.
  where exists (select from unpaid as i where i.from_id >= c.first_id and i.from_id < c.next_id)
  order by l.index;
end
$$;

alter function ledger.list_unpaid_exits owner to ledger_owner;
comment on function ledger.list_unpaid_exits is
  'The leaves of a checkpoint of the group that are exits and not settled, by ascending participant, and whether each was requested at the vault. Raises LG001, LG002, LG013.';
revoke execute on function ledger.list_unpaid_exits from public;
grant execute on function ledger.list_unpaid_exits to ledger_bridge;
