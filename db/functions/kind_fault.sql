-- Say what is wrong with a kind of entry, or null when nothing is or none is asked for.
create or replace function ledger.kind_fault(
  kind text
) returns text
language sql immutable parallel safe
as $$
  select case when kind_fault.kind not in ('join', 'transfer', 'exit') then 'must be join, transfer or exit' end
$$;

alter function ledger.kind_fault owner to ledger_owner;
comment on function ledger.kind_fault is
  'What is wrong with a kind of entry; null when nothing is, or there is none.';
revoke execute on function ledger.kind_fault from public;
