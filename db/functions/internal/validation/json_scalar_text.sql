-- Read the text of an id or an amount from JSON.
create or replace function ledger_internal.json_scalar_text(
  value jsonb
) returns text
language sql immutable parallel safe
as $$
  select case jsonb_typeof(value)
    when 'string'
    then value #>> '{}'
    -- 1e131071 is stored in a few bytes and written in 131,072. What is too long for an amount is not written out.
    when 'number'
    then case when value::numeric between 0 and 1e78 and scale(value::numeric) <= 78 then value #>> '{}' else '' end
    when 'null'
    then null
    else case when value is not null then '' end
  end
$$;

alter function ledger_internal.json_scalar_text owner to ledger_owner;
comment on function ledger_internal.json_scalar_text is
  'The text of a JSON string, or of a number that may be an id or an amount; an empty one for any other value, and null for null.';
revoke execute on function ledger_internal.json_scalar_text from public;
