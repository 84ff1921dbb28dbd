-- Compare an exit with its settlement.
create or replace function ledger_internal.settlement_discrepancies(
  entry  ledger.entries,
  latest timestamptz
) returns setof ledger.discrepancy
language sql stable
as $$
  select
    entry.group_id,
    entry.id,
    f.participant_id,
    f.kind,
    f.detail
  from (
    select entry.from_id, 'settlement', 'the exit has none'
    where entry.kind = 'exit'
      and not exists (
        select from ledger.settlements as s
        where s.group_id = entry.group_id
          and s.entry_id = entry.id
      )
    union all
    select entry.from_id, 'settlement', 'it has another time than its exit, a time to come, no reference, or a transaction before its time'
    from ledger.settlements as s
    where entry.kind = 'exit'
      and s.group_id = entry.group_id
      and s.entry_id = entry.id
      and (
        s.exited_at <> entry.created_at
        or (s.reference is null) <> (s.settled_at is null)
        or s.settled_at < s.exited_at
        or s.settled_at > settlement_discrepancies.latest
        or (s.settled_at is null and s.settled_xid is not null)
      )
  ) as f (participant_id, kind, detail)
$$;

alter function ledger_internal.settlement_discrepancies owner to ledger_owner;
comment on function ledger_internal.settlement_discrepancies is
  'The discrepancies of the settlement of an entry that is an exit, none of another entry. For verify_entries.';
revoke execute on function ledger_internal.settlement_discrepancies from public;
