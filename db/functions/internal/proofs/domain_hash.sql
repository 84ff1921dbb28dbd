-- Hash what a group's leaves and headers belong to.
create or replace function ledger_internal.domain_hash(
  chain_id numeric,
  vault    bytea,
  group_id bigint
) returns bytea
language sql immutable parallel safe
as $$
  select sha256(
    '\x03'::bytea
    || 'ledger/vault/1'::bytea
    || ledger_internal.word(domain_hash.chain_id)
    || domain_hash.vault
    || int8send(domain_hash.group_id)
  )
$$;

alter function ledger_internal.domain_hash owner to ledger_owner;
comment on function ledger_internal.domain_hash is
  'SHA-256 of 0x03 | "ledger/vault/1" 14 | chain_id 32 | vault 20 | group_id 8: no leaf or header of another group, vault or chain has it. A group without a vault has chain 0 and vault 0. Raises 22003.';
revoke execute on function ledger_internal.domain_hash from public;
