-- Compare the balances in the answer to a multi-party transfer with its entries.
create or replace function ledger_internal.answered_balance_discrepancies(
  group_id bigint,
  answer   jsonb,
  entries  ledger.entries[]
) returns setof ledger.discrepancy
language sql stable
as $$
  select
    answered_balance_discrepancies.group_id,
    null::bigint,
    coalesce(s.id, t.id),
    'idempotency key',
    'has an answer to transfer_all that gives another balance than its entries'
  from (
    select
      l.id,
      -- As the last line that the participant is in leaves it.
      (array_agg(l.balance order by e.ordinality desc))[1] as balance
    from unnest(answered_balance_discrepancies.entries) with ordinality as e
    cross join lateral (values (e.from_id, e.from_amount), (e.to_id, e.to_amount)) as l (id, balance)
    group by l.id
  ) as s
  full join (
    select
      ledger_internal.parse_id(p.participant ->> 'id') as id,
      p.participant
    from jsonb_array_elements(
      case when jsonb_typeof(answer -> 'participants') = 'array' then answer -> 'participants' end
    ) as p (participant)
  ) as t on t.id = s.id
  where (
      t.participant @> jsonb_build_object('id', s.id, 'group_id', answered_balance_discrepancies.group_id, 'amount', s.balance)
    ) is not true
$$;

alter function ledger_internal.answered_balance_discrepancies owner to ledger_owner;
comment on function ledger_internal.answered_balance_discrepancies is
  'The participants whose balance in the answer to a multi-party transfer is not that after its entries, which are given in their order, and those who are only in one of the two. For transfer_all_discrepancies.';
revoke execute on function ledger_internal.answered_balance_discrepancies from public;
