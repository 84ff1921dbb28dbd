-- Say what is wrong with the lines of a multi-party transfer.
create or replace function ledger.transfer_line_faults(
  transfers jsonb,
  out fields text[],
  out faults text[]
)
language sql immutable
as $$
  select
    array_agg(f.field),
    array_agg(f.fault)
  from (
    select
      format('transfers[%s]%s', l.line - 1, m.member) as field,
      m.fault
    from jsonb_array_elements(transfer_line_faults.transfers) with ordinality as i (item, line)
    cross join lateral (
      select
        i.line,
        jsonb_typeof(i.item) <> 'object' as other,
        case when jsonb_typeof(i.item) = 'object' then i.item else '{}' end as item,
        ledger.spelled_json(i.item -> 'from') as from_id,
        ledger.spelled_json(i.item -> 'to') as to_id,
        ledger.spelled_json(i.item -> 'amount') as amount
      offset 0
    ) as l
    cross join lateral (
      select 1 as place, '' as member, 'must be an object' as fault
      where l.other
      union all
      select s.place, s.member, case when s.id is null then 'must be given' else 'must be a positive integer below 2^63' end
      from (values (2, '.from', l.from_id), (3, '.to', l.to_id)) as s (place, member, id)
      where not l.other
        and ledger.spelled_id(s.id) is null
      union all
      select 3, '.to', 'must be another participant'
      where ledger.spelled_id(l.from_id) = ledger.spelled_id(l.to_id)
      union all
      select 4, '.amount', a.fault
      from (
        select case
          when l.amount is not null and ledger.spelled_amount(l.amount) is null
          then 'must be a whole number below 2^256'
          else ledger.amount_fault(ledger.spelled_amount(l.amount), 1)
        end
      ) as a (fault)
      where not l.other
        and a.fault is not null
      union all
      select 5, '.metadata', n.fault
      from (select ledger.metadata_fault(nullif(l.item -> 'metadata', 'null'))) as n (fault)
      where n.fault is not null
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

alter function ledger.transfer_line_faults owner to ledger_owner;
comment on function ledger.transfer_line_faults is
  'The fields of a multi-party transfer''s lines that are wrong, as transfers[0].amount, and what is wrong with each; the first 100 of them, null when there is none.';
revoke execute on function ledger.transfer_line_faults from public;
