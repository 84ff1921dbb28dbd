-- Undo: people. Refused while a list of joins is stored under an idempotency key: verify would not know its answer.

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
  lock table ledger.idempotency_keys in access exclusive mode;
  if exists (select from ledger.idempotency_keys as k where k.operation = 'join_all') then
    raise exception using
      errcode = 'object_not_in_prerequisite_state',
      message = 'lists of joins are stored under idempotency keys: rolling the migration back would make their answers unknown',
      hint    = 'Keep the migration, and correct what is wrong by a later one.';
  end if;
end
$$;

-- The keys of transfers get the answers that earlier functions read.
do $$
begin
  -- A roll-back that was killed before its mark has dropped the column.
  if exists (
    select from pg_catalog.pg_attribute as a
    where a.attrelid = 'ledger.idempotency_keys'::regclass and a.attname = 'entry_id' and not a.attisdropped
  ) then
    alter table ledger.idempotency_keys disable trigger idempotency_keys_are_permanent;
    update ledger.idempotency_keys as k
    set
      fingerprint = ledger_internal.fingerprint(
        ledger_internal.transfer_request(e.from_id, e.to_id, e.amount, e.metadata)
      ),
      answer = to_json(ledger_internal.transfer_answer(k.group_id, k.entry_id))
    from ledger.entries as e
    where e.group_id = k.group_id
      and e.id = k.entry_id;
    alter table ledger.idempotency_keys enable trigger idempotency_keys_are_permanent;
  end if;
end
$$;
alter table ledger.idempotency_keys
  drop column if exists entry_id,
  alter column key type text collate "C",
  alter column fingerprint type bytea,
  alter column fingerprint set not null,
  alter column answer set not null,
  drop constraint if exists idempotency_keys_length,
  drop constraint if exists idempotency_keys_sha_256,
  add constraint idempotency_keys_length check (octet_length(key) between 1 and 255),
  add constraint idempotency_keys_sha_256 check (octet_length(fingerprint) = 32);
comment on table ledger.idempotency_keys is 'The answers to requests with an idempotency key, kept for ever.';
comment on column ledger.idempotency_keys.fingerprint is 'SHA-256 of the function and its arguments.';
comment on column ledger.idempotency_keys.answer is 'The function''s result, with the names and balances of that time.';
drop domain if exists ledger.idempotency_key;
drop domain if exists ledger.sha_256;
drop index if exists ledger.name_changes_of_participants;
alter table ledger.name_changes
  drop column if exists before_entry;

-- Functions may call each other in any order.
set local check_function_bodies = off;

-- >>> db/functions/api/feed_end.sql
drop function if exists ledger.feed_end;
-- <<< db/functions/api/feed_end.sql

-- >>> db/functions/api/get_statement.sql
drop function if exists ledger.get_statement;
-- <<< db/functions/api/get_statement.sql

-- >>> db/functions/api/join_all.sql
drop function if exists ledger.join_all;
-- <<< db/functions/api/join_all.sql

-- >>> db/functions/internal/checkpoints/pause_after.sql
drop function if exists ledger_internal.pause_after;
-- <<< db/functions/internal/checkpoints/pause_after.sql

-- >>> db/functions/internal/errors/refuse_join_line.sql
drop function if exists ledger_internal.refuse_join_line;
-- <<< db/functions/internal/errors/refuse_join_line.sql

-- >>> db/functions/internal/errors/refuse_linked_joins.sql
drop function if exists ledger_internal.refuse_linked_joins;
-- <<< db/functions/internal/errors/refuse_linked_joins.sql

-- >>> db/functions/internal/errors/refuse_used_key.sql
drop function if exists ledger_internal.refuse_used_key;
-- <<< db/functions/internal/errors/refuse_used_key.sql

-- >>> db/functions/internal/history/balance_at.sql
drop function if exists ledger_internal.balance_at;
-- <<< db/functions/internal/history/balance_at.sql

-- >>> db/functions/internal/history/statement_lines.sql
drop function if exists ledger_internal.statement_lines;
-- <<< db/functions/internal/history/statement_lines.sql

-- >>> db/functions/internal/idempotency/claim_unused_key.sql
drop function if exists ledger_internal.claim_unused_key;
-- <<< db/functions/internal/idempotency/claim_unused_key.sql

-- >>> db/functions/internal/idempotency/join_all_request.sql
drop function if exists ledger_internal.join_all_request;
-- <<< db/functions/internal/idempotency/join_all_request.sql

-- >>> db/functions/internal/idempotency/store_entries.sql
drop function if exists ledger_internal.store_entries;
-- <<< db/functions/internal/idempotency/store_entries.sql

-- >>> db/functions/internal/idempotency/store_entry.sql
drop function if exists ledger_internal.store_entry;
-- <<< db/functions/internal/idempotency/store_entry.sql

-- >>> db/functions/internal/idempotency/stored_answer.sql
drop function if exists ledger_internal.stored_answer;
-- <<< db/functions/internal/idempotency/stored_answer.sql

-- >>> db/functions/internal/idempotency/transfer_answer.sql
drop function if exists ledger_internal.transfer_answer;
-- <<< db/functions/internal/idempotency/transfer_answer.sql

-- >>> db/functions/internal/idempotency/username_at.sql
drop function if exists ledger_internal.username_at;
-- <<< db/functions/internal/idempotency/username_at.sql

-- >>> db/functions/internal/movements/insert_participants.sql
drop function if exists ledger_internal.insert_participants;
-- <<< db/functions/internal/movements/insert_participants.sql

-- >>> db/functions/internal/movements/post_joins.sql
drop function if exists ledger_internal.post_joins;
-- <<< db/functions/internal/movements/post_joins.sql

-- >>> db/functions/internal/movements/repeated_line.sql
drop function if exists ledger_internal.repeated_line;
-- <<< db/functions/internal/movements/repeated_line.sql

-- >>> db/functions/internal/validation/invalid_join_lines.sql
drop function if exists ledger_internal.invalid_join_lines;
-- <<< db/functions/internal/validation/invalid_join_lines.sql

-- >>> db/functions/internal/validation/parse_join_lines.sql
drop function if exists ledger_internal.parse_join_lines;
-- <<< db/functions/internal/validation/parse_join_lines.sql

-- >>> db/functions/internal/validation/read_join_lines.sql
drop function if exists ledger_internal.read_join_lines;
-- <<< db/functions/internal/validation/read_join_lines.sql

-- >>> db/functions/internal/verify/join_all_discrepancies.sql
drop function if exists ledger_internal.join_all_discrepancies;
-- <<< db/functions/internal/verify/join_all_discrepancies.sql

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
  'Move amount from one participant to another of the same group. entry_id is the entry written. Raises LG001, LG002, LG003, LG006, LG014.';
revoke execute on function ledger.transfer from public;
grant execute on function ledger.transfer to ledger_api;
-- <<< db/functions/api/transfer.sql

-- >>> db/functions/api/transfer_batch.sql
-- Make independent transfers in one call: those that need not wait.
create or replace function ledger.transfer_batch(
  group_ids        bigint[],
  from_ids         bigint[],
  to_ids           bigint[],
  amounts          numeric[],
  idempotency_keys text[]  default null,
  metadatas        jsonb[] default null
) returns setof ledger.transfer_outcome
language plpgsql volatile security definer
set search_path = ledger, ledger_internal, pg_temp
-- One plan serves every list: planning takes longer than executing a short list.
set plan_cache_mode = force_generic_plan
as $$
declare
  lines     transfer_lines;
  last      integer;
  legs      transfer_legs;
  decisions transfer_decisions;
  usernames text[];
begin
  lines.group_ids := group_ids;
  lines.from_ids := from_ids;
  lines.to_ids := to_ids;
  lines.amounts := amounts;
  lines.idempotency_keys := idempotency_keys;
  lines.metadatas := metadatas;
  lines := align_transfer_lines(lines);
  last := coalesce(cardinality(lines.amounts), 0);
  if last = 0 then
    return;
  elsif last = 1 then
    return next transfer_batch_of_one(
      lines.group_ids[1], lines.from_ids[1], lines.to_ids[1], lines.amounts[1], lines.idempotency_keys[1],
      lines.metadatas[1]
    );
    return;
  end if;

  select array_agg(transfer_is_valid(l.group_id, l.from_id, l.to_id, l.amount, l.key, l.metadata) order by l.line)
  into lines.possible
  from unnest(
    lines.group_ids, lines.from_ids, lines.to_ids, lines.amounts, lines.idempotency_keys, lines.metadatas
  ) with ordinality as l (group_id, from_id, to_id, amount, key, metadata, line);
  if lines.idempotency_keys is not null then
    lines.possible := claim_idempotency_keys(lines.group_ids, lines.idempotency_keys, lines.possible);
  end if;

  -- A refused line is deferred to transfer(), which raises the error.
  legs := lock_legs(lines, wait => false);
  decisions := decide_transfers(lines, legs, all_or_nothing => false);
  perform post_transfers(lines, legs, decisions);
  if lines.idempotency_keys is not null then
    perform store_transfer_answers(lines, legs, decisions);
  end if;

  usernames := legs.usernames;
  return query
  select
    l.line::integer,
    case
      when l.entry_id is not null
      then 'done'
      when l.possible and (l.sender is null or l.recipient is null)
      then unmade_outcome(l.group_id, l.from_id, l.to_id)
      else 'deferred'
    end,
    case
      when l.entry_id is not null
      then (usernames[l.recipient], l.to_id, l.group_id, l.to_amount)::current_participants
    end,
    case
      when l.entry_id is not null
      then (usernames[l.sender], l.from_id, l.group_id, l.from_amount)::current_participants
    end,
    l.entry_id
  from unnest(
    lines.group_ids, lines.from_ids, lines.to_ids, lines.possible, legs.numbers[: last], legs.numbers[last + 1 :],
    decisions.entries
  ) with ordinality as l (
    group_id, from_id, to_id, possible, sender, recipient,
    entry_id, entry_from_id, entry_to_id, amount, from_amount, to_amount, line
  );
end
$$;

alter function ledger.transfer_batch owner to ledger_owner;
comment on function ledger.transfer_batch is
  'Make those of several transfers, also of several groups, that can be made at once: one row a line, in order. The outcome is done, with what transfer returns; locked, where another session holds a leg; or deferred, for all that transfer has to decide. A line that is not done changed nothing, and touches no other; one of shorter lists has nulls there. Raises 40001 where a balance or an idempotency key could not be written, and did nothing. For services that collect requests: call transfer for what is not done.';
revoke execute on function ledger.transfer_batch from public;
grant execute on function ledger.transfer_batch to ledger_api;
-- <<< db/functions/api/transfer_batch.sql

-- >>> db/functions/internal/checkpoints/seal_entries.sql
drop function if exists ledger_internal.seal_entries;
-- Hash a group's entries from one checkpoint to the next.
create or replace function ledger_internal.seal_entries(
  checkpoint ledger.checkpoints,
  previous   ledger.checkpoints
) returns bytea
language plpgsql stable
as $$
declare
  seal  bytea := coalesce(previous.seal, decode(repeat('00', 32), 'hex'));
  feed  record;
  entry bytea;
begin
  -- The entries of each feed, in its order: a snapshot means something among the transactions of its own only.
  for feed in
    select
      f.generation,
      f.last_restored as after,
      lead(f.last_restored, 1, 9223372036854775807) over (order by f.generation) as upto
    from ledger.feeds as f
    order by f.generation
  loop
    continue when feed.generation < previous.generation;
    exit when feed.generation > checkpoint.generation;

    -- Planned at each call: from the previous checkpoint on is little of the record, or all of it.
    for entry in execute
      $query$
        select convert_to(
          concat_ws(
            '|',
            e.group_id,
            e.id,
            e.kind,
            coalesce(e.from_id::text, ''),
            coalesce(e.to_id::text, ''),
            e.amount,
            coalesce(e.from_amount::text, ''),
            coalesce(e.to_amount::text, ''),
            trunc(extract(epoch from e.created_at) * 1000000),
            coalesce(e.reverses::text, ''),
            coalesce(e.metadata::text, '')
          ),
          'UTF8'
        )
        from ledger.entries as e
        where e.group_id = $1
          and e.id > $2
          and e.id <= $3
          and e.xid >= $4
          and ($5 is null or not pg_visible_in_snapshot(e.xid, $5))
          and ($6 is null or pg_visible_in_snapshot(e.xid, $6))
        order by e.xid, e.id
      $query$
    using
      checkpoint.group_id,
      feed.after,
      feed.upto,
      case when feed.generation = previous.generation then pg_snapshot_xmin(previous.snapshot) else '0' end,
      case when feed.generation = previous.generation then previous.snapshot end,
      case when feed.generation = checkpoint.generation then checkpoint.snapshot end
    loop
      seal := sha256('\x05'::bytea || seal || entry);
    end loop;
  end loop;
  return seal;
end
$$;

alter function ledger_internal.seal_entries owner to ledger_owner;
comment on function ledger_internal.seal_entries is
  'The seal of a checkpoint. It begins as the seal of the previous one, 32 zero bytes for the first, and for each entry that the checkpoint includes and the previous one does not, in the feed''s order, it becomes SHA-256 of 0x05 | seal 32 | entry. An entry is the text, in UTF-8, of group_id|id|kind|from_id|to_id|amount|from_amount|to_amount|created_at|reverses|metadata: created_at in microseconds since 1970, empty what is null. So the seal of a checkpoint that is kept elsewhere shows whether any entry before it was changed, removed or added.';
revoke execute on function ledger_internal.seal_entries from public;
-- <<< db/functions/internal/checkpoints/seal_entries.sql

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
    -- Four fifths of the time the core is free for transfers.
    if pauses and cardinality(piece.leaves) = 1024 then
      perform pg_sleep(least(4 * extract(epoch from clock_timestamp() - resumed), 1));
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
  'Write the chunks of a checkpoint of this group and number in one snapshot, and return the snapshot, the figures, the seal and the root of it. In a session without a statement time-out it pauses four times as long as it works. Call it where no other transaction makes a checkpoint of the group. Raises LG011.';
revoke execute on function ledger_internal.write_chunks from public;
-- <<< db/functions/internal/checkpoints/write_chunks.sql

-- >>> db/functions/internal/errors/refuse_bound_address.sql
drop function if exists ledger_internal.refuse_bound_address;
-- Raise LG010 for an address that cannot be bound.
create or replace function ledger_internal.refuse_bound_address(
  message text,
  reason  text
) returns void
language plpgsql immutable
as $$
begin
  raise exception using
    errcode = 'LG010',
    column  = 'address',
    message = refuse_bound_address.message,
    detail  = 'address: ' || reason,
    hint    = 'Look at the participant''s address with ledger.get_address(); it is bound for good, and to one participant of a group.';
end
$$;

alter function ledger_internal.refuse_bound_address owner to ledger_owner;
comment on function ledger_internal.refuse_bound_address is
  'Raises LG010: another address is bound to the participant, or the address to another participant.';
revoke execute on function ledger_internal.refuse_bound_address from public;
-- <<< db/functions/internal/errors/refuse_bound_address.sql

-- >>> db/functions/internal/errors/refuse_taken_address.sql
drop function if exists ledger_internal.refuse_taken_address;
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
      and p.address_proved is not false
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
  'Raises LG010 if another participant than this one, who may be null, is present in the group and has the address, proved where the group has a vault; nothing for a null address.';
revoke execute on function ledger_internal.refuse_taken_address from public;
-- <<< db/functions/internal/errors/refuse_taken_address.sql

-- >>> db/functions/internal/history/record_name_change.sql
-- Record the change of a name.
create or replace function ledger_internal.record_name_change(
  group_id       bigint,
  participant_id bigint,
  old_name       text,
  new_name       text
) returns void
language sql volatile
as $$
  insert into ledger.name_changes (group_id, participant_id, old_name, new_name)
  select
    record_name_change.group_id,
    record_name_change.participant_id,
    record_name_change.old_name,
    record_name_change.new_name
  where record_name_change.old_name <> record_name_change.new_name
$$;

alter function ledger_internal.record_name_change owner to ledger_owner;
comment on function ledger_internal.record_name_change is
  'Record that a participant was renamed, or the group where the participant is null; nothing where the name stayed the same.';
revoke execute on function ledger_internal.record_name_change from public;
-- <<< db/functions/internal/history/record_name_change.sql

-- >>> db/functions/internal/idempotency/claim_idempotency_key.sql
-- Claim an idempotency key, and find the answer to an earlier request with it.
create or replace function ledger_internal.claim_idempotency_key(
  group_id bigint,
  key      text,
  request  text[],
  result   anyelement
) returns anyelement
language plpgsql volatile
as $$
declare
  first ledger.idempotency_keys;
begin
  if key is null then
    return result;
  end if;

  -- Until this transaction ends, no other session acts under the key: a repeated request waits for the first outcome.
  -- The lock comes before every row lock. The look-up is a statement of its own, to see what committed during the wait.
  perform pg_advisory_xact_lock(hashtextextended(claim_idempotency_key.key collate "C", claim_idempotency_key.group_id));

  select k.*
  into first
  from ledger.idempotency_keys as k
  where k.group_id = claim_idempotency_key.group_id
    and k.key = claim_idempotency_key.key collate "C";
  if not found then
    return result;
  end if;

  if first.fingerprint <> ledger_internal.fingerprint(request) then
    raise exception using
      errcode = 'LG006',
      column  = 'idempotency_key',
      message = 'idempotency key belongs to another request',
      detail  = 'idempotency_key: was used for another request',
      hint    = 'Repeat a request with exactly its values, and give each new request a key of its own.';
  end if;
  return jsonb_populate_record(result, first.answer::jsonb || '{"replayed": true}');
end
$$;

alter function ledger_internal.claim_idempotency_key owner to ledger_owner;
comment on function ledger_internal.claim_idempotency_key is
  'The answer that was given to this request, an operation and its values, under this idempotency key of the group, with replayed true; the empty result where there was none. Claims the key, if one is given, until the transaction ends. Raises LG006 when the key was used for another request.';
revoke execute on function ledger_internal.claim_idempotency_key from public;
-- <<< db/functions/internal/idempotency/claim_idempotency_key.sql

-- >>> db/functions/internal/idempotency/claim_idempotency_keys.sql
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
-- <<< db/functions/internal/idempotency/claim_idempotency_keys.sql

-- >>> db/functions/internal/idempotency/store_answer.sql
-- Store the answer to a request under its idempotency key, permanently.
create or replace function ledger_internal.store_answer(
  group_id bigint,
  key      text,
  request  text[],
  result   record
) returns void
language plpgsql volatile
as $$
begin
  if key is null then
    return;
  end if;

  -- claim_idempotency_key() has locked the key; a snapshot from before another's commit ends in 40001 here. No money moves
  -- without a stored answer.
  insert into ledger.idempotency_keys (group_id, key, operation, fingerprint, answer)
  values (store_answer.group_id, store_answer.key, request[1], ledger_internal.fingerprint(request), to_json(result))
  on conflict do nothing;
  if not found then
    raise exception using
      errcode = 'serialization_failure',
      message = format('idempotency key "%s" of group %s has been used', key, group_id);
  end if;
end
$$;

alter function ledger_internal.store_answer owner to ledger_owner;
comment on function ledger_internal.store_answer is
  'Store the result of a request, an operation and its values, under its idempotency key, if one is given. Call claim_idempotency_key first. Raises 40001 when the key has been used, also by a request that the snapshot does not show.';
revoke execute on function ledger_internal.store_answer from public;
-- <<< db/functions/internal/idempotency/store_answer.sql

-- >>> db/functions/internal/idempotency/store_transfer_answers.sql
-- Store the answers to the transfers of a list under their idempotency keys, permanently.
create or replace function ledger_internal.store_transfer_answers(
  lines     ledger_internal.transfer_lines,
  legs      ledger_internal.transfer_legs,
  decisions ledger_internal.transfer_decisions
) returns void
language plpgsql volatile
as $$
declare
  last      integer := cardinality(lines.amounts);
  usernames text[] := legs.usernames;
  keyed     integer;
  written   integer;
begin
  insert into ledger.idempotency_keys (group_id, key, operation, fingerprint, answer)
  select
    l.group_id,
    l.key,
    'transfer',
    ledger_internal.fingerprint(ledger_internal.transfer_request(l.from_id, l.to_id, l.amount, l.metadata)),
    to_json((
      (usernames[l.recipient], l.to_id, l.group_id, l.to_amount)::ledger.current_participants,
      (usernames[l.sender], l.from_id, l.group_id, l.from_amount)::ledger.current_participants,
      l.entry_id,
      false
    )::ledger.transfer_result)
  from unnest(
    lines.group_ids, lines.amounts, lines.idempotency_keys, lines.metadatas, legs.numbers[: last], legs.numbers[last + 1 :],
    decisions.entries
  ) as l (
    group_id, amount, key, metadata, sender, recipient, entry_id, from_id, to_id, entry_amount, from_amount, to_amount
  )
  where l.entry_id is not null
    and l.key is not null
  -- As in store_answer().
  on conflict do nothing;
  get diagnostics written = row_count;
  keyed := (
    select count(*) from unnest(lines.idempotency_keys, decisions.moments) as l (key, moment)
    where l.key is not null
      and l.moment is not null
  );
  if written <> keyed then
    raise exception using
      errcode = 'serialization_failure',
      message = format('of %s idempotency keys %s were new', keyed, written);
  end if;
end
$$;

alter function ledger_internal.store_transfer_answers owner to ledger_owner;
comment on function ledger_internal.store_transfer_answers is
  'Store the answers to the transfers that were made and have an idempotency key. Call claim_idempotency_keys first. Raises 40001 when a key has been used, also by a request that the snapshot does not show.';
revoke execute on function ledger_internal.store_transfer_answers from public;
-- <<< db/functions/internal/idempotency/store_transfer_answers.sql

-- >>> db/functions/internal/transfers/transfer_batch_of_one.sql
-- Make one transfer without waiting for a lock.
create or replace function ledger_internal.transfer_batch_of_one(
  group_id        bigint,
  from_id         bigint,
  to_id           bigint,
  amount          numeric,
  idempotency_key text,
  metadata        jsonb
) returns ledger.transfer_outcome
language plpgsql volatile
as $$
declare
  pair      ledger.participants[];
  sender    ledger.participants;
  recipient ledger.participants;
  made      ledger.transfer_result;
  outcome   ledger.transfer_outcome;
begin
  outcome.place := 1;
  outcome.outcome := 'deferred';
  if not ledger_internal.transfer_is_valid(group_id, from_id, to_id, amount, idempotency_key, metadata) then
    return outcome;
  end if;
  if idempotency_key is not null
    and not (ledger_internal.claim_idempotency_keys(array[group_id], array[idempotency_key], array[true]))[1]
  then
    return outcome;
  end if;

  pair := ledger_internal.lock_pair(group_id, from_id, to_id, wait => false);
  sender := pair[1];
  recipient := pair[2];
  if sender.id is null or recipient.id is null then
    outcome.outcome := ledger_internal.unmade_outcome(group_id, from_id, to_id);
    return outcome;
  end if;
  if ledger_internal.balance_violation(sender.amount - trunc(amount), recipient.amount + trunc(amount)) is not null then
    return outcome;
  end if;

  made := ledger_internal.post_transfer(sender, recipient, amount, metadata, null);
  if idempotency_key is not null then
    perform ledger_internal.store_answer(
      group_id, idempotency_key, ledger_internal.transfer_request(from_id, to_id, amount, metadata), made
    );
  end if;
  outcome.outcome := 'done';
  outcome.to_participant := made.to_participant;
  outcome.from_participant := made.from_participant;
  outcome.entry_id := made.entry_id;
  return outcome;
end
$$;

alter function ledger_internal.transfer_batch_of_one owner to ledger_owner;
comment on function ledger_internal.transfer_batch_of_one is
  'What transfer_batch does for a single line, in two thirds of the time: the transfer, unless it would wait or be refused.';
revoke execute on function ledger_internal.transfer_batch_of_one from public;
-- <<< db/functions/internal/transfers/transfer_batch_of_one.sql

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
          and answer @> (to_jsonb(h) - 'state')
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

-- >>> db/functions/internal/verify/answer_discrepancies.sql
-- Compare a stored answer and its fingerprint with the record.
create or replace function ledger_internal.answer_discrepancies(
  kept ledger.idempotency_keys
) returns setof ledger.discrepancy
language plpgsql stable
as $$
declare
  answer      jsonb := ledger_internal.parse_answer(kept.answer);
  of_entry    boolean := kept.operation in (
    'transfer', 'join_group', 'deposit', 'exit_group', 'reverse_transfer', 'settle_exit'
  );
  named       bigint := ledger_internal.parse_id(coalesce(answer ->> 'entry_id', answer ->> 'id'));
  entry       ledger.entries;
  request     text[];
  -- Of the participant who joined or left; the request may have had it.
  address     text;
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
      and e.id = named
    limit 1;
    if not found then
      discrepancy.detail := 'names an entry that is not there';
      return next discrepancy;
      return;
    end if;
  end if;

  if ledger_internal.answer_agrees(kept, answer, named, entry) is not true then
    discrepancy.detail := format('has an answer to %s that contradicts the record', kept.operation);
    return next discrepancy;
    return;
  end if;

  request := ledger_internal.recorded_request(kept.operation, answer, named, entry);
  if kept.operation in ('join_group', 'exit_group') then
    select ledger_internal.format_address(p.address)
    into address
    from ledger.participants as p
    where p.group_id = kept.group_id
      and p.id = coalesce(entry.to_id, entry.from_id);
  end if;

  -- A name is kept in NFC, and another spelling may have been asked for, unless it has none: of ASCII these three have one.
  if kept.fingerprint not in (ledger_internal.fingerprint(request), ledger_internal.fingerprint(request || address))
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

-- >>> db/functions/internal/verify/rename_discrepancies.sql
-- Check a group's changes of names.
create or replace function ledger_internal.rename_discrepancies(
  group_id bigint
) returns setof ledger.discrepancy
language sql stable
as $$
  select
    rename_discrepancies.group_id,
    f.entry_id,
    f.participant_id,
    f.kind,
    f.detail
  from (
    select null::bigint, c.participant_id, 'rename', format('change %s is of a participant who is not there', c.id)
    from ledger.name_changes as c
    where c.group_id = rename_discrepancies.group_id
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
    where c.group_id = rename_discrepancies.group_id
      and (c.changed_at > b.latest or c.changed_at = '-infinity')
    union all
    select null, null, 'sequence', format('name_changes has number %s, which will be given again', c.last)
    from (
      select max(c.id) as last from ledger.name_changes as c where c.group_id = rename_discrepancies.group_id
    ) as c
    cross join ledger.name_changes_id_seq as s
    where c.last > s.last_value - (not s.is_called)::integer
  ) as f (entry_id, participant_id, kind, detail)
$$;

alter function ledger_internal.rename_discrepancies owner to ledger_owner;
comment on function ledger_internal.rename_discrepancies is
  'The discrepancies of a group''s changes of names: their participants, their times, and their numbers. For verify_total.';
revoke execute on function ledger_internal.rename_discrepancies from public;
-- <<< db/functions/internal/verify/rename_discrepancies.sql

-- >>> db/functions/internal/verify/verify_keys.sql
-- Find the discrepancies of a range of a group's idempotency keys.
create or replace function ledger_internal.verify_keys(
  group_id bigint,
  after    text,
  upto     text
) returns setof ledger.discrepancy
language sql stable
as $$
  select
    k.group_id,
    f.entry_id,
    f.participant_id,
    'idempotency key',
    format('the key %s %s', k.key, f.detail)
  from (
    select
      i.*,
      count(*) over (partition by i.key) as times
    from ledger.idempotency_keys as i
    where i.group_id = verify_keys.group_id
      and i.key > verify_keys.after collate "C"
      -- Above every key is the last character that there is.
      and i.key <= coalesce(verify_keys.upto, chr(1114111)) collate "C"
  ) as k
  cross join ledger_internal.verify_bounds() as b
  -- Nearly every key is of a transfer and as it should be: that is seen without reading the JSON, which takes longer than
  -- all the rest. Looked up for each key: as a join it read all entries of the group for each range.
  left join lateral (
    select true as is_right
    from ledger.entries as e
    where k.operation = 'transfer'
      and e.group_id = k.group_id
      and e.id = ledger_internal.parse_id(split_part(split_part(k.answer::text, '"entry_id":', -1), ',', 1))
      and e.reverses is null
      and k.fingerprint = ledger_internal.fingerprint(ledger_internal.transfer_request(e.from_id, e.to_id, e.amount, e.metadata))
      and k.answer::text like '{"to_participant":{"username":"%","id":' || e.to_id || ',"group_id":' || e.group_id
        || ',"amount":' || e.to_amount || '},"from_participant":{"username":"%","id":' || e.from_id || ',"group_id":'
        || e.group_id || ',"amount":' || e.from_amount || '},"entry_id":' || e.id || ',"replayed":false}'
    limit 1
  ) as t on true
  cross join lateral (
    select null::bigint, null::bigint, format('belongs to %s requests', k.times)
    where k.times > 1
    union all
    select null, null, format('has the time %s', k.created_at)
    where k.created_at > b.latest
      or not isfinite(k.created_at)
    union all
    select a.entry_id, a.participant_id, a.detail
    from ledger_internal.answer_discrepancies(
      (k.group_id, k.key, k.operation, k.fingerprint, k.answer, k.created_at)::ledger.idempotency_keys
    ) as a
    where t.is_right is not true
  ) as f (entry_id, participant_id, detail)
$$;

alter function ledger_internal.verify_keys owner to ledger_owner;
comment on function ledger_internal.verify_keys is
  'The discrepancies of a group''s idempotency keys that come after one and, where it is given, not after upto; of group 0, with those that created groups. For the owner.';
revoke execute on function ledger_internal.verify_keys from public;
-- <<< db/functions/internal/verify/verify_keys.sql

drop type if exists
  ledger.statement, ledger.statement_line, ledger.join_all_result, ledger.join_entry, ledger_internal.join_lines;
