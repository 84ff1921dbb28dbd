-- Raise LG001 with every fault found in a function's arguments; return when there is none.
create or replace function ledger.refuse_invalid(
  fields text[],
  faults text[]
) returns void
language plpgsql immutable
as $$
declare
  first_field text;
  first_fault text;
  all_faults  text;
begin
  select
    (array_agg(f.field order by f.position))[1],
    (array_agg(f.fault order by f.position))[1],
    string_agg(f.field || ': ' || f.fault, E'\n' order by f.position)
  into first_field, first_fault, all_faults
  from unnest(refuse_invalid.fields, refuse_invalid.faults) with ordinality as f (field, fault, position)
  where f.fault is not null;

  if first_field is not null then
    raise exception using
      errcode = 'LG001',
      column  = first_field,
      message = format('%s %s', first_field, first_fault),
      detail  = all_faults,
      hint    = 'Correct each value that DETAIL names.';
  end if;
end
$$;

alter function ledger.refuse_invalid owner to ledger_owner;
comment on function ledger.refuse_invalid is
  'Raise LG001 when any of the faults, one for each of the fields, is not null. DETAIL has a line "field: fault" for each.';
revoke execute on function ledger.refuse_invalid from public;
