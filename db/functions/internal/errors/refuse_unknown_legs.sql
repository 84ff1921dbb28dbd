-- Raise LG002 for the legs of a multi-party transfer that are not present.
create or replace function ledger_internal.refuse_unknown_legs(
  lines ledger_internal.transfer_lines,
  legs  ledger_internal.transfer_legs
) returns void
language plpgsql stable
as $$
declare
  fields  text[];
  missing bigint[];
begin
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
    where s.id <> all (coalesce(legs.ids, '{}'))
    order by l.line
    limit 100
  ) as m;
  perform ledger_internal.refuse_frozen(lines.group_ids[1]);
  perform ledger_internal.refuse_unknown_participants(lines.group_ids[1], fields, missing);
end
$$;

alter function ledger_internal.refuse_unknown_legs owner to ledger_owner;
comment on function ledger_internal.refuse_unknown_legs is
  'Raise LG002 for the first 100 legs of a multi-party transfer that were not locked, as transfers[0].from, or for its group; LG014 where the group is frozen.';
revoke execute on function ledger_internal.refuse_unknown_legs from public;
