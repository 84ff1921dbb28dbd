-- Compare the stored answer to a multi-party transfer with the record.
create or replace function ledger_internal.transfer_all_discrepancies(
  group_id    bigint,
  answer      jsonb,
  fingerprint bytea
) returns setof ledger.discrepancy
language sql stable
as $$
  with written as materialized (
    select
      e.*,
      l.entry,
      l.line,
      ledger_internal.parse_id(l.entry ->> 'id') as named
    from jsonb_array_elements(
      case when jsonb_typeof(transfer_all_discrepancies.answer -> 'entries') = 'array' then transfer_all_discrepancies.answer -> 'entries' end
    ) with ordinality as l (entry, line)
    -- Looked up for each line, whatever the planner thinks of their number.
    left join lateral (
      select e.*
      from ledger.entries as e
      where e.group_id = transfer_all_discrepancies.group_id
        and e.id = ledger_internal.parse_id(l.entry ->> 'id')
      limit 1
    ) as e on true
  ), request as (
    select
      count(*) as lines,
      count(w.id) as found,
      ledger_internal.fingerprint(array[
        'transfer_all',
        array_agg(w.from_id order by w.line)::text,
        array_agg(w.to_id order by w.line)::text,
        array_agg(w.amount order by w.line)::text,
        case when count(w.metadata) > 0 then array_agg(w.metadata order by w.line)::text end
      ]) as fingerprint
    from written as w
  ), legs as (
    select
      s.id,
      -- As the last line that the participant is in leaves it.
      (array_agg(s.balance order by w.line desc))[1] as balance
    from written as w
    cross join lateral (values (w.from_id, w.from_amount), (w.to_id, w.to_amount)) as s (id, balance)
    group by s.id
  ), answered as (
    select
      ledger_internal.parse_id(p.participant ->> 'id') as id,
      p.participant
    from jsonb_array_elements(
      case when jsonb_typeof(transfer_all_discrepancies.answer -> 'participants') = 'array' then transfer_all_discrepancies.answer -> 'participants' end
    ) as p (participant)
  )
  select
    transfer_all_discrepancies.group_id,
    f.entry_id,
    f.participant_id,
    'idempotency key',
    f.detail
  from (
    select w.named as entry_id, null::bigint as participant_id, 'names an entry that is not there' as detail
    from written as w
    where w.id is null
    union all
    select w.id, null, 'has an answer to transfer_all that contradicts the record'
    from written as w
    where w.id is not null
      and (
        w.kind = 'transfer'
        and w.reverses is null
        and w.entry @> jsonb_build_object(
          'id', w.id, 'from_id', w.from_id, 'to_id', w.to_id, 'amount', w.amount,
          'from_amount', w.from_amount, 'to_amount', w.to_amount
        )
      ) is not true
    union all
    select null, coalesce(s.id, t.id), 'has an answer to transfer_all that gives another balance than its entries'
    from legs as s
    full join answered as t on t.id = s.id
    where (select r.lines = r.found from request as r)
      and (
        t.participant @> jsonb_build_object('id', s.id, 'group_id', transfer_all_discrepancies.group_id, 'amount', s.balance)
      ) is not true
    union all
    select null, null, 'has the fingerprint of another request than the record says'
    from request as r
    where r.lines = 0
      or (r.lines = r.found and r.fingerprint <> transfer_all_discrepancies.fingerprint)
  ) as f
$$;

alter function ledger_internal.transfer_all_discrepancies owner to ledger_owner;
comment on function ledger_internal.transfer_all_discrepancies is
  'The discrepancies of the answer to a multi-party transfer: its entries, the participants with their balances after it, and the fingerprint of the request. For verify_keys.';
revoke execute on function ledger_internal.transfer_all_discrepancies from public;
