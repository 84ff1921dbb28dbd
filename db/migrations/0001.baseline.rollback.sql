-- Undo: the whole schema. Refused while it holds anything; the roles belong to the cluster and stay.

set local lock_timeout = '5s';

do $$
declare
  foreign_objects text;
begin
  -- A snapshot from before the lock would not show what was committed during the wait.
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception using
      errcode = 'object_not_in_prerequisite_state',
      message = 'the ledger is rolled back at READ COMMITTED only',
      hint    = 'Set default_transaction_isolation of the database or the login to read committed.';
  end if;
  if to_regclass('ledger.groups') is not null then
    lock table
      ledger.groups, ledger.entries, ledger.idempotency_keys, ledger.name_changes, ledger.settlements, ledger.api_keys
    in access exclusive mode;
    if exists (select from ledger.groups) or exists (select from ledger.entries)
      or exists (select from ledger.idempotency_keys) or exists (select from ledger.name_changes)
      or exists (select from ledger.settlements) or exists (select from ledger.api_keys)
    then
      raise exception using
        errcode = 'object_not_in_prerequisite_state',
        message = 'the ledger is not empty: rolling it back would lose its record',
        hint    = 'Keep the record, or back it up and drop it on purpose with: ledger reset.';
    end if;
  end if;

  -- The owner of a schema may drop what others have made in it.
  select string_agg(o.name, ', ')
  into foreign_objects
  from (
    select c.oid::regclass::text, c.relowner, c.relnamespace from pg_class as c
    union all
    select p.oid::regprocedure::text, p.proowner, p.pronamespace from pg_proc as p
    union all
    select t.oid::regtype::text, t.typowner, t.typnamespace from pg_type as t
  ) as o (name, owner, schema)
  where o.schema in (to_regnamespace('ledger'), to_regnamespace('ledger_internal'))
    and o.owner <> 'ledger_owner'::regrole;
  if foreign_objects is not null then
    raise exception using
      errcode = 'object_not_in_prerequisite_state',
      message = format('objects of other owners are in the ledger''s schemas: %s', foreign_objects),
      hint    = 'Move them to another schema, or drop them.';
  end if;
end
$$;

set local role ledger_owner;

-- One by one and without cascade: an object of somebody else's that depends on one of these keeps it.
do $$
declare
  query  text;
  object text;
begin
  foreach query in array array[
    -- The guards of the tables call these functions, so that they are dropped after the tables.
    $query$ select 'function ' || p.oid::regprocedure from pg_proc as p
      where p.pronamespace in (to_regnamespace('ledger'), to_regnamespace('ledger_internal'))
        and p.proname not in ('entry_is_valid', 'participant_is_valid', 'forbid_mutation') $query$,
    $query$ select 'type ' || c.reltype::regtype from pg_class as c
      where c.relnamespace in (to_regnamespace('ledger'), to_regnamespace('ledger_internal')) and c.relkind = 'c'
      -- A type may have columns of one that is older.
      order by c.oid desc $query$,
    $query$ select 'view ' || c.oid::regclass from pg_class as c
      where c.relnamespace = to_regnamespace('ledger') and c.relkind = 'v' $query$,
    -- A table is older than those that refer to it.
    $query$ select 'table ' || c.oid::regclass from pg_class as c
      where c.relnamespace = to_regnamespace('ledger') and c.relkind = 'r' order by c.oid desc $query$,
    $query$ select 'function ' || p.oid::regprocedure from pg_proc as p
      where p.pronamespace = to_regnamespace('ledger_internal') $query$
  ] loop
    for object in execute query loop
      execute 'drop ' || object;
    end loop;
  end loop;
end
$$;

reset role;
drop schema if exists ledger_internal;
drop schema if exists ledger;
