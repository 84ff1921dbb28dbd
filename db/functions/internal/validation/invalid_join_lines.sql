-- List the invalid fields of the lines of a list of joins.
create or replace function ledger_internal.invalid_join_lines(
  participants jsonb,
  out fields   text[],
  out reasons  text[]
)
language sql immutable
as $$
  select
    array_agg(f.field),
    array_agg(f.reason)
  from (
    select
      format('participants[%s]%s', l.line - 1, m.member) as field,
      m.reason
    from jsonb_array_elements(invalid_join_lines.participants) with ordinality as i (item, line)
    cross join lateral (
      select
        i.line,
        jsonb_typeof(i.item) <> 'object' as other,
        case when jsonb_typeof(i.item) = 'object' then i.item else '{}' end as item,
        nullif(i.item -> 'username', 'null') as username,
        ledger_internal.json_scalar_text(i.item -> 'amount') as amount,
        nullif(i.item -> 'address', 'null') as address
      offset 0
    ) as l
    cross join lateral (
      select 1 as place, '' as member, 'must be an object' as reason
      where l.other
      union all
      select 2, '.username', n.reason
      from (
        select case
          when jsonb_typeof(l.username) <> 'string'
          then 'must be a string'
          else ledger_internal.invalid_name(l.username #>> '{}')
        end
      ) as n (reason)
      where not l.other
        and n.reason is not null
      union all
      select 3, '.amount', a.reason
      from (
        select case
          when l.amount is not null and ledger_internal.parse_amount(l.amount) is null
          then 'must be a whole number below 2^256'
          else ledger_internal.invalid_amount(ledger_internal.parse_amount(l.amount), 0)
        end
      ) as a (reason)
      where not l.other
        and a.reason is not null
      union all
      select 4, '.address', a.reason
      from (
        select case
          when jsonb_typeof(l.address) <> 'string'
          then 'must be a string'
          when l.address is not null
          then ledger_internal.invalid_address(l.address #>> '{}')
        end
      ) as a (reason)
      where a.reason is not null
      union all
      select 5, '.metadata', n.reason
      from (select ledger_internal.invalid_metadata(nullif(l.item -> 'metadata', 'null'))) as n (reason)
      where n.reason is not null
      union all
      -- A name in which nothing can be taken for the end of a field or of a line.
      select 6, '.' || regexp_replace(left(k.name, 63) collate "C", '[\u0001-\u001f\u007f-\u009f:]', '?', 'g'), 'is not known'
      from jsonb_object_keys(l.item) as k (name)
      where k.name not in ('username', 'amount', 'address', 'metadata')
    ) as m
    order by l.line, m.place, m.member
    limit 100
  ) as f
$$;

alter function ledger_internal.invalid_join_lines owner to ledger_owner;
comment on function ledger_internal.invalid_join_lines is
  'The fields of the lines of a list of joins that are invalid, as participants[0].username, and the reasons; the first 100 of them, null if all are valid.';
revoke execute on function ledger_internal.invalid_join_lines from public;
