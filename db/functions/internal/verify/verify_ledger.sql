-- Find the discrepancies of what belongs to no group: feeds, API keys, and idempotency keys of create_group.
create or replace function ledger_internal.verify_ledger()
returns setof ledger.discrepancy
language sql stable
as $$
  select
    f.group_id,
    null::bigint,
    null::bigint,
    f.kind,
    f.detail
  from ledger_internal.verify_bounds() as b
  cross join lateral (
    select null::bigint, 'feed', 'there is none'
    where not exists (select from ledger.feeds)
    union all
    select null, 'feed', format('feed %s began at %s', d.generation, d.began_at)
    from ledger.feeds as d
    where d.began_at > b.latest
      or d.began_at = '-infinity'
    union all
    select null, 'feed', format('feed %s begins after entry %s, and none above %s was written', d.generation, d.last_restored, g.given)
    from ledger.feeds as d
    cross join (select s.last_value - (not s.is_called)::integer as given from ledger.entries_id_seq as s) as g
    where d.last_restored not between 0 and g.given
    union all
    select null, 'feed', format('feed %s begins with transaction %s, and none from %s on has ended', d.generation, b.first_xid, b.next_xid)
    from (select max(d.generation) as generation from ledger.feeds as d) as d
    where b.first_xid >= b.next_xid
    union all
    select null, 'feed', format('%s feeds have number %s', count(*), d.generation)
    from ledger.feeds as d
    group by d.generation
    having count(*) > 1
    union all
    select k.group_id, 'API key', format('key %s %s', k.id, c.detail)
    from (
      select
        k.*,
        count(*) over (partition by k.id) as times,
        count(*) over (partition by k.digest) as alike
      from ledger.api_keys as k
    ) as k
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
    union all
    select 0, 'idempotency key', 'there is an empty key'
    from ledger.idempotency_keys as k
    where k.group_id = 0
      and k.key = ''
  ) as f (group_id, kind, detail)
$$;

alter function ledger_internal.verify_ledger owner to ledger_owner;
comment on function ledger_internal.verify_ledger is
  'The discrepancies of the feeds, the API keys, and the empty key of a request that created a group, which no range has. For the owner.';
revoke execute on function ledger_internal.verify_ledger from public;
