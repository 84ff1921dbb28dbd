-- Write a leaf as the 68 bytes that are kept and hashed.
create or replace function ledger_internal.pack_leaf(
  participant_id bigint,
  exit_entry     bigint,
  owner          bytea,
  amount         numeric
) returns bytea
language sql immutable parallel safe
as $$
  select int8send(pack_leaf.participant_id)
    || int8send(coalesce(pack_leaf.exit_entry, 0))
    || coalesce(pack_leaf.owner, '\x0000000000000000000000000000000000000000'::bytea)
    || ledger_internal.word(pack_leaf.amount)
$$;

alter function ledger_internal.pack_leaf owner to ledger_owner;
comment on function ledger_internal.pack_leaf is
  'participant_id 8 | exit_entry 8, 0 while present | owner 20, 0 without an address | amount 32: the bytes of a leaf, integers big-endian. Raises 22003.';
revoke execute on function ledger_internal.pack_leaf from public;
