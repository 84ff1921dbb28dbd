-- Bring the columns of a list of transfers to one shape.
create or replace function ledger_internal.align_transfer_lines(
  lines ledger_internal.transfer_lines
) returns ledger_internal.transfer_lines
language plpgsql immutable
as $$
declare
  shape text := format('[1:%s]', coalesce(greatest(
    cardinality(lines.group_ids), cardinality(lines.from_ids), cardinality(lines.to_ids), cardinality(lines.amounts),
    cardinality(lines.idempotency_keys), cardinality(lines.metadatas)
  ), 0));
begin
  if (
    array_dims(lines.group_ids) = shape
    and array_dims(lines.from_ids) = shape
    and array_dims(lines.to_ids) = shape
    and array_dims(lines.amounts) = shape
    and coalesce(array_dims(lines.idempotency_keys), shape) = shape
    and coalesce(array_dims(lines.metadatas), shape) = shape
  ) is not true then
    select
      array_agg(l.group_id order by l.line),
      array_agg(l.from_id order by l.line),
      array_agg(l.to_id order by l.line),
      array_agg(l.amount order by l.line),
      array_agg(l.key order by l.line),
      array_agg(l.metadata order by l.line)
    into
      lines.group_ids,
      lines.from_ids,
      lines.to_ids,
      lines.amounts,
      lines.idempotency_keys,
      lines.metadatas
    from unnest(
      lines.group_ids, lines.from_ids, lines.to_ids, lines.amounts, lines.idempotency_keys, lines.metadatas
    ) with ordinality as l (group_id, from_id, to_id, amount, key, metadata, line);
  end if;
  return lines;
end
$$;

alter function ledger_internal.align_transfer_lines owner to ledger_owner;
comment on function ledger_internal.align_transfer_lines is
  'The lines with columns that all begin at 1 and have the length of the longest, filled with nulls: a line''s values are found by its number.';
revoke execute on function ledger_internal.align_transfer_lines from public;
