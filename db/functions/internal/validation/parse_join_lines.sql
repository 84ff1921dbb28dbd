-- Parse the lines of a list of joins.
create or replace function ledger_internal.parse_join_lines(
  participants jsonb
) returns ledger_internal.join_lines
language plpgsql immutable
as $$
declare
  lines   ledger_internal.join_lines;
  valid   boolean;
  fields  text[];
  reasons text[];
begin
  select
    bool_and((
      l.username is not null
      and ledger_internal.invalid_name(l.username) is null
      and ledger_internal.invalid_amount(l.amount, 0) is null
      and (l.address is null or ledger_internal.invalid_address(l.address) is null)
      and ledger_internal.invalid_metadata(l.metadata) is null
      and l.item - array['username', 'amount', 'address', 'metadata'] = '{}'
    ) is true),
    array_agg(l.username order by l.line),
    array_agg(l.amount order by l.line),
    case when count(l.address) > 0 then array_agg(ledger_internal.parse_address(l.address) order by l.line) end,
    case when count(l.metadata) > 0 then array_agg(l.metadata order by l.line) end
  into
    valid,
    lines.usernames,
    lines.amounts,
    lines.addresses,
    lines.metadatas
  from ledger_internal.read_join_lines(participants) as l;

  if not valid then
    select
      f.fields,
      f.reasons
    into
      fields,
      reasons
    from ledger_internal.invalid_join_lines(participants) as f;
    perform ledger_internal.refuse_invalid(fields, reasons);
  end if;
  return lines;
end
$$;

alter function ledger_internal.parse_join_lines owner to ledger_owner;
comment on function ledger_internal.parse_join_lines is
  'The lines of a list of joins by columns, addresses and metadatas only if a line has any. Raises LG001 with the invalid fields of each line.';
revoke execute on function ledger_internal.parse_join_lines from public;
