-- Transfer between locked participants, line by line.
create or replace function ledger_internal.execute_transfers(
  group_id bigint,
  lines    ledger_internal.transfer_lines,
  held     ledger_internal.transfer_legs
) returns ledger.transfer_all_result
language plpgsql volatile
as $$
declare
  moment       timestamptz := greatest(clock_timestamp(), held.moved_at);
  amounts      numeric[] := lines.amounts;
  balances     numeric[] := held.amounts;
  -- Which of the locked participants are the legs of the lines: first all senders, then all recipients.
  legs         integer[];
  from_amounts numeric[] := array_fill(null::numeric, array[cardinality(amounts)]);
  to_amounts   numeric[] := from_amounts;
  sender       integer;
  recipient    integer;
  given        numeric;
  got          numeric;
  violation    text;
  result       ledger.transfer_all_result;
begin
  select array_agg(h.number order by s.place)
  into legs
  from unnest(lines.from_ids || lines.to_ids) with ordinality as s (id, place)
  join unnest(held.ids) with ordinality as h (id, number) on h.id = s.id;

  for line in 1 .. cardinality(amounts) loop
    sender := legs[line];
    recipient := legs[cardinality(amounts) + line];
    given := balances[sender] - amounts[line];
    got := balances[recipient] + amounts[line];
    violation := ledger_internal.balance_violation(given, got);
    if violation is not null then
      perform ledger_internal.refuse_transfer(
        violation, format('transfers[%s].amount', line - 1), lines.from_ids[line], balances[sender], amounts[line]
      );
    end if;
    balances[sender] := given;
    balances[recipient] := got;
    from_amounts[line] := given;
    to_amounts[line] := got;
  end loop;

  -- No other session can move a locked row, so its ctid is still valid.
  with moved as (
    update ledger.participants as p
    set
      amount = h.amount,
      moved_at = moment
    from unnest(held.ids, held.places, balances) as h (id, place, amount)
    where p.group_id = execute_transfers.group_id
      and p.ctid = h.place
      and p.id = h.id
    returning p.username, p.id, p.group_id, p.amount
  )
  select array_agg((m.username, m.id, m.group_id, m.amount)::ledger.current_participants order by m.id)
  into result.participants
  from moved as m;
  if cardinality(result.participants) is distinct from cardinality(held.ids) then
    raise exception using
      errcode = 'serialization_failure',
      message = format('of %s balances %s were written', cardinality(held.ids), coalesce(cardinality(result.participants), 0));
  end if;

  with written as (
    insert into ledger.entries (
      group_id, kind, from_id, to_id, amount, from_amount, to_amount, created_at, metadata
    )
    select
      execute_transfers.group_id,
      'transfer',
      l.from_id,
      l.to_id,
      l.amount,
      l.from_amount,
      l.to_amount,
      moment,
      l.metadata
    from unnest(lines.from_ids, lines.to_ids, amounts, from_amounts, to_amounts, lines.metadatas)
      with ordinality as l (from_id, to_id, amount, from_amount, to_amount, metadata, line)
    order by l.line
    returning id, from_id, to_id, amount, from_amount, to_amount
  )
  -- Ids ascend with the lines.
  select array_agg((w.id, w.from_id, w.to_id, w.amount, w.from_amount, w.to_amount)::ledger.transfer_entry order by w.id)
  into result.entries
  from written as w;
  return result;
end
$$;

alter function ledger_internal.execute_transfers owner to ledger_owner;
comment on function ledger_internal.execute_transfers is
  'Make the transfers of the lines, in their order, between the participants that lock_legs returned. Raises LG003, and LG001 where a balance would reach 2^256, for the first line that cannot be made; 40001 where a balance could not be written.';
revoke execute on function ledger_internal.execute_transfers from public;
