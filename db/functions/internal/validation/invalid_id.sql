-- Return why an id is invalid; null if it is valid.
create or replace function ledger_internal.invalid_id(
  id bigint
) returns text
language sql immutable parallel safe
as $$
  select case when invalid_id.id is null then 'must be given' end
$$;

alter function ledger_internal.invalid_id owner to ledger_owner;
comment on function ledger_internal.invalid_id is
  'Why an id is invalid: it must be given; null if it is valid.';
revoke execute on function ledger_internal.invalid_id from public;
