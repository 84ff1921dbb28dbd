-- Read the payouts of a vault that a restore may have lost, and leave out those that are known.
create or replace function ledger_internal.parse_payouts(
  vault   ledger.vaults,
  payouts jsonb
) returns ledger.payouts[]
language plpgsql stable
as $$
declare
  item   jsonb;
  parsed ledger.payouts;
  list   ledger.payouts[] := array[]::ledger.payouts[];
begin
  if jsonb_typeof(payouts) is distinct from 'array' then
    perform ledger_internal.refuse_invalid(array['payouts'], array['must be a list']);
  end if;
  for item in select p.value from jsonb_array_elements(payouts) as p loop
    parsed.group_id := vault.group_id;
    parsed.kind := 'exit';
    parsed.participant_id := ledger_internal.parse_id(ledger_internal.json_digits(item -> 'participant_id'));
    parsed.subject := ledger_internal.parse_id(ledger_internal.json_digits(item -> 'exit_entry'));
    parsed.owner := ledger_internal.parse_address(item ->> 'owner');
    parsed.amount := ledger_internal.parse_amount(ledger_internal.json_digits(item -> 'amount'));
    parsed.transaction := ledger_internal.json_hex(item -> 'transaction', 32);
    parsed.block := ledger_internal.parse_amount(ledger_internal.json_digits(item -> 'block'));
    parsed.log := ledger_internal.parse_amount(ledger_internal.json_digits(item -> 'log'));
    if num_nulls(
      parsed.participant_id, parsed.subject, parsed.owner, parsed.amount, parsed.transaction, parsed.block, parsed.log
    ) > 0 then
      perform ledger_internal.refuse_invalid(
        array['payouts'], array['must each have participant_id, exit_entry, owner, amount, transaction, block and log']
      );
    end if;
    if not ledger_internal.payout_is_known(parsed) then
      list := list || parsed;
    end if;
  end loop;
  return list;
end
$$;

alter function ledger_internal.parse_payouts owner to ledger_owner;
comment on function ledger_internal.parse_payouts is
  'Payouts of exits that the chain shows and that are not recorded. Raises LG001, LG013.';
revoke execute on function ledger_internal.parse_payouts from public;
