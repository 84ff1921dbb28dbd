-- Read the values of the lines of a multi-party transfer.
create or replace function ledger_internal.read_transfer_lines(
  transfers    jsonb,
  out line     bigint,
  out item     jsonb,
  out from_id  bigint,
  out to_id    bigint,
  out amount   numeric,
  out metadata jsonb
) returns setof record
language sql immutable
as $$
  -- 1e131071 is stored in a few bytes and written in 131,072, so numbers are not written out.
  select
    t.line,
    t.item,
    case
      when t.from_number between 1 and 9223372036854775807 and scale(t.from_number) = 0
      then t.from_number::bigint
      when jsonb_typeof(t.from_id) = 'string'
      then ledger_internal.parse_id(t.from_id #>> '{}')
    end as from_id,
    case
      when t.to_number between 1 and 9223372036854775807 and scale(t.to_number) = 0
      then t.to_number::bigint
      when jsonb_typeof(t.to_id) = 'string'
      then ledger_internal.parse_id(t.to_id #>> '{}')
    end as to_id,
    case
      when t.amount_number between 0 and 1e78 and scale(t.amount_number) = 0
      then t.amount_number
      when jsonb_typeof(t.amount) = 'string'
      then ledger_internal.parse_amount(t.amount #>> '{}')
    end as amount,
    t.metadata
  from (
    select
      v.*,
      case when jsonb_typeof(v.from_id) = 'number' then v.from_id::numeric end as from_number,
      case when jsonb_typeof(v.to_id) = 'number' then v.to_id::numeric end as to_number,
      case when jsonb_typeof(v.amount) = 'number' then v.amount::numeric end as amount_number
    from (
      select
        i.line,
        case when jsonb_typeof(i.item) = 'object' then i.item else '{"": ""}' end as item,
        i.item -> 'from' as from_id,
        i.item -> 'to' as to_id,
        i.item -> 'amount' as amount,
        nullif(i.item -> 'metadata', 'null') as metadata
      from jsonb_array_elements(read_transfer_lines.transfers) with ordinality as i (item, line)
      -- Each value is read once, and not once for each place that asks for it.
      offset 0
    ) as v
    offset 0
  ) as t
  offset 0
$$;

alter function ledger_internal.read_transfer_lines owner to ledger_owner;
comment on function ledger_internal.read_transfer_lines is
  'The values of each line of a multi-party transfer, null where they are missing or cannot be read, and the line itself, with a member that no line may have in place of one that is no object. For parse_transfer_lines.';
revoke execute on function ledger_internal.read_transfer_lines from public;
