-- List the spellings that a name may be stored in.
create or replace function ledger_internal.name_spellings(
  name text
) returns text[]
language sql immutable parallel safe
as $$
  select array[name_spellings.name, normalize(name_spellings.name, NFC), normalize(name_spellings.name, NFD)]
$$;

alter function ledger_internal.name_spellings owner to ledger_owner;
comment on function ledger_internal.name_spellings is
  'A name as it is, composed (NFC) as new names are stored, and decomposed (NFD) as older names may be.';
revoke execute on function ledger_internal.name_spellings from public;
