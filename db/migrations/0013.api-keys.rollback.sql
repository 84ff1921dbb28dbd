-- Undo: API keys. The code of before serves whoever comes: close its port to others first.

set local lock_timeout = '5s';
set local role ledger_owner;
-- Functions may call each other in any order.
set local check_function_bodies = off;

-- >>> db/functions/authenticate.sql
drop function if exists ledger.authenticate;
-- <<< db/functions/authenticate.sql

-- >>> db/functions/create_api_key.sql
drop function if exists ledger.create_api_key;
-- <<< db/functions/create_api_key.sql

-- >>> db/functions/keys_required.sql
drop function if exists ledger.keys_required;
-- <<< db/functions/keys_required.sql

-- >>> db/functions/list_api_keys.sql
drop function if exists ledger.list_api_keys;
-- <<< db/functions/list_api_keys.sql

-- >>> db/functions/refuse_rewriting.sql
-- Refuse to change or delete what the ledger keeps for ever; the trigger of its permanent tables.
create or replace function ledger.refuse_rewriting()
returns trigger
language plpgsql
as $$
begin
  raise exception using
    errcode = 'restrict_violation',
    message = format('%s on %I.%I is refused: the record is permanent', lower(tg_op), tg_table_schema, tg_table_name),
    hint    = 'Correct a mistake by a new movement: ledger.transfer, ledger.join_group or ledger.exit_group.';
end
$$;

alter function ledger.refuse_rewriting owner to ledger_owner;
comment on function ledger.refuse_rewriting is
  'Trigger that refuses UPDATE, DELETE and TRUNCATE on permanent tables, to their owner as well. Raises 23001.';
revoke execute on function ledger.refuse_rewriting from public;
-- <<< db/functions/refuse_rewriting.sql

-- >>> db/functions/revoke_api_key.sql
drop function if exists ledger.revoke_api_key;
-- <<< db/functions/revoke_api_key.sql

drop type if exists ledger.api_key;
drop type if exists ledger.api_key_result;
drop type if exists ledger.principal;

-- Keys that were made stay, so that they are required again when the migration is applied again.
do $$
begin
  if to_regclass('ledger.api_keys') is not null then
    -- A snapshot from before the lock would not show what was committed while we waited for it.
    if current_setting('transaction_isolation') <> 'read committed' then
      raise exception using
        errcode = 'object_not_in_prerequisite_state',
        message = 'API keys are rolled back at READ COMMITTED only',
        hint    = 'Set default_transaction_isolation of the database or the login to read committed.';
    end if;
    lock table ledger.api_keys in access exclusive mode;
    if not exists (select from ledger.api_keys) then
      drop table ledger.api_keys;
    end if;
  end if;
end
$$;
