-- Raise LG001 with every invalid argument of a function; return when all are valid.
create or replace function ledger_internal.refuse_invalid(
  fields text[],
  reasons text[]
) returns void
language plpgsql immutable
as $$
declare
  first_field text;
  first_reason text;
  all_reasons text;
begin
  select
    (array_agg(f.field order by f.position))[1],
    (array_agg(f.reason order by f.position))[1],
    string_agg(f.field || ': ' || f.reason, E'\n' order by f.position)
  into first_field, first_reason, all_reasons
  from unnest(refuse_invalid.fields, refuse_invalid.reasons) with ordinality as f (field, reason, position)
  where f.reason is not null;

  if first_field is not null then
    raise exception using
      errcode = 'LG001',
      column  = first_field,
      message = format('%s %s', first_field, first_reason),
      detail  = all_reasons,
      hint    = 'Correct each value that DETAIL names.';
  end if;
end
$$;

alter function ledger_internal.refuse_invalid owner to ledger_owner;
comment on function ledger_internal.refuse_invalid is
  'Raise LG001 when any of the reasons, one for each of the fields, is not null. DETAIL has a line "field: reason" for each.';
revoke execute on function ledger_internal.refuse_invalid from public;
