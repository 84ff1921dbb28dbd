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
  -- The lock that replay() took keeps the key free; a snapshot from before another's commit ends in 40001 here. Nothing is
  -- moved whose answer is not kept.
  insert into ledger.idempotency_keys (group_id, key, operation, fingerprint, answer)
  values (remember.group_id, remember.key, request[1], ledger.fingerprint(request), remember.answer)
  on conflict do nothing;
  if not found then
    raise exception using
      errcode = 'serialization_failure',
      message = format('idempotency key "%s" of group %s has been used', key, group_id);
  end if;
end
$$;

alter function ledger.remember owner to ledger_owner;
comment on function ledger.remember is
  'Keep the answer to a request, an operation and its values, under its idempotency key. Call replay first. Raises 40001 when the key has been used, also by a request that the snapshot does not show.';
revoke execute on function ledger.remember from public;
