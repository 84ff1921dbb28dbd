-- Check whether metadata have too many bytes, without writing their numbers out.
create or replace function ledger_internal.metadata_is_long(
  metadata jsonb
) returns boolean
language plpgsql immutable parallel safe
as $$
begin
  -- No JSON text takes more than four times its bytes when it is stored.
  if pg_column_size(metadata) > 5 * 4096 then
    return true;
  end if;

  -- 1e4096 is stored in a few bytes and written in 4,097: a number counts with its decimal places and the digits that its
  -- size is certain to have.
  return coalesce(sum(scale(n.number) + (array[1, 1, 17, 65, 257, 1025, 4097])[
    1 + width_bucket(abs(n.number), array[1e0, 1e16, 1e64, 1e256, 1e1024, 1e4096]::numeric[])
  ]) > 4096, false)
  from (
    select v.value::numeric as number
    from jsonb_path_query(metadata, 'strict $.** ? (@.type() == "number")') as v (value)
    offset 0
  ) as n;
end
$$;

alter function ledger_internal.metadata_is_long owner to ledger_owner;
comment on function ledger_internal.metadata_is_long is
  'Whether metadata certainly have more than 4096 bytes as text. Where this returns false, writing them out is cheap.';
revoke execute on function ledger_internal.metadata_is_long from public;
