-- Raise LG005 for a name or username that is in use.
create or replace function ledger_internal.refuse_taken_name(
  field text,
  name  text,
  owner text
) returns void
language plpgsql immutable
as $$
begin
  raise exception using
    errcode = 'LG005',
    column  = field,
    message = format('%s "%s" is taken', field, name) || coalesce(' by ' || owner, ''),
    detail  = format('%s: has already been taken', field),
    hint    = 'Choose another one.';
end
$$;

alter function ledger_internal.refuse_taken_name owner to ledger_owner;
comment on function ledger_internal.refuse_taken_name is
  'Raise LG005 that blames the field for a name that is in use; owner is the group or participant that has it, if known.';
revoke execute on function ledger_internal.refuse_taken_name from public;
