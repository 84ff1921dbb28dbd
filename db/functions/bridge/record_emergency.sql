-- Freeze a group in an emergency of its vault.
create or replace function ledger.record_emergency(
  group_id    bigint,
  number      bigint,
  transaction text,
  block       bigint
) returns ledger.bridge_result
language plpgsql volatile security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  vault  vaults;
  moment timestamptz;
begin
  perform refuse_invalid(
    array['group_id', 'number', 'transaction', 'block'],
    array[invalid_id(group_id), invalid_number(number), invalid_chain_hash(transaction), invalid_number(block)]
  );
  -- No join, deposit or exit is under way, and none can begin.
  perform from groups as g
  where g.id = record_emergency.group_id
  for update;
  vault := lock_vault(group_id);
  if vault.emergency_number is not null then
    if (vault.emergency_number, vault.emergency_transaction, vault.emergency_block)
      is distinct from (number, parse_hex(transaction, 32), block)
    then
      perform refuse_mismatch('number', format('group %s is frozen by another emergency, at checkpoint %s', group_id, vault.emergency_number));
    end if;
    return row(true)::bridge_result;
  end if;
  if number > 0 and not exists (
    select from publications as p
    where p.group_id = record_emergency.group_id
      and p.number = record_emergency.number
      and p.state in ('accepted', 'closed')
  ) then
    perform refuse_mismatch('number', format('checkpoint %s of group %s was not accepted', number, group_id));
  end if;

  -- In ascending id, as transfers lock them: each is made before this, or finds its participants frozen.
  perform from participants as p
  where p.group_id = record_emergency.group_id
    and p.exited_at is null
  order by p.id
  for no key update;
  -- Not before the last movement, even if the clock goes back.
  moment := greatest(
    clock_timestamp(),
    (select max(p.moved_at) from participants as p where p.group_id = record_emergency.group_id)
  );
  update participants as p
  set frozen_at = moment
  where p.group_id = record_emergency.group_id
    and p.exited_at is null;
  -- A join with a snapshot from before this ends in 40001 at its shard.
  update group_total_shards as c
  set changed_at = c.changed_at
  where c.group_id = record_emergency.group_id;
  update vaults as v
  set
    emergency_number = record_emergency.number,
    emergency_transaction = parse_hex(record_emergency.transaction, 32),
    emergency_block = record_emergency.block,
    frozen_at = moment
  where v.group_id = record_emergency.group_id;
  -- Younger checkpoints than the one that is paid do not count, and are not known to the vault any more.
  update publications as p
  set
    state = case p.state when 'accepted' then 'vetoed' else 'abandoned' end,
    ended_transaction = parse_hex(record_emergency.transaction, 32),
    ended_block = record_emergency.block,
    changed_at = greatest(clock_timestamp(), p.changed_at)
  where p.group_id = record_emergency.group_id
    and p.number > record_emergency.number
    and p.state in ('prepared', 'accepted');
  return row(false)::bridge_result;
end
$$;

alter function ledger.record_emergency owner to ledger_owner;
comment on function ledger.record_emergency is
  'Freeze the group for good, as an emergency was declared at its vault that pays a checkpoint, 0 for none: nothing moves in it any more. A later checkpoint that was accepted is vetoed by it, one that was prepared is abandoned. Waits for transfers under way. The same again changes nothing, and replayed is true. Raises LG001, LG002, LG013.';
revoke execute on function ledger.record_emergency from public;
grant execute on function ledger.record_emergency to ledger_bridge;
