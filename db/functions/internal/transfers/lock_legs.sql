-- Lock the participants of a multi-party transfer.
create or replace function ledger_internal.lock_legs(
  group_id bigint,
  lines    ledger_internal.transfer_lines
) returns ledger_internal.transfer_legs
language plpgsql volatile
as $$
declare
  wanted  bigint[];
  held    ledger_internal.transfer_legs;
  fields  text[];
  missing bigint[];
begin
  select array_agg(distinct s.id)
  into wanted
  from unnest(lines.from_ids || lines.to_ids) as s (id);

  -- In ascending id, as every transfer does.
  select
    array_agg(s.id),
    array_agg(s.place),
    array_agg(s.amount),
    max(s.moved_at)
  into
    held.ids,
    held.places,
    held.amounts,
    held.moved_at
  from (
    select
      p.*,
      p.ctid as place
    from ledger.participants as p
    where p.group_id = lock_legs.group_id
      and p.id = any (wanted)
      and p.exited_at is null
    order by p.id
    for no key update
  ) as s;

  if cardinality(held.ids) is distinct from cardinality(wanted) then
    select
      array_agg(m.field),
      array_agg(m.id)
    into
      fields,
      missing
    from (
      select
        format('transfers[%s].%s', l.line - 1, s.member) as field,
        s.id
      from unnest(lines.from_ids, lines.to_ids) with ordinality as l (from_id, to_id, line)
      cross join lateral (values ('from', l.from_id), ('to', l.to_id)) as s (member, id)
      where s.id <> all (coalesce(held.ids, '{}'))
      order by l.line
      limit 100
    ) as m;
    perform ledger_internal.refuse_unknown_participants(group_id, fields, missing);
  end if;
  return held;
end
$$;

alter function ledger_internal.lock_legs owner to ledger_owner;
comment on function ledger_internal.lock_legs is
  'Lock the participants of a multi-party transfer until the transaction ends; returns them by ascending id. Raises LG002.';
revoke execute on function ledger_internal.lock_legs from public;
