-- Read the lines of a multi-party transfer.
create or replace function ledger.transfer_lines(
  transfers jsonb
) returns ledger.transfer_lines
language plpgsql immutable
as $$
declare
  -- Most lists give ids and amounts as strings, which take less to read.
  strings boolean := not transfers @? '$[*] ? (@.from.type() != "string" || @.to.type() != "string" || @.amount.type() != "string")';
  lines   ledger.transfer_lines;
  valid   boolean;
  fields  text[];
  faults  text[];
begin
  select
    bool_and((
      l.from_id <> l.to_id and ledger.amount_fault(l.amount, 1) is null and ledger.metadata_fault(l.metadata) is null
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
    select
      t.line,
      t.item,
      ledger.spelled_id(t.from_id) as from_id,
      ledger.spelled_id(t.to_id) as to_id,
      ledger.spelled_amount(t.amount) as amount,
      t.metadata
    from (
      select
        i.line,
        case when jsonb_typeof(i.item) = 'object' then i.item else '{"": ""}' end as item,
        case when strings then i.item ->> 'from' else ledger.spelled_json(i.item -> 'from') end as from_id,
        case when strings then i.item ->> 'to' else ledger.spelled_json(i.item -> 'to') end as to_id,
        case when strings then i.item ->> 'amount' else ledger.spelled_json(i.item -> 'amount') end as amount,
        nullif(i.item -> 'metadata', 'null') as metadata
      from jsonb_array_elements(transfer_lines.transfers) with ordinality as i (item, line)
      -- Each value is read once, and not once for each place that asks for it.
      offset 0
    ) as t
    offset 0
  ) as l;

  if not valid then
    select
      f.fields,
      f.faults
    into
      fields,
      faults
    from ledger.transfer_line_faults(transfers) as f;
    perform ledger.refuse_invalid(fields, faults);
  end if;
  return lines;
end
$$;

alter function ledger.transfer_lines owner to ledger_owner;
comment on function ledger.transfer_lines is
  'The columns of a multi-party transfer, metadatas only where a line has any. Raises LG001 with what is wrong in each line.';
revoke execute on function ledger.transfer_lines from public;
