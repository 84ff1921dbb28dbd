-- Claim those idempotency keys of several transfers that are unused, without waiting.
create or replace function ledger_internal.claim_idempotency_keys(
  group_ids bigint[],
  keys      text[],
  possible  boolean[]
) returns boolean[]
language plpgsql volatile
as $$
declare
  free  boolean[] := possible;
  held  integer[];
  place integer;
begin
  -- No lock is waited for: a request under way elsewhere, or twice in this call, is deferred to transfer(), which waits.
  for place in 1 .. cardinality(keys) loop
    if possible[place] and keys[place] is not null
      and not pg_try_advisory_xact_lock(hashtextextended(keys[place] collate "C", group_ids[place]))
    then
      free[place] := false;
    end if;
  end loop;

  -- A statement of its own, to see what committed before the locks were taken. A scalar subquery: any other is planned as
  -- a join, and may read the whole table.
  select array_agg(l.place) filter (where l.times > 1 or (
    select true from ledger.idempotency_keys as k
    where k.group_id = l.group_id
      and k.key = l.key collate "C"
    limit 1
  ))
  into held
  from (
    select
      k.*,
      case
        when k.key is not null
        then row_number() over (partition by k.group_id, k.key order by k.possible desc, k.place)
      end as times
    from unnest(group_ids, keys, possible) with ordinality as k (group_id, key, possible, place)
  ) as l;
  foreach place in array coalesce(held, '{}') loop
    free[place] := false;
  end loop;
  return free;
end
$$;

alter function ledger_internal.claim_idempotency_keys owner to ledger_owner;
comment on function ledger_internal.claim_idempotency_keys is
  'Which of these transfers can go on: those that were possible and have no idempotency key, or an unused one that no other session holds. Claims these keys until the transaction ends. Does not wait.';
revoke execute on function ledger_internal.claim_idempotency_keys from public;
