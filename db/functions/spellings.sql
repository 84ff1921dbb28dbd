-- List what a name may be stored as.
create or replace function ledger.spellings(
  name text
) returns text[]
language sql immutable parallel safe
as $$
  select array[spellings.name, normalize(spellings.name, NFC), normalize(spellings.name, NFD)]
$$;

alter function ledger.spellings owner to ledger_owner;
comment on function ledger.spellings is
  'A name as it is, composed (NFC) as new names are stored, and decomposed (NFD) as names from before may be.';
revoke execute on function ledger.spellings from public;
