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

-- Functions may call each other in any order.
set local check_function_bodies = off;

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

-- >>> db/functions/internal/history/balance_at.sql
drop function if exists ledger_internal.balance_at;
-- <<< db/functions/internal/history/balance_at.sql

-- >>> db/functions/internal/history/statement_lines.sql
drop function if exists ledger_internal.statement_lines;
-- <<< db/functions/internal/history/statement_lines.sql

-- >>> db/functions/internal/idempotency/join_all_request.sql
drop function if exists ledger_internal.join_all_request;
-- <<< db/functions/internal/idempotency/join_all_request.sql

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

drop type if exists
  ledger.statement, ledger.statement_line, ledger.join_all_result, ledger.join_entry, ledger_internal.join_lines;
