-- Compare a checkpoint with the vault of its group, and with what became of it there.
create or replace function ledger_internal.publication_discrepancies(
  checkpoint ledger.checkpoints,
  latest     timestamptz
) returns setof ledger.discrepancy
language sql stable
as $$
  select
    checkpoint.group_id,
    null::bigint,
    null::bigint,
    'checkpoint',
    f.detail
  from (values (checkpoint.group_id, checkpoint.number)) as c (group_id, number)
  left join ledger.vaults as v on v.group_id = c.group_id
  left join ledger.publications as p on p.group_id = c.group_id and p.number = c.number
  cross join lateral (
    select 'is of another vault than the group'
    where (checkpoint.chain_id, checkpoint.vault)
      is distinct from (coalesce(v.chain_id, 0), coalesce(v.vault, decode(repeat('00', 20), 'hex')))
    union all
    select 'was not prepared for the vault of the group'
    where v.group_id is not null
      and p.number is null
    union all
    select 'was prepared for a vault, and the group has none'
    where v.group_id is null
      and p.number is not null
    union all
    select format('is %s, and a later one was made', p.state)
    where p.state in ('prepared', 'accepted')
      and exists (
        select from ledger.checkpoints as l
        where l.group_id = c.group_id
          and l.number > c.number
      )
    union all
    select format('is %s without the transaction that made it so, or with one that did not', p.state)
    where (p.published_transaction is null) <> (p.published_block is null)
      or (
        -- What an adoption records is not known with its transaction.
        case when p.state in ('accepted', 'closed') then p.published_transaction is null
          else p.state = 'vetoed' and p.ended_transaction is null
        end
        and not exists (
          select from ledger.adoptions as a
          where a.group_id = c.group_id
            and a.number >= c.number
        )
      )
      or (p.state in ('prepared', 'abandoned') and p.published_transaction is not null)
      or (p.state in ('prepared', 'accepted') and (p.ended_transaction is not null or p.ended_block is not null))
      or p.state not in ('prepared', 'accepted', 'closed', 'vetoed', 'abandoned')
    union all
    select format('was prepared at %s and changed at %s', p.prepared_at, p.changed_at)
    where p.prepared_at > p.changed_at
      or p.changed_at > publication_discrepancies.latest
      or p.prepared_at = '-infinity'
    union all
    select 'was adopted, and no adoption is recorded'
    where checkpoint.adopted_at is not null
      and not exists (
        select from ledger.adoptions as a
        where a.group_id = c.group_id
          and a.number = c.number
      )
  ) as f (detail)
$$;

alter function ledger_internal.publication_discrepancies owner to ledger_owner;
comment on function ledger_internal.publication_discrepancies is
  'The discrepancies between a checkpoint and the vault of its group: whether it is of that vault, and what became of it there. For verify_checkpoints.';
revoke execute on function ledger_internal.publication_discrepancies from public;
