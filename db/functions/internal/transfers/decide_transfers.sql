-- Decide which transfers of a list can be made, one line after the other.
create or replace function ledger_internal.decide_transfers(
  lines          ledger_internal.transfer_lines,
  legs           ledger_internal.transfer_legs,
  all_or_nothing boolean
) returns ledger_internal.transfer_decisions
language plpgsql volatile
as $$
declare
  -- Local arrays: a subscript finds its value at once, while in a row's array it would be counted to.
  possible     boolean[] := lines.possible;
  from_ids     bigint[] := lines.from_ids;
  to_ids       bigint[] := lines.to_ids;
  amounts      numeric[] := lines.amounts;
  numbers      integer[] := legs.numbers;
  balances     numeric[] := legs.balances;
  moved_at     timestamptz[] := legs.moved_at;
  -- Filled first: an array that is assigned from its middle would begin there.
  changed_at   timestamptz[] := array_fill(null::timestamptz, array[coalesce(cardinality(balances), 0)]);
  entries      ledger.transfer_entry[] := array_fill(null::ledger.transfer_entry, array[cardinality(amounts)]);
  moments      timestamptz[] := array_fill(null::timestamptz, array[cardinality(amounts)]);
  -- All lines of one request have one time.
  called_at    timestamptz := greatest(
    clock_timestamp(),
    case when all_or_nothing then (select max(m.moved_at) from unnest(legs.moved_at) as m (moved_at)) end
  );
  sender       integer;
  recipient    integer;
  from_amount  numeric;
  to_amount    numeric;
  moment       timestamptz;
  violation    text;
begin
  -- Each line changes the balances that the next one finds.
  for line in 1 .. cardinality(amounts) loop
    sender := numbers[line];
    recipient := numbers[cardinality(amounts) + line];
    continue when not possible[line] or sender is null or recipient is null;
    from_amount := balances[sender] - trunc(amounts[line]);
    to_amount := balances[recipient] + trunc(amounts[line]);
    violation := ledger_internal.balance_violation(from_amount, to_amount);
    if violation is not null and all_or_nothing then
      return (entries, moments, balances, changed_at, line, violation);
    end if;
    continue when violation is not null;

    moment := greatest(called_at, moved_at[sender], moved_at[recipient], changed_at[sender], changed_at[recipient]);
    balances[sender] := from_amount;
    balances[recipient] := to_amount;
    changed_at[sender] := moment;
    changed_at[recipient] := moment;
    entries[line] := (
      nextval('ledger.entries_id_seq'), from_ids[line], to_ids[line], amounts[line], from_amount, to_amount
    )::ledger.transfer_entry;
    moments[line] := moment;
  end loop;
  return (entries, moments, balances, changed_at, null::integer, null::text);
end
$$;

alter function ledger_internal.decide_transfers owner to ledger_owner;
comment on function ledger_internal.decide_transfers is
  'The balances and the new entry of each line that can be made, in their order, between the participants that lock_legs locked; nulls for a line that cannot. With all_or_nothing, only up to the first line that would break a rule, with this line and the rule.';
revoke execute on function ledger_internal.decide_transfers from public;
