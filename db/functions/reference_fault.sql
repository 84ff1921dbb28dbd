-- Say what is wrong with a settlement's reference, or null when nothing is.
create or replace function ledger.reference_fault(
  reference text
) returns text
language sql immutable parallel safe
as $$
  -- Control characters, and those that show nothing. Spelled out, as classes like [:space:] depend on the locale.
  select case
    when reference_fault.reference is null
    then 'must be given'
    when char_length(reference_fault.reference) > 255
    then 'must have at most 255 characters'
    when reference_fault.reference collate "C" ~ '[\u0001-\u001f\u007f-\u009f]'
    then 'must not contain control characters'
    when reference_fault.reference collate "C" !~ '[^ \u00a0\u00ad\u1680\u180e\u2000-\u200f\u2028\u2029\u202f\u205f-\u2064\u3000\ufeff]'
    then 'must not be blank'
  end
$$;

alter function ledger.reference_fault owner to ledger_owner;
comment on function ledger.reference_fault is
  'What is wrong with a reference that must be 1 to 255 characters, not blank and without control characters; null when nothing is.';
revoke execute on function ledger.reference_fault from public;
