-- Parse a stored answer; return null if it is damaged.
create or replace function ledger_internal.parse_answer(
  answer json
) returns jsonb
language plpgsql stable
as $$
declare
  read jsonb;
begin
  read := answer;
  -- A time is spelled in the time zone of the session that stored it.
  if read ? 'created_at' then
    read := read || jsonb_build_object(
      'created_at', (read ->> 'created_at')::timestamptz,
      'settled_at', (read ->> 'settled_at')::timestamptz
    );
  end if;
  return read;
exception when data_exception then
  return null;
end
$$;

alter function ledger_internal.parse_answer owner to ledger_owner;
comment on function ledger_internal.parse_answer is
  'A stored answer, its times in this session''s time zone; null where it cannot be read.';
revoke execute on function ledger_internal.parse_answer from public;
