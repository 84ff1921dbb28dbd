-- Compare the stored answer to a list of joins with the record.
create or replace function ledger_internal.join_all_discrepancies(
  group_id    bigint,
  answer      jsonb,
  fingerprint bytea
) returns setof ledger.discrepancy
language sql stable
as $$
  with lines as materialized (
    select
      l.line,
      l.answered,
      l.participant,
      ledger_internal.parse_id(l.answered ->> 'id') as named,
      -- Looked up for each line, whatever the planner thinks of their number; null if it is not there.
      (
        select e
        from ledger.entries as e
        where e.group_id = join_all_discrepancies.group_id
          and e.id = ledger_internal.parse_id(l.answered ->> 'id')
        limit 1
      ) as entry
    from rows from (
      jsonb_array_elements(case when jsonb_typeof(answer -> 'entries') = 'array' then answer -> 'entries' end),
      jsonb_array_elements(case when jsonb_typeof(answer -> 'participants') = 'array' then answer -> 'participants' end)
    ) with ordinality as l (answered, participant, line)
  ), request as (
    select
      count(*) as lines,
      count((l.entry).id) as found,
      ledger_internal.fingerprint(
        ledger_internal.join_all_request(
          array_agg(l.participant ->> 'username' order by l.line),
          array_agg((l.entry).amount order by l.line),
          case when count(l.address) > 0 then array_agg(l.address order by l.line) end,
          case when count((l.entry).metadata) > 0 then array_agg((l.entry).metadata order by l.line) end
        )
      ) as fingerprint
    from (
      select
        i.*,
        -- One that was bound later was not in the request. Looked up by its id, and not among all of one transaction.
        (
          select case when p.address_xid = (i.entry).xid then p.address end
          from ledger.participants as p
          where p.group_id = join_all_discrepancies.group_id
            and p.id = (i.entry).to_id
          limit 1
        ) as address
      from lines as i
    ) as l
  )
  select
    join_all_discrepancies.group_id,
    f.entry_id,
    null::bigint,
    'idempotency key',
    f.detail
  from (
    select l.named as entry_id, 'names an entry that is not there' as detail
    from lines as l
    where (l.entry).id is null
    union all
    select (l.entry).id, 'has an answer to join_all that contradicts the record'
    from lines as l
    where (l.entry).id is not null
      and (
        (l.entry).kind = 'join'
        and l.answered @> jsonb_build_object('id', (l.entry).id, 'to_id', (l.entry).to_id, 'amount', (l.entry).amount)
        and l.participant @> jsonb_build_object(
          'id', (l.entry).to_id, 'group_id', join_all_discrepancies.group_id, 'amount', (l.entry).to_amount
        )
      ) is not true
    union all
    select null, 'has the fingerprint of another request than the record says'
    from request as r
    where r.lines = 0
      or (r.lines = r.found and r.fingerprint <> join_all_discrepancies.fingerprint)
  ) as f
$$;

alter function ledger_internal.join_all_discrepancies owner to ledger_owner;
comment on function ledger_internal.join_all_discrepancies is
  'The discrepancies of the answer to a list of joins: its entries, the participants, and the fingerprint of the request. For verify_keys.';
revoke execute on function ledger_internal.join_all_discrepancies from public;
