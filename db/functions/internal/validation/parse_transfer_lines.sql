-- Parse the lines of a multi-party transfer.
create or replace function ledger_internal.parse_transfer_lines(
  group_id  bigint,
  transfers jsonb
) returns ledger_internal.transfer_lines
language plpgsql immutable
as $$
declare
  lines  ledger_internal.transfer_lines;
  valid  boolean;
  fields text[];
  reasons text[];
begin
  select
    bool_and((
      l.from_id <> l.to_id
      and ledger_internal.invalid_amount(l.amount, 1) is null
      and ledger_internal.invalid_metadata(l.metadata) is null
      and l.item - array['from', 'to', 'amount', 'metadata'] = '{}'
    ) is true),
    array_agg(l.from_id order by l.line),
    array_agg(l.to_id order by l.line),
    array_agg(l.amount order by l.line),
    case when count(l.metadata) > 0 then array_agg(l.metadata order by l.line) end
  into
    valid,
    lines.from_ids,
    lines.to_ids,
    lines.amounts,
    lines.metadatas
  from (
    -- 1e131071 is stored in a few bytes and written in 131,072, so numbers are not written out.
    select
      t.line,
      t.item,
      case
        when jsonb_typeof(t.from_id) = 'string'
        then ledger_internal.parse_id(t.from_id #>> '{}')
        when t.from_number between 1 and 9223372036854775807 and scale(t.from_number) = 0
        then t.from_number::bigint
      end as from_id,
      case
        when jsonb_typeof(t.to_id) = 'string'
        then ledger_internal.parse_id(t.to_id #>> '{}')
        when t.to_number between 1 and 9223372036854775807 and scale(t.to_number) = 0
        then t.to_number::bigint
      end as to_id,
      case
        when jsonb_typeof(t.amount) = 'string'
        then ledger_internal.parse_amount(t.amount #>> '{}')
        when t.amount_number between 0 and 1e78 and scale(t.amount_number) = 0
        then t.amount_number
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
        from jsonb_array_elements(parse_transfer_lines.transfers) with ordinality as i (item, line)
        -- Each value is read once, and not once for each place that asks for it.
        offset 0
      ) as v
      offset 0
    ) as t
    offset 0
  ) as l;

  if not valid then
    select
      f.fields,
      f.reasons
    into
      fields,
      reasons
    from ledger_internal.invalid_transfer_lines(transfers) as f;
    perform ledger_internal.refuse_invalid(fields, reasons);
  end if;
  lines.group_ids := array_fill(group_id, array[cardinality(lines.amounts)]);
  return lines;
end
$$;

alter function ledger_internal.parse_transfer_lines owner to ledger_owner;
comment on function ledger_internal.parse_transfer_lines is
  'The lines of a multi-party transfer in a group by columns, metadatas only if a line has any. Raises LG001 with the invalid fields of each line.';
revoke execute on function ledger_internal.parse_transfer_lines from public;
