-- Return why a kind of entry is invalid; null if it is valid or not given.
create or replace function ledger_internal.invalid_kind(
  kind text
) returns text
language sql immutable parallel safe
as $$
  select case when invalid_kind.kind not in ('join', 'deposit', 'transfer', 'exit') then 'must be join, deposit, transfer or exit' end
$$;

alter function ledger_internal.invalid_kind owner to ledger_owner;
comment on function ledger_internal.invalid_kind is
  'Why a kind of entry is invalid; null if it is valid or null.';
revoke execute on function ledger_internal.invalid_kind from public;
