-- Link a group to a vault, once.
create or replace function ledger.link_vault(
  group_id bigint,
  chain_id numeric,
  vault    text
) returns ledger.link_result
language plpgsql volatile security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  linked vaults;
  known  vaults;
begin
  perform refuse_invalid(
    array['group_id', 'chain_id', 'vault'],
    array[invalid_id(group_id), invalid_amount(chain_id, 1), invalid_address(vault)]
  );
  -- A checkpoint that another transaction has made changes no row that this one could wait for.
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception using
      errcode = 'object_not_in_prerequisite_state',
      message = 'a group is linked to a vault at READ COMMITTED only',
      hint    = 'Begin the transaction at READ COMMITTED.';
  end if;
  linked.group_id := group_id;
  linked.chain_id := chain_id;
  linked.vault := parse_address(vault);
  linked.domain := domain_hash(chain_id, linked.vault, group_id);
  linked.linked_at := clock_timestamp();

  -- No checkpoint is being made, no join is under way, and none can begin: as in checkpoint() and remove_group().
  perform pg_advisory_xact_lock(hashtextextended('', group_id));
  perform from groups as g
  where g.id = link_vault.group_id
    and g.closed_at is null
  for update;
  if not found then
    perform refuse_unknown_group(group_id);
  end if;
  known := find_vault(group_id);
  if known.group_id is not null then
    if (known.chain_id, known.vault) is distinct from (linked.chain_id, linked.vault) then
      perform refuse_mismatch(
        'vault', format('group %s is linked to vault %s of chain %s', group_id, format_address(known.vault), known.chain_id)
      );
    end if;
    return link_of(known, true);
  end if;

  -- A snapshot from before this ends in 40001: of a join at its shard, of a checkpoint at its group.
  update group_total_shards as c
  set changed_at = c.changed_at
  where c.group_id = link_vault.group_id;
  update groups as g
  set name = g.name
  where g.id = link_vault.group_id;
  if exists (select from entries as e where e.group_id = link_vault.group_id)
    or exists (select from checkpoints as c where c.group_id = link_vault.group_id)
  then
    perform refuse_mismatch('group_id', format('group %s has entries or checkpoints, and only a new group is linked to a vault', group_id));
  end if;

  insert into vaults
  select linked.*;
  return link_of(linked, false);
end
$$;

alter function ledger.link_vault owner to ledger_owner;
comment on function ledger.link_vault is
  'Link a group without any entry and any checkpoint to its vault, for good: from then on its money comes in and goes out there alone. At READ COMMITTED only. The same again changes nothing, and replayed is true. Raises LG001, LG002, LG013.';
revoke execute on function ledger.link_vault from public;
grant execute on function ledger.link_vault to ledger_bridge;
