-- Compare what the bridge recorded of a group besides its money with the group's vault.
create or replace function ledger_internal.bridge_record_discrepancies(
  group_id bigint
) returns setof ledger.discrepancy
language sql stable
as $$
  select
    v.group_id,
    null::bigint,
    null::bigint,
    'vault',
    f.detail
  from ledger.vaults as v
  cross join ledger_internal.verify_bounds() as b
  cross join lateral (
    select format('nonce %s of %s is of another chain, of no checkpoint, or half finished', t.nonce, ledger_internal.hex(t.sender))
    from ledger.bridge_transactions as t
    where t.group_id = v.group_id
      and (
        t.chain_id is distinct from v.chain_id
        or (t.finished_at is null) <> (t.transaction is null)
        or (t.finished_at is null) <> (t.block is null)
        or (t.finished_at is null) <> (t.succeeded is null)
        or t.finished_at < t.recorded_at
        or not exists (
          select from ledger.publications as p
          where p.group_id = v.group_id
            and p.number = t.number
        )
      )
    union all
    select format('root %s is unknown, and is a checkpoint or recorded at %s', u.number, u.recorded_at)
    from ledger.unknown_roots as u
    where u.group_id = v.group_id
      and (
        u.recorded_at > b.latest
        or u.recorded_at = '-infinity'
        or exists (
          select from ledger.checkpoints as c
          where c.group_id = u.group_id
            and c.number = u.number
            and c.header = u.header
        )
      )
  ) as f (detail)
  where v.group_id = bridge_record_discrepancies.group_id
$$;

alter function ledger_internal.bridge_record_discrepancies owner to ledger_owner;
comment on function ledger_internal.bridge_record_discrepancies is
  'The discrepancies of the transactions that the bridge signed for a group''s vault, and of the roots that it found there and the ledger did not make. For verify_total.';
revoke execute on function ledger_internal.bridge_record_discrepancies from public;
