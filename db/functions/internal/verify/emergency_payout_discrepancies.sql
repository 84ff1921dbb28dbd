-- Compare what a group's vault paid in an emergency with the checkpoint that it pays.
create or replace function ledger_internal.emergency_payout_discrepancies(
  group_id bigint
) returns setof ledger.discrepancy
language sql stable
as $$
  with leaves as materialized (
    select l.*
    from ledger.vaults as v
    join ledger.checkpoint_chunks as k on k.group_id = v.group_id and k.number = v.emergency_number
    cross join lateral ledger_internal.unpack_leaves(k) as l
    where v.group_id = emergency_payout_discrepancies.group_id
  )
  select
    emergency_payout_discrepancies.group_id,
    null::bigint,
    f.participant_id,
    'payout',
    f.detail
  from (
    select o.participant_id, format('%s was paid to %s, and is no leaf of the checkpoint that the emergency pays', o.amount, ledger_internal.hex(o.owner))
    from ledger.payouts as o
    join ledger.vaults as v on v.group_id = o.group_id
    left join leaves as l
      on l.participant_id = o.participant_id
        and l.exit_entry is not distinct from case when o.kind = 'exit' then o.subject end
        and l.owner = ledger_internal.hex(o.owner)
        and l.amount = o.amount
    where o.group_id = emergency_payout_discrepancies.group_id
      and (o.kind = 'present' or (o.kind = 'exit' and o.block > v.emergency_block))
      and l.index is null
      and (exists (select from leaves) or v.emergency_number = 0)
    union all
    select null, format('deposit %s was returned, and was included or is another one', o.subject)
    from ledger.payouts as o
    join ledger.vaults as v on v.group_id = o.group_id
    left join ledger.checkpoints as c on c.group_id = v.group_id and c.number = v.emergency_number
    left join ledger.vault_deposits as d on d.group_id = o.group_id and d.deposit_index = o.subject
    where o.group_id = emergency_payout_discrepancies.group_id
      and o.kind = 'reclaim'
      and (o.subject < coalesce(c.deposits, 0) or d.address <> o.owner or d.amount <> o.amount)
  ) as f (participant_id, detail)
$$;

alter function ledger_internal.emergency_payout_discrepancies owner to ledger_owner;
comment on function ledger_internal.emergency_payout_discrepancies is
  'The discrepancies of what a frozen group''s vault paid: leaves that are not of the checkpoint that the emergency pays, where its leaves are kept, and deposits that it includes. For verify_total.';
revoke execute on function ledger_internal.emergency_payout_discrepancies from public;
