-- Say what is wrong with an id, or null when nothing is.
create or replace function ledger.id_fault(
  id bigint
) returns text
language sql immutable parallel safe
as $$
  select case when id_fault.id is null then 'must be given' end
$$;

alter function ledger.id_fault owner to ledger_owner;
comment on function ledger.id_fault is
  'What is wrong with an id that must be given; null when nothing is.';
revoke execute on function ledger.id_fault from public;
