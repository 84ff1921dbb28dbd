-- Keep what a counter of a group's total came to with a join or an exit.
create or replace function ledger.remember_total(
  counter  ledger.group_counters,
  entry_id bigint
) returns void
language sql volatile
as $$
  insert into ledger.group_totals (group_id, slot, created_at, entry_id, total)
  values (counter.group_id, counter.slot, counter.changed_at, remember_total.entry_id, counter.total)
$$;

alter function ledger.remember_total owner to ledger_owner;
comment on function ledger.remember_total is
  'Keep a counter''s total after an entry, so that a group''s total at a past moment is found and not added up.';
revoke execute on function ledger.remember_total from public;
