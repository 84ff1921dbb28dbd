-- Return why the value of a list of lines is invalid.
create or replace function ledger_internal.invalid_list(
  lines jsonb
) returns text
language sql immutable parallel safe
as $$
  select case
    when lines is null
    then 'must be given'
    when jsonb_typeof(lines) <> 'array'
    then 'must be a list'
    when jsonb_array_length(lines) not between 1 and 10000
    then 'must have 1 to 10000 lines'
  end
$$;

alter function ledger_internal.invalid_list owner to ledger_owner;
comment on function ledger_internal.invalid_list is
  'Why a value is not a list of 1 to 10,000 lines; null if it is one. The lines are not looked at.';
revoke execute on function ledger_internal.invalid_list from public;
