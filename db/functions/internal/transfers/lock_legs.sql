-- Lock the participants of a list of transfers.
create or replace function ledger_internal.lock_legs(
  lines ledger_internal.transfer_lines,
  wait  boolean
) returns ledger_internal.transfer_legs
language plpgsql volatile
as $$
declare
  legs ledger_internal.transfer_legs;
begin
  -- In ascending id within each group, and with the condition of lock_pair(). SQL has no parameter for `skip locked`; a
  -- function that returned the rows would cost every list 2 %.
  if wait then
    select
      array_agg(p.group_id),
      array_agg(p.id),
      array_agg(p.place),
      array_agg(p.username),
      array_agg(p.amount),
      array_agg(p.moved_at)
    into
      legs.group_ids,
      legs.ids,
      legs.places,
      legs.usernames,
      legs.balances,
      legs.moved_at
    from (
      select l.group_id, array_agg(l.id) as ids
      from unnest(
        lines.group_ids || lines.group_ids, lines.from_ids || lines.to_ids, lines.possible || lines.possible
      ) as l (group_id, id, possible)
      where l.possible is not false
      group by l.group_id
      order by l.group_id
    ) as l
    cross join lateral (
      select p.*, p.ctid as place
      from ledger.participants as p
      where p.group_id = l.group_id
        and p.id = any (l.ids)
        and coalesce(p.exited_at, p.frozen_at) is null
      order by p.id
      for no key update
    ) as p;
  else
    select
      array_agg(p.group_id),
      array_agg(p.id),
      array_agg(p.place),
      array_agg(p.username),
      array_agg(p.amount),
      array_agg(p.moved_at)
    into
      legs.group_ids,
      legs.ids,
      legs.places,
      legs.usernames,
      legs.balances,
      legs.moved_at
    from (
      select l.group_id, array_agg(l.id) as ids
      from unnest(
        lines.group_ids || lines.group_ids, lines.from_ids || lines.to_ids, lines.possible || lines.possible
      ) as l (group_id, id, possible)
      where l.possible is not false
      group by l.group_id
      order by l.group_id
    ) as l
    cross join lateral (
      select p.*, p.ctid as place
      from ledger.participants as p
      where p.group_id = l.group_id
        and p.id = any (l.ids)
        and coalesce(p.exited_at, p.frozen_at) is null
      order by p.id
      for no key update skip locked
    ) as p;
  end if;

  legs.numbers := ledger_internal.number_legs(lines, legs);
  return legs;
end
$$;

alter function ledger_internal.lock_legs owner to ledger_owner;
comment on function ledger_internal.lock_legs is
  'Lock the present participants, none who is frozen, of the lines that are possible until the transaction ends, by ascending group and id. Without wait, all but those that another session has locked.';
revoke execute on function ledger_internal.lock_legs from public;
