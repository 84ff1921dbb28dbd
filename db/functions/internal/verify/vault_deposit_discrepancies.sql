-- Compare the deposits into a group's vault with the entries that credited them.
create or replace function ledger_internal.vault_deposit_discrepancies(
  group_id bigint
) returns setof ledger.discrepancy
language sql stable
as $$
  select
    vault_deposit_discrepancies.group_id,
    f.entry_id,
    f.participant_id,
    'vault deposit',
    f.detail
  from (
    select d.entry_id, d.participant_id, format('deposit %s comes after deposit %s', d.deposit_index, d.before)
    from (
      select
        d.*,
        lag(d.deposit_index, 1, -1::bigint) over (order by d.deposit_index) as before
      from ledger.vault_deposits as d
      where d.group_id = vault_deposit_discrepancies.group_id
    ) as d
    where d.deposit_index <> d.before + 1
    union all
    select d.entry_id, d.participant_id, format('deposit %s makes %s, and they add up to %s', d.deposit_index, d.cumulative, d.sum)
    from (
      select
        d.*,
        sum(d.amount) over (order by d.deposit_index) as sum
      from ledger.vault_deposits as d
      where d.group_id = vault_deposit_discrepancies.group_id
    ) as d
    where d.cumulative <> d.sum
    union all
    select d.entry_id, d.participant_id, format('deposit %s is of %s, and its entry or its participant is another one', d.deposit_index, d.amount)
    from ledger.vault_deposits as d
    left join ledger.entries as e on e.group_id = d.group_id and e.id = d.entry_id
    left join ledger.participants as p on p.group_id = d.group_id and p.id = d.participant_id
    where d.group_id = vault_deposit_discrepancies.group_id
      and (
        e.kind in ('join', 'deposit')
        and e.to_id = d.participant_id
        and e.amount = d.amount
        and p.address = d.address
      ) is not true
    union all
    select d.entry_id, null, format('%s deposits name the entry', count(*))
    from ledger.vault_deposits as d
    where d.group_id = vault_deposit_discrepancies.group_id
    group by d.entry_id
    having count(*) > 1
    union all
    select e.id, e.to_id, 'the entry brought money, and no deposit into the vault did'
    from ledger.vaults as v
    join ledger.entries as e on e.group_id = v.group_id and e.kind in ('join', 'deposit') and e.amount > 0
    where v.group_id = vault_deposit_discrepancies.group_id
      and not exists (
        select from ledger.vault_deposits as d
        where d.group_id = e.group_id
          and d.entry_id = e.id
      )
    union all
    select d.entry_id, d.participant_id, format('deposit %s is of a group without a vault', d.deposit_index)
    from ledger.vault_deposits as d
    where d.group_id = vault_deposit_discrepancies.group_id
      and not exists (select from ledger.vaults as v where v.group_id = d.group_id)
  ) as f (entry_id, participant_id, detail)
$$;

alter function ledger_internal.vault_deposit_discrepancies owner to ledger_owner;
comment on function ledger_internal.vault_deposit_discrepancies is
  'The discrepancies of the deposits into a group''s vault: their order and sums, the entries that credited them, and entries that brought money without one. For verify_total.';
revoke execute on function ledger_internal.vault_deposit_discrepancies from public;
