-- Hash two neighbours in a tree.
create or replace function ledger_internal.node_hash(
  left_sum   numeric,
  left_hash  bytea,
  right_sum  numeric,
  right_hash bytea
) returns bytea
language sql immutable parallel safe
as $$
  -- With both sums: a tree that hashes only their total proves too little (IACR ePrint 2018/1139).
  select sha256(
    '\x01'::bytea
    || ledger_internal.word(node_hash.left_sum) || node_hash.left_hash
    || ledger_internal.word(node_hash.right_sum) || node_hash.right_hash
  )
$$;

alter function ledger_internal.node_hash owner to ledger_owner;
comment on function ledger_internal.node_hash is
  'SHA-256 of 0x01 | left sum 32 | left hash 32 | right sum 32 | right hash 32. Raises 22003.';
revoke execute on function ledger_internal.node_hash from public;
