-- Raise a sequence above an id.
create or replace function ledger_internal.raise_sequence(
  sequence regclass,
  id       bigint
) returns boolean
language plpgsql volatile
as $$
declare
  given  bigint := coalesce(pg_sequence_last_value(sequence), 0);
  raised boolean := given < id;
begin
  if id - given > 1000000000 then
    perform ledger_internal.refuse_invalid(array['ids'], array['must be at most 1000000000 above those that were given']);
  end if;
  -- A null id is below every other.
  while given < id loop
    select max(nextval(sequence))
    into given
    from generate_series(1, least(id - given, 1000000));
  end loop;
  return raised;
end
$$;

alter function ledger_internal.raise_sequence owner to ledger_owner;
comment on function ledger_internal.raise_sequence is
  'Take ids from a sequence until it has given this one, and return whether it had not. Unlike setval, it cannot take the sequence back beside others that use it. Raises LG001 for one that is a thousand million away.';
revoke execute on function ledger_internal.raise_sequence from public;
