-- Hash a checkpoint.
create or replace function ledger_internal.header_hash(
  domain     bytea,
  number     bigint,
  previous   bytea,
  deposits   bigint,
  credited   numeric,
  settled    numeric,
  leaf_count bigint,
  total      numeric,
  root       bytea
) returns bytea
language sql immutable parallel safe
as $$
  select sha256(
    '\x02'::bytea
    || header_hash.domain
    || int8send(header_hash.number)
    || header_hash.previous
    || int8send(header_hash.deposits)
    || ledger_internal.word(header_hash.credited)
    || ledger_internal.word(header_hash.settled)
    || int8send(header_hash.leaf_count)
    || ledger_internal.word(header_hash.total)
    || header_hash.root
  )
$$;

alter function ledger_internal.header_hash owner to ledger_owner;
comment on function ledger_internal.header_hash is
  'SHA-256 of 0x02 | domain 32 | number 8 | previous header 32, 0 for the first one | deposits 8 | credited 32 | settled 32 | leaf_count 8 | total 32 | root 32. Raises 22003.';
revoke execute on function ledger_internal.header_hash from public;
