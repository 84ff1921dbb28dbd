-- Parse the lines of a multi-party transfer.
create or replace function ledger_internal.parse_transfer_lines(
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
        when t.from_number is null
        then ledger_internal.parse_id(t.from_text)
        when t.from_number between 1 and 9223372036854775807 and scale(t.from_number) = 0
        then t.from_number::bigint
      end as from_id,
      case
        when t.to_number is null
        then ledger_internal.parse_id(t.to_text)
        when t.to_number between 1 and 9223372036854775807 and scale(t.to_number) = 0
        then t.to_number::bigint
      end as to_id,
      case
        when t.amount_number is null
        then ledger_internal.parse_amount(t.amount_text)
        when t.amount_number between 0 and 1e78 and scale(t.amount_number) = 0
        then t.amount_number
      end as amount,
      t.metadata
    from (
      select
        i.line,
        case when jsonb_typeof(i.item) = 'object' then i.item else '{"": ""}' end as item,
        case when jsonb_typeof(i.item -> 'from') = 'string' then i.item ->> 'from' end as from_text,
        case when jsonb_typeof(i.item -> 'from') = 'number' then (i.item -> 'from')::numeric end as from_number,
        case when jsonb_typeof(i.item -> 'to') = 'string' then i.item ->> 'to' end as to_text,
        case when jsonb_typeof(i.item -> 'to') = 'number' then (i.item -> 'to')::numeric end as to_number,
        case when jsonb_typeof(i.item -> 'amount') = 'string' then i.item ->> 'amount' end as amount_text,
        case when jsonb_typeof(i.item -> 'amount') = 'number' then (i.item -> 'amount')::numeric end as amount_number,
        nullif(i.item -> 'metadata', 'null') as metadata
      from jsonb_array_elements(parse_transfer_lines.transfers) with ordinality as i (item, line)
      -- Each value is read once, and not once for each place that asks for it.
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
  return lines;
end
$$;

alter function ledger_internal.parse_transfer_lines owner to ledger_owner;
comment on function ledger_internal.parse_transfer_lines is
  'The columns of a multi-party transfer, metadatas only if a line has any. Raises LG001 with the invalid fields of each line.';
revoke execute on function ledger_internal.parse_transfer_lines from public;
