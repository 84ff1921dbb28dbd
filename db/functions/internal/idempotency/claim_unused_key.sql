-- Claim an idempotency key if it is unused, without waiting.
create or replace function ledger_internal.claim_unused_key(
  group_id bigint,
  key      text
) returns boolean
language plpgsql volatile
as $$
begin
  if not pg_try_advisory_xact_lock(hashtextextended(claim_unused_key.key collate "C", claim_unused_key.group_id)) then
    return false;
  end if;
  -- A statement of its own, to see what committed before the lock was taken.
  perform from ledger.idempotency_keys as k
  where k.group_id = claim_unused_key.group_id
    and k.key = claim_unused_key.key collate "C";
  return not found;
end
$$;

alter function ledger_internal.claim_unused_key owner to ledger_owner;
comment on function ledger_internal.claim_unused_key is
  'Whether an idempotency key of the group is unused and no other session holds it; claims it then until the transaction ends. What claim_idempotency_keys does for a single key.';
revoke execute on function ledger_internal.claim_unused_key from public;
