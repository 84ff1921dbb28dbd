-- List the invalid fields of a multi-party transfer's lines.
create or replace function ledger_internal.invalid_transfer_lines(
  transfers jsonb,
  out fields text[],
  out reasons text[]
)
language sql immutable
as $$
  select
    array_agg(f.field),
    array_agg(f.reason)
  from (
    select
      format('transfers[%s]%s', l.line - 1, m.member) as field,
      m.reason
    from jsonb_array_elements(invalid_transfer_lines.transfers) with ordinality as i (item, line)
    cross join lateral (
      select
        i.line,
        jsonb_typeof(i.item) <> 'object' as other,
        case when jsonb_typeof(i.item) = 'object' then i.item else '{}' end as item,
        ledger_internal.json_scalar_text(i.item -> 'from') as from_id,
        ledger_internal.json_scalar_text(i.item -> 'to') as to_id,
        ledger_internal.json_scalar_text(i.item -> 'amount') as amount
      offset 0
    ) as l
    cross join lateral (
      select 1 as place, '' as member, 'must be an object' as reason
      where l.other
      union all
      select s.place, s.member, case when s.id is null then 'must be given' else 'must be a positive integer below 2^63' end
      from (values (2, '.from', l.from_id), (3, '.to', l.to_id)) as s (place, member, id)
      where not l.other
        and ledger_internal.parse_id(s.id) is null
      union all
      select 3, '.to', 'must be another participant'
      where ledger_internal.parse_id(l.from_id) = ledger_internal.parse_id(l.to_id)
      union all
      select 4, '.amount', a.reason
      from (
        select case
          when l.amount is not null and ledger_internal.parse_amount(l.amount) is null
          then 'must be a whole number below 2^256'
          else ledger_internal.invalid_amount(ledger_internal.parse_amount(l.amount), 1)
        end
      ) as a (reason)
      where not l.other
        and a.reason is not null
      union all
      select 5, '.metadata', n.reason
      from (select ledger_internal.invalid_metadata(nullif(l.item -> 'metadata', 'null'))) as n (reason)
      where n.reason is not null
      union all
      -- A name in which nothing can be taken for the end of a field or of a line.
      select 6, '.' || regexp_replace(left(k.name, 63) collate "C", '[\u0001-\u001f\u007f-\u009f:]', '?', 'g'), 'is not known'
      from jsonb_object_keys(l.item) as k (name)
      where k.name not in ('from', 'to', 'amount', 'metadata')
    ) as m
    order by l.line, m.place, m.member
    limit 100
  ) as f
$$;

alter function ledger_internal.invalid_transfer_lines owner to ledger_owner;
comment on function ledger_internal.invalid_transfer_lines is
  'The fields of a multi-party transfer''s lines that are invalid, as transfers[0].amount, and the reasons; the first 100 of them, null if all are valid.';
revoke execute on function ledger_internal.invalid_transfer_lines from public;
