-- Compare a checkpoint's header with its figures and with the header before it.
create or replace function ledger_internal.header_discrepancies(
  checkpoint ledger.checkpoints,
  previous   ledger.checkpoints,
  domain     bytea
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
    select 'has none before it'
    where checkpoint.number < 1
      or (
        checkpoint.number <> coalesce(previous.number, 0) + 1
        and checkpoint.adopted_at is null
        and not exists (
          select from ledger.unknown_roots as u
          where u.group_id = checkpoint.group_id
            and u.number = checkpoint.number - 1
        )
      )
    union all
    select 'has another header before it than it names'
    -- What an adopted one names may be lost.
    where checkpoint.adopted_at is null
      and checkpoint.previous <> coalesce(
        case
          when checkpoint.chain_id = 0
          then previous.header
          else (ledger_internal.accepted_checkpoint(checkpoint.group_id, checkpoint.number)).header
        end,
        decode(repeat('00', 32), 'hex')
      )
    union all
    select 'has another header than its figures make'
    where checkpoint.header <> ledger_internal.header_hash(
        header_discrepancies.domain, checkpoint.number, checkpoint.previous, checkpoint.deposits, checkpoint.credited,
        checkpoint.settled, checkpoint.leaf_count, checkpoint.total, checkpoint.root
      )
    union all
    select format('has a total of %s, of %s credited and %s settled', checkpoint.total, checkpoint.credited, checkpoint.settled)
    where checkpoint.total <> checkpoint.credited - checkpoint.settled
  ) as f (detail)
$$;

alter function ledger_internal.header_discrepancies owner to ledger_owner;
comment on function ledger_internal.header_discrepancies is
  'The discrepancies of the chain of headers at a checkpoint: the previous one, nulls where there is none, or the last one that the vault accepted, the hash of its figures, and their sum. For verify_checkpoints.';
revoke execute on function ledger_internal.header_discrepancies from public;
