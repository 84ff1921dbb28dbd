-- Read the deposits into a vault that a restore lost.
create or replace function ledger_internal.parse_deposits(
  vault    ledger.vaults,
  deposits jsonb
) returns ledger.vault_deposits[]
language plpgsql stable
as $$
declare
  item   jsonb;
  parsed ledger.vault_deposits;
  list   ledger.vault_deposits[] := array[]::ledger.vault_deposits[];
begin
  if jsonb_typeof(deposits) is distinct from 'array' then
    perform ledger_internal.refuse_invalid(array['deposits'], array['must be a list']);
  end if;
  for item in select d.value from jsonb_array_elements(deposits) as d loop
    parsed.group_id := vault.group_id;
    parsed.deposit_index := ledger_internal.parse_amount(ledger_internal.json_digits(item -> 'index'));
    parsed.address := ledger_internal.parse_address(item ->> 'owner');
    parsed.amount := ledger_internal.parse_amount(ledger_internal.json_digits(item -> 'amount'));
    parsed.cumulative := ledger_internal.parse_amount(ledger_internal.json_digits(item -> 'cumulative'));
    parsed.transaction := ledger_internal.json_hex(item -> 'transaction', 32);
    parsed.block := ledger_internal.parse_amount(ledger_internal.json_digits(item -> 'block'));
    if num_nulls(parsed.deposit_index, parsed.address, parsed.amount, parsed.cumulative, parsed.transaction, parsed.block) > 0 then
      perform ledger_internal.refuse_invalid(
        array['deposits'], array['must each have index, owner, amount, cumulative, transaction and block']
      );
    end if;
    list := list || parsed;
  end loop;
  return list;
end
$$;

alter function ledger_internal.parse_deposits owner to ledger_owner;
comment on function ledger_internal.parse_deposits is
  'Deposits that the chain shows, in their order. Raises LG001.';
revoke execute on function ledger_internal.parse_deposits from public;
