-- Make a list of transfers, all or none: lock, decide, write.
create or replace function ledger_internal.execute_transfers(
  lines             ledger_internal.transfer_lines,
  with_participants boolean
) returns ledger.transfer_all_result
language plpgsql volatile
as $$
declare
  legs      ledger_internal.transfer_legs := ledger_internal.lock_legs(lines, wait => true);
  decisions ledger_internal.transfer_decisions;
  result    ledger.transfer_all_result;
begin
  if array_position(legs.numbers, null) is not null then
    perform ledger_internal.refuse_unknown_legs(lines, legs);
  end if;
  decisions := ledger_internal.decide_transfers(lines, legs, all_or_nothing => true);
  if decisions.violation is not null then
    perform ledger_internal.refuse_transfer(
      decisions.violation,
      format('transfers[%s].amount', decisions.refused - 1),
      lines.from_ids[decisions.refused],
      decisions.balances[legs.numbers[decisions.refused]],
      lines.amounts[decisions.refused]
    );
  end if;
  perform ledger_internal.post_transfers(lines, legs, decisions);

  result.entries := decisions.entries;
  if with_participants then
    select array_agg((l.username, l.id, l.group_id, l.balance)::ledger.current_participants)
    into result.participants
    from unnest(legs.usernames, legs.ids, legs.group_ids, decisions.balances) as l (username, id, group_id, balance);
  end if;
  result.replayed := false;
  return result;
end
$$;

alter function ledger_internal.execute_transfers owner to ledger_owner;
comment on function ledger_internal.execute_transfers is
  'Make the valid transfers of a list, all or none, and return the answer; without the participants where nobody reads them. Raises LG002, LG003, LG014.';
revoke execute on function ledger_internal.execute_transfers from public;
