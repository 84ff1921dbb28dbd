-- Verify keys by lookup.
-- depends: 0011.growth

set local lock_timeout = '5s';
set local role ledger_owner;
-- Functions may call each other in any order.
set local check_function_bodies = off;

-- >>> db/functions/verify_keys.sql
-- Find what is wrong with a range of a group's idempotency keys.
create or replace function ledger.verify_keys(
  group_id bigint,
  after    text,
  upto     text
) returns setof ledger.fault
language sql stable
as $$
  select
    k.group_id,
    f.entry_id,
    null::bigint,
    'idempotency key',
    f.detail
  from (
    select
      i.*,
      count(*) over (partition by i.key) as times
    from ledger.idempotency_keys as i
    where i.group_id = verify_keys.group_id
      and i.key > verify_keys.after collate "C"
      -- Above every key is the last character that there is.
      and i.key <= coalesce(verify_keys.upto, chr(1114111)) collate "C"
  ) as k
  cross join lateral (
    select null::bigint, format('%s requests have the key %s', k.times, k.key)
    where k.times > 1
    union all
    select null, format('the key %s has no fingerprint', k.key)
    where octet_length(k.fingerprint) is distinct from 32
    union all
    select w.entry_id, format('the key %s names an entry that is not there', k.key)
    from (
      select case
        when k.operation in ('reverse_transfer', 'settle_exit')
        then k.answer ->> 'id'
        else k.answer ->> 'entry_id'
      end::bigint
      union all
      select (l.line ->> 'id')::bigint
      from json_array_elements(case when k.operation = 'transfer_all' then k.answer -> 'entries' end) as l (line)
    ) as w (entry_id)
    where w.entry_id is not null
      -- Looked up for each key. As `not exists` it became a join that read all entries of the group for each range.
      and (
        select true from ledger.entries as e
        where e.group_id = k.group_id
          and e.id = w.entry_id
        limit 1
      ) is not true
  ) as f (entry_id, detail)
$$;

alter function ledger.verify_keys owner to ledger_owner;
comment on function ledger.verify_keys is
  'What is wrong with a group''s idempotency keys that come after one and, where it is given, not after upto; of group 0, with those that created groups. For the owner.';
revoke execute on function ledger.verify_keys from public;
-- <<< db/functions/verify_keys.sql
