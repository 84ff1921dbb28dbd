-- Compare a checkpoint's figures with what its snapshot shows of the record.
create or replace function ledger_internal.checkpoint_record_discrepancies(
  checkpoint ledger.checkpoints,
  feed       ledger.feeds
) returns setof ledger.discrepancy
language sql stable
as $$
  select
    checkpoint.group_id,
    null::bigint,
    null::bigint,
    'checkpoint',
    f.detail
  from (
    select format('says %s joins and deposits of %s, and the record %s of %s', checkpoint.deposits, checkpoint.credited, r.deposits, r.credited)
    from (
      select
        -- A vault counts what it was sent.
        count(*) filter (
          where checkpoint.chain_id = 0
            or exists (
              select from ledger.vault_deposits as d
              where d.group_id = e.group_id
                and d.entry_id = e.id
            )
        ) as deposits,
        coalesce(sum(e.amount), 0) as credited
      from ledger.entries as e
      where e.group_id = checkpoint.group_id
        and e.kind in ('join', 'deposit')
        and (e.id <= feed.last_restored or pg_visible_in_snapshot(e.xid, checkpoint.snapshot))
    ) as r
    where checkpoint.deposits <> r.deposits
      or checkpoint.credited <> r.credited
    union all
    select format('says %s settled, and the record %s', checkpoint.settled, r.settled)
    from (
      select coalesce(sum(e.amount), 0) as settled
      from ledger.settlements as s
      join ledger.entries as e on e.group_id = s.group_id and e.id = s.entry_id
      where s.group_id = checkpoint.group_id
        and s.settled_at is not null
        and (s.settled_xid is null or pg_visible_in_snapshot(s.settled_xid, checkpoint.snapshot))
    ) as r
    where checkpoint.settled <> r.settled
  ) as f (detail)
$$;

alter function ledger_internal.checkpoint_record_discrepancies owner to ledger_owner;
comment on function ledger_internal.checkpoint_record_discrepancies is
  'The discrepancies between a checkpoint and the record of its feed, which must be one of this server: what was credited, and what was settled. For verify_checkpoints.';
revoke execute on function ledger_internal.checkpoint_record_discrepancies from public;
