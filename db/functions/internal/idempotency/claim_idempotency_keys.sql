-- Claim those idempotency keys of several transfers that are unused, without waiting.
create or replace function ledger_internal.claim_idempotency_keys(
  group_ids bigint[],
  keys      text[],
  possible  boolean[]
) returns boolean[]
language plpgsql volatile
as $$
declare
  free boolean[];
begin
  -- No lock is waited for: a request under way elsewhere, or twice in this call, is deferred to transfer(), which waits.
  select array_agg(
    l.possible and (l.key is null or l.times = 1 and case
      when l.possible
      then pg_try_advisory_xact_lock(hashtextextended(l.key collate "C", l.group_id))
    end)
    order by l.place
  )
  into free
  from (
    select
      k.*,
      row_number() over (partition by k.group_id, k.key order by k.possible desc, k.place) as times
    from unnest(group_ids, keys, possible) with ordinality as k (group_id, key, possible, place)
  ) as l;

  -- A statement of its own, to see what committed before the locks were taken.
  select array_agg(
    l.free and not exists (
      select from ledger.idempotency_keys as k
      where k.group_id = l.group_id
        and k.key = l.key collate "C"
    )
    order by l.place
  )
  into free
  from unnest(group_ids, keys, free) with ordinality as l (group_id, key, free, place);
  return free;
end
$$;

alter function ledger_internal.claim_idempotency_keys owner to ledger_owner;
comment on function ledger_internal.claim_idempotency_keys is
  'Which of these transfers can go on: those that were possible and have no idempotency key, or an unused one that no other session holds. Claims these keys until the transaction ends. Does not wait.';
revoke execute on function ledger_internal.claim_idempotency_keys from public;
