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
  from ledger_internal.read_transfer_lines(transfers) as l;

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
