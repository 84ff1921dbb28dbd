-- Check the API keys.
create or replace function ledger_internal.api_key_discrepancies()
returns setof ledger.discrepancy
language sql stable
as $$
  select
    k.group_id,
    null::bigint,
    null::bigint,
    'API key',
    format('key %s %s', k.id, c.detail)
  from (
    select
      k.*,
      count(*) over (partition by k.id) as times,
      count(*) over (partition by k.digest) as alike
    from ledger.api_keys as k
  ) as k
  cross join ledger_internal.verify_bounds() as b
  cross join lateral (
    select 'is there more than once'
    where k.times > 1
    union all
    select 'has the digest of another one'
    where k.alike > k.times
    union all
    select 'has no digest'
    where octet_length(k.digest) is distinct from 32
    union all
    select format('has the scope %s', k.scope)
    where k.scope not in ('read', 'transact', 'admin')
    union all
    select 'is for a group that is not there'
    where k.group_id is not null
      and not exists (select from ledger.groups as g where g.id = k.group_id)
    union all
    select format('was made at %s and revoked at %s', k.created_at, k.revoked_at)
    where greatest(k.created_at, k.revoked_at) > b.latest
      or least(k.created_at, k.revoked_at) = '-infinity'
    union all
    select 'has an id that will be given again'
    where k.id not between 1 and (select s.last_value - (not s.is_called)::integer from ledger.api_keys_id_seq as s)
  ) as c (detail)
$$;

alter function ledger_internal.api_key_discrepancies owner to ledger_owner;
comment on function ledger_internal.api_key_discrepancies is
  'The discrepancies of the API keys: their ids, digests, scopes, groups and times. For verify_ledger.';
revoke execute on function ledger_internal.api_key_discrepancies from public;
