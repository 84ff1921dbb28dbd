-- Write the transfers of a list that were decided: the balances and the entries.
create or replace function ledger_internal.post_transfers(
  lines     ledger_internal.transfer_lines,
  legs      ledger_internal.transfer_legs,
  decisions ledger_internal.transfer_decisions
) returns void
language plpgsql volatile
as $$
declare
  changed integer := cardinality(array_remove(decisions.changed_at, null));
  written integer;
begin
  -- No other session can move a locked row, so its ctid is still valid.
  update ledger.participants as p
  set
    amount = l.balance,
    moved_at = l.changed_at
  from unnest(legs.ids, legs.places, decisions.balances, decisions.changed_at) as l (id, place, balance, changed_at)
  where l.changed_at is not null
    and p.ctid = l.place
    -- No condition for an index: without statistics the planner would read all of it for each line.
    and p.id - l.id = 0;
  get diagnostics written = row_count;
  if written <> changed then
    raise exception using
      errcode = 'serialization_failure',
      message = format('of %s balances %s were written', changed, written);
  end if;

  insert into ledger.entries (
    group_id, id, kind, from_id, to_id, amount, from_amount, to_amount, created_at, metadata
  )
  overriding system value
  select
    l.group_id,
    l.id,
    'transfer',
    l.from_id,
    l.to_id,
    l.amount,
    l.from_amount,
    l.to_amount,
    l.moment,
    l.metadata
  from unnest(lines.group_ids, decisions.entries, decisions.moments, lines.metadatas)
    as l (group_id, id, from_id, to_id, amount, from_amount, to_amount, moment, metadata)
  where l.id is not null;
end
$$;

alter function ledger_internal.post_transfers owner to ledger_owner;
comment on function ledger_internal.post_transfers is
  'Write the transfers that decide_transfers allowed, between the participants that lock_legs locked: their balances and the entries. Raises 40001 where a balance could not be written.';
revoke execute on function ledger_internal.post_transfers from public;
