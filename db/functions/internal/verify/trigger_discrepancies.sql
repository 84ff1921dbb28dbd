-- Find triggers that are not in force.
create or replace function ledger_internal.trigger_discrepancies()
returns setof ledger.discrepancy
language sql stable
as $$
  select
    null::bigint,
    null::bigint,
    null::bigint,
    'schema',
    f.detail
  from (
    select format('trigger %s of %s is disabled', coalesce(k.conname, t.tgname), t.tgrelid::regclass)
    from pg_trigger as t
    join pg_class as c on c.oid = t.tgrelid
    left join pg_constraint as k on k.oid = t.tgconstraint
    where c.relnamespace = 'ledger'::regnamespace
      and t.tgenabled not in ('O', 'A')
    union all
    select format('table %s can be rewritten: no trigger refuses it', p.name)
    from unnest(
      array[
        'entries', 'group_total_history', 'idempotency_keys', 'feeds', 'name_changes', 'vault_deposits', 'payouts',
        'exit_requests', 'adoptions', 'unknown_roots', 'settlements', 'api_keys', 'groups', 'participants', 'vaults',
        'publications', 'bridge_transactions'
      ],
      array[true, true, true, true, true, true, true, true, true, true, false, false, false, false, false, false, false]
    ) as p (name, is_permanent)
    where not exists (
      select from pg_trigger as t
      where t.tgrelid = to_regclass('ledger.' || p.name)
        and t.tgfoid = to_regproc('ledger_internal.forbid_mutation')
        -- Before DELETE and TRUNCATE, a statement; for what is permanent before each UPDATE as well.
        and t.tgtype & 43 = 42
        and (not p.is_permanent or t.tgtype & 16 = 16)
        and t.tgqual is null
        and cardinality(t.tgattr::smallint[]) = 0
    )
  ) as f (detail)
$$;

alter function ledger_internal.trigger_discrepancies owner to ledger_owner;
comment on function ledger_internal.trigger_discrepancies is
  'Triggers of the schema that are disabled, and tables that no trigger keeps from being rewritten. For verify_schema.';
revoke execute on function ledger_internal.trigger_discrepancies from public;
