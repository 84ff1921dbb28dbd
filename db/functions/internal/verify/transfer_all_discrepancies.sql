-- Compare the stored answer to a multi-party transfer with the record.
create or replace function ledger_internal.transfer_all_discrepancies(
  group_id    bigint,
  answer      jsonb,
  fingerprint bytea
) returns setof ledger.discrepancy
language sql stable
as $$
  with lines as materialized (
    select l.*
    from ledger_internal.answered_entries(transfer_all_discrepancies.group_id, transfer_all_discrepancies.answer) as l
  ), request as (
    select
      count(*) as lines,
      count((l.entry).id) as found,
      array_agg(l.entry order by l.line) as entries,
      ledger_internal.fingerprint(
        ledger_internal.transfer_all_request(
          array_agg((l.entry).from_id order by l.line),
          array_agg((l.entry).to_id order by l.line),
          array_agg((l.entry).amount order by l.line),
          case when count((l.entry).metadata) > 0 then array_agg((l.entry).metadata order by l.line) end
        )
      ) as fingerprint
    from lines as l
  )
  select
    transfer_all_discrepancies.group_id,
    f.entry_id,
    f.participant_id,
    'idempotency key',
    f.detail
  from (
    select l.named as entry_id, null::bigint as participant_id, 'names an entry that is not there' as detail
    from lines as l
    where (l.entry).id is null
    union all
    select (l.entry).id, null, 'has an answer to transfer_all that contradicts the record'
    from lines as l
    where (l.entry).id is not null
      and (
        (l.entry).kind = 'transfer'
        and (l.entry).reverses is null
        and l.answered @> jsonb_build_object(
          'id', (l.entry).id, 'from_id', (l.entry).from_id, 'to_id', (l.entry).to_id, 'amount', (l.entry).amount,
          'from_amount', (l.entry).from_amount, 'to_amount', (l.entry).to_amount
        )
      ) is not true
    union all
    select b.entry_id, b.participant_id, b.detail
    from request as r
    cross join lateral ledger_internal.answered_balance_discrepancies(
      transfer_all_discrepancies.group_id, transfer_all_discrepancies.answer, r.entries
    ) as b
    where r.lines = r.found
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
