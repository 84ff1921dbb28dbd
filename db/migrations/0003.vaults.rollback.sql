-- Undo: vaults. Refused while a group is linked to one; the role belongs to the cluster and stays.

set local lock_timeout = '5s';
set local role ledger_owner;

do $$
begin
  -- A snapshot from before the lock would not show what was committed during the wait.
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception using
      errcode = 'object_not_in_prerequisite_state',
      message = 'the ledger is rolled back at READ COMMITTED only',
      hint    = 'Set default_transaction_isolation of the database or the login to read committed.';
  end if;
  if to_regclass('ledger.vaults') is not null then
    lock table ledger.participants, ledger.vaults in access exclusive mode;
    if exists (select from ledger.vaults) then
      raise exception using
        errcode = 'object_not_in_prerequisite_state',
        message = 'groups are linked to vaults: rolling the migration back would lose what the chain has done with their money',
        hint    = 'Keep the migration, and correct what is wrong by a later one.';
    end if;
  end if;
end
$$;

-- They return rows of the view, which cannot lose a column otherwise.
drop function if exists ledger.get_checkpoint, ledger.list_checkpoints, ledger.get_proof;
drop type if exists ledger.proof;
drop view if exists ledger.checkpoint_headers;
create view ledger.checkpoint_headers as
select
  c.group_id,
  c.number,
  c.chain_id,
  '0x' || encode(c.vault, 'hex') as vault,
  '0x' || encode(c.previous, 'hex') as previous,
  c.deposits,
  c.credited,
  c.settled,
  c.leaf_count,
  c.total,
  '0x' || encode(c.root, 'hex') as root,
  '0x' || encode(c.header, 'hex') as header,
  '0x' || encode(c.seal, 'hex') as seal,
  c.created_at
from ledger.checkpoints as c;

comment on view ledger.checkpoint_headers is 'All checkpoints of groups, without their leaves.';
comment on column ledger.checkpoint_headers.group_id is 'The group.';
comment on column ledger.checkpoint_headers.number is 'Number of the checkpoint in its group, from 1 without gaps.';
comment on column ledger.checkpoint_headers.chain_id is 'The chain of the group''s vault; 0 without one.';
comment on column ledger.checkpoint_headers.vault is 'The address of the group''s vault; 0 without one.';
comment on column ledger.checkpoint_headers.previous is 'The header of the checkpoint before it; 0 for the first one.';
comment on column ledger.checkpoint_headers.deposits is 'How many joins and deposits it includes.';
comment on column ledger.checkpoint_headers.credited is 'What the joins and deposits brought.';
comment on column ledger.checkpoint_headers.settled is 'What was paid for exits.';
comment on column ledger.checkpoint_headers.leaf_count is 'How many leaves the tree has.';
comment on column ledger.checkpoint_headers.total is 'What the leaves hold together.';
comment on column ledger.checkpoint_headers.root is 'The root of the tree; 0 without a leaf.';
comment on column ledger.checkpoint_headers.header is 'SHA-256 that commits to all these.';
comment on column ledger.checkpoint_headers.seal is 'SHA-256 of the group''s entries up to it.';
comment on column ledger.checkpoint_headers.created_at is 'When it was made.';
grant select on ledger.checkpoint_headers to ledger_reader;

do $$
begin
  create type ledger.proof as (checkpoint ledger.checkpoint_headers, leaf ledger.leaf, siblings ledger.node[]);
  comment on type ledger.proof is
    'A leaf of a checkpoint, and the siblings on its way to the root, from the leaf up.';
end
$$;

alter type ledger.checkpoint_result drop attribute if exists state;
drop index if exists ledger.participants_address_unique_while_present;
create unique index participants_address_unique_while_present
  on ledger.participants (group_id, address)
  where exited_at is null and address is not null;
alter table ledger.participants
  drop column if exists address_proved,
  drop column if exists frozen_at;
comment on column ledger.participants.address is
  'The address on the main network: set once, and unique among the participants present in the group; null while none is bound.';
alter table ledger.checkpoints
  drop column if exists adopted_at;
comment on column ledger.checkpoints.number is 'Number of the checkpoint in its group, from 1 without gaps.';
comment on column ledger.checkpoints.previous is 'The header of the checkpoint before it; 0 for the first one.';
comment on column ledger.checkpoints.deposits is 'How many joins and deposits it includes.';
revoke usage on schema ledger from ledger_bridge;

-- Functions may call each other in any order.
set local check_function_bodies = off;

-- >>> db/functions/bridge/adopt_snapshot.sql
drop function if exists ledger.adopt_snapshot;
-- <<< db/functions/bridge/adopt_snapshot.sql

-- >>> db/functions/bridge/bind_proved_address.sql
drop function if exists ledger.bind_proved_address;
-- <<< db/functions/bridge/bind_proved_address.sql

-- >>> db/functions/bridge/credit_deposit.sql
drop function if exists ledger.credit_deposit;
-- <<< db/functions/bridge/credit_deposit.sql

-- >>> db/functions/bridge/exit_requested.sql
drop function if exists ledger.exit_requested;
-- <<< db/functions/bridge/exit_requested.sql

-- >>> db/functions/bridge/finish_transaction.sql
drop function if exists ledger.finish_transaction;
-- <<< db/functions/bridge/finish_transaction.sql

-- >>> db/functions/bridge/get_vault.sql
drop function if exists ledger.get_vault;
-- <<< db/functions/bridge/get_vault.sql

-- >>> db/functions/bridge/last_nonce.sql
drop function if exists ledger.last_nonce;
-- <<< db/functions/bridge/last_nonce.sql

-- >>> db/functions/bridge/link_vault.sql
drop function if exists ledger.link_vault;
-- <<< db/functions/bridge/link_vault.sql

-- >>> db/functions/bridge/list_open_exits.sql
drop function if exists ledger.list_open_exits;
-- <<< db/functions/bridge/list_open_exits.sql

-- >>> db/functions/bridge/list_publications.sql
drop function if exists ledger.list_publications;
-- <<< db/functions/bridge/list_publications.sql

-- >>> db/functions/bridge/list_transactions.sql
drop function if exists ledger.list_transactions;
-- <<< db/functions/bridge/list_transactions.sql

-- >>> db/functions/bridge/list_unpaid_exits.sql
drop function if exists ledger.list_unpaid_exits;
-- <<< db/functions/bridge/list_unpaid_exits.sql

-- >>> db/functions/bridge/list_vaults.sql
drop function if exists ledger.list_vaults;
-- <<< db/functions/bridge/list_vaults.sql

-- >>> db/functions/bridge/prepare_publication.sql
drop function if exists ledger.prepare_publication;
-- <<< db/functions/bridge/prepare_publication.sql

-- >>> db/functions/bridge/raise_ids.sql
drop function if exists ledger.raise_ids;
-- <<< db/functions/bridge/raise_ids.sql

-- >>> db/functions/bridge/reclaim_deposit.sql
drop function if exists ledger.reclaim_deposit;
-- <<< db/functions/bridge/reclaim_deposit.sql

-- >>> db/functions/bridge/record_closing.sql
drop function if exists ledger.record_closing;
-- <<< db/functions/bridge/record_closing.sql

-- >>> db/functions/bridge/record_emergency.sql
drop function if exists ledger.record_emergency;
-- <<< db/functions/bridge/record_emergency.sql

-- >>> db/functions/bridge/record_progress.sql
drop function if exists ledger.record_progress;
-- <<< db/functions/bridge/record_progress.sql

-- >>> db/functions/bridge/record_publication.sql
drop function if exists ledger.record_publication;
-- <<< db/functions/bridge/record_publication.sql

-- >>> db/functions/bridge/record_transaction.sql
drop function if exists ledger.record_transaction;
-- <<< db/functions/bridge/record_transaction.sql

-- >>> db/functions/bridge/record_unknown_root.sql
drop function if exists ledger.record_unknown_root;
-- <<< db/functions/bridge/record_unknown_root.sql

-- >>> db/functions/bridge/settle_payout.sql
drop function if exists ledger.settle_payout;
-- <<< db/functions/bridge/settle_payout.sql

-- >>> db/functions/internal/adoption/accept_publication.sql
drop function if exists ledger_internal.accept_publication;
-- <<< db/functions/internal/adoption/accept_publication.sql

-- >>> db/functions/internal/adoption/check_restored.sql
drop function if exists ledger_internal.check_restored;
-- <<< db/functions/internal/adoption/check_restored.sql

-- >>> db/functions/internal/adoption/check_targets.sql
drop function if exists ledger_internal.check_targets;
-- <<< db/functions/internal/adoption/check_targets.sql

-- >>> db/functions/internal/adoption/checkpoint_is_known.sql
drop function if exists ledger_internal.checkpoint_is_known;
-- <<< db/functions/internal/adoption/checkpoint_is_known.sql

-- >>> db/functions/internal/adoption/pack_leaves.sql
drop function if exists ledger_internal.pack_leaves;
-- <<< db/functions/internal/adoption/pack_leaves.sql

-- >>> db/functions/internal/adoption/parse_checkpoint.sql
drop function if exists ledger_internal.parse_checkpoint;
-- <<< db/functions/internal/adoption/parse_checkpoint.sql

-- >>> db/functions/internal/adoption/parse_deposits.sql
drop function if exists ledger_internal.parse_deposits;
-- <<< db/functions/internal/adoption/parse_deposits.sql

-- >>> db/functions/internal/adoption/parse_payouts.sql
drop function if exists ledger_internal.parse_payouts;
-- <<< db/functions/internal/adoption/parse_payouts.sql

-- >>> db/functions/internal/adoption/parse_snapshot.sql
drop function if exists ledger_internal.parse_snapshot;
-- <<< db/functions/internal/adoption/parse_snapshot.sql

-- >>> db/functions/internal/adoption/restore_balances.sql
drop function if exists ledger_internal.restore_balances;
-- <<< db/functions/internal/adoption/restore_balances.sql

-- >>> db/functions/internal/adoption/restore_deposits.sql
drop function if exists ledger_internal.restore_deposits;
-- <<< db/functions/internal/adoption/restore_deposits.sql

-- >>> db/functions/internal/adoption/restore_exits.sql
drop function if exists ledger_internal.restore_exits;
-- <<< db/functions/internal/adoption/restore_exits.sql

-- >>> db/functions/internal/adoption/restore_group.sql
drop function if exists ledger_internal.restore_group;
-- <<< db/functions/internal/adoption/restore_group.sql

-- >>> db/functions/internal/adoption/restore_participants.sql
drop function if exists ledger_internal.restore_participants;
-- <<< db/functions/internal/adoption/restore_participants.sql

-- >>> db/functions/internal/checkpoints/checkpoint_answer.sql
drop function if exists ledger_internal.checkpoint_answer;
-- <<< db/functions/internal/checkpoints/checkpoint_answer.sql

-- >>> db/functions/internal/errors/refuse_frozen.sql
drop function if exists ledger_internal.refuse_frozen;
-- <<< db/functions/internal/errors/refuse_frozen.sql

-- >>> db/functions/internal/errors/refuse_linked.sql
drop function if exists ledger_internal.refuse_linked;
-- <<< db/functions/internal/errors/refuse_linked.sql

-- >>> db/functions/internal/errors/refuse_mismatch.sql
drop function if exists ledger_internal.refuse_mismatch;
-- <<< db/functions/internal/errors/refuse_mismatch.sql

-- >>> db/functions/internal/movements/post_deposit.sql
drop function if exists ledger_internal.post_deposit;
-- <<< db/functions/internal/movements/post_deposit.sql

-- >>> db/functions/internal/movements/post_exit.sql
drop function if exists ledger_internal.post_exit;
-- <<< db/functions/internal/movements/post_exit.sql

-- >>> db/functions/internal/movements/post_join.sql
drop function if exists ledger_internal.post_join;
-- <<< db/functions/internal/movements/post_join.sql

-- >>> db/functions/internal/validation/invalid_chain_hash.sql
drop function if exists ledger_internal.invalid_chain_hash;
-- <<< db/functions/internal/validation/invalid_chain_hash.sql

-- >>> db/functions/internal/validation/invalid_number.sql
drop function if exists ledger_internal.invalid_number;
-- <<< db/functions/internal/validation/invalid_number.sql

-- >>> db/functions/internal/vaults/accepted_checkpoint.sql
drop function if exists ledger_internal.accepted_checkpoint;
-- <<< db/functions/internal/vaults/accepted_checkpoint.sql

-- >>> db/functions/internal/vaults/add_participant.sql
drop function if exists ledger_internal.add_participant;
-- <<< db/functions/internal/vaults/add_participant.sql

-- >>> db/functions/internal/vaults/add_payout.sql
drop function if exists ledger_internal.add_payout;
-- <<< db/functions/internal/vaults/add_payout.sql

-- >>> db/functions/internal/vaults/change_publication.sql
drop function if exists ledger_internal.change_publication;
-- <<< db/functions/internal/vaults/change_publication.sql

-- >>> db/functions/internal/vaults/check_emergency_leaf.sql
drop function if exists ledger_internal.check_emergency_leaf;
-- <<< db/functions/internal/vaults/check_emergency_leaf.sql

-- >>> db/functions/internal/vaults/describe_publication.sql
drop function if exists ledger_internal.describe_publication;
-- <<< db/functions/internal/vaults/describe_publication.sql

-- >>> db/functions/internal/vaults/describe_vault.sql
drop function if exists ledger_internal.describe_vault;
-- <<< db/functions/internal/vaults/describe_vault.sql

-- >>> db/functions/internal/vaults/find_leaf.sql
drop function if exists ledger_internal.find_leaf;
-- <<< db/functions/internal/vaults/find_leaf.sql

-- >>> db/functions/internal/vaults/find_vault.sql
drop function if exists ledger_internal.find_vault;
-- <<< db/functions/internal/vaults/find_vault.sql

-- >>> db/functions/internal/vaults/link_of.sql
drop function if exists ledger_internal.link_of;
-- <<< db/functions/internal/vaults/link_of.sql

-- >>> db/functions/internal/vaults/lock_transaction.sql
drop function if exists ledger_internal.lock_transaction;
-- <<< db/functions/internal/vaults/lock_transaction.sql

-- >>> db/functions/internal/vaults/lock_vault.sql
drop function if exists ledger_internal.lock_vault;
-- <<< db/functions/internal/vaults/lock_vault.sql

-- >>> db/functions/internal/vaults/next_checkpoint_number.sql
drop function if exists ledger_internal.next_checkpoint_number;
-- <<< db/functions/internal/vaults/next_checkpoint_number.sql

-- >>> db/functions/internal/vaults/payout_is_known.sql
drop function if exists ledger_internal.payout_is_known;
-- <<< db/functions/internal/vaults/payout_is_known.sql

-- >>> db/functions/internal/vaults/post_credit.sql
drop function if exists ledger_internal.post_credit;
-- <<< db/functions/internal/vaults/post_credit.sql

-- >>> db/functions/internal/vaults/raise_sequence.sql
drop function if exists ledger_internal.raise_sequence;
-- <<< db/functions/internal/vaults/raise_sequence.sql

-- >>> db/functions/internal/vaults/require_vault.sql
drop function if exists ledger_internal.require_vault;
-- <<< db/functions/internal/vaults/require_vault.sql

-- >>> db/functions/internal/vaults/settle_paid_exit.sql
drop function if exists ledger_internal.settle_paid_exit;
-- <<< db/functions/internal/vaults/settle_paid_exit.sql

-- >>> db/functions/internal/verify/bridge_record_discrepancies.sql
drop function if exists ledger_internal.bridge_record_discrepancies;
-- <<< db/functions/internal/verify/bridge_record_discrepancies.sql

-- >>> db/functions/internal/verify/emergency_payout_discrepancies.sql
drop function if exists ledger_internal.emergency_payout_discrepancies;
-- <<< db/functions/internal/verify/emergency_payout_discrepancies.sql

-- >>> db/functions/internal/verify/frozen_discrepancies.sql
drop function if exists ledger_internal.frozen_discrepancies;
-- <<< db/functions/internal/verify/frozen_discrepancies.sql

-- >>> db/functions/internal/verify/payout_discrepancies.sql
drop function if exists ledger_internal.payout_discrepancies;
-- <<< db/functions/internal/verify/payout_discrepancies.sql

-- >>> db/functions/internal/verify/publication_discrepancies.sql
drop function if exists ledger_internal.publication_discrepancies;
-- <<< db/functions/internal/verify/publication_discrepancies.sql

-- >>> db/functions/internal/verify/vault_deposit_discrepancies.sql
drop function if exists ledger_internal.vault_deposit_discrepancies;
-- <<< db/functions/internal/verify/vault_deposit_discrepancies.sql

-- >>> db/functions/internal/verify/vault_discrepancies.sql
drop function if exists ledger_internal.vault_discrepancies;
-- <<< db/functions/internal/verify/vault_discrepancies.sql

-- >>> db/functions/api/bind_address.sql
-- Bind a participant's address on the main network, once.
create or replace function ledger.bind_address(
  group_id        bigint,
  participant_id  bigint,
  address         text,
  idempotency_key text default null
) returns ledger.address_result
language plpgsql volatile security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  request text[];
  bound   address_result;
begin
  perform refuse_invalid(
    array['group_id', 'participant_id', 'address', 'idempotency_key'],
    array[invalid_id(group_id), invalid_id(participant_id), invalid_address(address), invalid_idempotency_key(idempotency_key)]
  );
  bound.address := format_address(parse_address(address));

  request := array['bind_address', participant_id::text, bound.address];
  bound := claim_idempotency_key(group_id, idempotency_key, request, bound);
  if bound.replayed then
    return bound;
  end if;

  select
    p.id,
    p.group_id
  into
    bound.id,
    bound.group_id
  from participants as p
  where p.group_id = bind_address.group_id
    and p.id = bind_address.participant_id
    and p.exited_at is null
  for no key update;
  if not found then
    perform refuse_unknown_participants(group_id, array['participant_id'], array[participant_id]);
  end if;
  perform assign_address(group_id, participant_id, parse_address(address));

  bound.replayed := false;
  perform store_answer(group_id, idempotency_key, request, bound);
  return bound;
end
$$;

alter function ledger.bind_address owner to ledger_owner;
comment on function ledger.bind_address is
  'Bind an address, 0x and 40 hex digits, to a participant present in the group, for good; the same address again changes nothing. Raises LG001, LG002, LG006, LG010.';
revoke execute on function ledger.bind_address from public;
grant execute on function ledger.bind_address to ledger_api;
-- <<< db/functions/api/bind_address.sql

-- >>> db/functions/api/checkpoint.sql
-- Make a checkpoint of a group: commit to what each participant holds.
create or replace function ledger.checkpoint(
  group_id        bigint,
  idempotency_key text default null
) returns ledger.checkpoint_result
language plpgsql volatile security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  request text[] := array['checkpoint'];
  added   bigint;
  result  checkpoint_result;
begin
  perform refuse_invalid(
    array['group_id', 'idempotency_key'],
    array[invalid_id(group_id), invalid_idempotency_key(idempotency_key)]
  );
  -- What this transaction has written would be in the leaves, and not in the snapshot that is kept.
  if pg_current_xact_id_if_assigned() is not null then
    raise exception using
      errcode = 'active_sql_transaction',
      message = 'a checkpoint must be the first change of its transaction',
      hint    = 'Call ledger.checkpoint() in a transaction of its own.';
  end if;

  result := claim_idempotency_key(group_id, idempotency_key, request, result);
  if result.replayed then
    return result;
  end if;

  -- One checkpoint of the group at a time. No idempotency key is empty, so that this is the lock of none.
  perform pg_advisory_xact_lock(hashtextextended('', group_id));
  perform from groups as g where g.id = checkpoint.group_id;
  if not found then
    perform refuse_unknown_group(group_id);
  end if;
  -- The snapshot that is kept means something among the transactions of this server's feed only.
  perform current_feed('group_id');
  added := add_checkpoint(group_id);

  select
    h.*,
    false
  into result
  from checkpoint_headers as h
  where h.group_id = checkpoint.group_id
    and h.number = added;
  perform store_answer(group_id, idempotency_key, request, result);
  return result;
end
$$;

alter function ledger.checkpoint owner to ledger_owner;
comment on function ledger.checkpoint is
  'Make a checkpoint of the group, also of one that was removed: the root of a tree with a leaf for each participant present and for each exit that is not settled, in one snapshot, chained to the checkpoint before it. No movement waits for it. It must be the first change of its transaction. Raises LG001, LG002, LG006, LG009, LG011.';
revoke execute on function ledger.checkpoint from public;
grant execute on function ledger.checkpoint to ledger_api;
-- <<< db/functions/api/checkpoint.sql

-- >>> db/functions/api/deposit.sql
-- Add a deposit to the balance of a participant who has joined.
create or replace function ledger.deposit(
  group_id        bigint,
  participant_id  bigint,
  amount          numeric,
  idempotency_key text  default null,
  metadata        jsonb default null
) returns ledger.deposit_result
language plpgsql volatile security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  reasons    text[];
  request    text[];
  last_moved timestamptz;
  deposited  deposit_result;
  shard      group_total_shards;
begin
  reasons := array[
    invalid_id(group_id), invalid_id(participant_id), invalid_amount(amount, 1), invalid_idempotency_key(idempotency_key),
    invalid_metadata(metadata)
  ];
  perform refuse_invalid(array['group_id', 'participant_id', 'amount', 'idempotency_key', 'metadata'], reasons);

  request := array['deposit', participant_id::text, trunc(amount)::text, metadata::text];
  deposited := claim_idempotency_key(group_id, idempotency_key, request, deposited);
  if deposited.replayed then
    return deposited;
  end if;

  -- A row that its transaction has written before is checked against its group again when it is written: with the group
  -- locked first, as by a join, this cannot deadlock with a removal.
  perform from groups as g
  where g.id = deposit.group_id
  for key share;

  select
    p.username,
    p.id,
    p.group_id,
    p.amount + trunc(deposit.amount),
    p.moved_at
  into
    deposited.username,
    deposited.id,
    deposited.group_id,
    deposited.amount,
    last_moved
  from participants as p
  where p.group_id = deposit.group_id
    and p.id = deposit.participant_id
    and p.exited_at is null
  for no key update;
  if not found then
    perform refuse_unknown_participants(group_id, array['participant_id'], array[participant_id]);
  end if;
  if balance_violation(0, deposited.amount) is not null then
    perform refuse_invalid(array['amount'], array['would take the balance to 2^256 or more']);
  end if;

  shard := add_to_group_total(group_id, amount, last_moved);

  update participants as p
  set
    amount = deposited.amount,
    moved_at = shard.changed_at
  where p.group_id = deposit.group_id
    and p.id = deposit.participant_id;

  insert into entries (group_id, kind, to_id, amount, to_amount, created_at, metadata)
  values (
    deposit.group_id, 'deposit', deposit.participant_id, deposit.amount, deposited.amount, shard.changed_at, deposit.metadata
  )
  returning entries.id into deposited.entry_id;
  perform record_group_total(shard, deposited.entry_id, participant_id);

  deposited.replayed := false;
  perform store_answer(group_id, idempotency_key, request, deposited);
  return deposited;
end
$$;

alter function ledger.deposit owner to ledger_owner;
comment on function ledger.deposit is
  'Add a deposit of 1 or more to the balance of a participant who is present. entry_id is the entry written. Raises LG001, LG002, LG006.';
revoke execute on function ledger.deposit from public;
grant execute on function ledger.deposit to ledger_api;
-- <<< db/functions/api/deposit.sql

-- >>> db/functions/api/exit_group.sql
-- Leave a group with the final amount, which returns to the main network.
create or replace function ledger.exit_group(
  group_id        bigint,
  participant_id  bigint,
  idempotency_key text  default null,
  metadata        jsonb default null,
  address         text  default null
) returns ledger.exit_result
language plpgsql volatile security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  request    text[];
  exited     exit_result;
  last_moved timestamptz;
  shard      group_total_shards;
begin
  perform refuse_invalid(
    array['group_id', 'participant_id', 'idempotency_key', 'metadata', 'address'],
    array[
      invalid_id(group_id), invalid_id(participant_id), invalid_idempotency_key(idempotency_key), invalid_metadata(metadata),
      case when address is not null then invalid_address(address) end
    ]
  );

  request := array['exit_group', participant_id::text, metadata::text, format_address(parse_address(address))];
  exited := claim_idempotency_key(group_id, idempotency_key, request, exited);
  if exited.replayed then
    return exited;
  end if;

  -- A row that its transaction has written before is checked against its group again when it is written: with the group
  -- locked first, as by a join, this cannot deadlock with a removal.
  perform from groups as g
  where g.id = exit_group.group_id
  for key share;

  select
    p.amount,
    p.moved_at
  into
    exited.final_amount,
    last_moved
  from participants as p
  where p.group_id = exit_group.group_id
    and p.id = exit_group.participant_id
    and p.exited_at is null
  for no key update;
  if not found then
    perform refuse_unknown_participants(group_id, array['participant_id'], array[participant_id]);
  end if;
  if address is not null then
    perform assign_address(group_id, participant_id, parse_address(address));
  end if;

  shard := add_to_group_total(group_id, -exited.final_amount, last_moved);

  update participants as p
  set
    amount = 0,
    moved_at = shard.changed_at,
    exited_at = shard.changed_at
  where p.group_id = exit_group.group_id
    and p.id = exit_group.participant_id;

  insert into entries (group_id, kind, from_id, amount, from_amount, created_at, metadata)
  values (
    exit_group.group_id, 'exit', exit_group.participant_id, exited.final_amount, 0, shard.changed_at,
    exit_group.metadata
  )
  returning entries.id into exited.entry_id;
  perform record_group_total(shard, exited.entry_id);

  insert into settlements (group_id, entry_id, exited_at)
  values (exit_group.group_id, exited.entry_id, shard.changed_at);

  exited.replayed := false;
  perform store_answer(group_id, idempotency_key, request, exited);
  return exited;
end
$$;

alter function ledger.exit_group owner to ledger_owner;
comment on function ledger.exit_group is
  'Leave the group with all that the participant holds, the final amount; an address is bound first, where none is. entry_id is the entry written. Raises LG001, LG002, LG006, LG010.';
revoke execute on function ledger.exit_group from public;
grant execute on function ledger.exit_group to ledger_api;
-- <<< db/functions/api/exit_group.sql

-- >>> db/functions/api/get_address.sql
drop function if exists ledger.get_address;
-- Show a participant's address on the main network.
create or replace function ledger.get_address(
  group_id       bigint,
  participant_id bigint,
  out address    text
)
language plpgsql stable security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
begin
  select format_address(p.address)
  into address
  from participants as p
  where p.group_id = get_address.group_id
    and p.id = get_address.participant_id
    and p.exited_at is null;
  if not found then
    perform refuse_unknown_participants(group_id, array['participant_id'], array[participant_id]);
  end if;
end
$$;

alter function ledger.get_address owner to ledger_owner;
comment on function ledger.get_address is
  'The address of a participant present in the group, with the checksum of EIP-55; null while none is bound. Raises LG001, LG002.';
revoke execute on function ledger.get_address from public;
grant execute on function ledger.get_address to ledger_api;
-- <<< db/functions/api/get_address.sql

-- >>> db/functions/api/get_checkpoint.sql
drop function if exists ledger.get_checkpoint;
-- Show one checkpoint of a group.
create or replace function ledger.get_checkpoint(
  group_id bigint,
  number   bigint default null
) returns ledger.checkpoint_headers
language plpgsql stable security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  found_one checkpoints := find_checkpoint(group_id, number);
  header    checkpoint_headers;
begin
  select h.*
  into header
  from checkpoint_headers as h
  where h.group_id = get_checkpoint.group_id
    and h.number = found_one.number;
  return header;
end
$$;

alter function ledger.get_checkpoint owner to ledger_owner;
comment on function ledger.get_checkpoint is
  'A checkpoint of the group, the newest one for null. Raises LG001, LG002.';
revoke execute on function ledger.get_checkpoint from public;
grant execute on function ledger.get_checkpoint to ledger_api;
-- <<< db/functions/api/get_checkpoint.sql

-- >>> db/functions/api/get_participant.sql
drop function if exists ledger.get_participant;
-- Show one participant with the balance, now or at a past moment.
create or replace function ledger.get_participant(
  group_id       bigint,
  participant_id bigint,
  at_time        timestamptz default null,
  at_entry       bigint      default null
) returns ledger.current_participants
language plpgsql stable security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  in_history  boolean := at_time is not null or at_entry is not null;
  participant current_participants;
begin
  if in_history then
    perform refuse_invalid(
      array['group_id', 'participant_id'],
      array[invalid_id(group_id), invalid_id(participant_id)]
    );
    participant := participant_at(group_id, participant_id, history_position(group_id, at_time, at_entry));
  else
    select p.*
    into participant
    from current_participants as p
    where p.group_id = get_participant.group_id
      and p.id = get_participant.participant_id;
  end if;

  if participant.id is null then
    perform refuse_unknown_participants(group_id, array['participant_id'], array[participant_id], in_history);
  end if;
  return participant;
end
$$;

alter function ledger.get_participant owner to ledger_owner;
comment on function ledger.get_participant is
  'One participant present in the group; with a time, or an entry of the group, one who was present then, with the balance of then. Raises LG001, LG002.';
revoke execute on function ledger.get_participant from public;
grant execute on function ledger.get_participant to ledger_api;
-- <<< db/functions/api/get_participant.sql

-- >>> db/functions/api/get_proof.sql
drop function if exists ledger.get_proof;
-- Prove what a participant held in a checkpoint.
create or replace function ledger.get_proof(
  group_id       bigint,
  participant_id bigint,
  number         bigint default null
) returns ledger.proof
language plpgsql stable security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  checkpoint checkpoints;
  chunk      checkpoint_chunks;
  holder     checkpoint_chunks;
  sums       numeric[] := array[]::numeric[];
  nodes      bytea[] := array[]::bytea[];
  leaf       leaf;
  lower_tree tree;
  upper_tree tree;
  proof      proof;
begin
  perform refuse_invalid(
    array['group_id', 'participant_id'],
    array[invalid_id(group_id), invalid_id(participant_id)]
  );
  checkpoint := find_checkpoint(group_id, number);

  for chunk in
    select k.* from chunks_of(checkpoint) as k order by k.chunk
  loop
    sums := sums || chunk.sum::numeric;
    nodes := nodes || (word(chunk.sum) || chunk.hash);
    if chunk.first_id <= participant_id then
      holder := chunk;
    end if;
  end loop;
  select l.*
  into leaf
  from unpack_leaves(holder) as l
  where l.participant_id = get_proof.participant_id;
  if not found then
    raise exception using
      errcode = 'LG002',
      column  = 'participant_id',
      message = format('participant %s of group %s has no leaf in checkpoint %s', participant_id, group_id, checkpoint.number),
      detail  = 'participant_id: has no leaf in the checkpoint',
      hint    = 'A checkpoint has a leaf for each participant present, and for each exit that is not settled.';
  end if;

  upper_tree := fold_tree(sums, nodes, holder.chunk);
  lower_tree := chunk_tree(holder, domain_hash(checkpoint.chain_id, checkpoint.vault, group_id), (leaf.index % 1024)::integer);
  if lower_tree.hash <> holder.hash or upper_tree.hash <> checkpoint.root then
    raise exception using
      errcode = 'data_corrupted',
      message = format('the leaves of checkpoint %s of group %s have another root', checkpoint.number, group_id),
      hint    = 'Run ledger verify: the leaves have changed since the checkpoint.';
  end if;

  proof.checkpoint := get_checkpoint(group_id, checkpoint.number);
  proof.leaf := leaf;
  proof.siblings := array(
    select (s.sum, hex(s.hash))::ledger.node
    from unnest(
      lower_tree.sibling_sums || upper_tree.sibling_sums, lower_tree.sibling_hashes || upper_tree.sibling_hashes
    ) with ordinality as s (sum, hash, level)
    order by s.level
  );
  return proof;
end
$$;

alter function ledger.get_proof owner to ledger_owner;
comment on function ledger.get_proof is
  'The proof of what the participant held in a checkpoint of the group, the newest one for null, or of the exit that was not settled then: verify_proof and its copy in Python check it. Raises LG001, LG002.';
revoke execute on function ledger.get_proof from public;
grant execute on function ledger.get_proof to ledger_api;
-- <<< db/functions/api/get_proof.sql

-- >>> db/functions/api/health.sql
drop function if exists ledger.health;
-- Answer a health check.
create or replace function ledger.health(
  out status text
)
language sql stable security definer parallel safe
set search_path = ledger, ledger_internal, pg_temp
as $$
  select 'ok'
$$;

alter function ledger.health owner to ledger_owner;
comment on function ledger.health is
  'Returns ok while the database answers.';
revoke execute on function ledger.health from public;
grant execute on function ledger.health to ledger_api;
-- <<< db/functions/api/health.sql

-- >>> db/functions/api/join_group.sql
-- Join a group with a deposit from the main network.
create or replace function ledger.join_group(
  group_id        bigint,
  username        text,
  amount          numeric,
  idempotency_key text  default null,
  metadata        jsonb default null,
  address         text  default null
) returns ledger.join_result
language plpgsql volatile security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  reasons text[];
  request text[];
  joined  join_result;
  shard   group_total_shards;
begin
  reasons := array[
    invalid_id(group_id), null, invalid_amount(amount, 0), invalid_idempotency_key(idempotency_key), invalid_metadata(metadata),
    case when address is not null then invalid_address(address) end
  ];
  -- Invalid values are not converted to text, which could be very long.
  if idempotency_key is not null and cardinality(array_remove(reasons, null)) = 0 then
    request := array['join_group', username, trunc(amount)::text, metadata::text, format_address(parse_address(address))];
  end if;
  reasons[2] := invalid_new_name(username, group_id, idempotency_key, request);
  perform refuse_invalid(array['group_id', 'username', 'amount', 'idempotency_key', 'metadata', 'address'], reasons);

  joined := claim_idempotency_key(group_id, idempotency_key, request, joined);
  if joined.replayed then
    return joined;
  end if;

  -- The group cannot be removed until this commits; joins do not block each other.
  perform from groups as g
  where g.id = join_group.group_id
    and g.closed_at is null
  for key share;
  if not found then
    perform refuse_unknown_group(group_id);
  end if;

  -- Usernames stored before NFC was enforced also count as taken; an ASCII username has only one spelling.
  -- One statement for both the username and the address: what waits for one of them holds neither.
  insert into participants (group_id, username, amount, address, address_xid)
  select
    join_group.group_id,
    normalize(join_group.username, NFC),
    join_group.amount,
    parse_address(join_group.address),
    case when join_group.address is not null then pg_current_xact_id() end
  where octet_length(join_group.username) = char_length(join_group.username)
    or find_participant_id(
      join_group.group_id, array_remove(name_spellings(join_group.username), normalize(join_group.username, NFC))
    ) is null
  on conflict do nothing
  returning participants.username, participants.id, participants.group_id, participants.amount
  into joined.username, joined.id, joined.group_id, joined.amount;
  if not found then
    perform refuse_taken_address(group_id, joined.id, parse_address(address));
    perform refuse_taken_name(
      'username', username, 'participant ' || find_participant_id(group_id, name_spellings(username))::text
    );
  end if;

  -- A join that waits for a username or an address holds no shard, so the time is known only now.
  shard := add_to_group_total(group_id, amount, null);
  update participants as p
  set
    joined_at = shard.changed_at,
    moved_at = shard.changed_at
  where p.group_id = join_group.group_id
    and p.id = joined.id;

  insert into entries (group_id, kind, to_id, amount, to_amount, created_at, metadata)
  values (
    join_group.group_id, 'join', joined.id, join_group.amount, join_group.amount, shard.changed_at, join_group.metadata
  )
  returning entries.id into joined.entry_id;
  perform record_group_total(shard, joined.entry_id);

  joined.replayed := false;
  perform store_answer(group_id, idempotency_key, request, joined);
  return joined;
end
$$;

alter function ledger.join_group owner to ledger_owner;
comment on function ledger.join_group is
  'Join a group under a username, composed (NFC), that no one present has, with a deposit of 0 or more, and bind an address if one is given. entry_id is the entry written. Raises LG001, LG002, LG005, LG006, LG010.';
revoke execute on function ledger.join_group from public;
grant execute on function ledger.join_group to ledger_api;
-- <<< db/functions/api/join_group.sql

-- >>> db/functions/api/list_checkpoints.sql
drop function if exists ledger.list_checkpoints;
-- List a group's checkpoints, a page at a time.
create or replace function ledger.list_checkpoints(
  group_id bigint,
  after    bigint  default 0,
  max_rows integer default 1000
) returns setof ledger.checkpoint_headers
language plpgsql stable security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
begin
  perform refuse_invalid(array['group_id'], array[invalid_id(group_id)]);
  perform from groups as g where g.id = list_checkpoints.group_id;
  if not found then
    perform refuse_unknown_group(group_id);
  end if;

  return query
  select h.*
  from checkpoint_headers as h
  where h.group_id = list_checkpoints.group_id
    and h.number > coalesce(list_checkpoints.after, 0)
  order by h.number
  limit greatest(coalesce(list_checkpoints.max_rows, 1000), 0);
end
$$;

alter function ledger.list_checkpoints owner to ledger_owner;
comment on function ledger.list_checkpoints is
  'The checkpoints of the group, also of one that was removed, with a number above after, at most max_rows of them, by ascending number. Raises LG001, LG002.';
revoke execute on function ledger.list_checkpoints from public;
grant execute on function ledger.list_checkpoints to ledger_api;
-- <<< db/functions/api/list_checkpoints.sql

-- >>> db/functions/api/list_leaves.sql
drop function if exists ledger.list_leaves;
-- List the leaves of a checkpoint, a page at a time.
create or replace function ledger.list_leaves(
  group_id bigint,
  number   bigint,
  after    bigint  default 0,
  max_rows integer default 1000
) returns setof ledger.leaf
language plpgsql stable security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  checkpoint checkpoints;
  chunk      checkpoint_chunks;
  rows       integer := greatest(coalesce(max_rows, 1000), 0);
  shown      integer;
begin
  perform refuse_invalid(array['group_id', 'number'], array[invalid_id(group_id), invalid_id(number)]);
  checkpoint := find_checkpoint(group_id, number);

  for chunk in
    with chunks as materialized (
      select k.* from chunks_of(checkpoint) as k
    )
    select k.*
    from chunks as k
    where k.chunk >= coalesce((select max(f.chunk) from chunks as f where f.first_id <= list_leaves.after), 0)
    order by k.chunk
  loop
    exit when rows = 0;
    return query
    select l.*
    from unpack_leaves(chunk) as l
    where l.participant_id > coalesce(list_leaves.after, 0)
    order by l.index
    limit rows;
    get diagnostics shown = row_count;
    rows := rows - shown;
  end loop;
end
$$;

alter function ledger.list_leaves owner to ledger_owner;
comment on function ledger.list_leaves is
  'The leaves of a checkpoint of the group, those of participants with an id above after, at most max_rows of them, by ascending participant. Where the leaves were deleted, all of them are computed for each call. Raises LG001, LG002.';
revoke execute on function ledger.list_leaves from public;
grant execute on function ledger.list_leaves to ledger_api;
-- <<< db/functions/api/list_leaves.sql

-- >>> db/functions/api/list_newest_checkpoints.sql
-- List the newest checkpoint of each group, a page of groups at a time.
create or replace function ledger.list_newest_checkpoints(
  after    bigint  default 0,
  max_rows integer default 1000
) returns setof ledger.newest_checkpoint
language sql stable security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
  select
    g.id,
    coalesce(c.number, 0),
    coalesce(c.created_at, g.created_at),
    coalesce(checkpoint_is_current(c), false)
  from groups as g
  left join lateral (
    select n.*
    from checkpoints as n
    where n.group_id = g.id
    order by n.number desc
    limit 1
  ) as c on true
  where g.id > coalesce(list_newest_checkpoints.after, 0)
    and (
      g.closed_at is null
      or exists (
        select from settlements as s
        where s.group_id = g.id
          and s.settled_at is null
      )
    )
  order by g.id
  limit greatest(coalesce(list_newest_checkpoints.max_rows, 1000), 0)
$$;

alter function ledger.list_newest_checkpoints owner to ledger_owner;
comment on function ledger.list_newest_checkpoints is
  'The newest checkpoint of each group that exists or has exits to settle, with an id above after, at most max_rows of them, by ascending id; number 0 and the time of the group where there is none. is_current is true where a checkpoint made now would be of the same entries, settlements and addresses.';
revoke execute on function ledger.list_newest_checkpoints from public;
grant execute on function ledger.list_newest_checkpoints to ledger_api;
-- <<< db/functions/api/list_newest_checkpoints.sql

-- >>> db/functions/api/remove_group.sql
-- Remove an empty group; its record stays.
create or replace function ledger.remove_group(
  group_id        bigint,
  idempotency_key text default null
) returns ledger.remove_result
language plpgsql volatile security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  request text[] := array['remove_group'];
  removed remove_result;
begin
  perform refuse_invalid(
    array['group_id', 'idempotency_key'],
    array[invalid_id(group_id), invalid_idempotency_key(idempotency_key)]
  );

  removed := claim_idempotency_key(group_id, idempotency_key, request, removed);
  if removed.replayed then
    return removed;
  end if;

  -- Joins lock this row in share mode: once it is locked here, no join is under way and none can begin.
  perform from groups as g
  where g.id = remove_group.group_id
    and g.closed_at is null
  for update;
  if not found then
    perform refuse_unknown_group(group_id);
  end if;

  -- Each join, deposit and exit updates a shard. Locking them waits for exits under way, and, above READ COMMITTED, fails
  -- with 40001 where a join has committed that this snapshot does not show.
  perform from group_total_shards as c
  where c.group_id = remove_group.group_id
  order by c.slot
  for update;

  if exists (
    select from current_participants as p
    where p.group_id = remove_group.group_id
  ) then
    raise exception using
      errcode = 'LG004',
      column  = 'group_id',
      message = format('group %s has participants', group_id),
      detail  = 'group_id: participants are present',
      hint    = 'Let every participant exit first, with ledger.exit_group.';
  end if;

  update groups as g
  set closed_at = greatest(
    clock_timestamp(),
    (select max(c.changed_at) from group_total_shards as c where c.group_id = remove_group.group_id)
  )
  where g.id = remove_group.group_id;

  removed.replayed := false;
  perform store_answer(group_id, idempotency_key, request, removed);
  return removed;
end
$$;

alter function ledger.remove_group owner to ledger_owner;
comment on function ledger.remove_group is
  'Remove a group without participants; its name is free again and its record stays. Raises LG001, LG002, LG004, LG006.';
revoke execute on function ledger.remove_group from public;
grant execute on function ledger.remove_group to ledger_api;
-- <<< db/functions/api/remove_group.sql

-- >>> db/functions/api/reverse_transfer.sql
-- Transfer the amount of a transfer back, once.
create or replace function ledger.reverse_transfer(
  group_id        bigint,
  entry_id        bigint,
  idempotency_key text  default null,
  metadata        jsonb default null
) returns ledger.entry_result
language plpgsql volatile security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  request  text[];
  original entries;
  moved    transfer_result;
  reversal entry_result;
begin
  perform refuse_invalid(
    array['group_id', 'entry_id', 'idempotency_key', 'metadata'],
    array[invalid_id(group_id), invalid_id(entry_id), invalid_idempotency_key(idempotency_key), invalid_metadata(metadata)]
  );

  request := array['reverse_transfer', entry_id::text, metadata::text];
  reversal := claim_idempotency_key(group_id, idempotency_key, request, reversal);
  if reversal.replayed then
    return reversal;
  end if;

  select e.*
  into original
  from entries as e
  where e.group_id = reverse_transfer.group_id
    and e.id = reverse_transfer.entry_id;
  if not found then
    perform refuse_unknown_entry(group_id, 'entry_id', entry_id);
  end if;
  if original.kind <> 'transfer' then
    perform refuse_invalid(array['entry_id'], array[format('must be a transfer, not %s', original.kind)]);
  end if;

  -- Of two simultaneous reversals the second waits here, then finds the entry reversed.
  perform lock_pair(group_id, original.to_id, original.from_id, wait => true);

  -- A participant who exited is reported first, as in every function.
  perform get_participant(group_id, original.to_id);
  perform get_participant(group_id, original.from_id);
  if exists (
    select from entries as e
    where e.group_id = reverse_transfer.group_id
      and e.reverses = reverse_transfer.entry_id
  ) then
    raise exception using
      errcode = 'LG007',
      column  = 'entry_id',
      message = format('entry %s of group %s was reversed before', entry_id, group_id),
      detail  = 'entry_id: has already been reversed',
      hint    = 'Look at its reversed_by with ledger.get_entry().';
  end if;

  moved := execute_transfer(group_id, original.to_id, original.from_id, original.amount, metadata, entry_id);
  select
    r.*,
    false
  into reversal
  from ledger.record as r
  where r.group_id = reverse_transfer.group_id
    and r.id = moved.entry_id;
  perform store_answer(group_id, idempotency_key, request, reversal);
  return reversal;
end
$$;

alter function ledger.reverse_transfer owner to ledger_owner;
comment on function ledger.reverse_transfer is
  'Move the amount of a transfer back, at most once; returns the new entry, which names the one that it reverses. Raises LG001, LG002, LG003, LG006, LG007.';
revoke execute on function ledger.reverse_transfer from public;
grant execute on function ledger.reverse_transfer to ledger_api;
-- <<< db/functions/api/reverse_transfer.sql

-- >>> db/functions/api/settle_exit.sql
-- Record the transaction on the main network that paid an exit, once.
create or replace function ledger.settle_exit(
  group_id        bigint,
  entry_id        bigint,
  reference       text,
  idempotency_key text default null
) returns ledger.entry_result
language plpgsql volatile security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  request    text[] := array['settle_exit', entry_id::text, reference];
  settlement settlements;
  settled    entry_result;
begin
  perform refuse_invalid(
    array['group_id', 'entry_id', 'reference', 'idempotency_key'],
    array[invalid_id(group_id), invalid_id(entry_id), invalid_reference(reference), invalid_idempotency_key(idempotency_key)]
  );

  settled := claim_idempotency_key(group_id, idempotency_key, request, settled);
  if settled.replayed then
    return settled;
  end if;

  select s.*
  into settlement
  from settlements as s
  where s.group_id = settle_exit.group_id
    and s.entry_id = settle_exit.entry_id
  for no key update;
  if not found then
    perform get_entry(group_id, entry_id);
    perform refuse_invalid(array['entry_id'], array['must be an exit']);
  end if;
  if settlement.reference <> reference then
    raise exception using
      errcode = 'LG008',
      column  = 'reference',
      message = format('exit %s of group %s was settled with another reference', entry_id, group_id),
      detail  = format('reference: is %s already', settlement.reference),
      hint    = 'Look at the exit with ledger.get_entry(); a settlement is final.';
  end if;

  if settlement.settled_at is null then
    update settlements as s
    set
      reference = settle_exit.reference,
      settled_at = greatest(clock_timestamp(), settlement.exited_at),
      settled_xid = pg_current_xact_id()
    where s.group_id = settle_exit.group_id
      and s.entry_id = settle_exit.entry_id;
  end if;

  -- The same reference again is a repeated request, also without a key.
  select
    r.*,
    settlement.settled_at is not null
  into settled
  from ledger.record as r
  where r.group_id = settle_exit.group_id
    and r.id = settle_exit.entry_id;
  perform store_answer(group_id, idempotency_key, request, settled);
  return settled;
end
$$;

alter function ledger.settle_exit owner to ledger_owner;
comment on function ledger.settle_exit is
  'Record the transaction on the main network that paid an exit, once; the same reference again changes nothing, and replayed is true. Raises LG001, LG002, LG006, LG008.';
revoke execute on function ledger.settle_exit from public;
grant execute on function ledger.settle_exit to ledger_api;
-- <<< db/functions/api/settle_exit.sql

-- >>> db/functions/api/transfer.sql
-- Move money between two participants of one group.
create or replace function ledger.transfer(
  group_id        bigint,
  from_id         bigint,
  to_id           bigint,
  amount          numeric,
  idempotency_key text  default null,
  metadata        jsonb default null
) returns ledger.transfer_result
language plpgsql volatile security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  request text[];
  result  transfer_result;
begin
  if not transfer_is_valid(group_id, from_id, to_id, amount, idempotency_key, metadata) then
    perform refuse_invalid(
      array['group_id', 'from_id', 'to_id', 'amount', 'idempotency_key', 'metadata'],
      array[
        invalid_id(group_id),
        invalid_id(from_id),
        case when to_id = from_id then 'must be another participant' else invalid_id(to_id) end,
        invalid_amount(amount, 1),
        invalid_idempotency_key(idempotency_key),
        invalid_metadata(metadata)
      ]
    );
  end if;

  if idempotency_key is null then
    return execute_transfer(group_id, from_id, to_id, amount, metadata, null);
  end if;

  request := transfer_request(from_id, to_id, amount, metadata);
  result := claim_idempotency_key(group_id, idempotency_key, request, result);
  if result.replayed then
    return result;
  end if;
  result := execute_transfer(group_id, from_id, to_id, amount, metadata, null);
  perform store_answer(group_id, idempotency_key, request, result);
  return result;
end
$$;

alter function ledger.transfer owner to ledger_owner;
comment on function ledger.transfer is
  'Move amount from one participant to another of the same group. entry_id is the entry written. Raises LG001, LG002, LG003, LG006.';
revoke execute on function ledger.transfer from public;
grant execute on function ledger.transfer to ledger_api;
-- <<< db/functions/api/transfer.sql

-- >>> db/functions/api/transfer_all.sql
-- Make many transfers of one group in one step: all of them in their order, or none.
create or replace function ledger.transfer_all(
  group_id        bigint,
  transfers       jsonb,
  idempotency_key text default null
) returns ledger.transfer_all_result
language plpgsql volatile security definer
set search_path = ledger, ledger_internal, pg_temp
-- One plan serves every list: planning takes longer than executing a short list.
set plan_cache_mode = force_generic_plan
as $$
declare
  lines     transfer_lines;
  legs      transfer_legs;
  decisions transfer_decisions;
  request   text[];
  result    transfer_all_result;
begin
  perform refuse_invalid(
    array['group_id', 'transfers', 'idempotency_key'],
    array[
      invalid_id(group_id),
      case
        when transfers is null
        then 'must be given'
        when jsonb_typeof(transfers) <> 'array'
        then 'must be a list'
        when jsonb_array_length(transfers) not between 1 and 10000
        then 'must have 1 to 10000 lines'
      end,
      invalid_idempotency_key(idempotency_key)
    ]
  );
  lines := parse_transfer_lines(group_id, transfers);

  if idempotency_key is not null then
    request := transfer_all_request(lines.from_ids, lines.to_ids, lines.amounts, lines.metadatas);
    result := claim_idempotency_key(group_id, idempotency_key, request, result);
    if result.replayed then
      return result;
    end if;
  end if;

  legs := lock_legs(lines, wait => true);
  if array_position(legs.numbers, null) is not null then
    perform refuse_unknown_legs(lines, legs);
  end if;
  decisions := decide_transfers(lines, legs, all_or_nothing => true);
  if decisions.violation is not null then
    perform refuse_transfer(
      decisions.violation,
      format('transfers[%s].amount', decisions.refused - 1),
      lines.from_ids[decisions.refused],
      decisions.balances[legs.numbers[decisions.refused]],
      lines.amounts[decisions.refused]
    );
  end if;
  perform post_transfers(lines, legs, decisions);

  result.entries := decisions.entries;
  select array_agg((l.username, l.id, l.group_id, l.balance)::current_participants)
  into result.participants
  from unnest(legs.usernames, legs.ids, legs.group_ids, decisions.balances) as l (username, id, group_id, balance);
  result.replayed := false;
  perform store_answer(group_id, idempotency_key, request, result);
  return result;
end
$$;

alter function ledger.transfer_all owner to ledger_owner;
comment on function ledger.transfer_all is
  'Make 1 to 10,000 transfers of a group, a JSON list of {"from", "to", "amount", "metadata"}, all or none, in order: a line may spend what an earlier line transferred. entries are the entries written, by line; participants are the participants of all lines, with their balances at the end. A field of a line is named as transfers[0].amount. Raises LG001, LG002, LG003, LG006.';
revoke execute on function ledger.transfer_all from public;
grant execute on function ledger.transfer_all to ledger_api;
-- <<< db/functions/api/transfer_all.sql

-- >>> db/functions/internal/checkpoints/add_checkpoint.sql
-- Write a group's next checkpoint, with its leaves.
create or replace function ledger_internal.add_checkpoint(
  group_id bigint
) returns bigint
language plpgsql volatile
as $$
declare
  previous ledger.checkpoints;
  made     ledger.checkpoints;
  figures  ledger_internal.figures;
  domain   bytea;
begin
  select c.*
  into previous
  from ledger.checkpoints as c
  where c.group_id = add_checkpoint.group_id
  order by c.number desc
  limit 1;

  made.group_id := group_id;
  made.number := coalesce(previous.number, 0) + 1;
  -- The group has no vault.
  made.chain_id := 0;
  made.vault := decode(repeat('00', 20), 'hex');
  made.previous := coalesce(previous.header, decode(repeat('00', 32), 'hex'));
  domain := ledger_internal.domain_hash(made.chain_id, made.vault, group_id);

  figures := ledger_internal.write_chunks(made, previous, domain);
  if figures.total <> figures.credited - figures.settled then
    raise exception using
      errcode = 'data_corrupted',
      message = format('the leaves of group %s add up to %s, and %s was credited, %s settled', group_id, figures.total, figures.credited, figures.settled),
      hint    = 'Run ledger verify: the books are wrong.';
  end if;
  made.deposits := figures.deposits;
  made.credited := figures.credited;
  made.settled := figures.settled;
  made.leaf_count := figures.leaf_count;
  made.total := figures.total;
  made.root := figures.root;
  made.header := ledger_internal.header_hash(
    domain, made.number, made.previous, made.deposits, made.credited, made.settled, made.leaf_count, made.total, made.root
  );
  made.snapshot := figures.snapshot;
  made.generation := figures.generation;
  made.seal := figures.seal;
  made.created_at := clock_timestamp();
  insert into ledger.checkpoints
  select made.*
  -- As in write_chunks, for a group without leaves.
  on conflict do nothing;
  if not found then
    raise exception using
      errcode = 'serialization_failure',
      message = format('another transaction made checkpoint %s of group %s', made.number, group_id);
  end if;
  return made.number;
end
$$;

alter function ledger_internal.add_checkpoint owner to ledger_owner;
comment on function ledger_internal.add_checkpoint is
  'Write the next checkpoint of a group, chained to the one before it, and return its number. Call it where no other transaction makes a checkpoint of the group, and before this one has written anything. Raises LG011, 40001 where another transaction made it, XX001 where the leaves are not what was credited less what was settled.';
revoke execute on function ledger_internal.add_checkpoint from public;
-- <<< db/functions/internal/checkpoints/add_checkpoint.sql

-- >>> db/functions/internal/checkpoints/checkpoint_books.sql
-- Count what was credited to a group and settled, in the snapshot of the statement.
create or replace function ledger_internal.checkpoint_books(
  group_id bigint
) returns ledger_internal.figures
language sql stable
as $$
  select
    pg_current_snapshot(),
    (select max(f.generation) from ledger.feeds as f),
    credited.deposits,
    credited.amount,
    settled.amount,
    null::bigint,
    null::numeric,
    null::bytea,
    null::bytea
  from (
    select
      count(*) as deposits,
      coalesce(sum(e.amount), 0) as amount
    from ledger.entries as e
    where e.group_id = checkpoint_books.group_id
      and e.kind in ('join', 'deposit')
  ) as credited
  cross join (
    select coalesce(sum(e.amount), 0) as amount
    from ledger.settlements as s
    join ledger.entries as e on e.group_id = s.group_id and e.id = s.entry_id
    where s.group_id = checkpoint_books.group_id
      and s.settled_at is not null
  ) as settled
$$;

alter function ledger_internal.checkpoint_books owner to ledger_owner;
comment on function ledger_internal.checkpoint_books is
  'The deposits, what they credited, what was settled, the snapshot and the feed of a checkpoint that the statement makes; its other figures are null.';
revoke execute on function ledger_internal.checkpoint_books from public;
-- <<< db/functions/internal/checkpoints/checkpoint_books.sql

-- >>> db/functions/internal/checkpoints/write_chunks.sql
-- Write the leaves of a new checkpoint, and return what it finds.
create or replace function ledger_internal.write_chunks(
  checkpoint ledger.checkpoints,
  previous   ledger.checkpoints,
  domain     bytea
) returns ledger_internal.figures
language plpgsql volatile
as $$
declare
  figures ledger_internal.figures;
  piece   record;
  chunk   ledger.checkpoint_chunks;
  chunks  ledger.checkpoint_chunks[] := array[]::ledger.checkpoint_chunks[];
  sums    numeric[] := array[]::numeric[];
  nodes   bytea[] := array[]::bytea[];
  tree    ledger_internal.tree;
  resumed timestamptz := clock_timestamp();
  -- A statement with a time-out has no time for pauses.
  pauses  boolean := current_setting('statement_timeout') = '0';
begin
  -- One statement and so one snapshot for all figures and leaves; a volatile function in it would see newer rows.
  for piece in
    -- The first row has the figures, each of the others the leaves of a chunk.
    select
      -1 as chunk,
      null::numeric[] as amounts,
      null::bytea[] as leaves,
      b as books
    from ledger_internal.checkpoint_books(checkpoint.group_id) as b
    union all
    select
      (l.place / 1024)::integer,
      array_agg(l.amount order by l.place),
      array_agg(ledger_internal.pack_leaf(l.participant_id, l.exit_entry, l.owner, l.amount) order by l.place),
      null
    from (
      select
        u.*,
        row_number() over (order by u.participant_id) - 1 as place
      from ledger_internal.current_leaves(checkpoint.group_id) as u
    ) as l
    group by l.place / 1024
    order by chunk
  loop
    if piece.chunk = -1 then
      figures := piece.books;
      figures.leaf_count := 0;
      perform ledger_internal.refuse_large_group(checkpoint.group_id, figures.credited);
      checkpoint.snapshot := figures.snapshot;
      checkpoint.generation := figures.generation;
      figures.seal := ledger_internal.seal_entries(checkpoint, previous);
      continue;
    end if;

    chunk := ledger_internal.pack_chunk(
      checkpoint.group_id, checkpoint.number, piece.chunk, domain, piece.amounts, piece.leaves
    );
    chunks := chunks || chunk;
    sums := sums || chunk.sum::numeric;
    nodes := nodes || (ledger_internal.word(chunk.sum) || chunk.hash);
    figures.leaf_count := figures.leaf_count + cardinality(piece.leaves);
    -- Two thirds of the time the core is free for transfers.
    if pauses and cardinality(piece.leaves) = 1024 then
      perform pg_sleep(least(2 * extract(epoch from clock_timestamp() - resumed), 1));
      resumed := clock_timestamp();
    end if;
  end loop;
  tree := ledger_internal.fold_tree(sums, nodes);
  figures.total := tree.sum;
  figures.root := tree.hash;

  -- The first change of the transaction, and so what the feed of all groups waits for: only when all is computed. One
  -- at a time: a list of them would be copied.
  for place in 1 .. cardinality(chunks) loop
    chunk := chunks[place];
    insert into ledger.checkpoint_chunks
    select chunk.*
    -- Above READ COMMITTED another checkpoint since the snapshot ends in 40001 here.
    on conflict do nothing;
  end loop;
  return figures;
end
$$;

alter function ledger_internal.write_chunks owner to ledger_owner;
comment on function ledger_internal.write_chunks is
  'Write the chunks of a checkpoint of this group and number in one snapshot, and return the snapshot, the figures, the seal and the root of it. In a session without a statement time-out it pauses twice as long as it works. Call it where no other transaction makes a checkpoint of the group. Raises LG011.';
revoke execute on function ledger_internal.write_chunks from public;
-- <<< db/functions/internal/checkpoints/write_chunks.sql

-- >>> db/functions/internal/constraints/forbid_mutation.sql
-- Refuse to change or delete a row of a permanent table.
create or replace function ledger_internal.forbid_mutation()
returns trigger
language plpgsql
as $$
begin
  raise exception using
    errcode = 'restrict_violation',
    message = format('%s on %I.%I is refused: the record is permanent', lower(tg_op), tg_table_schema, tg_table_name),
    hint    = case tg_table_name
      when 'api_keys'
      then 'Make an API key useless with ledger.revoke_api_key.'
      when 'name_changes'
      then 'Correct a name by another one: ledger.rename_group or ledger.rename_participant.'
      else 'Correct a mistake by a new movement: ledger.transfer, ledger.join_group or ledger.exit_group.'
    end;
end
$$;

alter function ledger_internal.forbid_mutation owner to ledger_owner;
comment on function ledger_internal.forbid_mutation is
  'Trigger that refuses UPDATE, DELETE and TRUNCATE on permanent tables, to their owner as well. Raises 23001.';
revoke execute on function ledger_internal.forbid_mutation from public;
-- <<< db/functions/internal/constraints/forbid_mutation.sql

-- >>> db/functions/internal/errors/refuse_taken_address.sql
-- Raise LG010 if another participant present in a group has an address.
create or replace function ledger_internal.refuse_taken_address(
  group_id       bigint,
  participant_id bigint,
  address        bytea
) returns void
language plpgsql stable
as $$
begin
  if exists (
    select from ledger.participants as p
    where p.group_id = refuse_taken_address.group_id
      and p.address = refuse_taken_address.address
      and p.exited_at is null
      and p.id is distinct from refuse_taken_address.participant_id
  ) then
    perform ledger_internal.refuse_bound_address(
      format('another participant has address %s', ledger_internal.format_address(address)),
      'is bound to another participant'
    );
  end if;
end
$$;

alter function ledger_internal.refuse_taken_address owner to ledger_owner;
comment on function ledger_internal.refuse_taken_address is
  'Raises LG010 if another participant than this one, who may be null, is present in the group and has the address; nothing for a null address.';
revoke execute on function ledger_internal.refuse_taken_address from public;
-- <<< db/functions/internal/errors/refuse_taken_address.sql

-- >>> db/functions/internal/errors/refuse_unknown_legs.sql
-- Raise LG002 for the legs of a multi-party transfer that are not present.
create or replace function ledger_internal.refuse_unknown_legs(
  lines ledger_internal.transfer_lines,
  legs  ledger_internal.transfer_legs
) returns void
language plpgsql stable
as $$
declare
  fields  text[];
  missing bigint[];
begin
  select
    array_agg(m.field),
    array_agg(m.id)
  into
    fields,
    missing
  from (
    select
      format('transfers[%s].%s', l.line - 1, s.member) as field,
      s.id
    from unnest(lines.from_ids, lines.to_ids) with ordinality as l (from_id, to_id, line)
    cross join lateral (values ('from', l.from_id), ('to', l.to_id)) as s (member, id)
    where s.id <> all (coalesce(legs.ids, '{}'))
    order by l.line
    limit 100
  ) as m;
  perform ledger_internal.refuse_unknown_participants(lines.group_ids[1], fields, missing);
end
$$;

alter function ledger_internal.refuse_unknown_legs owner to ledger_owner;
comment on function ledger_internal.refuse_unknown_legs is
  'Raise LG002 for the first 100 legs of a multi-party transfer that were not locked, as transfers[0].from, or for its group.';
revoke execute on function ledger_internal.refuse_unknown_legs from public;
-- <<< db/functions/internal/errors/refuse_unknown_legs.sql

-- >>> db/functions/internal/totals/add_to_group_total.sql
-- Add a join or a deposit to a group's total, or subtract an exit.
create or replace function ledger_internal.add_to_group_total(
  group_id   bigint,
  amount     numeric,
  not_before timestamptz
) returns ledger.group_total_shards
language plpgsql volatile
as $$
declare
  shard ledger.group_total_shards;
begin
  -- trunc() removes the decimal places of a deposit written as 100.0; otherwise every later total would show them.
  -- A session always takes the same shard of the eight, so a transaction of many joins, deposits and exits locks only one shard
  -- and cannot deadlock with another transaction. A shard's times ascend even if the clock goes back.
  update ledger.group_total_shards as c
  set
    total = c.total + trunc(add_to_group_total.amount),
    changed_at = greatest(clock_timestamp(), c.changed_at, add_to_group_total.not_before)
  where c.group_id = add_to_group_total.group_id
    and c.slot = pg_backend_pid() % 8
  returning c.* into shard;
  if not found then
    raise exception 'group % has lost a shard', group_id;
  end if;
  return shard;
end
$$;

alter function ledger_internal.add_to_group_total owner to ledger_owner;
comment on function ledger_internal.add_to_group_total is
  'Add an amount, negative for an exit, to one of the shards that make up the group''s total; its changed_at, not below not_before, is the time of the movement.';
revoke execute on function ledger_internal.add_to_group_total from public;
-- <<< db/functions/internal/totals/add_to_group_total.sql

-- >>> db/functions/internal/transfers/execute_transfer.sql
-- Make one transfer: lock, decide, write.
create or replace function ledger_internal.execute_transfer(
  group_id bigint,
  from_id  bigint,
  to_id    bigint,
  amount   numeric,
  metadata jsonb,
  reverses bigint
) returns ledger.transfer_result
language plpgsql volatile
as $$
declare
  pair      ledger.participants[] := ledger_internal.lock_pair(group_id, from_id, to_id, wait => true);
  sender    ledger.participants := pair[1];
  recipient ledger.participants := pair[2];
  violation text;
begin
  if sender.id is null or recipient.id is null then
    perform ledger_internal.refuse_unknown_participants(
      group_id,
      array_remove(array[case when sender.id is null then 'from_id' end, case when recipient.id is null then 'to_id' end], null),
      array_remove(array[case when sender.id is null then from_id end, case when recipient.id is null then to_id end], null)
    );
  end if;

  violation := ledger_internal.balance_violation(sender.amount - amount, recipient.amount + amount);
  if violation is not null then
    perform ledger_internal.refuse_transfer(violation, 'amount', sender.id, sender.amount, amount);
  end if;

  return ledger_internal.post_transfer(sender, recipient, amount, metadata, reverses);
end
$$;

alter function ledger_internal.execute_transfer owner to ledger_owner;
comment on function ledger_internal.execute_transfer is
  'Transfer a valid amount between two different participants of a group; reverses is the entry that it reverses, if any. Raises LG001, LG002, LG003.';
revoke execute on function ledger_internal.execute_transfer from public;
-- <<< db/functions/internal/transfers/execute_transfer.sql

-- >>> db/functions/internal/transfers/lock_legs.sql
-- Lock the participants of a list of transfers.
create or replace function ledger_internal.lock_legs(
  lines ledger_internal.transfer_lines,
  wait  boolean
) returns ledger_internal.transfer_legs
language plpgsql volatile
as $$
declare
  legs ledger_internal.transfer_legs;
begin
  -- In ascending id within each group, as lock_pair() does. SQL has no parameter for `skip locked`; a function that
  -- returned the rows would cost every list 2 %.
  if wait then
    select
      array_agg(p.group_id),
      array_agg(p.id),
      array_agg(p.place),
      array_agg(p.username),
      array_agg(p.amount),
      array_agg(p.moved_at)
    into
      legs.group_ids,
      legs.ids,
      legs.places,
      legs.usernames,
      legs.balances,
      legs.moved_at
    from (
      select l.group_id, array_agg(l.id) as ids
      from unnest(
        lines.group_ids || lines.group_ids, lines.from_ids || lines.to_ids, lines.possible || lines.possible
      ) as l (group_id, id, possible)
      where l.possible is not false
      group by l.group_id
      order by l.group_id
    ) as l
    cross join lateral (
      select p.*, p.ctid as place
      from ledger.participants as p
      where p.group_id = l.group_id
        and p.id = any (l.ids)
        and p.exited_at is null
      order by p.id
      for no key update
    ) as p;
  else
    select
      array_agg(p.group_id),
      array_agg(p.id),
      array_agg(p.place),
      array_agg(p.username),
      array_agg(p.amount),
      array_agg(p.moved_at)
    into
      legs.group_ids,
      legs.ids,
      legs.places,
      legs.usernames,
      legs.balances,
      legs.moved_at
    from (
      select l.group_id, array_agg(l.id) as ids
      from unnest(
        lines.group_ids || lines.group_ids, lines.from_ids || lines.to_ids, lines.possible || lines.possible
      ) as l (group_id, id, possible)
      where l.possible is not false
      group by l.group_id
      order by l.group_id
    ) as l
    cross join lateral (
      select p.*, p.ctid as place
      from ledger.participants as p
      where p.group_id = l.group_id
        and p.id = any (l.ids)
        and p.exited_at is null
      order by p.id
      for no key update skip locked
    ) as p;
  end if;

  legs.numbers := ledger_internal.number_legs(lines, legs);
  return legs;
end
$$;

alter function ledger_internal.lock_legs owner to ledger_owner;
comment on function ledger_internal.lock_legs is
  'Lock the present participants of the lines that are possible until the transaction ends, by ascending group and id. Without wait, all but those that another session has locked.';
revoke execute on function ledger_internal.lock_legs from public;
-- <<< db/functions/internal/transfers/lock_legs.sql

-- >>> db/functions/internal/transfers/lock_pair.sql
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
  if wait then
    pair := array(
      select p
      from ledger.participants as p
      where p.group_id = lock_pair.group_id
        and p.id in (lock_pair.from_id, lock_pair.to_id)
        and p.exited_at is null
      order by p.id
      for no key update
    );
  else
    pair := array(
      select p
      from ledger.participants as p
      where p.group_id = lock_pair.group_id
        and p.id in (lock_pair.from_id, lock_pair.to_id)
        and p.exited_at is null
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
  'Lock two different participants of a group until the transaction ends, and return the sender and then the recipient; null for one who is not present, or, without wait, whom another session has locked.';
revoke execute on function ledger_internal.lock_pair from public;
-- <<< db/functions/internal/transfers/lock_pair.sql

-- >>> db/functions/internal/transfers/unmade_outcome.sql
-- Return the outcome of a line of transfer_batch whose legs are not both locked.
create or replace function ledger_internal.unmade_outcome(
  group_id bigint,
  from_id  bigint,
  to_id    bigint
) returns text
language sql stable
as $$
  select case when count(*) = 2 then 'locked' else 'deferred' end
  from ledger.participants as p
  where p.group_id = unmade_outcome.group_id
    and p.id in (unmade_outcome.from_id, unmade_outcome.to_id)
    and p.exited_at is null
$$;

alter function ledger_internal.unmade_outcome owner to ledger_owner;
comment on function ledger_internal.unmade_outcome is
  'locked if both legs of a transfer are present, so that another session has locked one of them; deferred if not.';
revoke execute on function ledger_internal.unmade_outcome from public;
-- <<< db/functions/internal/transfers/unmade_outcome.sql

-- >>> db/functions/internal/verify/answer_agrees.sql
-- Whether a stored answer agrees with the record.
create or replace function ledger_internal.answer_agrees(
  kept   ledger.idempotency_keys,
  answer jsonb,
  named  bigint,
  entry  ledger.entries
) returns boolean
language plpgsql stable
as $$
declare
  -- The entry in the form in which a reversal or a settlement returns it.
  written jsonb;
begin
  if kept.operation in ('reverse_transfer', 'settle_exit') then
    written := jsonb_build_object(
      'group_id', entry.group_id, 'id', entry.id, 'kind', entry.kind, 'from_id', entry.from_id, 'to_id', entry.to_id,
      'amount', entry.amount, 'from_amount', entry.from_amount, 'to_amount', entry.to_amount,
      'created_at', entry.created_at, 'metadata', entry.metadata, 'reverses', entry.reverses
    );
  end if;

  case kept.operation
    when 'transfer' then
      return entry.reverses is null and answer @> jsonb_build_object(
        'to_participant', jsonb_build_object('id', entry.to_id, 'group_id', entry.group_id, 'amount', entry.to_amount),
        'from_participant', jsonb_build_object('id', entry.from_id, 'group_id', entry.group_id, 'amount', entry.from_amount)
      );
    when 'join_group' then
      return entry.kind = 'join'
        and answer @> jsonb_build_object('id', entry.to_id, 'group_id', entry.group_id, 'amount', entry.amount);
    when 'deposit' then
      return entry.kind = 'deposit'
        and answer @> jsonb_build_object('id', entry.to_id, 'group_id', entry.group_id, 'amount', entry.to_amount);
    when 'exit_group' then
      return entry.kind = 'exit' and answer @> jsonb_build_object('final_amount', entry.amount);
    when 'reverse_transfer' then
      return entry.reverses is not null and answer @> written;
    when 'settle_exit' then
      return answer @> written and exists (
        select from ledger.settlements as s
        where s.group_id = entry.group_id
          and s.entry_id = entry.id
          and s.reference is not null
          and answer @> jsonb_build_object('reference', s.reference, 'settled_at', s.settled_at)
      );
    when 'create_group' then
      return kept.group_id = 0 and exists (select from ledger.groups as g where g.id = named);
    when 'rename_group' then
      return named = kept.group_id;
    when 'rename_participant' then
      return answer @> jsonb_build_object('group_id', kept.group_id) and exists (
        select from ledger.participants as p
        where p.group_id = kept.group_id
          and p.id = named
      );
    when 'bind_address' then
      return answer @> jsonb_build_object('group_id', kept.group_id) and exists (
        select from ledger.participants as p
        where p.group_id = kept.group_id
          and p.id = named
          and p.address = ledger_internal.parse_address(answer ->> 'address')
      );
    when 'checkpoint' then
      return exists (
        select from ledger.checkpoint_headers as h
        where h.group_id = kept.group_id
          and h.number = ledger_internal.parse_id(answer ->> 'number')
          and answer @> to_jsonb(h)
      );
    when 'remove_group' then
      return exists (select from ledger.groups as g where g.id = kept.group_id and g.closed_at is not null);
    else
      return false;
  end case;
end
$$;

alter function ledger_internal.answer_agrees owner to ledger_owner;
comment on function ledger_internal.answer_agrees is
  'Whether the answer stored under an idempotency key agrees with the record: with the entry that it names, or with the group, the participant or the checkpoint that it names; null or false where it does not. Names are not compared. For answer_discrepancies.';
revoke execute on function ledger_internal.answer_agrees from public;
-- <<< db/functions/internal/verify/answer_agrees.sql

-- >>> db/functions/internal/verify/checkpoint_record_discrepancies.sql
-- Compare a checkpoint's figures with what its snapshot shows of the record.
create or replace function ledger_internal.checkpoint_record_discrepancies(
  checkpoint ledger.checkpoints,
  feed       ledger.feeds
) returns setof ledger.discrepancy
language sql stable
as $$
  select
    checkpoint.group_id,
    null::bigint,
    null::bigint,
    'checkpoint',
    f.detail
  from (
    select format('says %s joins and deposits of %s, and the record %s of %s', checkpoint.deposits, checkpoint.credited, r.deposits, r.credited)
    from (
      select
        count(*) as deposits,
        coalesce(sum(e.amount), 0) as credited
      from ledger.entries as e
      where e.group_id = checkpoint.group_id
        and e.kind in ('join', 'deposit')
        and (e.id <= feed.last_restored or pg_visible_in_snapshot(e.xid, checkpoint.snapshot))
    ) as r
    where checkpoint.deposits <> r.deposits
      or checkpoint.credited <> r.credited
    union all
    select format('says %s settled, and the record %s', checkpoint.settled, r.settled)
    from (
      select coalesce(sum(e.amount), 0) as settled
      from ledger.settlements as s
      join ledger.entries as e on e.group_id = s.group_id and e.id = s.entry_id
      where s.group_id = checkpoint.group_id
        and s.settled_at is not null
        and (s.settled_xid is null or pg_visible_in_snapshot(s.settled_xid, checkpoint.snapshot))
    ) as r
    where checkpoint.settled <> r.settled
  ) as f (detail)
$$;

alter function ledger_internal.checkpoint_record_discrepancies owner to ledger_owner;
comment on function ledger_internal.checkpoint_record_discrepancies is
  'The discrepancies between a checkpoint and the record of its feed, which must be one of this server: what was credited, and what was settled. For verify_checkpoints.';
revoke execute on function ledger_internal.checkpoint_record_discrepancies from public;
-- <<< db/functions/internal/verify/checkpoint_record_discrepancies.sql

-- >>> db/functions/internal/verify/entry_leg_discrepancies.sql
-- Compare both legs of an entry with the previous entries of their participants.
create or replace function ledger_internal.entry_leg_discrepancies(
  entry     ledger.entries,
  sender    ledger_internal.leg,
  recipient ledger_internal.leg
) returns setof ledger.discrepancy
language sql stable
as $$
  select
    entry.group_id,
    entry.id,
    f.participant_id,
    f.kind,
    f.detail
  from (
    select
      entry.from_id,
      'running balance',
      format('the sender has %s after it, and had %s before it', entry.from_amount, sender.balance)
    where sender.id is not null
      and entry.from_amount is distinct from sender.balance - entry.amount
    union all
    select entry.from_id, 'running balance', format('the participant left with %s and kept %s', entry.amount, entry.from_amount)
    where entry.kind = 'exit'
      and entry.from_amount <> 0
    union all
    select
      entry.to_id,
      'running balance',
      format('the recipient has %s after it, and had %s before it', entry.to_amount, coalesce(recipient.balance, 0))
    where (entry.kind = 'join' or recipient.id is not null)
      and entry.to_amount is distinct from coalesce(recipient.balance, 0) + entry.amount
    union all
    select s.participant_id, 'presence', 'the participant has not joined before it'
    from (values (entry.from_id, sender.id), (entry.to_id, recipient.id)) as s (participant_id, earlier)
    where entry.kind <> 'join'
      and s.participant_id is not null
      and s.earlier is null
    union all
    select entry.to_id, 'presence', 'the participant was there before joining'
    where entry.kind = 'join'
      and recipient.id is not null
    union all
    select s.participant_id, 'presence', 'the participant had left before it'
    from (values (entry.from_id, sender.kind), (entry.to_id, recipient.kind)) as s (participant_id, earlier)
    where entry.kind <> 'join'
      and s.earlier = 'exit'
    union all
    select s.participant_id, 'time', format('entry %s is earlier and has a higher id', s.earlier)
    from (values (entry.from_id, sender.id), (entry.to_id, recipient.id)) as s (participant_id, earlier)
    where s.earlier > entry.id
    union all
    select s.participant_id, 'participant', 'there never was such a participant'
    from (values (entry.from_id, sender.id), (entry.to_id, recipient.id)) as s (participant_id, earlier)
    -- What comes later leads back to the participant's first entry.
    where s.participant_id is not null
      and s.earlier is null
      and not exists (
        select from ledger.participants as p
        where p.group_id = entry.group_id
          and p.id = s.participant_id
      )
  ) as f (participant_id, kind, detail)
$$;

alter function ledger_internal.entry_leg_discrepancies owner to ledger_owner;
comment on function ledger_internal.entry_leg_discrepancies is
  'The discrepancies between an entry and the latest entries of its sender and its recipient before it, nulls where there is none: balances, presence, and the order of times. If every step is right, so is every balance. For verify_entries.';
revoke execute on function ledger_internal.entry_leg_discrepancies from public;
-- <<< db/functions/internal/verify/entry_leg_discrepancies.sql

-- >>> db/functions/internal/verify/header_discrepancies.sql
-- Compare a checkpoint's header with its figures and with the header before it.
create or replace function ledger_internal.header_discrepancies(
  checkpoint ledger.checkpoints,
  previous   ledger.checkpoints,
  domain     bytea
) returns setof ledger.discrepancy
language sql stable
as $$
  select
    checkpoint.group_id,
    null::bigint,
    null::bigint,
    'checkpoint',
    f.detail
  from (
    select 'has none before it'
    where checkpoint.number < 1
      or (checkpoint.number > 1 and previous.number is null)
    union all
    select 'has another header before it than it names'
    where checkpoint.previous <> coalesce(previous.header, decode(repeat('00', 32), 'hex'))
    union all
    select 'has another header than its figures make'
    where checkpoint.header <> ledger_internal.header_hash(
        header_discrepancies.domain, checkpoint.number, checkpoint.previous, checkpoint.deposits, checkpoint.credited,
        checkpoint.settled, checkpoint.leaf_count, checkpoint.total, checkpoint.root
      )
    union all
    select format('has a total of %s, of %s credited and %s settled', checkpoint.total, checkpoint.credited, checkpoint.settled)
    where checkpoint.total <> checkpoint.credited - checkpoint.settled
  ) as f (detail)
$$;

alter function ledger_internal.header_discrepancies owner to ledger_owner;
comment on function ledger_internal.header_discrepancies is
  'The discrepancies of the chain of headers at a checkpoint: the previous one, nulls where there is none, the hash of its figures, and their sum. For verify_checkpoints.';
revoke execute on function ledger_internal.header_discrepancies from public;
-- <<< db/functions/internal/verify/header_discrepancies.sql

-- >>> db/functions/internal/verify/orphan_discrepancies.sql
-- Find rows whose group is missing.
create or replace function ledger_internal.orphan_discrepancies(
  after bigint,
  upto  bigint
) returns setof ledger.discrepancy
language sql stable
as $$
  select
    o.group_id,
    null::bigint,
    null::bigint,
    'group',
    format('there is no such group, and it has %s', string_agg(format('%s: %s', o.name, o.rows), ', ' order by o.name))
  from (
    select
      r.group_id,
      r.name,
      count(*)
    from (
      select p.group_id, 'participants' from ledger.participants as p
      union all
      select e.group_id, 'entries' from ledger.entries as e
      union all
      select s.group_id, 'settlements' from ledger.settlements as s
      union all
      select c.group_id, 'shards' from ledger.group_total_shards as c
      union all
      select t.group_id, 'totals' from ledger.group_total_history as t
      union all
      select c.group_id, 'changes of names' from ledger.name_changes as c
      union all
      -- Those of requests that created a group have group 0.
      select k.group_id, 'idempotency keys' from ledger.idempotency_keys as k where k.group_id <> 0
    ) as r (group_id, name)
    where r.group_id > orphan_discrepancies.after
      and r.group_id <= orphan_discrepancies.upto
    group by r.group_id, r.name
  ) as o (group_id, name, rows)
  group by o.group_id
$$;

alter function ledger_internal.orphan_discrepancies owner to ledger_owner;
comment on function ledger_internal.orphan_discrepancies is
  'The rows of groups whose ids are above after and not above upto, where no group has such an id. For verify_groups.';
revoke execute on function ledger_internal.orphan_discrepancies from public;
-- <<< db/functions/internal/verify/orphan_discrepancies.sql

-- >>> db/functions/internal/verify/shared_identity_discrepancies.sql
-- Find usernames and addresses that two participants of a group have.
create or replace function ledger_internal.shared_identity_discrepancies(
  group_id bigint
) returns setof ledger.discrepancy
language sql stable
as $$
  select
    shared_identity_discrepancies.group_id,
    f.entry_id,
    f.participant_id,
    f.kind,
    f.detail
  from (
    select null::bigint, null::bigint, 'username', format('%s who are present have the username %s', count(*), p.username)
    from ledger.participants as p
    where p.group_id = shared_identity_discrepancies.group_id
      and p.exited_at is null
    group by p.username
    having count(*) > 1
    union all
    select null, null, 'address', format('%s who are present have the address %s', count(*), p.address)
    from ledger.participants as p
    where p.group_id = shared_identity_discrepancies.group_id
      and p.exited_at is null
      and p.address is not null
    group by p.address
    having count(*) > 1
  ) as f (entry_id, participant_id, kind, detail)
$$;

alter function ledger_internal.shared_identity_discrepancies owner to ledger_owner;
comment on function ledger_internal.shared_identity_discrepancies is
  'The usernames and the addresses that several participants have who are present in a group. For verify_total.';
revoke execute on function ledger_internal.shared_identity_discrepancies from public;
-- <<< db/functions/internal/verify/shared_identity_discrepancies.sql

-- >>> db/functions/internal/verify/trigger_discrepancies.sql
-- Find triggers that are not in force.
create or replace function ledger_internal.trigger_discrepancies()
returns setof ledger.discrepancy
language sql stable
as $$
  select
    null::bigint,
    null::bigint,
    null::bigint,
    'schema',
    f.detail
  from (
    select format('trigger %s of %s is disabled', coalesce(k.conname, t.tgname), t.tgrelid::regclass)
    from pg_trigger as t
    join pg_class as c on c.oid = t.tgrelid
    left join pg_constraint as k on k.oid = t.tgconstraint
    where c.relnamespace = 'ledger'::regnamespace
      and t.tgenabled not in ('O', 'A')
    union all
    select format('table %s can be rewritten: no trigger refuses it', p.name)
    from unnest(
      array[
        'entries', 'group_total_history', 'idempotency_keys', 'feeds', 'name_changes',
        'settlements', 'api_keys', 'groups', 'participants'
      ],
      array[true, true, true, true, true, false, false, false, false]
    ) as p (name, is_permanent)
    where not exists (
      select from pg_trigger as t
      where t.tgrelid = to_regclass('ledger.' || p.name)
        and t.tgfoid = to_regproc('ledger_internal.forbid_mutation')
        -- Before DELETE and TRUNCATE, a statement; for what is permanent before each UPDATE as well.
        and t.tgtype & 43 = 42
        and (not p.is_permanent or t.tgtype & 16 = 16)
        and t.tgqual is null
        and cardinality(t.tgattr::smallint[]) = 0
    )
  ) as f (detail)
$$;

alter function ledger_internal.trigger_discrepancies owner to ledger_owner;
comment on function ledger_internal.trigger_discrepancies is
  'Triggers of the schema that are disabled, and tables that no trigger keeps from being rewritten. For verify_schema.';
revoke execute on function ledger_internal.trigger_discrepancies from public;
-- <<< db/functions/internal/verify/trigger_discrepancies.sql

-- >>> db/functions/internal/verify/verify_checkpoints.sql
-- Find the discrepancies of a range of a group's checkpoints.
create or replace function ledger_internal.verify_checkpoints(
  group_id bigint,
  after    bigint,
  upto     bigint
) returns setof ledger.discrepancy
language sql stable
as $$
  select
    c.group_id,
    null::bigint,
    null::bigint,
    'checkpoint',
    format('checkpoint %s %s', c.number, f.detail)
  from ledger.checkpoints as c
  cross join lateral (
    select ledger_internal.domain_hash(c.chain_id, c.vault, c.group_id) as domain
  ) as d
  cross join ledger_internal.verify_bounds() as b
  left join ledger.checkpoints as p on p.group_id = c.group_id and p.number = c.number - 1
  -- In another server than the checkpoint's its snapshot means nothing.
  left join ledger.feeds as w
    on b.next_xid is not null
      and w.generation = c.generation
      and w.generation = (select max(n.generation) from ledger.feeds as n)
  cross join lateral (
    select h.detail from ledger_internal.header_discrepancies(c, p, d.domain) as h
    union all
    select 'has another seal than the entries up to it make'
    where c.seal <> ledger_internal.seal_entries(c, p)
    union all
    select format('was made at %s', c.created_at)
    where c.created_at > b.latest
      or c.created_at = '-infinity'
    union all
    select r.detail
    from ledger_internal.checkpoint_record_discrepancies(c, w) as r
    where w.generation is not null
    union all
    select l.detail from ledger_internal.leaf_discrepancies(c, d.domain) as l
  ) as f (detail)
  where c.group_id = verify_checkpoints.group_id
    and c.number > verify_checkpoints.after
    and c.number <= coalesce(verify_checkpoints.upto, 9223372036854775807)
$$;

alter function ledger_internal.verify_checkpoints owner to ledger_owner;
comment on function ledger_internal.verify_checkpoints is
  'The discrepancies of a group''s checkpoints whose numbers are above after and, where it is given, not above upto: the chain of their headers, the seals of the entries, the leaves that are kept, and what was credited and settled in the record. For the owner.';
revoke execute on function ledger_internal.verify_checkpoints from public;
-- <<< db/functions/internal/verify/verify_checkpoints.sql

-- >>> db/functions/internal/verify/verify_kept.sql
-- Find the discrepancies between a checkpoint and what was kept of it elsewhere.
create or replace function ledger_internal.verify_kept(
  group_id bigint,
  number   bigint,
  header   bytea,
  seal     bytea
) returns setof ledger.discrepancy
language plpgsql stable
as $$
declare
  checkpoint  ledger.checkpoints;
  discrepancy ledger.discrepancy := row(group_id, null, null, 'kept checkpoint', null);
begin
  select c.*
  into checkpoint
  from ledger.checkpoints as c
  where c.group_id = verify_kept.group_id
    and c.number = verify_kept.number;
  if not found then
    discrepancy.detail := format('checkpoint %s is not there', number);
    return next discrepancy;
    return;
  end if;

  if checkpoint.header <> header then
    discrepancy.detail := format('checkpoint %s has another header than was kept: %s', number, ledger_internal.hex(checkpoint.header));
    return next discrepancy;
  end if;
  if checkpoint.seal <> seal then
    discrepancy.detail := format('checkpoint %s has another seal than was kept: %s', number, ledger_internal.hex(checkpoint.seal));
    return next discrepancy;
  end if;

  begin
    perform from ledger_internal.recompute_chunks(checkpoint);
  exception
    when data_corrupted or numeric_value_out_of_range then
      discrepancy.detail := format('checkpoint %s has other leaves in the record: %s', number, sqlerrm);
      return next discrepancy;
    when sqlstate 'LG002' then
      -- The ledger was restored since, and only leaves that are stored can be compared with the root.
      null;
  end;
end
$$;

alter function ledger_internal.verify_kept owner to ledger_owner;
comment on function ledger_internal.verify_kept is
  'The discrepancies of a checkpoint with the header and the seal that it had when they were kept elsewhere, and with the leaves that the record gives. Whether the entries give its seal, verify_checkpoints shows, from the first checkpoint on. For the owner.';
revoke execute on function ledger_internal.verify_kept from public;
-- <<< db/functions/internal/verify/verify_kept.sql

-- >>> db/functions/internal/verify/verify_participants.sql
-- Find the discrepancies of a range of a group's participants.
create or replace function ledger_internal.verify_participants(
  group_id bigint,
  after    bigint,
  upto     bigint
) returns setof ledger.discrepancy
language sql stable
as $$
  select
    p.group_id,
    null::bigint,
    p.id,
    f.kind,
    f.detail
  from (
    select
      p.*,
      count(*) over (partition by p.id) as times
    from ledger.participants as p
    where p.group_id = verify_participants.group_id
      and p.id > verify_participants.after
      and p.id <= coalesce(verify_participants.upto, 9223372036854775807)
  ) as p
  cross join ledger_internal.verify_bounds() as b
  left join lateral ledger_internal.latest_leg_at(p.group_id, p.id, ('infinity', 9223372036854775807)::ledger_internal.history_position) as last
    on true
  cross join lateral (
    select
      r.kind,
      r.detail
    from ledger_internal.participant_record_discrepancies(
      (
        p.group_id, p.id, p.username, p.amount, p.joined_at, p.exited_at, p.moved_at, p.address, p.address_xid
      )::ledger.participants,
      (last.id, last.kind, last.created_at, last.balance)::ledger_internal.leg,
      b.latest
    ) as r
    union all
    select 'username', 'is empty'
    where p.username = ''
    union all
    select 'address', 'is not of 20 bytes, is zero, or has no transaction'
    where (p.address is null) <> (p.address_xid is null)
      or octet_length(p.address) <> 20
      or p.address = '\x0000000000000000000000000000000000000000'
    union all
    select 'participant id', format('%s participants have it', p.times)
    where p.times > 1
    union all
    select 'participant id', 'it is below 1'
    where p.id < 1
  ) as f (kind, detail)
$$;

alter function ledger_internal.verify_participants owner to ledger_owner;
comment on function ledger_internal.verify_participants is
  'The discrepancies of a group''s participants whose ids are above after and, where it is given, not above upto. For the owner.';
revoke execute on function ledger_internal.verify_participants from public;
-- <<< db/functions/internal/verify/verify_participants.sql

-- >>> db/functions/internal/verify/verify_total.sql
-- Find the discrepancies of a group as a whole.
create or replace function ledger_internal.verify_total(
  group_id bigint
) returns setof ledger.discrepancy
language sql stable
as $$
  select
    verify_total.group_id,
    f.entry_id,
    f.participant_id,
    f.kind,
    f.detail
  from (
    select t.entry_id, t.participant_id, t.kind, t.detail
    from ledger_internal.total_discrepancies(verify_total.group_id) as t
    union all
    select s.entry_id, null, 'settlement', 'it is settled, and is no exit'
    from ledger.settlements as s
    left join ledger.entries as e on e.group_id = s.group_id and e.id = s.entry_id
    where s.group_id = verify_total.group_id
      and e.kind is distinct from 'exit'
    union all
    select
      null,
      null,
      'total time',
      format('shard %s changed at %s, and with its last join, deposit or exit at %s', c.slot, c.changed_at, last.created_at)
    from ledger.group_total_shards as c
    cross join ledger_internal.verify_bounds() as b
    left join lateral (
      select t.created_at
      from ledger.group_total_history as t
      where t.group_id = c.group_id
        and t.slot = c.slot
      order by t.created_at desc, t.entry_id desc
      limit 1
    ) as last on true
    where c.group_id = verify_total.group_id
      and (c.changed_at > b.latest or c.changed_at = '-infinity' or c.changed_at < last.created_at)
    union all
    select s.entry_id, s.participant_id, s.kind, s.detail
    from ledger_internal.shared_identity_discrepancies(verify_total.group_id) as s
    union all
    select r.entry_id, r.participant_id, r.kind, r.detail
    from ledger_internal.rename_discrepancies(verify_total.group_id) as r
    union all
    select l.entry_id, l.participant_id, 'sequence', 'it will give ids again that are in use'
    from (
      select
        (select max(e.id) from ledger.entries as e where e.group_id = verify_total.group_id),
        null,
        (select s.last_value - (not s.is_called)::integer from ledger.entries_id_seq as s)
      union all
      select
        null,
        (select max(p.id) from ledger.participants as p where p.group_id = verify_total.group_id),
        (select s.last_value - (not s.is_called)::integer from ledger.participants_id_seq as s)
    ) as l (entry_id, participant_id, given)
    where coalesce(l.entry_id, l.participant_id) > l.given
    union all
    select null, null, 'idempotency key', 'there is an empty key'
    from ledger.idempotency_keys as k
    where k.group_id = verify_total.group_id
      and k.key = ''
  ) as f (entry_id, participant_id, kind, detail)
$$;

alter function ledger_internal.verify_total owner to ledger_owner;
comment on function ledger_internal.verify_total is
  'The discrepancies of a group as a whole: its shards and their history, its settlements, changes of names, usernames and addresses that two have, and ids above those that were given. For the owner.';
revoke execute on function ledger_internal.verify_total from public;
-- <<< db/functions/internal/verify/verify_total.sql

-- >>> db/functions/owner/drop_checkpoint_chunks.sql
-- Delete the leaves of a group's old checkpoints that can be computed again.
create or replace function ledger.drop_checkpoint_chunks(
  group_id bigint,
  keep     bigint
) returns bigint
language plpgsql volatile
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  newest     checkpoints;
  checkpoint checkpoints;
  dropped    bigint := 0;
begin
  perform refuse_invalid(
    array['group_id', 'keep'],
    array[invalid_id(group_id), case when (keep >= 1) is not true then 'must be 1 or more' end]
  );
  newest := find_checkpoint(group_id);

  for checkpoint in
    select c.*
    from checkpoints as c
    where c.group_id = drop_checkpoint_chunks.group_id
      and c.number <= newest.number - keep
      and c.generation = (select max(f.generation) from feeds as f)
      and exists (
        select from checkpoint_chunks as k
        where k.group_id = c.group_id
          and k.number = c.number
      )
    order by c.number
  loop
    -- Raises where the record gives another root.
    perform from recompute_chunks(checkpoint);
    delete from checkpoint_chunks as k
    where k.group_id = checkpoint.group_id
      and k.number = checkpoint.number;
    dropped := dropped + 1;
  end loop;
  return dropped;
end
$$;

alter function ledger.drop_checkpoint_chunks owner to ledger_owner;
comment on function ledger.drop_checkpoint_chunks is
  'Delete the leaves of all checkpoints of the group but the newest ones, keep of them, after each was computed from the record once; return how many checkpoints lost theirs. Those from before a restore keep them. list_leaves and get_proof compute the leaves from then on. Raises LG001, LG002. For the owner.';
revoke execute on function ledger.drop_checkpoint_chunks from public;
-- <<< db/functions/owner/drop_checkpoint_chunks.sql

drop type if exists
  ledger.vault_status, ledger.link_result, ledger.credit_result, ledger.payout_result, ledger.publication_result,
  ledger.publication, ledger.unpaid_exit, ledger.open_exit, ledger.open_transaction, ledger.bridge_result,
  ledger_internal.parsed_snapshot, ledger_internal.adoption_target;
drop table if exists
  ledger.adoptions, ledger.bridge_transactions, ledger.exit_requests, ledger.publications, ledger.payouts,
  ledger.vault_deposits, ledger.unknown_roots, ledger.vaults;
