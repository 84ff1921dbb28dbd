-- Check an entry's legs and amounts by themselves.
create or replace function ledger_internal.entry_form_discrepancies(
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
    select
      entry.from_id,
      'kind',
      format(
        'a movement of kind %s from %s, with %s after it, to %s, with %s after it',
        entry.kind,
        coalesce(entry.from_id::text, 'outside'),
        coalesce(entry.from_amount::text, 'no balance'),
        coalesce(entry.to_id::text, 'outside'),
        coalesce(entry.to_amount::text, 'no balance')
      )
    where case
        when entry.kind in ('join', 'deposit') then entry.from_id is not null or entry.to_id is null
        when entry.kind = 'transfer' then entry.from_id is null or entry.to_id is null or entry.from_id = entry.to_id
        when entry.kind = 'exit' then entry.from_id is null or entry.to_id is not null
        else true
      end
      or (entry.from_id is null) <> (entry.from_amount is null)
      or (entry.to_id is null) <> (entry.to_amount is null)
    union all
    select null, 'amount', format('moves %s, and the balances after it are %s and %s', entry.amount, entry.from_amount, entry.to_amount)
    -- As in invalid_amount, which costs as much as all the rest. NaN is above every number.
    where (entry.amount >= case when entry.kind in ('transfer', 'deposit') then 1 else 0 end) is not true
      or entry.amount >= 2::numeric ^ 256
      or entry.amount <> trunc(entry.amount)
      or entry.from_amount < 0
      or entry.from_amount >= 2::numeric ^ 256
      or entry.from_amount <> trunc(entry.from_amount)
      or entry.to_amount < 0
      or entry.to_amount >= 2::numeric ^ 256
      or entry.to_amount <> trunc(entry.to_amount)
  ) as f (participant_id, kind, detail)
$$;

alter function ledger_internal.entry_form_discrepancies owner to ledger_owner;
comment on function ledger_internal.entry_form_discrepancies is
  'The discrepancies of an entry whose legs do not fit its kind, or whose amounts are not valid. For verify_entries.';
revoke execute on function ledger_internal.entry_form_discrepancies from public;
