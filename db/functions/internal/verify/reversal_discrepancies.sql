-- Compare a reversal with the transfer that it reverses.
create or replace function ledger_internal.reversal_discrepancies(
  entry ledger.entries
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
    select null::bigint, 'reversal', format('entry %s is no transfer of this amount the other way', entry.reverses)
    where entry.reverses is not null
      and not exists (
        select from ledger.entries as o
        where o.group_id = entry.group_id
          and o.id = entry.reverses
          and o.id < entry.id
          and o.kind = 'transfer'
          and o.from_id = entry.to_id
          and o.to_id = entry.from_id
          and o.amount = entry.amount
      )
    union all
    select null, 'reversal', format('entry %s is reversed more than once', entry.reverses)
    where entry.reverses is not null
      and (
        select count(*) from ledger.entries as o
        where o.group_id = entry.group_id
          and o.reverses = entry.reverses
      ) > 1
  ) as f (participant_id, kind, detail)
$$;

alter function ledger_internal.reversal_discrepancies owner to ledger_owner;
comment on function ledger_internal.reversal_discrepancies is
  'The discrepancies of an entry that reverses what it cannot, or what another entry reverses as well. For verify_entries.';
revoke execute on function ledger_internal.reversal_discrepancies from public;
