-- Lock the sender and the recipient of one transfer.
create or replace function ledger_internal.lock_pair(
  group_id bigint,
  from_id  bigint,
  to_id    bigint,
  wait     boolean
) returns ledger.participants[]
language plpgsql volatile
as $$
declare
  pair ledger.participants[];
begin
  -- In ascending id, so that no two transfers wait for each other. Both stay present until this transaction ends, so the
  -- group cannot be removed. SQL has no parameter for `skip locked`.
  -- Exits and freezes are one condition, which fits no partial index: without statistics the planner would take the one of
  -- usernames, and read the whole group.
  if wait then
    pair := array(
      select p
      from ledger.participants as p
      where p.group_id = lock_pair.group_id
        and p.id in (lock_pair.from_id, lock_pair.to_id)
        and coalesce(p.exited_at, p.frozen_at) is null
      order by p.id
      for no key update
    );
  else
    pair := array(
      select p
      from ledger.participants as p
      where p.group_id = lock_pair.group_id
        and p.id in (lock_pair.from_id, lock_pair.to_id)
        and coalesce(p.exited_at, p.frozen_at) is null
      order by p.id
      for no key update skip locked
    );
  end if;
  if pair[1].id = from_id then
    return pair;
  end if;
  return array[pair[2], pair[1]];
end
$$;

alter function ledger_internal.lock_pair owner to ledger_owner;
comment on function ledger_internal.lock_pair is
  'Lock two different participants of a group until the transaction ends, and return the sender and then the recipient; null for one who is not present or is frozen, or, without wait, whom another session has locked.';
revoke execute on function ledger_internal.lock_pair from public;
