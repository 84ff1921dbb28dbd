-- Record how far the chain was followed.
create or replace function ledger.record_progress(
  group_id bigint,
  block    bigint,
  hash     text
) returns ledger.bridge_result
language plpgsql volatile security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  vault vaults;
begin
  perform refuse_invalid(
    array['group_id', 'block', 'hash'], array[invalid_id(group_id), invalid_number(block), invalid_chain_hash(hash)]
  );
  vault := lock_vault(group_id);
  if block = vault.followed_block and parse_hex(hash, 32) = vault.followed_hash then
    return row(true)::bridge_result;
  end if;
  if block <= vault.followed_block then
    perform refuse_mismatch(
      'block',
      format('group %s was followed to block %s, %s', group_id, vault.followed_block, hex(vault.followed_hash))
    );
  end if;
  update vaults as v
  set
    followed_block = record_progress.block,
    followed_hash = parse_hex(record_progress.hash, 32)
  where v.group_id = record_progress.group_id;
  return row(false)::bridge_result;
end
$$;

alter function ledger.record_progress owner to ledger_owner;
comment on function ledger.record_progress is
  'Record that the chain was followed up to a final block. The same again changes nothing, and replayed is true; it never goes back. Raises LG001, LG002, LG013.';
revoke execute on function ledger.record_progress from public;
grant execute on function ledger.record_progress to ledger_bridge;
