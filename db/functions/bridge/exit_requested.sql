-- Answer a request for an exit that was made at the vault.
create or replace function ledger.exit_requested(
  group_id       bigint,
  participant_id bigint,
  owner          text,
  transaction    text,
  block          bigint,
  out entry_id   bigint
)
language plpgsql volatile security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  participant participants;
begin
  perform refuse_invalid(
    array['group_id', 'participant_id', 'owner', 'transaction', 'block'],
    array[
      invalid_id(group_id), invalid_id(participant_id), invalid_address(owner), invalid_chain_hash(transaction),
      invalid_number(block)
    ]
  );
  perform lock_vault(group_id);
  select p.*
  into participant
  from participants as p
  where p.group_id = exit_requested.group_id
    and p.id = exit_requested.participant_id
  for no key update;
  if participant.address is distinct from parse_address(owner) then
    perform refuse_mismatch(
      'participant_id', format('no participant %s of group %s has the address %s', participant_id, group_id, owner)
    );
  end if;

  if participant.exited_at is null then
    perform refuse_frozen(group_id);
    entry_id := post_exit(participant, jsonb_build_object('requested_by', transaction));
  end if;
  insert into exit_requests (group_id, participant_id, transaction, block)
  values (exit_requested.group_id, exit_requested.participant_id, parse_hex(transaction, 32), exit_requested.block)
  -- The first request counts.
  on conflict do nothing;
end
$$;

alter function ledger.exit_requested owner to ledger_owner;
comment on function ledger.exit_requested is
  'Let a participant leave who requested it at the vault, by the owner of their address, and return the entry; null if they have left before. Raises LG001, LG002, LG013, LG014.';
revoke execute on function ledger.exit_requested from public;
grant execute on function ledger.exit_requested to ledger_bridge;
