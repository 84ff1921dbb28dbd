-- Compare a group's vault with its participants and checkpoints.
create or replace function ledger_internal.vault_discrepancies(
  group_id bigint
) returns setof ledger.discrepancy
language sql stable
as $$
  select
    vault_discrepancies.group_id,
    f.entry_id,
    f.participant_id,
    'vault',
    f.detail
  from (values (vault_discrepancies.group_id)) as g (id)
  cross join ledger_internal.verify_bounds() as b
  left join ledger.vaults as v on v.group_id = g.id
  cross join lateral (
    select null::bigint, null::bigint, 'has another domain than its chain and address make'
    where v.domain <> ledger_internal.domain_hash(v.chain_id, v.vault, v.group_id)
    union all
    select null, null, format('was linked at %s, frozen at %s and closed at %s', v.linked_at, v.frozen_at, v.closed_at)
    where greatest(v.linked_at, v.frozen_at, v.closed_at) > b.latest
      or v.linked_at = '-infinity'
    union all
    select null, null, format('has followed block %s with hash %s', v.followed_block, ledger_internal.hex(v.followed_hash))
    where (v.followed_block is null) <> (v.followed_hash is null)
      or octet_length(v.followed_hash) <> 32
      or v.followed_block < 0
    union all
    select null, null, format('is frozen at checkpoint %s, which was not accepted', v.emergency_number)
    where v.emergency_number <> 0
      and not exists (
        select from ledger.publications as p
        where p.group_id = g.id
          and p.number = v.emergency_number
          and p.state in ('accepted', 'closed')
      )
    union all
    select null, null, 'has an emergency without its transaction, or a closing without one'
    where (v.emergency_number is null) <> (v.frozen_at is null)
      or (v.emergency_number is null) <> (v.emergency_transaction is null)
      or (v.emergency_number is null) <> (v.emergency_block is null)
      or (v.closed_at is null) <> (v.closing_transaction is null)
      or (v.closed_at is null) <> (v.closing_block is null)
    union all
    select e.id, coalesce(e.from_id, e.to_id), 'the entry is of after the emergency'
    -- A range of an index for each kind, and not all entries of a group.
    from (
      select t.id, t.from_id, t.to_id
      from ledger.entries as t
      where t.group_id = g.id
        and t.from_id is not null
        and t.to_id is not null
        and t.created_at > v.frozen_at
      union all
      select o.id, o.from_id, o.to_id
      from unnest(array['join', 'deposit', 'exit']) as k (kind)
      join ledger.entries as o on o.group_id = g.id and o.kind = k.kind and o.kind <> 'transfer' and o.created_at > v.frozen_at
    ) as e
    union all
    select null, r.participant_id, 'the participant requested an exit and is present, or there is no vault'
    from ledger.exit_requests as r
    left join ledger.participants as p on p.group_id = r.group_id and p.id = r.participant_id
    where r.group_id = g.id
      and (p.exited_at is null or v.group_id is null)
    union all
    select null, null, format('was closed, took %s and paid %s', d.amount, o.amount)
    from (
      select coalesce(sum(d.amount), 0) as amount from ledger.vault_deposits as d where d.group_id = g.id
    ) as d
    cross join (
      select coalesce(sum(o.amount), 0) as amount
      from ledger.payouts as o
      where o.group_id = g.id
        and o.kind <> 'reclaim'
    ) as o
    where v.closed_at is not null
      and v.emergency_number is null
      and d.amount <> o.amount
    union all
    select null, null, 'is not closed, and the group was removed'
    where v.group_id is not null
      and v.closed_at is null
      and exists (select from ledger.groups as o where o.id = g.id and o.closed_at is not null)
  ) as f (entry_id, participant_id, detail)
$$;

alter function ledger_internal.vault_discrepancies owner to ledger_owner;
comment on function ledger_internal.vault_discrepancies is
  'The discrepancies of a group''s vault: its domain, an emergency and what moved after it, a closing, and exits that were requested. For verify_total.';
revoke execute on function ledger_internal.vault_discrepancies from public;
