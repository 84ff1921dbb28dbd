-- Return why a requested name is invalid; null if it is valid or was given to the same request before.
create or replace function ledger_internal.invalid_new_name(
  name            text,
  group_id        bigint,
  idempotency_key text,
  request         text[]
) returns text
language plpgsql stable
as $$
declare
  reason text := ledger_internal.invalid_name(name);
begin
  -- A repeated request gets its answer, even if a later rule refuses its name.
  if reason is not null and idempotency_key is not null and exists (
    select from ledger.idempotency_keys as k
    where k.group_id = invalid_new_name.group_id
      and k.key = invalid_new_name.idempotency_key collate "C"
      and k.fingerprint = ledger_internal.fingerprint(request)
  ) then
    return null;
  end if;
  return reason;
end
$$;

alter function ledger_internal.invalid_new_name owner to ledger_owner;
comment on function ledger_internal.invalid_new_name is
  'The result of invalid_name; null if this request, an operation and its values, was answered before under its idempotency key of the group.';
revoke execute on function ledger_internal.invalid_new_name from public;
