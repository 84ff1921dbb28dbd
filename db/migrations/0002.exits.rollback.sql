-- Undo: exits. Refused while a deposit, an address, the transaction of a settlement or a checkpoint is recorded.

set local lock_timeout = '5s';
set local role ledger_owner;

do $$
declare
  kept text;
begin
  -- A snapshot from before the lock would not show what was committed during the wait.
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception using
      errcode = 'object_not_in_prerequisite_state',
      message = 'the ledger is rolled back at READ COMMITTED only',
      hint    = 'Set default_transaction_isolation of the database or the login to read committed.';
  end if;
  lock table ledger.participants, ledger.entries, ledger.settlements in access exclusive mode;
  if to_regclass('ledger.checkpoints') is not null then
    lock table ledger.checkpoints in access exclusive mode;
    if exists (select from ledger.checkpoints) then
      kept := 'checkpoints';
    end if;
  end if;

  if exists (select from ledger.entries as e where e.kind = 'deposit') then
    kept := 'deposits';
  -- A roll-back that was killed before its mark has dropped the columns.
  elsif to_regtype('ledger.ethereum_address') is null then
    null;
  elsif exists (select from ledger.participants as p where p.address is not null) then
    kept := 'addresses';
  elsif exists (select from ledger.settlements as s where s.settled_xid is not null) then
    kept := 'the transactions of settlements';
  end if;
  if kept is not null then
    raise exception using
      errcode = 'object_not_in_prerequisite_state',
      message = format('the ledger has %s: rolling the migration back would lose them', kept),
      hint    = 'Keep the migration, and correct what is wrong by a later one.';
  end if;
end
$$;

drop index if exists ledger.group_total_history_of_deposits;
alter table ledger.group_total_history
  drop column if exists participant_id;
drop index if exists ledger.participants_address_unique_while_present;
drop index if exists ledger.participants_as_addressed;
alter table ledger.participants
  drop column if exists address,
  drop column if exists address_xid;
create or replace trigger settlements_are_final
  before update on ledger.settlements
  for each row
  when (
    old.settled_at is not null
    or (old.group_id <> new.group_id or old.entry_id <> new.entry_id or old.exited_at <> new.exited_at)
  )
  execute function ledger_internal.forbid_mutation();
drop index if exists ledger.settlements_as_committed;
alter table ledger.settlements
  drop column if exists settled_xid;
drop domain if exists ledger.ethereum_address;

comment on table ledger.entries is
  'The permanent record: every movement with both its legs. Money enters a group by a join and leaves it by an exit.';
comment on column ledger.entries.kind is 'join, transfer or exit.';
comment on column ledger.entries.from_id is 'The participant whose balance decreased; null for a join, whose money comes from the main network.';
comment on column ledger.record.kind is 'join, transfer or exit.';
comment on column ledger.record.from_id is 'The participant whose balance decreased; null for a join.';
comment on table ledger.group_total_shards is
  'The total of a group''s balances in eight shards, so that joins and exits of different sessions do not wait for each other.';
comment on column ledger.group_total_shards.changed_at is 'The time of the last join or exit counted in this shard, or a later one.';
comment on table ledger.group_total_history is
  'The total of each shard after each join and exit, to look up a group''s total at a past moment.';
comment on column ledger.group_total_history.entry_id is 'The join or exit.';

-- Functions may call each other in any order.
set local check_function_bodies = off;

-- >>> db/functions/api/bind_address.sql
drop function if exists ledger.bind_address;
-- <<< db/functions/api/bind_address.sql

-- >>> db/functions/api/checkpoint.sql
drop function if exists ledger.checkpoint;
-- <<< db/functions/api/checkpoint.sql

-- >>> db/functions/api/deposit.sql
drop function if exists ledger.deposit;
-- <<< db/functions/api/deposit.sql

-- >>> db/functions/api/get_address.sql
drop function if exists ledger.get_address;
-- <<< db/functions/api/get_address.sql

-- >>> db/functions/api/get_checkpoint.sql
drop function if exists ledger.get_checkpoint;
-- <<< db/functions/api/get_checkpoint.sql

-- >>> db/functions/api/get_proof.sql
drop function if exists ledger.get_proof;
-- <<< db/functions/api/get_proof.sql

-- >>> db/functions/api/list_checkpoints.sql
drop function if exists ledger.list_checkpoints;
-- <<< db/functions/api/list_checkpoints.sql

-- >>> db/functions/api/list_leaves.sql
drop function if exists ledger.list_leaves;
-- <<< db/functions/api/list_leaves.sql

-- >>> db/functions/api/list_newest_checkpoints.sql
drop function if exists ledger.list_newest_checkpoints;
-- <<< db/functions/api/list_newest_checkpoints.sql

-- >>> db/functions/api/verify_proof.sql
drop function if exists ledger.verify_proof;
-- <<< db/functions/api/verify_proof.sql

-- >>> db/functions/internal/addresses/assign_address.sql
drop function if exists ledger_internal.assign_address;
-- <<< db/functions/internal/addresses/assign_address.sql

-- >>> db/functions/internal/addresses/format_address.sql
drop function if exists ledger_internal.format_address;
-- <<< db/functions/internal/addresses/format_address.sql

-- >>> db/functions/internal/addresses/keccak_256.sql
drop function if exists ledger_internal.keccak_256;
-- <<< db/functions/internal/addresses/keccak_256.sql

-- >>> db/functions/internal/addresses/permute_lanes.sql
drop function if exists ledger_internal.permute_lanes;
-- <<< db/functions/internal/addresses/permute_lanes.sql

-- >>> db/functions/internal/checkpoints/add_checkpoint.sql
drop function if exists ledger_internal.add_checkpoint;
-- <<< db/functions/internal/checkpoints/add_checkpoint.sql

-- >>> db/functions/internal/checkpoints/checkpoint_books.sql
drop function if exists ledger_internal.checkpoint_books;
-- <<< db/functions/internal/checkpoints/checkpoint_books.sql

-- >>> db/functions/internal/checkpoints/checkpoint_is_current.sql
drop function if exists ledger_internal.checkpoint_is_current;
-- <<< db/functions/internal/checkpoints/checkpoint_is_current.sql

-- >>> db/functions/internal/checkpoints/chunk_tree.sql
drop function if exists ledger_internal.chunk_tree;
-- <<< db/functions/internal/checkpoints/chunk_tree.sql

-- >>> db/functions/internal/checkpoints/chunks_of.sql
drop function if exists ledger_internal.chunks_of;
-- <<< db/functions/internal/checkpoints/chunks_of.sql

-- >>> db/functions/internal/checkpoints/current_leaves.sql
drop function if exists ledger_internal.current_leaves;
-- <<< db/functions/internal/checkpoints/current_leaves.sql

-- >>> db/functions/internal/checkpoints/find_checkpoint.sql
drop function if exists ledger_internal.find_checkpoint;
-- <<< db/functions/internal/checkpoints/find_checkpoint.sql

-- >>> db/functions/internal/checkpoints/leaves_at.sql
drop function if exists ledger_internal.leaves_at;
-- <<< db/functions/internal/checkpoints/leaves_at.sql

-- >>> db/functions/internal/checkpoints/pack_chunk.sql
drop function if exists ledger_internal.pack_chunk;
-- <<< db/functions/internal/checkpoints/pack_chunk.sql

-- >>> db/functions/internal/checkpoints/recompute_chunks.sql
drop function if exists ledger_internal.recompute_chunks;
-- <<< db/functions/internal/checkpoints/recompute_chunks.sql

-- >>> db/functions/internal/checkpoints/seal_entries.sql
drop function if exists ledger_internal.seal_entries;
-- <<< db/functions/internal/checkpoints/seal_entries.sql

-- >>> db/functions/internal/checkpoints/unpack_chunk.sql
drop function if exists ledger_internal.unpack_chunk;
-- <<< db/functions/internal/checkpoints/unpack_chunk.sql

-- >>> db/functions/internal/checkpoints/unpack_leaves.sql
drop function if exists ledger_internal.unpack_leaves;
-- <<< db/functions/internal/checkpoints/unpack_leaves.sql

-- >>> db/functions/internal/checkpoints/write_chunks.sql
drop function if exists ledger_internal.write_chunks;
-- <<< db/functions/internal/checkpoints/write_chunks.sql

-- >>> db/functions/internal/errors/refuse_bound_address.sql
drop function if exists ledger_internal.refuse_bound_address;
-- <<< db/functions/internal/errors/refuse_bound_address.sql

-- >>> db/functions/internal/errors/refuse_large_group.sql
drop function if exists ledger_internal.refuse_large_group;
-- <<< db/functions/internal/errors/refuse_large_group.sql

-- >>> db/functions/internal/errors/refuse_taken_address.sql
drop function if exists ledger_internal.refuse_taken_address;
-- <<< db/functions/internal/errors/refuse_taken_address.sql

-- >>> db/functions/internal/errors/refuse_unknown_checkpoint.sql
drop function if exists ledger_internal.refuse_unknown_checkpoint;
-- <<< db/functions/internal/errors/refuse_unknown_checkpoint.sql

-- >>> db/functions/internal/feed/current_feed.sql
drop function if exists ledger_internal.current_feed;
-- <<< db/functions/internal/feed/current_feed.sql

-- >>> db/functions/internal/history/entries_source.sql
drop function if exists ledger_internal.entries_source;
-- <<< db/functions/internal/history/entries_source.sql

-- >>> db/functions/internal/history/participant_entries_source.sql
drop function if exists ledger_internal.participant_entries_source;
-- <<< db/functions/internal/history/participant_entries_source.sql

-- >>> db/functions/internal/history/record_name_change.sql
drop function if exists ledger_internal.record_name_change;
-- <<< db/functions/internal/history/record_name_change.sql

-- >>> db/functions/internal/idempotency/transfer_all_request.sql
drop function if exists ledger_internal.transfer_all_request;
-- <<< db/functions/internal/idempotency/transfer_all_request.sql

-- >>> db/functions/internal/proofs/domain_hash.sql
drop function if exists ledger_internal.domain_hash;
-- <<< db/functions/internal/proofs/domain_hash.sql

-- >>> db/functions/internal/proofs/fold_tree.sql
drop function if exists ledger_internal.fold_tree;
-- <<< db/functions/internal/proofs/fold_tree.sql

-- >>> db/functions/internal/proofs/header_hash.sql
drop function if exists ledger_internal.header_hash;
-- <<< db/functions/internal/proofs/header_hash.sql

-- >>> db/functions/internal/proofs/hex.sql
drop function if exists ledger_internal.hex;
-- <<< db/functions/internal/proofs/hex.sql

-- >>> db/functions/internal/proofs/invalid_hash.sql
drop function if exists ledger_internal.invalid_hash;
-- <<< db/functions/internal/proofs/invalid_hash.sql

-- >>> db/functions/internal/proofs/json_digits.sql
drop function if exists ledger_internal.json_digits;
-- <<< db/functions/internal/proofs/json_digits.sql

-- >>> db/functions/internal/proofs/json_hex.sql
drop function if exists ledger_internal.json_hex;
-- <<< db/functions/internal/proofs/json_hex.sql

-- >>> db/functions/internal/proofs/leaf_hash.sql
drop function if exists ledger_internal.leaf_hash;
-- <<< db/functions/internal/proofs/leaf_hash.sql

-- >>> db/functions/internal/proofs/node_hash.sql
drop function if exists ledger_internal.node_hash;
-- <<< db/functions/internal/proofs/node_hash.sql

-- >>> db/functions/internal/proofs/pack_leaf.sql
drop function if exists ledger_internal.pack_leaf;
-- <<< db/functions/internal/proofs/pack_leaf.sql

-- >>> db/functions/internal/proofs/parse_hex.sql
drop function if exists ledger_internal.parse_hex;
-- <<< db/functions/internal/proofs/parse_hex.sql

-- >>> db/functions/internal/proofs/proof_is_valid.sql
drop function if exists ledger_internal.proof_is_valid;
-- <<< db/functions/internal/proofs/proof_is_valid.sql

-- >>> db/functions/internal/proofs/sibling_count.sql
drop function if exists ledger_internal.sibling_count;
-- <<< db/functions/internal/proofs/sibling_count.sql

-- >>> db/functions/internal/proofs/word.sql
drop function if exists ledger_internal.word;
-- <<< db/functions/internal/proofs/word.sql

-- >>> db/functions/internal/proofs/word_amount.sql
drop function if exists ledger_internal.word_amount;
-- <<< db/functions/internal/proofs/word_amount.sql

-- >>> db/functions/internal/validation/invalid_address.sql
drop function if exists ledger_internal.invalid_address;
-- <<< db/functions/internal/validation/invalid_address.sql

-- >>> db/functions/internal/validation/parse_address.sql
drop function if exists ledger_internal.parse_address;
-- <<< db/functions/internal/validation/parse_address.sql

-- >>> db/functions/internal/validation/read_transfer_lines.sql
drop function if exists ledger_internal.read_transfer_lines;
-- <<< db/functions/internal/validation/read_transfer_lines.sql

-- >>> db/functions/internal/verify/answer_agrees.sql
drop function if exists ledger_internal.answer_agrees;
-- <<< db/functions/internal/verify/answer_agrees.sql

-- >>> db/functions/internal/verify/answered_balance_discrepancies.sql
drop function if exists ledger_internal.answered_balance_discrepancies;
-- <<< db/functions/internal/verify/answered_balance_discrepancies.sql

-- >>> db/functions/internal/verify/answered_entries.sql
drop function if exists ledger_internal.answered_entries;
-- <<< db/functions/internal/verify/answered_entries.sql

-- >>> db/functions/internal/verify/api_key_discrepancies.sql
drop function if exists ledger_internal.api_key_discrepancies;
-- <<< db/functions/internal/verify/api_key_discrepancies.sql

-- >>> db/functions/internal/verify/checkpoint_record_discrepancies.sql
drop function if exists ledger_internal.checkpoint_record_discrepancies;
-- <<< db/functions/internal/verify/checkpoint_record_discrepancies.sql

-- >>> db/functions/internal/verify/entry_form_discrepancies.sql
drop function if exists ledger_internal.entry_form_discrepancies;
-- <<< db/functions/internal/verify/entry_form_discrepancies.sql

-- >>> db/functions/internal/verify/entry_leg_discrepancies.sql
drop function if exists ledger_internal.entry_leg_discrepancies;
-- <<< db/functions/internal/verify/entry_leg_discrepancies.sql

-- >>> db/functions/internal/verify/entry_origin_discrepancies.sql
drop function if exists ledger_internal.entry_origin_discrepancies;
-- <<< db/functions/internal/verify/entry_origin_discrepancies.sql

-- >>> db/functions/internal/verify/entry_total_discrepancies.sql
drop function if exists ledger_internal.entry_total_discrepancies;
-- <<< db/functions/internal/verify/entry_total_discrepancies.sql

-- >>> db/functions/internal/verify/feed_discrepancies.sql
drop function if exists ledger_internal.feed_discrepancies;
-- <<< db/functions/internal/verify/feed_discrepancies.sql

-- >>> db/functions/internal/verify/group_time_discrepancies.sql
drop function if exists ledger_internal.group_time_discrepancies;
-- <<< db/functions/internal/verify/group_time_discrepancies.sql

-- >>> db/functions/internal/verify/header_discrepancies.sql
drop function if exists ledger_internal.header_discrepancies;
-- <<< db/functions/internal/verify/header_discrepancies.sql

-- >>> db/functions/internal/verify/leaf_discrepancies.sql
drop function if exists ledger_internal.leaf_discrepancies;
-- <<< db/functions/internal/verify/leaf_discrepancies.sql

-- >>> db/functions/internal/verify/orphan_discrepancies.sql
drop function if exists ledger_internal.orphan_discrepancies;
-- <<< db/functions/internal/verify/orphan_discrepancies.sql

-- >>> db/functions/internal/verify/participant_record_discrepancies.sql
drop function if exists ledger_internal.participant_record_discrepancies;
-- <<< db/functions/internal/verify/participant_record_discrepancies.sql

-- >>> db/functions/internal/verify/recorded_request.sql
drop function if exists ledger_internal.recorded_request;
-- <<< db/functions/internal/verify/recorded_request.sql

-- >>> db/functions/internal/verify/rename_discrepancies.sql
drop function if exists ledger_internal.rename_discrepancies;
-- <<< db/functions/internal/verify/rename_discrepancies.sql

-- >>> db/functions/internal/verify/reversal_discrepancies.sql
drop function if exists ledger_internal.reversal_discrepancies;
-- <<< db/functions/internal/verify/reversal_discrepancies.sql

-- >>> db/functions/internal/verify/rights_discrepancies.sql
drop function if exists ledger_internal.rights_discrepancies;
-- <<< db/functions/internal/verify/rights_discrepancies.sql

-- >>> db/functions/internal/verify/settlement_discrepancies.sql
drop function if exists ledger_internal.settlement_discrepancies;
-- <<< db/functions/internal/verify/settlement_discrepancies.sql

-- >>> db/functions/internal/verify/shared_identity_discrepancies.sql
drop function if exists ledger_internal.shared_identity_discrepancies;
-- <<< db/functions/internal/verify/shared_identity_discrepancies.sql

-- >>> db/functions/internal/verify/total_discrepancies.sql
drop function if exists ledger_internal.total_discrepancies;
-- <<< db/functions/internal/verify/total_discrepancies.sql

-- >>> db/functions/internal/verify/trigger_discrepancies.sql
drop function if exists ledger_internal.trigger_discrepancies;
-- <<< db/functions/internal/verify/trigger_discrepancies.sql

-- >>> db/functions/internal/verify/verify_checkpoints.sql
drop function if exists ledger_internal.verify_checkpoints;
-- <<< db/functions/internal/verify/verify_checkpoints.sql

-- >>> db/functions/internal/verify/verify_kept.sql
drop function if exists ledger_internal.verify_kept;
-- <<< db/functions/internal/verify/verify_kept.sql

-- >>> db/functions/owner/drop_checkpoint_chunks.sql
drop function if exists ledger.drop_checkpoint_chunks;
-- <<< db/functions/owner/drop_checkpoint_chunks.sql

-- >>> db/functions/api/exit_group.sql
drop function if exists ledger.exit_group;
-- Leave a group with the final amount, which returns to the main network.
create or replace function ledger.exit_group(
  group_id        bigint,
  participant_id  bigint,
  idempotency_key text  default null,
  metadata        jsonb default null
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
    array['group_id', 'participant_id', 'idempotency_key', 'metadata'],
    array[invalid_id(group_id), invalid_id(participant_id), invalid_idempotency_key(idempotency_key), invalid_metadata(metadata)]
  );

  request := array['exit_group', participant_id::text, metadata::text];
  exited := claim_idempotency_key(group_id, idempotency_key, request, exited);
  if exited.replayed then
    return exited;
  end if;

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
  'Leave the group with all that the participant holds, the final amount. entry_id is the entry written. Raises LG001, LG002, LG006.';
revoke execute on function ledger.exit_group from public;
grant execute on function ledger.exit_group to ledger_api;
-- <<< db/functions/api/exit_group.sql

-- >>> db/functions/api/group_total.sql
-- Return what a group's participants hold together, now or at a past moment.
create or replace function ledger.group_total(
  group_id bigint,
  at_time  timestamptz default null,
  at_entry bigint      default null
) returns numeric
language plpgsql stable security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  total numeric;
begin
  -- A transfer does not change the total, so joins and exits maintain it in eight shards, and no balances are added up.
  if at_time is null and at_entry is null then
    select sum(c.total)
    into total
    from groups as g
    join group_total_shards as c on c.group_id = g.id
    where g.id = group_total.group_id
      and g.closed_at is null;
  else
    total := group_total_at(group_id, history_position(group_id, at_time, at_entry));
  end if;

  if total is null then
    perform refuse_unknown_group(group_id);
  end if;
  return total;
end
$$;

alter function ledger.group_total owner to ledger_owner;
comment on function ledger.group_total is
  'What the participants present in the group hold together; 0 when it is empty. With a time, or an entry of the group, what they held then. Raises LG001, LG002.';
revoke execute on function ledger.group_total from public;
grant execute on function ledger.group_total to ledger_api;
-- <<< db/functions/api/group_total.sql

-- >>> db/functions/api/join_group.sql
drop function if exists ledger.join_group;
-- Join a group with a deposit from the main network.
create or replace function ledger.join_group(
  group_id        bigint,
  username        text,
  amount          numeric,
  idempotency_key text  default null,
  metadata        jsonb default null
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
    invalid_id(group_id), null, invalid_amount(amount, 0), invalid_idempotency_key(idempotency_key), invalid_metadata(metadata)
  ];
  -- Invalid values are not converted to text, which could be very long.
  if idempotency_key is not null and cardinality(array_remove(reasons, null)) = 0 then
    request := array['join_group', username, trunc(amount)::text, metadata::text];
  end if;
  reasons[2] := invalid_new_name(username, group_id, idempotency_key, request);
  perform refuse_invalid(array['group_id', 'username', 'amount', 'idempotency_key', 'metadata'], reasons);

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
  insert into participants (group_id, username, amount)
  select
    join_group.group_id,
    normalize(join_group.username, NFC),
    join_group.amount
  where octet_length(join_group.username) = char_length(join_group.username)
    or find_participant_id(
      join_group.group_id, array_remove(name_spellings(join_group.username), normalize(join_group.username, NFC))
    ) is null
  on conflict do nothing
  returning participants.username, participants.id, participants.group_id, participants.amount
  into joined.username, joined.id, joined.group_id, joined.amount;
  if not found then
    perform refuse_taken_name(
      'username', username, 'participant ' || find_participant_id(group_id, name_spellings(username))::text
    );
  end if;

  -- A join that waits for a username holds no shard, so the time is known only now.
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
  'Join a group under a username, composed (NFC), that no one present has, with a deposit of 0 or more. entry_id is the entry written. Raises LG001, LG002, LG005, LG006.';
revoke execute on function ledger.join_group from public;
grant execute on function ledger.join_group to ledger_api;
-- <<< db/functions/api/join_group.sql

-- >>> db/functions/api/list_entries.sql
-- List a group's entries, a page at a time, in the order of their time.
create or replace function ledger.list_entries(
  group_id     bigint,
  kind         text        default null,
  settled      boolean     default null,
  metadata     jsonb       default null,
  since        timestamptz default null,
  until        timestamptz default null,
  after        bigint      default null,
  before       bigint      default null,
  newest_first boolean     default false,
  max_rows     integer     default 1000
) returns setof ledger.record
language plpgsql stable security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  kinds  text[] := case when kind is null then array['join', 'transfer', 'exit'] else array[kind] end;
  bounds ledger_internal.history_range;
  source text;
begin
  perform refuse_invalid(
    array['group_id', 'kind', 'settled', 'metadata'],
    array[
      invalid_id(group_id),
      invalid_kind(kind),
      case when settled is not null and kind <> 'exit' then 'goes with the kind exit' end,
      invalid_metadata(metadata)
    ]
  );
  bounds := history_range(group_id, since, until, after, before);

  -- Planned at each call, for its filter and its direction: a range of one index, whatever is stored.
  if metadata is not null then
    -- Found through the index on groups and metadata alone, then sorted: meant for values that few entries have.
    source := $source$
      entries_with_metadata($1, $9) as e
      where e.kind = any ($2) and ($8 is null or exists (
        select from settlements as s
        where s.group_id = $1 and s.entry_id = e.id and (s.settled_at is not null) = $8
      ))
    $source$;
  elsif settled is not null then
    source := replace(
      $source$
        (select s.exited_at as created_at, s.entry_id as id from settlements as s
        where s.group_id = $1 and s.settled_at {state}
          and (s.exited_at, s.entry_id) > ($3, $4) and (s.exited_at, s.entry_id) < ($5, $6)
        order by s.exited_at {direction}, s.entry_id {direction} limit $7) as e
        where true
      $source$,
      '{state}',
      -- Spelled as the condition of an index.
      case when settled then 'is not null' else 'is null' end
    );
  else
    source := $source$
      unnest($2) as k (kind) cross join lateral (
        select f.created_at, f.id from entries as f
        where f.group_id = $1 and f.kind = k.kind
          and (f.created_at, f.id) > ($3, $4) and (f.created_at, f.id) < ($5, $6)
        order by f.created_at {direction}, f.id {direction} limit $7
      ) as e
      where true
    $source$;
  end if;

  return query execute history_query(source, newest_first)
  using
    group_id, kinds, bounds.low_at, bounds.low_id, bounds.high_at, bounds.high_id,
    greatest(coalesce(max_rows, 1000), 0), settled, metadata;
end
$$;

alter function ledger.list_entries owner to ledger_owner;
comment on function ledger.list_entries is
  'The entries of a group, also of one that was removed, by time and then id: those of a kind, exits that are settled or not, those whose metadata contain a JSON object, since a time and until before another, after and before another entry; at most max_rows of them. Raises LG001, LG002.';
revoke execute on function ledger.list_entries from public;
grant execute on function ledger.list_entries to ledger_api;
-- <<< db/functions/api/list_entries.sql

-- >>> db/functions/api/list_participant_entries.sql
-- List the entries of one participant, a page at a time, in the order of their time.
create or replace function ledger.list_participant_entries(
  group_id       bigint,
  participant_id bigint,
  kind           text        default null,
  metadata       jsonb       default null,
  since          timestamptz default null,
  until          timestamptz default null,
  after          bigint      default null,
  before         bigint      default null,
  newest_first   boolean     default false,
  max_rows       integer     default 1000
) returns setof ledger.record
language plpgsql stable security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  kinds  text[] := case when kind is null then array['join', 'transfer', 'exit'] else array[kind] end;
  bounds ledger_internal.history_range;
  source text;
begin
  perform refuse_invalid(
    array['group_id', 'participant_id', 'kind', 'metadata'],
    array[invalid_id(group_id), invalid_id(participant_id), invalid_kind(kind), invalid_metadata(metadata)]
  );
  bounds := history_range(group_id, since, until, after, before);
  if not exists (
    select from participants as p
    where p.group_id = list_participant_entries.group_id
      and p.id = list_participant_entries.participant_id
  ) then
    perform refuse_unknown_participants(group_id, array['participant_id'], array[participant_id], in_history => true);
  end if;

  -- Planned at each call, for its filter and its direction: a range of each leg's index.
  if metadata is not null then
    source := $source$
      entries_with_metadata($1, $9) as e
      where $8 in (e.from_id, e.to_id) and e.kind = any ($2)
    $source$;
  else
    -- A participant's first entry is the join, and the last one may be the exit: neither is looked for further.
    source := $source$
      (
        (select f.created_at, f.id from entries as f
        where 'transfer' = any ($2) and f.group_id = $1 and f.from_id = $8 and f.kind = 'transfer'
          and (f.created_at, f.id) > ($3, $4) and (f.created_at, f.id) < ($5, $6)
        order by f.created_at {direction}, f.id {direction} limit $7)
        union all
        (select f.created_at, f.id from entries as f
        where 'transfer' = any ($2) and f.group_id = $1 and f.to_id = $8 and f.kind = 'transfer'
          and (f.created_at, f.id) > ($3, $4) and (f.created_at, f.id) < ($5, $6)
        order by f.created_at {direction}, f.id {direction} limit $7)
        union all
        select f.created_at, f.id from (
          select * from entries as f
          where 'join' = any ($2) and f.group_id = $1 and f.to_id = $8
          order by f.created_at, f.id limit 1
        ) as f
        where f.kind = 'join'
        union all
        select f.created_at, f.id from (
          select * from entries as f
          where 'exit' = any ($2) and f.group_id = $1 and f.from_id = $8
          order by f.created_at desc, f.id desc limit 1
        ) as f
        where f.kind = 'exit'
      ) as e
      where true
    $source$;
  end if;

  return query execute history_query(source, newest_first)
  using
    group_id, kinds, bounds.low_at, bounds.low_id, bounds.high_at, bounds.high_id,
    greatest(coalesce(max_rows, 1000), 0), participant_id, metadata;
end
$$;

alter function ledger.list_participant_entries owner to ledger_owner;
comment on function ledger.list_participant_entries is
  'The entries of a present or former participant, by time and then id, chosen as with list_entries. Raises LG001, LG002.';
revoke execute on function ledger.list_participant_entries from public;
grant execute on function ledger.list_participant_entries to ledger_api;
-- <<< db/functions/api/list_participant_entries.sql

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

  -- Each join and exit updates a shard. Locking them waits for exits under way, and, above READ COMMITTED, fails
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

-- >>> db/functions/api/rename_group.sql
-- Rename a group.
create or replace function ledger.rename_group(
  group_id        bigint,
  name            text,
  idempotency_key text default null
) returns ledger.group_result
language plpgsql volatile security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  request       text[] := array['rename_group', name];
  new_name      text;
  old_name      text;
  taken_by      bigint;
  renamed_group group_result;
begin
  perform refuse_invalid(
    array['group_id', 'name', 'idempotency_key'],
    array[
      invalid_id(group_id),
      invalid_new_name(name, group_id, idempotency_key, request),
      invalid_idempotency_key(idempotency_key)
    ]
  );

  renamed_group := claim_idempotency_key(group_id, idempotency_key, request, renamed_group);
  if renamed_group.replayed then
    return renamed_group;
  end if;

  select g.name
  into old_name
  from groups as g
  where g.id = rename_group.group_id
    and g.closed_at is null
  for no key update;
  if not found then
    perform refuse_unknown_group(group_id);
  end if;

  -- Do not wait for a taken name: two groups that are renamed to each other's names would wait for each other.
  taken_by := find_group_id(name_spellings(name), group_id);
  if taken_by is not null then
    perform refuse_taken_name('name', name, 'group ' || taken_by::text);
  end if;
  new_name := normalize(name, NFC);
  begin
    update groups as g
    set name = new_name
    where g.id = rename_group.group_id
    returning g.name, g.id into renamed_group.name, renamed_group.id;
  exception when unique_violation then
    perform refuse_taken_name('name', name, 'group ' || find_group_id(name_spellings(name), group_id)::text);
  end;

  if old_name <> new_name then
    insert into name_changes (group_id, old_name, new_name)
    values (rename_group.group_id, old_name, new_name);
  end if;

  renamed_group.replayed := false;
  perform store_answer(group_id, idempotency_key, request, renamed_group);
  return renamed_group;
end
$$;

alter function ledger.rename_group owner to ledger_owner;
comment on function ledger.rename_group is
  'Give an existing group a name, composed (NFC), that no other existing group has; the change is kept in ledger.renames. Raises LG001, LG002, LG005, LG006.';
revoke execute on function ledger.rename_group from public;
grant execute on function ledger.rename_group to ledger_api;
-- <<< db/functions/api/rename_group.sql

-- >>> db/functions/api/rename_participant.sql
-- Rename a participant.
create or replace function ledger.rename_participant(
  group_id        bigint,
  participant_id  bigint,
  username        text,
  idempotency_key text default null
) returns ledger.participant_result
language plpgsql volatile security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  request     text[] := array['rename_participant', participant_id::text, username];
  new_name    text;
  old_name    text;
  taken_by    bigint;
  participant participant_result;
begin
  perform refuse_invalid(
    array['group_id', 'participant_id', 'username', 'idempotency_key'],
    array[
      invalid_id(group_id),
      invalid_id(participant_id),
      invalid_new_name(username, group_id, idempotency_key, request),
      invalid_idempotency_key(idempotency_key)
    ]
  );

  participant := claim_idempotency_key(group_id, idempotency_key, request, participant);
  if participant.replayed then
    return participant;
  end if;

  select p.username
  into old_name
  from participants as p
  where p.group_id = rename_participant.group_id
    and p.id = rename_participant.participant_id
    and p.exited_at is null
  for no key update;
  if not found then
    perform refuse_unknown_participants(group_id, array['participant_id'], array[participant_id]);
  end if;

  -- Do not wait for a taken name: two participants that are renamed to each other's names would wait for each other.
  taken_by := find_participant_id(group_id, name_spellings(username), participant_id);
  if taken_by is not null then
    perform refuse_taken_name('username', username, 'participant ' || taken_by::text);
  end if;
  new_name := normalize(username, NFC);
  begin
    update participants as p
    set username = new_name
    where p.group_id = rename_participant.group_id
      and p.id = rename_participant.participant_id
    returning p.username, p.id, p.group_id, p.amount
    into participant.username, participant.id, participant.group_id, participant.amount;
  exception when unique_violation then
    perform refuse_taken_name(
      'username', username, 'participant ' || find_participant_id(group_id, name_spellings(username), participant_id)::text
    );
  end;

  if old_name <> new_name then
    insert into name_changes (group_id, participant_id, old_name, new_name)
    values (rename_participant.group_id, rename_participant.participant_id, old_name, new_name);
  end if;

  participant.replayed := false;
  perform store_answer(group_id, idempotency_key, request, participant);
  return participant;
end
$$;

alter function ledger.rename_participant owner to ledger_owner;
comment on function ledger.rename_participant is
  'Give a present participant a username, composed (NFC), that no other present participant has; ledger.renames records the change. Raises LG001, LG002, LG005, LG006.';
revoke execute on function ledger.rename_participant from public;
grant execute on function ledger.rename_participant to ledger_api;
-- <<< db/functions/api/rename_participant.sql

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
      settled_at = greatest(clock_timestamp(), settlement.exited_at)
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
    request := array[
      'transfer_all', lines.from_ids::text, lines.to_ids::text, lines.amounts::text, lines.metadatas::text
    ];
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

-- >>> db/functions/internal/constraints/entry_is_valid.sql
-- Check a row of the record, whatever function wrote it.
create or replace function ledger_internal.entry_is_valid(
  id          bigint,
  kind        text,
  from_id     bigint,
  to_id       bigint,
  amount      numeric,
  from_amount numeric,
  to_amount   numeric,
  metadata    jsonb,
  reverses    bigint
) returns boolean
language plpgsql immutable parallel safe
as $$
begin
  return (
    case
      when kind = 'transfer'
      then from_id <> to_id
        and from_amount >= 0 and from_amount < 2::numeric ^ 256
        and to_amount >= 0 and to_amount < 2::numeric ^ 256
      when kind = 'join'
      then from_id is null and from_amount is null
        and to_id is not null and to_amount >= 0 and to_amount < 2::numeric ^ 256
      when kind = 'exit'
      then to_id is null and to_amount is null
        and from_id is not null and from_amount >= 0 and from_amount < 2::numeric ^ 256
    end
    and amount >= 0 and amount < 2::numeric ^ 256
    and (metadata is null or jsonb_typeof(metadata) = 'object')
    and (reverses is null or kind = 'transfer' and reverses < id)
  ) is true;
end
$$;

alter function ledger_internal.entry_is_valid owner to ledger_owner;
comment on function ledger_internal.entry_is_valid is
  'Whether an entry has the legs that fit its kind, a balance for each of them, amounts from 0 to 2^256 - 1, metadata that are an object, and reverses an earlier entry if any. A function, because PostgreSQL reads the text of a check constraint for each statement: as expressions these took half of the time of a transfer.';
revoke execute on function ledger_internal.entry_is_valid from public;
-- <<< db/functions/internal/constraints/entry_is_valid.sql

-- >>> db/functions/internal/feed/parse_feed_cursor.sql
-- Parse a cursor of the feed.
create or replace function ledger_internal.parse_feed_cursor(
  after text
) returns ledger_internal.feed_position
language plpgsql stable
as $$
declare
  feed  ledger.feeds;
  part  text[];
  place ledger_internal.feed_position;
begin
  select f.*
  into feed
  from ledger.feeds as f
  order by f.generation desc
  limit 1;
  if feed.system_identifier <> (select c.system_identifier from pg_control_system() as c) then
    raise exception using
      errcode = 'LG009',
      column  = 'after',
      message = 'the ledger was restored into another server, so the feed has ended',
      detail  = 'after: belongs to the feed of another server',
      hint    = 'As the owner call ledger.restart_feed(); then read the new feed from its beginning, without a cursor.';
  end if;

  place.generation := feed.generation;
  place.last_restored := feed.last_restored;
  place.xid := feed.first_xid;
  place.id := 0;
  if after is null then
    if feed.last_restored > 0 then
      place.restored_xid := '0';
      place.restored_id := 0;
    end if;
    return place;
  end if;

  -- The type xid8 reads digits after a zero in base 8.
  part := regexp_match(after collate "C", '^([0-9]+)-(0|[1-9][0-9]*)-([0-9]+)$');
  if part is null or length(part[1]) > 9 or length(part[2]) > 19 or ledger_internal.parse_id(part[3]) is null then
    perform ledger_internal.refuse_invalid(array['after'], array['must be a cursor of the feed']);
  end if;
  if part[1]::integer <> feed.generation
    or (
      part[3]::bigint > feed.last_restored
      and (part[2]::xid8 < feed.first_xid or part[2]::xid8 >= pg_snapshot_xmax(pg_current_snapshot()))
    )
  then
    raise exception using
      errcode = 'LG009',
      column  = 'after',
      message = 'the cursor belongs to a feed that has ended',
      detail  = 'after: belongs to a feed that has ended',
      hint    = 'The ledger was reset, or restored from a backup. Read the feed from its beginning, without a cursor.';
  end if;
  if part[3]::bigint <= feed.last_restored then
    place.restored_xid := part[2]::xid8;
    place.restored_id := part[3]::bigint;
  else
    place.xid := part[2]::xid8;
    place.id := part[3]::bigint;
  end if;
  return place;
end
$$;

alter function ledger_internal.parse_feed_cursor owner to ledger_owner;
comment on function ledger_internal.parse_feed_cursor is
  'The position of a cursor in the feed; its beginning for null. Raises LG001 for an invalid cursor, LG009 for one of a feed that a reset or a restored backup ended.';
revoke execute on function ledger_internal.parse_feed_cursor from public;
-- <<< db/functions/internal/feed/parse_feed_cursor.sql

-- >>> db/functions/internal/totals/add_to_group_total.sql
-- Add a deposit to a group's total, or subtract an exit.
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
  -- A session always takes the same shard of the eight, so a transaction of many joins and exits locks only one shard
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

-- >>> db/functions/internal/totals/record_group_total.sql
drop function if exists ledger_internal.record_group_total;
-- Record the total of a shard after a join or an exit.
create or replace function ledger_internal.record_group_total(
  shard    ledger.group_total_shards,
  entry_id bigint
) returns void
language sql volatile
as $$
  insert into ledger.group_total_history (group_id, slot, created_at, entry_id, total)
  values (shard.group_id, shard.slot, shard.changed_at, record_group_total.entry_id, shard.total)
$$;

alter function ledger_internal.record_group_total owner to ledger_owner;
comment on function ledger_internal.record_group_total is
  'Record a shard''s total after an entry, so that a group''s total at a past moment is looked up instead of added up.';
revoke execute on function ledger_internal.record_group_total from public;
-- <<< db/functions/internal/totals/record_group_total.sql

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
      from unnest(lines.group_ids || lines.group_ids, lines.from_ids || lines.to_ids) as l (group_id, id)
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
      from unnest(lines.group_ids || lines.group_ids, lines.from_ids || lines.to_ids) as l (group_id, id)
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
  'Lock the present participants of the lines until the transaction ends, by ascending group and id. Without wait, all but those that another session has locked.';
revoke execute on function ledger_internal.lock_legs from public;
-- <<< db/functions/internal/transfers/lock_legs.sql

-- >>> db/functions/internal/validation/invalid_kind.sql
-- Return why a kind of entry is invalid; null if it is valid or not given.
create or replace function ledger_internal.invalid_kind(
  kind text
) returns text
language sql immutable parallel safe
as $$
  select case when invalid_kind.kind not in ('join', 'transfer', 'exit') then 'must be join, transfer or exit' end
$$;

alter function ledger_internal.invalid_kind owner to ledger_owner;
comment on function ledger_internal.invalid_kind is
  'Why a kind of entry is invalid; null if it is valid or null.';
revoke execute on function ledger_internal.invalid_kind from public;
-- <<< db/functions/internal/validation/invalid_kind.sql

-- >>> db/functions/internal/validation/parse_transfer_lines.sql
-- Parse the lines of a multi-party transfer.
create or replace function ledger_internal.parse_transfer_lines(
  group_id  bigint,
  transfers jsonb
) returns ledger_internal.transfer_lines
language plpgsql immutable
as $$
declare
  lines  ledger_internal.transfer_lines;
  valid  boolean;
  fields text[];
  reasons text[];
begin
  select
    bool_and((
      l.from_id <> l.to_id
      and ledger_internal.invalid_amount(l.amount, 1) is null
      and ledger_internal.invalid_metadata(l.metadata) is null
      and l.item - array['from', 'to', 'amount', 'metadata'] = '{}'
    ) is true),
    array_agg(l.from_id order by l.line),
    array_agg(l.to_id order by l.line),
    array_agg(l.amount order by l.line),
    case when count(l.metadata) > 0 then array_agg(l.metadata order by l.line) end
  into
    valid,
    lines.from_ids,
    lines.to_ids,
    lines.amounts,
    lines.metadatas
  from (
    -- 1e131071 is stored in a few bytes and written in 131,072, so numbers are not written out.
    select
      t.line,
      t.item,
      case
        when jsonb_typeof(t.from_id) = 'string'
        then ledger_internal.parse_id(t.from_id #>> '{}')
        when t.from_number between 1 and 9223372036854775807 and scale(t.from_number) = 0
        then t.from_number::bigint
      end as from_id,
      case
        when jsonb_typeof(t.to_id) = 'string'
        then ledger_internal.parse_id(t.to_id #>> '{}')
        when t.to_number between 1 and 9223372036854775807 and scale(t.to_number) = 0
        then t.to_number::bigint
      end as to_id,
      case
        when jsonb_typeof(t.amount) = 'string'
        then ledger_internal.parse_amount(t.amount #>> '{}')
        when t.amount_number between 0 and 1e78 and scale(t.amount_number) = 0
        then t.amount_number
      end as amount,
      t.metadata
    from (
      select
        v.*,
        case when jsonb_typeof(v.from_id) = 'number' then v.from_id::numeric end as from_number,
        case when jsonb_typeof(v.to_id) = 'number' then v.to_id::numeric end as to_number,
        case when jsonb_typeof(v.amount) = 'number' then v.amount::numeric end as amount_number
      from (
        select
          i.line,
          case when jsonb_typeof(i.item) = 'object' then i.item else '{"": ""}' end as item,
          i.item -> 'from' as from_id,
          i.item -> 'to' as to_id,
          i.item -> 'amount' as amount,
          nullif(i.item -> 'metadata', 'null') as metadata
        from jsonb_array_elements(parse_transfer_lines.transfers) with ordinality as i (item, line)
        -- Each value is read once, and not once for each place that asks for it.
        offset 0
      ) as v
      offset 0
    ) as t
    offset 0
  ) as l;

  if not valid then
    select
      f.fields,
      f.reasons
    into
      fields,
      reasons
    from ledger_internal.invalid_transfer_lines(transfers) as f;
    perform ledger_internal.refuse_invalid(fields, reasons);
  end if;
  lines.group_ids := array_fill(group_id, array[cardinality(lines.amounts)]);
  return lines;
end
$$;

alter function ledger_internal.parse_transfer_lines owner to ledger_owner;
comment on function ledger_internal.parse_transfer_lines is
  'The lines of a multi-party transfer in a group by columns, metadatas only if a line has any. Raises LG001 with the invalid fields of each line.';
revoke execute on function ledger_internal.parse_transfer_lines from public;
-- <<< db/functions/internal/validation/parse_transfer_lines.sql

-- >>> db/functions/internal/verify/answer_discrepancies.sql
-- Compare a stored answer and its fingerprint with the record.
create or replace function ledger_internal.answer_discrepancies(
  kept ledger.idempotency_keys
) returns setof ledger.discrepancy
language plpgsql stable
as $$
declare
  answer      jsonb := ledger_internal.parse_answer(kept.answer);
  of_entry    boolean := kept.operation in ('transfer', 'join_group', 'exit_group', 'reverse_transfer', 'settle_exit');
  named       bigint := ledger_internal.parse_id(coalesce(answer ->> 'entry_id', answer ->> 'id'));
  entry       ledger.entries;
  -- The entry in the form in which a reversal or a settlement returns it.
  written     jsonb;
  -- The request, as far as the record and the names in the answer show it, and whether the answer agrees with it.
  request     text[] := array[kept.operation];
  agrees      boolean;
  discrepancy ledger.discrepancy := (kept.group_id, null, null, 'idempotency key', null);
begin
  if octet_length(kept.fingerprint) is distinct from 32 then
    discrepancy.detail := 'has no fingerprint';
    return next discrepancy;
    return;
  elsif answer is null then
    discrepancy.detail := 'has an answer that cannot be read';
    return next discrepancy;
    return;
  elsif kept.operation = 'transfer_all' then
    return query select l.* from ledger_internal.transfer_all_discrepancies(kept.group_id, answer, kept.fingerprint) as l;
    return;
  end if;

  if of_entry then
    discrepancy.entry_id := named;
    select e.*
    into entry
    from ledger.entries as e
    where e.group_id = kept.group_id
      and e.id = named;
    if not found then
      discrepancy.detail := 'names an entry that is not there';
      return next discrepancy;
      return;
    end if;
  end if;

  if kept.operation in ('reverse_transfer', 'settle_exit') then
    written := jsonb_build_object(
      'group_id', entry.group_id, 'id', entry.id, 'kind', entry.kind, 'from_id', entry.from_id, 'to_id', entry.to_id,
      'amount', entry.amount, 'from_amount', entry.from_amount, 'to_amount', entry.to_amount,
      'created_at', entry.created_at, 'metadata', entry.metadata, 'reverses', entry.reverses
    );
  end if;

  case kept.operation
    when 'transfer' then
      request := ledger_internal.transfer_request(entry.from_id, entry.to_id, entry.amount, entry.metadata);
      agrees := entry.reverses is null and answer @> jsonb_build_object(
        'to_participant', jsonb_build_object('id', entry.to_id, 'group_id', entry.group_id, 'amount', entry.to_amount),
        'from_participant', jsonb_build_object('id', entry.from_id, 'group_id', entry.group_id, 'amount', entry.from_amount)
      );
    when 'join_group' then
      request := request || array[answer ->> 'username', entry.amount::text, entry.metadata::text];
      agrees := entry.kind = 'join'
        and answer @> jsonb_build_object('id', entry.to_id, 'group_id', entry.group_id, 'amount', entry.amount);
    when 'exit_group' then
      request := request || array[entry.from_id::text, entry.metadata::text];
      agrees := entry.kind = 'exit' and answer @> jsonb_build_object('final_amount', entry.amount);
    when 'reverse_transfer' then
      request := request || array[entry.reverses::text, entry.metadata::text];
      agrees := entry.reverses is not null and answer @> written;
    when 'settle_exit' then
      request := request || array[entry.id::text, answer ->> 'reference'];
      agrees := answer @> written and exists (
        select from ledger.settlements as s
        where s.group_id = entry.group_id
          and s.entry_id = entry.id
          and s.reference is not null
          and answer @> jsonb_build_object('reference', s.reference, 'settled_at', s.settled_at)
      );
    when 'create_group' then
      request := request || array[answer ->> 'name'];
      agrees := kept.group_id = 0 and exists (select from ledger.groups as g where g.id = named);
    when 'rename_group' then
      request := request || array[answer ->> 'name'];
      agrees := named = kept.group_id;
    when 'rename_participant' then
      request := request || array[named::text, answer ->> 'username'];
      agrees := answer @> jsonb_build_object('group_id', kept.group_id) and exists (
        select from ledger.participants as p
        where p.group_id = kept.group_id
          and p.id = named
      );
    when 'remove_group' then
      agrees := exists (select from ledger.groups as g where g.id = kept.group_id and g.closed_at is not null);
    else
      agrees := false;
  end case;

  if agrees is not true then
    discrepancy.detail := format('has an answer to %s that contradicts the record', kept.operation);
    return next discrepancy;
  -- A name is kept in NFC, and another spelling may have been asked for, unless it has none: of ASCII these three have one.
  elsif kept.fingerprint <> ledger_internal.fingerprint(request)
    and coalesce(answer ->> 'name', answer ->> 'username', '') !~ '[K;`\u0080-\uffff\U00010000-\U0010ffff]'
  then
    discrepancy.detail := 'has the fingerprint of another request than the record says';
    return next discrepancy;
  end if;
end
$$;

alter function ledger_internal.answer_discrepancies owner to ledger_owner;
comment on function ledger_internal.answer_discrepancies is
  'The discrepancies of the answer stored under an idempotency key, and of the fingerprint of its request; names in the answer are not compared. For verify_keys.';
revoke execute on function ledger_internal.answer_discrepancies from public;
-- <<< db/functions/internal/verify/answer_discrepancies.sql

-- >>> db/functions/internal/verify/transfer_all_discrepancies.sql
-- Compare the stored answer to a multi-party transfer with the record.
create or replace function ledger_internal.transfer_all_discrepancies(
  group_id    bigint,
  answer      jsonb,
  fingerprint bytea
) returns setof ledger.discrepancy
language sql stable
as $$
  with written as materialized (
    select
      e.*,
      l.entry,
      l.line,
      ledger_internal.parse_id(l.entry ->> 'id') as named
    from jsonb_array_elements(
      case when jsonb_typeof(transfer_all_discrepancies.answer -> 'entries') = 'array' then transfer_all_discrepancies.answer -> 'entries' end
    ) with ordinality as l (entry, line)
    -- Looked up for each line, whatever the planner thinks of their number.
    left join lateral (
      select e.*
      from ledger.entries as e
      where e.group_id = transfer_all_discrepancies.group_id
        and e.id = ledger_internal.parse_id(l.entry ->> 'id')
      limit 1
    ) as e on true
  ), request as (
    select
      count(*) as lines,
      count(w.id) as found,
      ledger_internal.fingerprint(array[
        'transfer_all',
        array_agg(w.from_id order by w.line)::text,
        array_agg(w.to_id order by w.line)::text,
        array_agg(w.amount order by w.line)::text,
        case when count(w.metadata) > 0 then array_agg(w.metadata order by w.line)::text end
      ]) as fingerprint
    from written as w
  ), legs as (
    select
      s.id,
      -- As the last line that the participant is in leaves it.
      (array_agg(s.balance order by w.line desc))[1] as balance
    from written as w
    cross join lateral (values (w.from_id, w.from_amount), (w.to_id, w.to_amount)) as s (id, balance)
    group by s.id
  ), answered as (
    select
      ledger_internal.parse_id(p.participant ->> 'id') as id,
      p.participant
    from jsonb_array_elements(
      case when jsonb_typeof(transfer_all_discrepancies.answer -> 'participants') = 'array' then transfer_all_discrepancies.answer -> 'participants' end
    ) as p (participant)
  )
  select
    transfer_all_discrepancies.group_id,
    f.entry_id,
    f.participant_id,
    'idempotency key',
    f.detail
  from (
    select w.named as entry_id, null::bigint as participant_id, 'names an entry that is not there' as detail
    from written as w
    where w.id is null
    union all
    select w.id, null, 'has an answer to transfer_all that contradicts the record'
    from written as w
    where w.id is not null
      and (
        w.kind = 'transfer'
        and w.reverses is null
        and w.entry @> jsonb_build_object(
          'id', w.id, 'from_id', w.from_id, 'to_id', w.to_id, 'amount', w.amount,
          'from_amount', w.from_amount, 'to_amount', w.to_amount
        )
      ) is not true
    union all
    select null, coalesce(s.id, t.id), 'has an answer to transfer_all that gives another balance than its entries'
    from legs as s
    full join answered as t on t.id = s.id
    where (select r.lines = r.found from request as r)
      and (
        t.participant @> jsonb_build_object('id', s.id, 'group_id', transfer_all_discrepancies.group_id, 'amount', s.balance)
      ) is not true
    union all
    select null, null, 'has the fingerprint of another request than the record says'
    from request as r
    where r.lines = 0
      or (r.lines = r.found and r.fingerprint <> transfer_all_discrepancies.fingerprint)
  ) as f
$$;

alter function ledger_internal.transfer_all_discrepancies owner to ledger_owner;
comment on function ledger_internal.transfer_all_discrepancies is
  'The discrepancies of the answer to a multi-party transfer: its entries, the participants with their balances after it, and the fingerprint of the request. For verify_keys.';
revoke execute on function ledger_internal.transfer_all_discrepancies from public;
-- <<< db/functions/internal/verify/transfer_all_discrepancies.sql

-- >>> db/functions/internal/verify/verify_entries.sql
-- Find the discrepancies of a range of a group's entries.
create or replace function ledger_internal.verify_entries(
  group_id bigint,
  after    bigint,
  upto     bigint
) returns setof ledger.discrepancy
language sql stable
as $$
  select
    e.group_id,
    e.id,
    f.participant_id,
    f.kind,
    f.detail
  from (
    select
      e.*,
      count(*) over (partition by e.id) as times
    from ledger.entries as e
    where e.group_id = verify_entries.group_id
      and e.id > verify_entries.after
      -- Not "is null or": a plan for any parameters would read on to the group's end.
      and e.id <= coalesce(verify_entries.upto, 9223372036854775807)
  ) as e
  cross join ledger_internal.verify_bounds() as b
  -- What each participant held before: if every step is right, so is every balance.
  left join lateral ledger_internal.latest_leg_at(e.group_id, e.from_id, (e.created_at, e.id - 1)::ledger_internal.history_position) as sender
    on true
  left join lateral ledger_internal.latest_leg_at(e.group_id, e.to_id, (e.created_at, e.id - 1)::ledger_internal.history_position) as recipient
    on true
  cross join lateral (
    select
      e.from_id,
      'kind',
      format(
        'a movement of kind %s from %s, with %s after it, to %s, with %s after it',
        e.kind,
        coalesce(e.from_id::text, 'outside'),
        coalesce(e.from_amount::text, 'no balance'),
        coalesce(e.to_id::text, 'outside'),
        coalesce(e.to_amount::text, 'no balance')
      )
    where case
        when e.kind = 'join' then e.from_id is not null or e.to_id is null
        when e.kind = 'transfer' then e.from_id is null or e.to_id is null or e.from_id = e.to_id
        when e.kind = 'exit' then e.from_id is null or e.to_id is not null
        else true
      end
      or (e.from_id is null) <> (e.from_amount is null)
      or (e.to_id is null) <> (e.to_amount is null)
    union all
    select null, 'amount', format('moves %s, and the balances after it are %s and %s', e.amount, e.from_amount, e.to_amount)
    -- As in invalid_amount, which costs as much as all the rest. NaN is above every number.
    where (e.amount >= case when e.kind = 'transfer' then 1 else 0 end) is not true
      or e.amount >= 2::numeric ^ 256
      or e.amount <> trunc(e.amount)
      or e.from_amount < 0
      or e.from_amount >= 2::numeric ^ 256
      or e.from_amount <> trunc(e.from_amount)
      or e.to_amount < 0
      or e.to_amount >= 2::numeric ^ 256
      or e.to_amount <> trunc(e.to_amount)
    union all
    select
      e.from_id,
      'running balance',
      format('the sender has %s after it, and had %s before it', e.from_amount, sender.balance)
    where sender.id is not null
      and e.from_amount is distinct from sender.balance - e.amount
    union all
    select e.from_id, 'running balance', format('the participant left with %s and kept %s', e.amount, e.from_amount)
    where e.kind = 'exit'
      and e.from_amount <> 0
    union all
    select
      e.to_id,
      'running balance',
      format('the recipient has %s after it, and had %s before it', e.to_amount, coalesce(recipient.balance, 0))
    where (e.kind = 'join' or recipient.id is not null)
      and e.to_amount is distinct from coalesce(recipient.balance, 0) + e.amount
    union all
    select s.participant_id, 'presence', 'the participant has not joined before it'
    from (values (e.from_id, sender.id), (e.to_id, recipient.id)) as s (participant_id, earlier)
    where e.kind <> 'join'
      and s.participant_id is not null
      and s.earlier is null
    union all
    select e.to_id, 'presence', 'the participant was there before joining'
    where e.kind = 'join'
      and recipient.id is not null
    union all
    select s.participant_id, 'presence', 'the participant had left before it'
    from (values (e.from_id, sender.kind), (e.to_id, recipient.kind)) as s (participant_id, earlier)
    where e.kind <> 'join'
      and s.earlier = 'exit'
    union all
    select s.participant_id, 'time', format('entry %s is earlier and has a higher id', s.earlier)
    from (values (e.from_id, sender.id), (e.to_id, recipient.id)) as s (participant_id, earlier)
    where s.earlier > e.id
    union all
    select s.participant_id, 'participant', 'there never was such a participant'
    from (values (e.from_id, sender.id), (e.to_id, recipient.id)) as s (participant_id, earlier)
    -- What comes later leads back to the participant's first entry.
    where s.participant_id is not null
      and s.earlier is null
      and not exists (
        select from ledger.participants as p
        where p.group_id = e.group_id
          and p.id = s.participant_id
      )
    union all
    select null, 'time', format('it is of %s', e.created_at)
    where e.created_at > b.latest
      or e.created_at = '-infinity'
    union all
    select null, 'transaction', format('it is of transaction %s, and the feed from %s on', e.xid, b.first_xid)
    where e.id > b.restored
      and e.xid < b.first_xid
    union all
    select null, 'transaction', format('it is of transaction %s, and none from %s on has ended', e.xid, b.next_xid)
    where e.id > b.restored
      and e.xid >= b.next_xid
    union all
    select null, 'metadata', 'they are no object'
    where jsonb_typeof(e.metadata) <> 'object'
    union all
    select null, 'entry id', format('%s entries have it', e.times)
    where e.times > 1
    union all
    select null, 'entry id', 'it is below 1'
    where e.id < 1
    union all
    select null, 'reversal', format('entry %s is no transfer of this amount the other way', e.reverses)
    where e.reverses is not null
      and not exists (
        select from ledger.entries as o
        where o.group_id = e.group_id
          and o.id = e.reverses
          and o.id < e.id
          and o.kind = 'transfer'
          and o.from_id = e.to_id
          and o.to_id = e.from_id
          and o.amount = e.amount
      )
    union all
    select null, 'reversal', format('entry %s is reversed more than once', e.reverses)
    where e.reverses is not null
      and (
        select count(*) from ledger.entries as o
        where o.group_id = e.group_id
          and o.reverses = e.reverses
      ) > 1
    union all
    -- A settlement or a total of what has none is found by verify_total: here it would be a look-up for each transfer.
    select e.from_id, 'settlement', 'the exit has none'
    where e.kind = 'exit'
      and not exists (
        select from ledger.settlements as s
        where s.group_id = e.group_id
          and s.entry_id = e.id
      )
    union all
    select e.from_id, 'settlement', 'it has another time than its exit, a time to come, or no reference'
    from ledger.settlements as s
    where e.kind = 'exit'
      and s.group_id = e.group_id
      and s.entry_id = e.id
      and (
        s.exited_at <> e.created_at
        or (s.reference is null) <> (s.settled_at is null)
        or s.settled_at < s.exited_at
        or s.settled_at > b.latest
      )
    union all
    select null, 'total', format('the total is noted %s times', n.times)
    from (
      select count(*) as times
      from generate_series(0, 7) as s (slot)
      cross join lateral (
        select from ledger.group_total_history as t
        where t.group_id = e.group_id
          and t.slot = s.slot
          and t.created_at = e.created_at
          and t.entry_id = e.id
        -- Kept from being merged into a join: a look-up for each shard, whose key begins with the slot.
        offset 0
      ) as t
    ) as n
    where e.kind <> 'transfer'
      and n.times <> 1
    union all
    select
      null,
      'total',
      format('shard %s came to %s, and stood at %s before', s.slot, t.total, coalesce(before.total, 0))
    from generate_series(0, 7) as s (slot)
    cross join lateral (
      select t.total
      from ledger.group_total_history as t
      where t.group_id = e.group_id
        and t.slot = s.slot
        and t.created_at = e.created_at
        and t.entry_id = e.id
      offset 0
    ) as t
    left join lateral (
      select b.total
      from ledger.group_total_history as b
      where b.group_id = e.group_id
        and b.slot = s.slot
        and (b.created_at, b.entry_id) < (e.created_at, e.id)
      order by b.created_at desc, b.entry_id desc
      limit 1
    ) as before on true
    where e.kind <> 'transfer'
      and t.total <> coalesce(before.total, 0) + case when e.kind = 'join' then e.amount else -e.amount end
  ) as f (participant_id, kind, detail)
$$;

alter function ledger_internal.verify_entries owner to ledger_owner;
comment on function ledger_internal.verify_entries is
  'The discrepancies of a group''s entries whose ids are above after and, where it is given, not above upto. For the owner.';
revoke execute on function ledger_internal.verify_entries from public;
-- <<< db/functions/internal/verify/verify_entries.sql

-- >>> db/functions/internal/verify/verify_groups.sql
-- Find the discrepancies of a range of groups, and rows whose group is missing.
create or replace function ledger_internal.verify_groups(
  after bigint,
  upto  bigint
) returns setof ledger.discrepancy
language sql stable
as $$
  with looked_at as materialized (
    select
      g.*,
      count(*) over (partition by g.id) as times,
      lag(g.id, 1, verify_groups.after) over (order by g.id) as before
    from ledger.groups as g
    where g.id > verify_groups.after
      and g.id <= coalesce(verify_groups.upto, 9223372036854775807)
  )
  select
    g.id,
    null::bigint,
    null::bigint,
    f.kind,
    f.detail
  from looked_at as g
  cross join ledger_internal.verify_bounds() as b
  left join lateral (
    select
      e.created_at,
      e.xid
    from ledger.entries as e
    where e.group_id = g.id
      and e.kind = 'join'
    order by e.created_at, e.id
    limit 1
  ) as first on true
  left join lateral (
    select
      e.created_at,
      e.xid
    from ledger.entries as e
    where e.group_id = g.id
      and e.kind = 'exit'
    order by e.created_at desc, e.id desc
    limit 1
  ) as last on true
  cross join lateral (
    select 'group id', format('%s groups have it', g.times)
    where g.times > 1
    union all
    select 'group id', 'it is below 1'
    where g.id < 1
    union all
    select 'sequence', 'it will give ids again that are in use'
    where g.id > (select s.last_value - (not s.is_called)::integer from ledger.groups_id_seq as s)
    union all
    select 'name', 'it is empty'
    where g.name = ''
    union all
    select 'name', 'another group that exists has it'
    where g.closed_at is null
      and exists (
        select from ledger.groups as o
        where o.name = g.name collate "C"
          and o.closed_at is null
          and o.id <> g.id
      )
    union all
    select 'group time', format('was opened at %s, and first joined at %s', g.created_at, first.created_at)
    where g.created_at > b.latest
      or g.created_at = '-infinity'
      -- Until entries had their transaction's number, a clock that was set back showed in their times.
      or (g.created_at > first.created_at and first.xid <> '0')
    union all
    select
      'group time',
      format('was opened at %s and removed at %s, and last left at %s', g.created_at, g.closed_at, last.created_at)
    where g.closed_at > b.latest
      or g.closed_at < g.created_at
      or (g.closed_at < last.created_at and last.xid <> '0')
  ) as f (kind, detail)
  union all
  -- Groups are numbered nearly without gaps, so there is little to look through.
  select
    o.group_id,
    null,
    null,
    'group',
    format('there is no such group, and it has %s', string_agg(format('%s: %s', o.name, o.rows), ', ' order by o.name))
  from (
    select
      l.before,
      l.id - 1 as upto
    from looked_at as l
    union all
    select
      coalesce(max(l.id), verify_groups.after),
      coalesce(verify_groups.upto, 9223372036854775807)
    from looked_at as l
  ) as gap
  cross join lateral (
    select p.group_id, 'participants', count(*)
    from ledger.participants as p
    where p.group_id > gap.before
      and p.group_id <= gap.upto
    group by p.group_id
    union all
    select e.group_id, 'entries', count(*)
    from ledger.entries as e
    where e.group_id > gap.before
      and e.group_id <= gap.upto
    group by e.group_id
    union all
    select s.group_id, 'settlements', count(*)
    from ledger.settlements as s
    where s.group_id > gap.before
      and s.group_id <= gap.upto
    group by s.group_id
    union all
    select c.group_id, 'shards', count(*)
    from ledger.group_total_shards as c
    where c.group_id > gap.before
      and c.group_id <= gap.upto
    group by c.group_id
    union all
    select t.group_id, 'totals', count(*)
    from ledger.group_total_history as t
    where t.group_id > gap.before
      and t.group_id <= gap.upto
    group by t.group_id
    union all
    select c.group_id, 'changes of names', count(*)
    from ledger.name_changes as c
    where c.group_id > gap.before
      and c.group_id <= gap.upto
    group by c.group_id
    union all
    select k.group_id, 'idempotency keys', count(*)
    from ledger.idempotency_keys as k
    where k.group_id > gap.before
      and k.group_id <= gap.upto
      -- Those of requests that created a group.
      and k.group_id <> 0
    group by k.group_id
  ) as o (group_id, name, rows)
  where gap.before < gap.upto
  group by o.group_id
$$;

alter function ledger_internal.verify_groups owner to ledger_owner;
comment on function ledger_internal.verify_groups is
  'The discrepancies of the groups whose ids are above after and, where it is given, not above upto: their rows, and what belongs to a group of such an id that is not there. For the owner.';
revoke execute on function ledger_internal.verify_groups from public;
-- <<< db/functions/internal/verify/verify_groups.sql

-- >>> db/functions/internal/verify/verify_ledger.sql
-- Find the discrepancies of what belongs to no group: feeds, API keys, and idempotency keys of create_group.
create or replace function ledger_internal.verify_ledger()
returns setof ledger.discrepancy
language sql stable
as $$
  select
    f.group_id,
    null::bigint,
    null::bigint,
    f.kind,
    f.detail
  from ledger_internal.verify_bounds() as b
  cross join lateral (
    select null::bigint, 'feed', 'there is none'
    where not exists (select from ledger.feeds)
    union all
    select null, 'feed', format('feed %s began at %s', d.generation, d.began_at)
    from ledger.feeds as d
    where d.began_at > b.latest
      or d.began_at = '-infinity'
    union all
    select null, 'feed', format('feed %s begins after entry %s, and none above %s was written', d.generation, d.last_restored, g.given)
    from ledger.feeds as d
    cross join (select s.last_value - (not s.is_called)::integer as given from ledger.entries_id_seq as s) as g
    where d.last_restored not between 0 and g.given
    union all
    select null, 'feed', format('feed %s begins with transaction %s, and none from %s on has ended', d.generation, b.first_xid, b.next_xid)
    from (select max(d.generation) as generation from ledger.feeds as d) as d
    where b.first_xid >= b.next_xid
    union all
    select null, 'feed', format('%s feeds have number %s', count(*), d.generation)
    from ledger.feeds as d
    group by d.generation
    having count(*) > 1
    union all
    select k.group_id, 'API key', format('key %s %s', k.id, c.detail)
    from (
      select
        k.*,
        count(*) over (partition by k.id) as times,
        count(*) over (partition by k.digest) as alike
      from ledger.api_keys as k
    ) as k
    cross join lateral (
      select 'is there more than once'
      where k.times > 1
      union all
      select 'has the digest of another one'
      where k.alike > k.times
      union all
      select 'has no digest'
      where octet_length(k.digest) is distinct from 32
      union all
      select format('has the scope %s', k.scope)
      where k.scope not in ('read', 'transact', 'admin')
      union all
      select 'is for a group that is not there'
      where k.group_id is not null
        and not exists (select from ledger.groups as g where g.id = k.group_id)
      union all
      select format('was made at %s and revoked at %s', k.created_at, k.revoked_at)
      where greatest(k.created_at, k.revoked_at) > b.latest
        or least(k.created_at, k.revoked_at) = '-infinity'
      union all
      select 'has an id that will be given again'
      where k.id not between 1 and (select s.last_value - (not s.is_called)::integer from ledger.api_keys_id_seq as s)
    ) as c (detail)
    union all
    select 0, 'idempotency key', 'there is an empty key'
    from ledger.idempotency_keys as k
    where k.group_id = 0
      and k.key = ''
  ) as f (group_id, kind, detail)
$$;

alter function ledger_internal.verify_ledger owner to ledger_owner;
comment on function ledger_internal.verify_ledger is
  'The discrepancies of the feeds, the API keys, and the empty key of a request that created a group, which no range has. For the owner.';
revoke execute on function ledger_internal.verify_ledger from public;
-- <<< db/functions/internal/verify/verify_ledger.sql

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
  left join lateral (
    select e.created_at
    from ledger.entries as e
    where e.group_id = p.group_id
      and e.to_id = p.id
    order by e.created_at, e.id
    limit 1
  ) as joined on true
  cross join lateral (
    select 'balance', format('holds %s, and the record says %s', p.amount, last.balance)
    where p.amount is distinct from last.balance
      and last.id is not null
      and last.kind <> 'exit'
    union all
    select 'balance', format('left and holds %s', p.amount)
    where last.kind = 'exit'
      and p.amount <> 0
    union all
    select 'presence', 'is not in the record'
    where last.id is null
    union all
    select 'presence', 'left without an exit, or is present after one'
    where (p.exited_at is not null) <> (last.kind is not distinct from 'exit')
    union all
    select 'presence', 'is present in a group that was removed'
    where p.exited_at is null
      and exists (select from ledger.groups as g where g.id = p.group_id and g.closed_at is not null)
    union all
    select 'presence time', format('joined at %s, and the record says %s', p.joined_at, joined.created_at)
    where p.joined_at <> joined.created_at
    union all
    select 'presence time', format('left at %s, and the record says %s', p.exited_at, last.created_at)
    where last.kind = 'exit'
      and p.exited_at <> last.created_at
    union all
    select 'presence time', format('last moved at %s, and the record says %s', p.moved_at, last.created_at)
    where p.moved_at < last.created_at
      or p.moved_at > b.latest
      -- What moved before moved_at was there has no transaction's number, and a later time.
      or (
        p.moved_at > last.created_at
        and exists (
          select from ledger.entries as e
          where e.group_id = p.group_id
            and e.id = last.id
            and e.xid <> '0'
        )
      )
    union all
    select 'username', 'is empty'
    where p.username = ''
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

-- >>> db/functions/internal/verify/verify_schema.sql
-- Find rules of the schema that are not in force, in a database of any release.
create or replace function ledger_internal.verify_schema()
returns setof ledger.discrepancy
language sql stable
as $$
  with schemas as (
    select n.* from pg_namespace as n where n.nspname in ('ledger', 'ledger_internal')
  ), objects (kind, name, owner, rights) as (
    select 'schema', s.nspname, s.nspowner, s.nspacl from schemas as s
    union all
    select 'relation', c.relname, c.relowner, c.relacl from pg_class as c where c.relnamespace in (select s.oid from schemas as s)
    union all
    select 'function', p.proname, p.proowner, coalesce(p.proacl, acldefault('f', p.proowner))
    from pg_proc as p
    where p.pronamespace in (select s.oid from schemas as s)
  )
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
    union all
    select format('table %s has no primary key', c.oid::regclass)
    from pg_class as c
    where c.relnamespace = 'ledger'::regnamespace
      and c.relkind in ('r', 'p')
      and not exists (select from pg_constraint as k where k.conrelid = c.oid and k.contype = 'p')
    union all
    select format('constraint %s of %s is not validated', k.conname, k.conrelid::regclass)
    from pg_constraint as k
    where k.connamespace = 'ledger'::regnamespace
      and not k.convalidated
    union all
    select format('index %s is not valid', i.indexrelid::regclass)
    from pg_index as i
    join pg_class as c on c.oid = i.indexrelid
    where c.relnamespace = 'ledger'::regnamespace
      and not (i.indisvalid and i.indisready and i.indislive)
    union all
    select format('%s %s belongs to %s', o.kind, o.name, o.owner::regrole)
    from objects as o
    where o.owner <> 'ledger_owner'::regrole
    union all
    select format(
      '%s is granted on %s %s to %s',
      a.privilege_type, o.kind, o.name, case a.grantee when 0 then 'PUBLIC' else a.grantee::regrole::text end
    )
    from objects as o
    cross join lateral aclexplode(o.rights) as a
    where a.grantee = 0
      or (o.kind = 'schema' and o.name = 'ledger_internal' and a.grantee <> o.owner)
    union all
    select format('function %s runs as its owner with the search_path of its caller', p.oid::regprocedure)
    from pg_proc as p
    where p.pronamespace in (select s.oid from schemas as s)
      and p.prosecdef
      and not exists (select from unnest(p.proconfig) as s (setting) where s.setting ~ '^search_path=ledger,.*pg_temp$')
    union all
    select format('table %s has rule %s', r.ev_class::regclass, r.rulename)
    from pg_rewrite as r
    join pg_class as c on c.oid = r.ev_class
    where c.relnamespace = 'ledger'::regnamespace
      and c.relkind in ('r', 'p')
    union all
    select format('table %s has row security', c.oid::regclass)
    from pg_class as c
    where c.relnamespace = 'ledger'::regnamespace
      and (c.relrowsecurity or exists (select from pg_policy as p where p.polrelid = c.oid))
  ) as f (detail)
$$;

alter function ledger_internal.verify_schema owner to ledger_owner;
comment on function ledger_internal.verify_schema is
  'Rules of the schema that are not in force: triggers that are disabled or missing, constraints that are not validated, invalid indexes, other owners than ledger_owner, rights of PUBLIC, rights on ledger_internal. The command ledger verify compares every object with what the migrations made. For the owner.';
revoke execute on function ledger_internal.verify_schema from public;
-- <<< db/functions/internal/verify/verify_schema.sql

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
    select
      null::bigint,
      null::bigint,
      'total',
      format('shard %s stands at %s, and came to %s last', c.slot, c.total, coalesce(last.total, 0))
    from ledger.group_total_shards as c
    left join lateral (
      select t.total
      from ledger.group_total_history as t
      where t.group_id = c.group_id
        and t.slot = c.slot
      order by t.created_at desc, t.entry_id desc
      limit 1
    ) as last on true
    where c.group_id = verify_total.group_id
      and c.total <> coalesce(last.total, 0)
    union all
    select null, null, 'total', format('the shards add up to %s, the balances to %s', c.total, p.total)
    from (
      select coalesce(sum(c.total), 0) as total from ledger.group_total_shards as c where c.group_id = verify_total.group_id
    ) as c
    cross join (
      select coalesce(sum(p.amount), 0) as total from ledger.participants as p where p.group_id = verify_total.group_id
    ) as p
    where c.total <> p.total
    union all
    select null, null, 'total', format('there are %s shards, from %s to %s', count(*), min(c.slot), max(c.slot))
    from ledger.group_total_shards as c
    where c.group_id = verify_total.group_id
    having count(*) <> 8
      or min(c.slot) <> 0
      or max(c.slot) <> 7
    union all
    select t.entry_id, null, 'total', format('shard %s came to %s with it, and it is no join or exit of that time', t.slot, t.total)
    from ledger.group_total_history as t
    left join ledger.entries as e on e.group_id = t.group_id and e.id = t.entry_id
    where t.group_id = verify_total.group_id
      and (e.kind is null or e.kind = 'transfer' or e.created_at <> t.created_at or t.slot not between 0 and 7)
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
      format('shard %s changed at %s, and with its last join or exit at %s', c.slot, c.changed_at, last.created_at)
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
    select null, null, 'username', format('%s who are present have the username %s', count(*), p.username)
    from ledger.participants as p
    where p.group_id = verify_total.group_id
      and p.exited_at is null
    group by p.username
    having count(*) > 1
    union all
    select null, c.participant_id, 'rename', format('change %s is of a participant who is not there', c.id)
    from ledger.name_changes as c
    where c.group_id = verify_total.group_id
      and c.participant_id is not null
      and not exists (
        select from ledger.participants as p
        where p.group_id = c.group_id
          and p.id = c.participant_id
      )
    union all
    select null, c.participant_id, 'rename', format('change %s was made at %s', c.id, c.changed_at)
    from ledger.name_changes as c
    cross join ledger_internal.verify_bounds() as b
    where c.group_id = verify_total.group_id
      and (c.changed_at > b.latest or c.changed_at = '-infinity')
    union all
    select null, null, 'sequence', format('name_changes has number %s, which will be given again', c.last)
    from (
      select max(c.id) as last from ledger.name_changes as c where c.group_id = verify_total.group_id
    ) as c
    cross join ledger.name_changes_id_seq as s
    where c.last > s.last_value - (not s.is_called)::integer
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
  'The discrepancies of a group as a whole: its shards and their history, its settlements, changes of names, usernames that two have, and ids above those that were given. For the owner.';
revoke execute on function ledger_internal.verify_total from public;
-- <<< db/functions/internal/verify/verify_total.sql

-- >>> db/functions/owner/restart_feed.sql
-- Restart the feed after the ledger was restored from a backup.
create or replace function ledger.restart_feed()
returns integer
language plpgsql volatile
as $$
declare
  generation integer;
begin
  -- No session writes until this commits, so that every entry is either restored or new.
  lock table ledger.entries in share row exclusive mode;
  insert into ledger.feeds (generation, system_identifier, last_restored, first_xid)
  select
    (select max(f.generation) from ledger.feeds as f) + 1,
    c.system_identifier,
    (select coalesce(max(e.id), 0) from ledger.entries as e),
    pg_snapshot_xmin(pg_current_snapshot())
  from pg_control_system() as c
  on conflict do nothing
  returning feeds.generation into generation;
  if not found then
    raise exception using
      errcode = 'serialization_failure',
      message = 'the feed has just begun again';
  end if;
  return generation;
end
$$;

alter function ledger.restart_feed owner to ledger_owner;
comment on function ledger.restart_feed is
  'Restart the feed after a restore: earlier cursors are refused, and the restored entries come first. Returns the number of the new feed. Raises 40001 when another call began it. For the owner.';
revoke execute on function ledger.restart_feed from public;
-- <<< db/functions/owner/restart_feed.sql

-- >>> db/functions/owner/verify.sql
-- Prove that the books are right, or list the discrepancies.
create or replace function ledger.verify(
  group_id bigint default null
) returns setof ledger.discrepancy
language plpgsql stable
as $$
declare
  -- Ids that are no positive number are looked at as well.
  lowest    bigint := -9223372036854775808;
  one_group bigint;
begin
  if verify.group_id is null then
    return query select f.* from ledger_internal.verify_schema() as f;
    return query select f.* from ledger_internal.verify_ledger() as f;
    return query select f.* from ledger_internal.verify_groups(lowest, null) as f;
    return query select f.* from ledger_internal.verify_ids(lowest, null) as f;
    return query select f.* from ledger_internal.verify_keys(0, '', null) as f;
  elsif not exists (select from ledger.groups as g where g.id = verify.group_id) then
    perform ledger_internal.refuse_unknown_group(group_id);
  else
    return query select f.* from ledger_internal.verify_groups(group_id - 1, group_id) as f;
  end if;

  for one_group in
    select distinct g.id
    from ledger.groups as g
    where verify.group_id is null
      or g.id = verify.group_id
    order by g.id
  loop
    return query select f.* from ledger_internal.verify_entries(one_group, lowest, null) as f;
    return query select f.* from ledger_internal.verify_participants(one_group, lowest, null) as f;
    return query select f.* from ledger_internal.verify_keys(one_group, '', null) as f;
    return query select f.* from ledger_internal.verify_total(one_group) as f;
  end loop;
end
$$;

alter function ledger.verify owner to ledger_owner;
comment on function ledger.verify is
  'One row for each discrepancy in the books of a group, or of all; none if they are right. What belongs to no group, the schema and ids that two groups share are looked at with all of them only. Takes no lock that stops anybody, but keeps its snapshot throughout: on a large ledger use the command ledger verify, which goes in short ranges and compares every object of the schema with what the migrations made. For the owner. Raises LG001, LG002.';
revoke execute on function ledger.verify from public;
-- <<< db/functions/owner/verify.sql

drop type if exists ledger.deposit_result;
drop type if exists ledger.address_result;

-- What the functions read and returned.
drop type if exists ledger.proof, ledger.node, ledger.leaf, ledger.checkpoint_result, ledger.newest_checkpoint;
drop type if exists ledger_internal.figures, ledger_internal.tree, ledger_internal.unpacked_leaf;
drop view if exists ledger.checkpoint_headers;
drop table if exists ledger.checkpoint_chunks, ledger.checkpoints;
