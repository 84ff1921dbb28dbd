-- Make a group's next checkpoint for its vault.
create or replace function ledger.prepare_publication(
  group_id bigint
) returns ledger.checkpoint_result
language plpgsql volatile security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  vault vaults;
  last  publications;
begin
  perform refuse_invalid(array['group_id'], array[invalid_id(group_id)]);
  -- As in checkpoint().
  if pg_current_xact_id_if_assigned() is not null then
    raise exception using
      errcode = 'active_sql_transaction',
      message = 'a checkpoint must be the first change of its transaction',
      hint    = 'Call ledger.prepare_publication() in a transaction of its own.';
  end if;
  perform pg_advisory_xact_lock(hashtextextended('', group_id));
  vault := require_vault(group_id);
  perform refuse_frozen(group_id);

  select p.*
  into last
  from publications as p
  where p.group_id = prepare_publication.group_id
  order by p.number desc
  limit 1;
  if last.state = 'accepted' then
    perform refuse_mismatch('group_id', format('checkpoint %s of group %s was accepted, and is not closed', last.number, group_id));
  end if;
  if last.state is distinct from 'prepared' then
    if vault.closed_at is not null then
      perform refuse_mismatch('group_id', format('the vault of group %s was closed, and takes no checkpoint', group_id));
    end if;
    perform current_feed('group_id');
    last.number := add_checkpoint(group_id);
    insert into publications (group_id, number)
    values (prepare_publication.group_id, last.number);
    -- An emergency waits for this, or was declared since.
    perform lock_vault(group_id);
    perform refuse_frozen(group_id);
    return checkpoint_answer(group_id, last.number, false);
  end if;
  return checkpoint_answer(group_id, last.number, true);
end
$$;

alter function ledger.prepare_publication owner to ledger_owner;
comment on function ledger.prepare_publication is
  'Make the next checkpoint of the group for its vault, chained to the last one that was accepted; the one that is prepared already, with replayed true, until it is accepted, vetoed or abandoned. Refused until the one before it is closed. It must be the first change of its transaction. Raises LG001, LG002, LG009, LG011, LG013, LG014.';
revoke execute on function ledger.prepare_publication from public;
grant execute on function ledger.prepare_publication to ledger_bridge;
