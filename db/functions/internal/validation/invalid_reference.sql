-- Return why a settlement's reference is invalid; null if it is valid.
create or replace function ledger_internal.invalid_reference(
  reference text
) returns text
language sql immutable parallel safe
as $$
  -- Control characters, and those that show nothing. Spelled out, as classes like [:space:] depend on the locale.
  select case
    when invalid_reference.reference is null
    then 'must be given'
    when char_length(invalid_reference.reference) > 255
    then 'must have at most 255 characters'
    when invalid_reference.reference collate "C" ~ '[\u0001-\u001f\u007f-\u009f]'
    then 'must not contain control characters'
    when invalid_reference.reference collate "C" !~ '[^ \u00a0\u00ad\u1680\u180e\u2000-\u200f\u2028\u2029\u202f\u205f-\u2064\u3000\ufeff]'
    then 'must not be blank'
  end
$$;

alter function ledger_internal.invalid_reference owner to ledger_owner;
comment on function ledger_internal.invalid_reference is
  'Why a reference is not 1 to 255 characters, not blank and without control characters; null if it is valid.';
revoke execute on function ledger_internal.invalid_reference from public;
