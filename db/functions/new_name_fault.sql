-- Say what is wrong with a name that is asked for, unless it was given to the same request before.
create or replace function ledger.new_name_fault(
  name            text,
  group_id        bigint,
  idempotency_key text,
  request         text[]
) returns text
language plpgsql stable
as $$
declare
  fault text := ledger.name_fault(name);
begin
  -- A rule that came later does not keep a repeated request from its answer.
  if fault is not null and idempotency_key is not null and exists (
    select from ledger.idempotency_keys as k
    where k.group_id = new_name_fault.group_id
      and k.key = new_name_fault.idempotency_key collate "C"
      and k.fingerprint = ledger.fingerprint(request)
  ) then
    return null;
  end if;
  return fault;
end
$$;

alter function ledger.new_name_fault owner to ledger_owner;
comment on function ledger.new_name_fault is
  'What name_fault says of a name; null where this request, an operation and its values, was answered before under its idempotency key of the group.';
revoke execute on function ledger.new_name_fault from public;
