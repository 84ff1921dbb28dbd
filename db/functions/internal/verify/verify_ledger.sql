-- Find the discrepancies of what belongs to no group: feeds, API keys, and idempotency keys of create_group.
create or replace function ledger_internal.verify_ledger()
returns setof ledger.discrepancy
language sql stable
as $$
  select f.*
  from ledger_internal.feed_discrepancies() as f
  union all
  select a.*
  from ledger_internal.api_key_discrepancies() as a
  union all
  select 0, null, null, 'idempotency key', 'there is an empty key'
  from ledger.idempotency_keys as k
  where k.group_id = 0
    and k.key = ''
$$;

alter function ledger_internal.verify_ledger owner to ledger_owner;
comment on function ledger_internal.verify_ledger is
  'The discrepancies of the feeds, the API keys, and the empty key of a request that created a group, which no range has. For the owner.';
revoke execute on function ledger_internal.verify_ledger from public;
