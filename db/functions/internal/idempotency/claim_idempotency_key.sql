-- Claim an idempotency key, and find the answer to an earlier request with it.
create or replace function ledger_internal.claim_idempotency_key(
  group_id bigint,
  key      text,
  request  text[],
  result   anyelement
) returns anyelement
language plpgsql volatile
as $$
declare
  first  ledger.idempotency_keys;
  answer jsonb;
begin
  -- Until this transaction ends, no other session acts under the key: a repeated request waits for the first outcome.
  -- The lock comes before every row lock.
  if key is null or ledger_internal.claim_unused_key(group_id, key) then
    return result;
  end if;
  perform pg_advisory_xact_lock(hashtextextended(claim_idempotency_key.key collate "C", claim_idempotency_key.group_id));
  -- A statement of its own, to see what committed during the wait.
  select k.*
  into first
  from ledger.idempotency_keys as k
  where k.group_id = claim_idempotency_key.group_id
    and k.key = claim_idempotency_key.key collate "C";
  if not found then
    return result;
  end if;

  if first.fingerprint <> ledger_internal.fingerprint(request) then
    raise exception using
      errcode = 'LG006',
      column  = 'idempotency_key',
      message = 'idempotency key belongs to another request',
      detail  = 'idempotency_key: was used for another request',
      hint    = 'Repeat a request with exactly its values, and give each new request a key of its own.';
  end if;
  answer := ledger_internal.stored_answer(first);
  if answer is null then
    raise exception using
      errcode = 'data_corrupted',
      message = format('entry %s of idempotency key "%s" of group %s is not there', first.entry_id, key, group_id),
      hint    = 'Run ledger verify: the books are wrong.';
  end if;
  return jsonb_populate_record(result, answer || '{"replayed": true}');
end
$$;

alter function ledger_internal.claim_idempotency_key owner to ledger_owner;
comment on function ledger_internal.claim_idempotency_key is
  'The answer that was given to this request, an operation and its values, under this idempotency key of the group, with replayed true; the empty result where there was none. Claims the key, if one is given, until the transaction ends. Raises LG006 when the key was used for another request, XX001 when its entry is not there.';
revoke execute on function ledger_internal.claim_idempotency_key from public;
