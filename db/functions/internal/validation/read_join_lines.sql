-- Read the values of the lines of a list of joins.
create or replace function ledger_internal.read_join_lines(
  participants jsonb,
  out line     bigint,
  out item     jsonb,
  out username text,
  out amount   numeric,
  out address  text,
  out metadata jsonb
) returns setof record
language sql immutable
as $$
  select
    t.line,
    t.item,
    case when jsonb_typeof(t.username) = 'string' then t.username #>> '{}' end as username,
    -- 1e131071 is stored in a few bytes and written in 131,072, so numbers are not written out.
    case
      when jsonb_typeof(t.amount) = 'string'
      then ledger_internal.parse_amount(t.amount #>> '{}')
      when t.amount_number between 0 and 1e78 and scale(t.amount_number) = 0
      then t.amount_number
    end as amount,
    -- An address that is no string is none.
    case when jsonb_typeof(t.address) = 'string' then t.address #>> '{}' when t.address is not null then '' end as address,
    t.metadata
  from (
    select
      v.*,
      case when jsonb_typeof(v.amount) = 'number' then v.amount::numeric end as amount_number
    from (
      select
        i.line,
        case when jsonb_typeof(i.item) = 'object' then i.item else '{"": ""}' end as item,
        i.item -> 'username' as username,
        i.item -> 'amount' as amount,
        nullif(i.item -> 'address', 'null') as address,
        nullif(i.item -> 'metadata', 'null') as metadata
      from jsonb_array_elements(read_join_lines.participants) with ordinality as i (item, line)
      -- Each value is read once, and not once for each place that asks for it.
      offset 0
    ) as v
    offset 0
  ) as t
  offset 0
$$;

alter function ledger_internal.read_join_lines owner to ledger_owner;
comment on function ledger_internal.read_join_lines is
  'The values of each line of a list of joins, null where they are missing or cannot be read, and the line itself, with a member that no line may have in place of one that is no object; an empty address for one that is no string. For parse_join_lines.';
revoke execute on function ledger_internal.read_join_lines from public;
