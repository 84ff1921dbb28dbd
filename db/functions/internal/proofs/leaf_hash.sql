-- Hash a leaf.
create or replace function ledger_internal.leaf_hash(
  domain bytea,
  leaf   bytea
) returns bytea
language sql immutable parallel safe
as $$
  select sha256('\x00'::bytea || leaf_hash.domain || leaf_hash.leaf)
$$;

alter function ledger_internal.leaf_hash owner to ledger_owner;
comment on function ledger_internal.leaf_hash is
  'SHA-256 of 0x00 | domain 32 | leaf 68, as pack_leaf writes it.';
revoke execute on function ledger_internal.leaf_hash from public;
