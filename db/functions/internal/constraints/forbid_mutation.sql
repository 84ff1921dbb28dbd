-- Refuse to change or delete a row of a permanent table.
create or replace function ledger_internal.forbid_mutation()
returns trigger
language plpgsql
as $$
begin
  raise exception using
    errcode = 'restrict_violation',
    message = format('%s on %I.%I is refused: the record is permanent', lower(tg_op), tg_table_schema, tg_table_name),
    hint    = case
      when tg_table_name in (
        'vaults', 'vault_deposits', 'payouts', 'publications', 'exit_requests', 'bridge_transactions', 'adoptions',
        'unknown_roots'
      )
      then 'What a chain has shown is recorded once, by the functions that the bridge calls.'
      when tg_table_name = 'api_keys'
      then 'Make an API key useless with ledger.revoke_api_key.'
      when tg_table_name = 'name_changes'
      then 'Correct a name by another one: ledger.rename_group or ledger.rename_participant.'
      else 'Correct a mistake by a new movement: ledger.transfer, ledger.join_group or ledger.exit_group.'
    end;
end
$$;

alter function ledger_internal.forbid_mutation owner to ledger_owner;
comment on function ledger_internal.forbid_mutation is
  'Trigger that refuses UPDATE, DELETE and TRUNCATE on permanent tables, to their owner as well. Raises 23001.';
revoke execute on function ledger_internal.forbid_mutation from public;
