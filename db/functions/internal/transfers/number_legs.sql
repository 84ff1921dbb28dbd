-- Find which of the locked participants are the legs of the lines.
create or replace function ledger_internal.number_legs(
  lines ledger_internal.transfer_lines,
  legs  ledger_internal.transfer_legs
) returns integer[]
language plpgsql stable
as $$
begin
  return (
    select array_agg(p.number order by l.place)
    from unnest(lines.group_ids || lines.group_ids, lines.from_ids || lines.to_ids)
      with ordinality as l (group_id, id, place)
    left join unnest(legs.group_ids, legs.ids) with ordinality as p (group_id, id, number)
      on p.group_id = l.group_id
      and p.id = l.id
  );
end
$$;

alter function ledger_internal.number_legs owner to ledger_owner;
comment on function ledger_internal.number_legs is
  'The legs of the lines, first all senders, then all recipients, as subscripts of the locked participants; null for one that is not locked.';
revoke execute on function ledger_internal.number_legs from public;
