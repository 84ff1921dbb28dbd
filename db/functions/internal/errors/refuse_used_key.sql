-- Refuse a request whose idempotency key another transaction has used.
create or replace function ledger_internal.refuse_used_key(
  group_id bigint,
  key      text
) returns void
language plpgsql immutable
as $$
begin
  raise exception using
    errcode = 'serialization_failure',
    message = format('idempotency key "%s" of group %s has been used', key, group_id);
end
$$;

alter function ledger_internal.refuse_used_key owner to ledger_owner;
comment on function ledger_internal.refuse_used_key is
  'Raise 40001: a request that the snapshot does not show has used this idempotency key.';
revoke execute on function ledger_internal.refuse_used_key from public;
