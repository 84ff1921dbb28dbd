-- Keep what is answered to a request, under its idempotency key, for ever.
create or replace function ledger.remember(
  group_id bigint,
  key      text,
  request  text[],
  answer   json
) returns void
language plpgsql volatile
as $$
begin
  -- The lock that replay() took keeps the key free; a snapshot from before another's commit ends in 40001 here.
  insert into ledger.idempotency_keys (group_id, key, operation, fingerprint, answer)
  values (remember.group_id, remember.key, request[1], ledger.fingerprint(request), remember.answer)
  on conflict do nothing;
end
$$;

alter function ledger.remember owner to ledger_owner;
comment on function ledger.remember is
  'Keep the answer to a request, an operation and its values, under its idempotency key. Call replay first. Raises 40001 when a request that the snapshot does not show used the key.';
revoke execute on function ledger.remember from public;
