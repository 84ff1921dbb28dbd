-- For people: statements, and lists of joins. And keys of transfers that cost little.
-- depends: 0003.vaults

-- idempotency_keys: no row is written again, and the rules of its columns become those of their domains.
-- squawk-ignore-file ban-drop-function, ban-drop-not-null, ban-drop-constraint, changing-column-type

set local lock_timeout = '5s';
set local role ledger_owner;

-- What the functions of this migration return: name, columns, comment.
do $$
declare
  shape text[];
begin
  foreach shape slice 1 in array array[
    ['ledger.statement_line', 'id bigint, kind text, created_at timestamptz, counterparty_id bigint, counterparty_username text, change numeric, balance numeric, metadata jsonb', 'An entry as a statement shows it: the counterparty and its present username, null for a join, a deposit and an exit; the change, negative for a transfer that was sent and for an exit; and the balance after it.'],
    ['ledger.statement', 'username text, id bigint, group_id bigint, opening_balance numeric, lines ledger.statement_line[], closing_balance numeric, next_after bigint', 'A page of a participant''s statement: the balances at both ends of the period, the lines of the page, and the last of these where more follow.'],
    ['ledger.join_entry', 'id bigint, to_id bigint, amount numeric(78, 0)', 'The entry of one line of a list of joins: the participant who joined, and the deposit.'],
    ['ledger.join_all_result', 'entries ledger.join_entry[], participants ledger.current_participants[], replayed boolean', 'The entries and the participants who joined, by line, and whether an earlier request with the same idempotency key did it.'],
    ['ledger_internal.join_lines', 'usernames text[], amounts numeric[], addresses bytea[], metadatas jsonb[]', 'A list of joins by columns, which have a value for each line or are null.']
  ] loop
    if to_regtype(shape[1]) is null then
      execute format('create type %s as (%s)', shape[1], shape[2]);
    end if;
    execute format('comment on type %s is %L', shape[1], shape[3]);
  end loop;
end
$$;

-- The key of a transfer has the transfer's entry, and no answer: the record has all that this is made of. Its rules are
-- those of domains: each statement that inserts reads the text of a table's check constraints, which took three quarters
-- of the time of a key.
do $$
begin
  if to_regtype('ledger.idempotency_key') is null then
    create domain ledger.idempotency_key as text collate "C";
  end if;
  if to_regtype('ledger.sha_256') is null then
    create domain ledger.sha_256 as bytea;
  end if;
end
$$;
comment on domain ledger.idempotency_key is 'A client''s name for a request, of 1 to 255 bytes.';
comment on domain ledger.sha_256 is 'A SHA-256 hash: 32 bytes.';
-- No row is written again: the domains have no rules yet.
alter table ledger.idempotency_keys
  add column if not exists entry_id bigint,
  alter column key type ledger.idempotency_key,
  alter column fingerprint type ledger.sha_256,
  alter column fingerprint drop not null,
  alter column answer drop not null,
  drop constraint if exists idempotency_keys_length,
  drop constraint if exists idempotency_keys_sha_256;
comment on table ledger.idempotency_keys is 'The requests with an idempotency key and what answered them, kept for ever.';
comment on column ledger.idempotency_keys.fingerprint is
  'SHA-256 of the function and its arguments; null where there is an entry.';
comment on column ledger.idempotency_keys.answer is
  'The function''s result, with the names and balances of that time; null where there is an entry.';
comment on column ledger.idempotency_keys.entry_id is
  'The entry of a transfer, which has the arguments and the balances of that time; null for other functions, and for transfers from before this column was added.';
-- The rows are read once.
do $$
begin
  if not exists (
    select from pg_catalog.pg_constraint as c
    where c.contypid = 'ledger.idempotency_key'::regtype and c.conname = 'idempotency_key_length'
  ) then
    alter domain ledger.idempotency_key
      add constraint idempotency_key_length check (octet_length(value) between 1 and 255);
    alter domain ledger.sha_256
      add constraint sha_256_length check (octet_length(value) = 32);
  end if;
end
$$;

alter table ledger.name_changes
  add column if not exists before_entry bigint;
comment on column ledger.name_changes.before_entry is
  'A number of the sequence of entries: all entries of the participant with smaller numbers were written before the change, and all others after it. Null for a change from before this column was added.';
-- squawk-ignore require-concurrent-index-creation
create index if not exists name_changes_of_participants
  on ledger.name_changes (group_id, participant_id, before_entry)
  where before_entry is not null;

-- Functions may call each other in any order.
set local check_function_bodies = off;

-- >>> db/functions/internal/idempotency/store_transfer_answers.sql
drop function if exists ledger_internal.store_transfer_answers;
-- <<< db/functions/internal/idempotency/store_transfer_answers.sql

-- >>> db/functions/api/feed_end.sql
-- Find the end of the feed: the cursor that only entries come after which cannot be read yet.
create or replace function ledger.feed_end()
returns text
language plpgsql stable security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  feed     ledger.feeds := current_feed('after');
  complete numeric := pg_snapshot_xmin(pg_current_snapshot())::text::numeric - 1;
begin
  -- Up to this transaction the feed is complete, and every later entry is of one above it.
  if complete >= feed.first_xid::text::numeric then
    return format('%s-%s-%s', feed.generation, complete, '9223372036854775807');
  end if;
  -- A transaction as old as the feed is open, and may write the first entry that is not restored. Up to the last restored
  -- id the numbers are those of another server's transactions: this one is above them all.
  if feed.last_restored > 0 then
    return format('%s-%s-%s', feed.generation, '9223372036854775807', feed.last_restored);
  end if;
  return null;
end
$$;

alter function ledger.feed_end owner to ledger_owner;
comment on function ledger.feed_end is
  'The cursor at the end of the feed: read_feed returns after it what it cannot return yet, and nothing else. Null is the beginning, while nothing can be read. Raises LG009.';
revoke execute on function ledger.feed_end from public;
grant execute on function ledger.feed_end to ledger_api;
-- <<< db/functions/api/feed_end.sql

-- >>> db/functions/api/get_statement.sql
-- Show a page of a participant's statement, with the balances at both ends of its period.
create or replace function ledger.get_statement(
  group_id       bigint,
  participant_id bigint,
  since          timestamptz default null,
  until          timestamptz default null,
  after          bigint      default null,
  max_rows       integer     default 1000
) returns ledger.statement
language plpgsql stable security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  size      bigint := greatest(coalesce(max_rows, 1000), 0);
  bounds    ledger_internal.history_range;
  statement ledger.statement;
begin
  perform refuse_invalid(
    array['group_id', 'participant_id', 'until'],
    array[
      invalid_id(group_id),
      invalid_id(participant_id),
      case when until < since then 'must not be before the beginning' end
    ]
  );
  bounds := history_range(group_id, since, until, after, before => null);
  select
    p.username,
    p.id,
    p.group_id
  into statement.username, statement.id, statement.group_id
  from participants as p
  where p.group_id = get_statement.group_id
    and p.id = get_statement.participant_id;
  if not found then
    perform refuse_unknown_participants(group_id, array['participant_id'], array[participant_id], in_history => true);
  end if;

  -- No entry has the id 0, so each is the balance just before a time; a participant who has not joined has none.
  statement.opening_balance := balance_at(group_id, participant_id, (coalesce(since, '-infinity'), 0));
  statement.closing_balance := balance_at(group_id, participant_id, (coalesce(until, 'infinity'), 0));
  -- One line more than the page has, to know whether there is another page.
  statement.lines := statement_lines(group_id, participant_id, bounds, size + 1);
  if cardinality(statement.lines) > size then
    statement.lines := statement.lines[:size];
    statement.next_after := statement.lines[size].id;
  end if;
  return statement;
end
$$;

alter function ledger.get_statement owner to ledger_owner;
comment on function ledger.get_statement is
  'A statement of a present or former participant over a period: the balance before it, the entries in it, by time and then id, each with its counterparty, what it changed and the balance after it, and the balance at the end. The first time of the period is since, and the first one after it until. At most max_rows of the entries are shown, those that come after another one, and next_after is the last of them if there are more. Raises LG001, LG002.';
revoke execute on function ledger.get_statement from public;
grant execute on function ledger.get_statement to ledger_api;
-- <<< db/functions/api/get_statement.sql

-- >>> db/functions/api/join_all.sql
-- Make many joins of one group in one step: all of them in their order, or none.
create or replace function ledger.join_all(
  group_id        bigint,
  participants    jsonb,
  idempotency_key text default null
) returns ledger.join_all_result
language plpgsql volatile security definer
set search_path = ledger, ledger_internal, pg_temp
-- One plan serves every list: with the values of one it would be planned for ten thousand lines at each call.
set plan_cache_mode = force_generic_plan
as $$
declare
  lines   join_lines;
  request text[];
  vault   vaults;
  result  join_all_result;
begin
  perform refuse_invalid(
    array['group_id', 'participants', 'idempotency_key'],
    array[
      invalid_id(group_id),
      case
        when participants is null
        then 'must be given'
        when jsonb_typeof(participants) <> 'array'
        then 'must be a list'
        when jsonb_array_length(participants) not between 1 and 10000
        then 'must have 1 to 10000 lines'
      end,
      invalid_idempotency_key(idempotency_key)
    ]
  );
  lines := parse_join_lines(participants);

  if idempotency_key is not null then
    request := join_all_request(lines.usernames, lines.amounts, lines.addresses, lines.metadatas);
    result := claim_idempotency_key(group_id, idempotency_key, request, result);
    if result.replayed then
      return result;
    end if;
  end if;

  -- As for one join: the group cannot be removed until this commits.
  perform from groups as g
  where g.id = join_all.group_id
    and g.closed_at is null
  for key share;
  if not found then
    perform refuse_unknown_group(group_id);
  end if;
  vault := find_vault(group_id);
  if vault.group_id is not null then
    perform refuse_frozen(group_id);
    perform refuse_linked_joins(group_id, lines);
  end if;

  result := post_joins(group_id, lines, insert_participants(group_id, lines, vault.group_id is not null));
  perform store_answer(group_id, idempotency_key, request, result);
  return result;
end
$$;

alter function ledger.join_all owner to ledger_owner;
comment on function ledger.join_all is
  'Make 1 to 10,000 joins of a group, a JSON list of {"username", "amount", "metadata", "address"}, all or none, in order, each as join_group would. entries are the entries written and participants the participants who joined, by line. A field of a line is named as participants[0].username. Raises LG001, LG002, LG005, LG006, LG010, LG012, LG014.';
revoke execute on function ledger.join_all from public;
grant execute on function ledger.join_all to ledger_api;
-- <<< db/functions/api/join_all.sql

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
  perform store_entry(group_id, idempotency_key, request, result.entry_id);
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
    perform store_entries(lines, decisions);
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

-- >>> db/functions/internal/checkpoints/pause_after.sql
-- Leave the processor to others, after some work.
create or replace function ledger_internal.pause_after(
  began timestamptz
) returns timestamptz
language plpgsql stable
as $$
begin
  -- Five sixths of the time the core is free for transfers.
  perform pg_sleep(least(5 * extract(epoch from clock_timestamp() - began), 1));
  return clock_timestamp();
end
$$;

alter function ledger_internal.pause_after owner to ledger_owner;
comment on function ledger_internal.pause_after is
  'Pause five times as long as the work that began at this time took, for a second at most; return the time afterwards.';
revoke execute on function ledger_internal.pause_after from public;
-- <<< db/functions/internal/checkpoints/pause_after.sql

-- >>> db/functions/internal/checkpoints/seal_entries.sql
drop function if exists ledger_internal.seal_entries;
-- Hash a group's entries from one checkpoint to the next.
create or replace function ledger_internal.seal_entries(
  checkpoint ledger.checkpoints,
  previous   ledger.checkpoints,
  pauses     boolean default false
) returns bytea
language plpgsql stable
as $$
declare
  seal    bytea := coalesce(previous.seal, decode(repeat('00', 32), 'hex'));
  feed    record;
  entry   bytea;
  hashed  bigint := 0;
  resumed timestamptz := clock_timestamp();
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
      hashed := hashed + 1;
      if pauses and hashed % 1024 = 0 then
        resumed := ledger_internal.pause_after(resumed);
      end if;
    end loop;
  end loop;
  return seal;
end
$$;

alter function ledger_internal.seal_entries owner to ledger_owner;
comment on function ledger_internal.seal_entries is
  'The seal of a checkpoint. It begins as the seal of the previous one, 32 zero bytes for the first, and for each entry that the checkpoint includes and the previous one does not, in the feed''s order, it becomes SHA-256 of 0x05 | seal 32 | entry. An entry is the text, in UTF-8, of group_id|id|kind|from_id|to_id|amount|from_amount|to_amount|created_at|reverses|metadata: created_at in microseconds since 1970, empty what is null. With pauses it leaves the processor to others between 1,024 entries. So the seal of a checkpoint that is kept elsewhere shows whether any entry before it was changed, removed or added.';
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
      figures.seal := ledger_internal.seal_entries(checkpoint, previous, pauses);
      resumed := clock_timestamp();
      continue;
    end if;

    chunk := ledger_internal.pack_chunk(
      checkpoint.group_id, checkpoint.number, piece.chunk, domain, piece.amounts, piece.leaves
    );
    chunks := chunks || chunk;
    sums := sums || chunk.sum::numeric;
    nodes := nodes || (ledger_internal.word(chunk.sum) || chunk.hash);
    figures.leaf_count := figures.leaf_count + cardinality(piece.leaves);
    if pauses and cardinality(piece.leaves) = 1024 then
      resumed := ledger_internal.pause_after(resumed);
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
  'Write the chunks of a checkpoint of this group and number in one snapshot, and return the snapshot, the figures, the seal and the root of it. In a session without a statement time-out it pauses five times as long as it works. Call it where no other transaction makes a checkpoint of the group. Raises LG011.';
revoke execute on function ledger_internal.write_chunks from public;
-- <<< db/functions/internal/checkpoints/write_chunks.sql

-- >>> db/functions/internal/errors/refuse_bound_address.sql
drop function if exists ledger_internal.refuse_bound_address;
-- Raise LG010 for an address that cannot be bound.
create or replace function ledger_internal.refuse_bound_address(
  message text,
  reason  text,
  field   text default 'address'
) returns void
language plpgsql immutable
as $$
begin
  raise exception using
    errcode = 'LG010',
    column  = refuse_bound_address.field,
    message = refuse_bound_address.message,
    detail  = field || ': ' || reason,
    hint    = 'Look at the participant''s address with ledger.get_address(); it is bound for good, and to one participant of a group.';
end
$$;

alter function ledger_internal.refuse_bound_address owner to ledger_owner;
comment on function ledger_internal.refuse_bound_address is
  'Raises LG010: another address is bound to the participant, or the address to another participant.';
revoke execute on function ledger_internal.refuse_bound_address from public;
-- <<< db/functions/internal/errors/refuse_bound_address.sql

-- >>> db/functions/internal/errors/refuse_join_line.sql
-- Raise LG005 or LG010 for a line of a list of joins.
create or replace function ledger_internal.refuse_join_line(
  group_id bigint,
  lines    ledger_internal.join_lines,
  line     bigint,
  linked   boolean
) returns void
language plpgsql stable
as $$
declare
  place    text := format('participants[%s]', line - 1);
  username text := lines.usernames[line];
begin
  if not linked then
    perform ledger_internal.refuse_taken_address(group_id, null, lines.addresses[line], place || '.address');
  end if;
  perform ledger_internal.refuse_taken_name(
    place || '.username',
    username,
    'participant ' || ledger_internal.find_participant_id(group_id, ledger_internal.name_spellings(username))::text
  );
end
$$;

alter function ledger_internal.refuse_join_line owner to ledger_owner;
comment on function ledger_internal.refuse_join_line is
  'Raise LG010 if another participant has the address of a line, LG005 otherwise; the lines before it are inserted.';
revoke execute on function ledger_internal.refuse_join_line from public;
-- <<< db/functions/internal/errors/refuse_join_line.sql

-- >>> db/functions/internal/errors/refuse_linked_joins.sql
-- Raise LG012 for a list of joins that a group with a vault does not take.
create or replace function ledger_internal.refuse_linked_joins(
  group_id bigint,
  lines    ledger_internal.join_lines
) returns void
language plpgsql stable
as $$
declare
  refused record;
begin
  select
    l.line,
    l.amount
  into refused
  from unnest(lines.amounts, lines.addresses) with ordinality as l (amount, address, line)
  where l.amount <> 0
    or l.address is null
  order by l.line
  limit 1;
  if found then
    perform ledger_internal.refuse_linked(
      group_id,
      format('participants[%s].%s', refused.line - 1, case when refused.amount <> 0 then 'amount' else 'address' end),
      'Join with amounts of 0 and addresses; money comes from an address by a deposit into the vault.'
    );
  end if;
end
$$;

alter function ledger_internal.refuse_linked_joins owner to ledger_owner;
comment on function ledger_internal.refuse_linked_joins is
  'Raises LG012 for the first line with an amount or without an address, as participants[0].amount; for a group that is linked to a vault.';
revoke execute on function ledger_internal.refuse_linked_joins from public;
-- <<< db/functions/internal/errors/refuse_linked_joins.sql

-- >>> db/functions/internal/errors/refuse_taken_address.sql
drop function if exists ledger_internal.refuse_taken_address;
-- Raise LG010 if another participant present in a group has an address.
create or replace function ledger_internal.refuse_taken_address(
  group_id       bigint,
  participant_id bigint,
  address        bytea,
  field          text default 'address'
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
      'is bound to another participant',
      field
    );
  end if;
end
$$;

alter function ledger_internal.refuse_taken_address owner to ledger_owner;
comment on function ledger_internal.refuse_taken_address is
  'Raises LG010 if another participant than this one, who may be null, is present in the group and has the address, proved where the group has a vault; nothing for a null address.';
revoke execute on function ledger_internal.refuse_taken_address from public;
-- <<< db/functions/internal/errors/refuse_taken_address.sql

-- >>> db/functions/internal/errors/refuse_used_key.sql
-- Refuse a request whose idempotency key another transaction has used.
create or replace function ledger_internal.refuse_used_key(
  group_id bigint,
  key      text
) returns void
language plpgsql immutable
as $$
begin
  raise exception using
    errcode = 'serialization_failure',
    message = format('idempotency key "%s" of group %s has been used', key, group_id);
end
$$;

alter function ledger_internal.refuse_used_key owner to ledger_owner;
comment on function ledger_internal.refuse_used_key is
  'Raise 40001: a request that the snapshot does not show has used this idempotency key.';
revoke execute on function ledger_internal.refuse_used_key from public;
-- <<< db/functions/internal/errors/refuse_used_key.sql

-- >>> db/functions/internal/history/balance_at.sql
-- Find the balance of a participant at a moment.
create or replace function ledger_internal.balance_at(
  group_id       bigint,
  participant_id bigint,
  moment         ledger_internal.history_position
) returns numeric
language sql stable
as $$
  select coalesce(
    (select l.balance from ledger_internal.latest_leg_at(balance_at.group_id, balance_at.participant_id, moment) as l),
    0
  )
$$;

alter function ledger_internal.balance_at owner to ledger_owner;
comment on function ledger_internal.balance_at is
  'The balance of a participant at a moment; 0 before the join and after the exit.';
revoke execute on function ledger_internal.balance_at from public;
-- <<< db/functions/internal/history/balance_at.sql

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
  -- The participant is locked: entries written before have smaller numbers, those written after have greater ones.
  insert into ledger.name_changes (group_id, participant_id, old_name, new_name, before_entry)
  select
    record_name_change.group_id,
    record_name_change.participant_id,
    record_name_change.old_name,
    record_name_change.new_name,
    nextval('ledger.entries_id_seq')
  where record_name_change.old_name <> record_name_change.new_name
$$;

alter function ledger_internal.record_name_change owner to ledger_owner;
comment on function ledger_internal.record_name_change is
  'Record that a participant was renamed, or the group where the participant is null; nothing where the name stayed the same.';
revoke execute on function ledger_internal.record_name_change from public;
-- <<< db/functions/internal/history/record_name_change.sql

-- >>> db/functions/internal/history/statement_lines.sql
-- Read the lines of a page of a participant's statement.
create or replace function ledger_internal.statement_lines(
  group_id       bigint,
  participant_id bigint,
  bounds         ledger_internal.history_range,
  max_rows       bigint
) returns ledger.statement_line[]
language plpgsql stable
as $$
declare
  lines ledger.statement_line[];
begin
  -- Planned at each call, as a page of the participant's history is, whose query this takes.
  execute format(
    $page$
      select coalesce(array_agg(
        (
          r.id, r.kind, r.created_at, c.id, c.username,
          case when r.from_id = $8 then -r.amount else r.amount end,
          case when r.from_id = $8 then r.from_amount else r.to_amount end,
          r.metadata
        )::ledger.statement_line
        order by r.created_at, r.id
      ), '{}')
      from (%s) as r
      left join lateral (
        select p.id, p.username
        from ledger.participants as p
        where p.group_id = $1
          and p.id = case when r.from_id = $8 then r.to_id else r.from_id end
        offset 0
      ) as c on true
    $page$,
    ledger_internal.history_query(
      ledger_internal.participant_entries_source(with_metadata => false), newest_first => false
    )
  )
  into lines
  using
    group_id, array['join', 'deposit', 'transfer', 'exit'], bounds.low_at, bounds.low_id, bounds.high_at, bounds.high_id,
    max_rows, participant_id;
  return lines;
end
$$;

alter function ledger_internal.statement_lines owner to ledger_owner;
comment on function ledger_internal.statement_lines is
  'The first entries, at most max_rows, of a participant between two positions of a group''s history, as lines of a statement. For get_statement.';
revoke execute on function ledger_internal.statement_lines from public;
-- <<< db/functions/internal/history/statement_lines.sql

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
  first  ledger.idempotency_keys;
  answer jsonb;
begin
  -- Until this transaction ends, no other session acts under the key: a repeated request waits for the first outcome.
  -- The lock comes before every row lock.
  if key is null or ledger_internal.claim_unused_key(group_id, key) then
    return result;
  end if;
  perform pg_advisory_xact_lock(hashtextextended(claim_idempotency_key.key collate "C", claim_idempotency_key.group_id));
  -- A statement of its own, to see what committed during the wait.
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
  answer := ledger_internal.stored_answer(first);
  if answer is null then
    raise exception using
      errcode = 'data_corrupted',
      message = format('entry %s of idempotency key "%s" of group %s is not there', first.entry_id, key, group_id),
      hint    = 'Run ledger verify: the books are wrong.';
  end if;
  return jsonb_populate_record(result, answer || '{"replayed": true}');
end
$$;

alter function ledger_internal.claim_idempotency_key owner to ledger_owner;
comment on function ledger_internal.claim_idempotency_key is
  'The answer that was given to this request, an operation and its values, under this idempotency key of the group, with replayed true; the empty result where there was none. Claims the key, if one is given, until the transaction ends. Raises LG006 when the key was used for another request, XX001 when its entry is not there.';
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
  free  boolean[] := possible;
  held  integer[];
  place integer;
begin
  -- No lock is waited for: a request under way elsewhere, or twice in this call, is deferred to transfer(), which waits.
  for place in 1 .. cardinality(keys) loop
    if possible[place] and keys[place] is not null
      and not pg_try_advisory_xact_lock(hashtextextended(keys[place] collate "C", group_ids[place]))
    then
      free[place] := false;
    end if;
  end loop;

  -- A statement of its own, to see what committed before the locks were taken. A scalar subquery: any other is planned as
  -- a join, and may read the whole table.
  select array_agg(l.place) filter (where l.times > 1 or (
    select true from ledger.idempotency_keys as k
    where k.group_id = l.group_id
      and k.key = l.key collate "C"
    limit 1
  ))
  into held
  from (
    select
      k.*,
      case
        when k.key is not null
        then row_number() over (partition by k.group_id, k.key order by k.possible desc, k.place)
      end as times
    from unnest(group_ids, keys, possible) with ordinality as k (group_id, key, possible, place)
  ) as l;
  foreach place in array coalesce(held, '{}') loop
    free[place] := false;
  end loop;
  return free;
end
$$;

alter function ledger_internal.claim_idempotency_keys owner to ledger_owner;
comment on function ledger_internal.claim_idempotency_keys is
  'Which of these transfers can go on: those that were possible and have no idempotency key, or an unused one that no other session holds. Claims these keys until the transaction ends. Does not wait.';
revoke execute on function ledger_internal.claim_idempotency_keys from public;
-- <<< db/functions/internal/idempotency/claim_idempotency_keys.sql

-- >>> db/functions/internal/idempotency/claim_unused_key.sql
-- Claim an idempotency key if it is unused, without waiting.
create or replace function ledger_internal.claim_unused_key(
  group_id bigint,
  key      text
) returns boolean
language plpgsql volatile
as $$
begin
  if not pg_try_advisory_xact_lock(hashtextextended(claim_unused_key.key collate "C", claim_unused_key.group_id)) then
    return false;
  end if;
  -- A statement of its own, to see what committed before the lock was taken.
  perform from ledger.idempotency_keys as k
  where k.group_id = claim_unused_key.group_id
    and k.key = claim_unused_key.key collate "C";
  return not found;
end
$$;

alter function ledger_internal.claim_unused_key owner to ledger_owner;
comment on function ledger_internal.claim_unused_key is
  'Whether an idempotency key of the group is unused and no other session holds it; claims it then until the transaction ends. What claim_idempotency_keys does for a single key.';
revoke execute on function ledger_internal.claim_unused_key from public;
-- <<< db/functions/internal/idempotency/claim_unused_key.sql

-- >>> db/functions/internal/idempotency/join_all_request.sql
-- List the values that identify a list of joins among requests with the same idempotency key.
create or replace function ledger_internal.join_all_request(
  usernames text[],
  amounts   numeric[],
  addresses bytea[],
  metadatas jsonb[]
) returns text[]
language sql immutable parallel safe
as $$
  select array[
    'join_all',
    -- Composed, as they are stored: so the record shows what was asked for.
    array(
      select normalize(l.username, NFC)
      from unnest(join_all_request.usernames) with ordinality as l (username, line)
      order by l.line
    )::text,
    join_all_request.amounts::text,
    -- Hex, whatever the session's bytea_output.
    case when join_all_request.addresses is not null then array(
      select encode(l.address, 'hex')
      from unnest(join_all_request.addresses) with ordinality as l (address, line)
      order by l.line
    )::text end,
    join_all_request.metadatas::text
  ]
$$;

alter function ledger_internal.join_all_request owner to ledger_owner;
comment on function ledger_internal.join_all_request is
  'The operation and the values of a list of joins, by columns, for its fingerprint; addresses and metadatas are null where no line has any.';
revoke execute on function ledger_internal.join_all_request from public;
-- <<< db/functions/internal/idempotency/join_all_request.sql

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
    perform ledger_internal.refuse_used_key(group_id, key);
  end if;
end
$$;

alter function ledger_internal.store_answer owner to ledger_owner;
comment on function ledger_internal.store_answer is
  'Store the result of a request, an operation and its values, under its idempotency key, if one is given; a transfer''s by store_entry(). Call claim_idempotency_key first. Raises 40001 when the key has been used, also by a request that the snapshot does not show.';
revoke execute on function ledger_internal.store_answer from public;
-- <<< db/functions/internal/idempotency/store_answer.sql

-- >>> db/functions/internal/idempotency/store_entries.sql
-- Store the entries of the transfers of a list under their idempotency keys, permanently.
create or replace function ledger_internal.store_entries(
  lines     ledger_internal.transfer_lines,
  decisions ledger_internal.transfer_decisions,
  late      boolean default current_setting('transaction_isolation') <> 'read committed'
) returns void
language plpgsql volatile
as $$
begin
  -- claim_idempotency_keys() has locked the keys and seen that they are unused, unless its snapshot is from before
  -- another's commit. An `on conflict` would search the index for each key once more.
  if late then
    begin
      perform ledger_internal.store_entries(lines, decisions, late => false);
    exception when unique_violation then
      raise exception using
        errcode = 'serialization_failure',
        message = 'an idempotency key of the list has been used';
    end;
    return;
  end if;

  insert into ledger.idempotency_keys (group_id, key, operation, fingerprint, entry_id)
  select
    l.group_id,
    l.key,
    'transfer',
    ledger_internal.fingerprint(ledger_internal.transfer_request(l.from_id, l.to_id, l.amount, l.metadata)),
    l.entry_id
  from unnest(lines.group_ids, lines.idempotency_keys, lines.metadatas, decisions.entries) as l (
    group_id, key, metadata, entry_id, from_id, to_id, amount, from_amount, to_amount
  )
  where l.entry_id is not null
    and l.key is not null;
end
$$;

alter function ledger_internal.store_entries owner to ledger_owner;
comment on function ledger_internal.store_entries is
  'Store the entries of the transfers that were made under their idempotency keys, where they have one. Call claim_idempotency_keys first; a snapshot that is late may not show all that it looks for. Raises 40001 when a key has been used by a request that the snapshot does not show.';
revoke execute on function ledger_internal.store_entries from public;
-- <<< db/functions/internal/idempotency/store_entries.sql

-- >>> db/functions/internal/idempotency/store_entry.sql
-- Store the entry of a transfer under its idempotency key, permanently.
create or replace function ledger_internal.store_entry(
  group_id bigint,
  key      text,
  request  text[],
  entry_id bigint
) returns void
language plpgsql volatile
as $$
begin
  insert into ledger.idempotency_keys (group_id, key, operation, fingerprint, entry_id)
  values (store_entry.group_id, store_entry.key, request[1], ledger_internal.fingerprint(request), store_entry.entry_id)
  -- As in store_answer().
  on conflict do nothing;
  if not found then
    perform ledger_internal.refuse_used_key(group_id, key);
  end if;
end
$$;

alter function ledger_internal.store_entry owner to ledger_owner;
comment on function ledger_internal.store_entry is
  'Store the entry of a transfer, an operation and its values, under its idempotency key: its answer is made of the record. Call claim_idempotency_key first. Raises 40001 when the key has been used, also by a request that the snapshot does not show.';
revoke execute on function ledger_internal.store_entry from public;
-- <<< db/functions/internal/idempotency/store_entry.sql

-- >>> db/functions/internal/idempotency/stored_answer.sql
-- Return the answer that was given to the request of an idempotency key.
create or replace function ledger_internal.stored_answer(
  kept ledger.idempotency_keys
) returns jsonb
language sql stable
as $$
  select case
    when kept.entry_id is null
    then kept.answer::jsonb
    else to_jsonb(ledger_internal.transfer_answer(kept.group_id, kept.entry_id))
  end
$$;

alter function ledger_internal.stored_answer owner to ledger_owner;
comment on function ledger_internal.stored_answer is
  'The answer that was given to the request of an idempotency key: as it was stored, or for a transfer made again from its entry.';
revoke execute on function ledger_internal.stored_answer from public;
-- <<< db/functions/internal/idempotency/stored_answer.sql

-- >>> db/functions/internal/idempotency/transfer_answer.sql
-- Make the answer to a transfer again, from the record.
create or replace function ledger_internal.transfer_answer(
  group_id bigint,
  entry_id bigint
) returns ledger.transfer_result
language sql stable
as $$
  select
    (ledger_internal.username_at(e.group_id, e.to_id, e.id), e.to_id, e.group_id, e.to_amount)::ledger.current_participants,
    (ledger_internal.username_at(e.group_id, e.from_id, e.id), e.from_id, e.group_id, e.from_amount)::ledger.current_participants,
    e.id,
    false
  from ledger.entries as e
  where e.group_id = transfer_answer.group_id
    and e.id = transfer_answer.entry_id
$$;

alter function ledger_internal.transfer_answer owner to ledger_owner;
comment on function ledger_internal.transfer_answer is
  'What transfer() returned when it wrote this entry: with the usernames and the balances of that time.';
revoke execute on function ledger_internal.transfer_answer from public;
-- <<< db/functions/internal/idempotency/transfer_answer.sql

-- >>> db/functions/internal/idempotency/username_at.sql
-- Find the username that a participant had when an entry was written.
create or replace function ledger_internal.username_at(
  group_id       bigint,
  participant_id bigint,
  entry_id       bigint
) returns text
language sql stable
as $$
  -- A change of name takes a number of the entries while the participant is locked, and so do entries.
  select coalesce(
    (
      select c.old_name
      from ledger.name_changes as c
      where c.group_id = username_at.group_id
        and c.participant_id = username_at.participant_id
        and c.before_entry > username_at.entry_id
      order by c.before_entry
      limit 1
    ),
    (
      select p.username
      from ledger.participants as p
      where p.group_id = username_at.group_id
        and p.id = username_at.participant_id
    )
  )
$$;

alter function ledger_internal.username_at owner to ledger_owner;
comment on function ledger_internal.username_at is
  'The username that a participant of a group had when an entry of theirs was written.';
revoke execute on function ledger_internal.username_at from public;
-- <<< db/functions/internal/idempotency/username_at.sql

-- >>> db/functions/internal/movements/insert_participants.sql
-- Insert the participants of a list of joins.
create or replace function ledger_internal.insert_participants(
  group_id bigint,
  lines    ledger_internal.join_lines,
  linked   boolean
) returns bigint[]
language plpgsql volatile
as $$
declare
  ids      bigint[] := array(
    select nextval('ledger.participants_id_seq') from generate_series(1, cardinality(lines.usernames))
  );
  -- What this list itself has taken is refused as if each line before had joined alone: these are inserted.
  refused  bigint := ledger_internal.repeated_line(lines, linked);
  possible bigint := coalesce(refused - 1, cardinality(ids));
  inserted bigint;
begin
  -- Usernames are inserted in one order, so that no two lists wait for each other. Addresses cannot be in it, too: of the
  -- lists with addresses one follows the other.
  if lines.addresses is not null then
    perform pg_advisory_xact_lock(hashtextextended(' addresses', group_id));
  end if;

  -- As in join_group(): usernames stored before NFC was enforced also count as taken.
  insert into ledger.participants (group_id, id, username, amount, address, address_xid, address_proved)
  overriding system value
  select
    insert_participants.group_id,
    l.id,
    normalize(l.username, NFC),
    l.amount,
    l.address,
    case when l.address is not null then pg_current_xact_id() end,
    case when linked then false end
  from unnest(ids[: possible], lines.usernames[: possible], lines.amounts[: possible], lines.addresses[: possible])
    as l (id, username, amount, address)
  where octet_length(l.username) = char_length(l.username)
    or ledger_internal.find_participant_id(
      insert_participants.group_id,
      array_remove(ledger_internal.name_spellings(l.username), normalize(l.username, NFC))
    ) is null
  order by normalize(l.username, NFC) collate "C"
  on conflict do nothing;
  get diagnostics inserted = row_count;

  if inserted < possible then
    refused := (
      select min(l.line)
      from unnest(ids[: possible]) with ordinality as l (id, line)
      where not exists (
        select from ledger.participants as p
        where p.group_id = insert_participants.group_id
          and p.id = l.id
      )
    );
  end if;
  if refused is not null then
    perform ledger_internal.refuse_join_line(group_id, lines, refused, linked);
  end if;
  return ids;
end
$$;

alter function ledger_internal.insert_participants owner to ledger_owner;
comment on function ledger_internal.insert_participants is
  'Insert a participant for each line and return their ids, by line; the caller has locked the group. Raises LG005 or LG010 for the first line whose username or address a participant present or an earlier line has.';
revoke execute on function ledger_internal.insert_participants from public;
-- <<< db/functions/internal/movements/insert_participants.sql

-- >>> db/functions/internal/movements/post_joins.sql
-- Write the joins of participants who were just inserted.
create or replace function ledger_internal.post_joins(
  group_id        bigint,
  lines           ledger_internal.join_lines,
  participant_ids bigint[]
) returns ledger.join_all_result
language plpgsql volatile
as $$
declare
  joined      numeric := (select sum(l.amount) from unnest(lines.amounts) as l (amount));
  -- As in post_join(): what waits for a username or an address holds no shard, so the time is known only now.
  shard       ledger.group_total_shards := ledger_internal.add_to_group_total(group_id, joined, null);
  before      numeric := shard.total - joined;
  new_entries bigint[] := array(
    select nextval('ledger.entries_id_seq') from generate_series(1, cardinality(participant_ids))
  );
  result      ledger.join_all_result;
begin
  update ledger.participants as p
  set
    joined_at = shard.changed_at,
    moved_at = shard.changed_at
  where p.group_id = post_joins.group_id
    and p.id = any (participant_ids);

  insert into ledger.entries (group_id, id, kind, to_id, amount, to_amount, created_at, metadata)
  overriding system value
  select
    post_joins.group_id,
    l.entry_id,
    'join',
    l.participant_id,
    l.amount,
    l.amount,
    shard.changed_at,
    l.metadata
  from unnest(new_entries, participant_ids, lines.amounts, lines.metadatas)
    as l (entry_id, participant_id, amount, metadata);

  -- A row for each entry, as for single joins: a total is looked up at each of them.
  insert into ledger.group_total_history (group_id, slot, created_at, entry_id, total)
  select
    post_joins.group_id,
    shard.slot,
    shard.changed_at,
    l.entry_id,
    before + sum(l.amount) over (order by l.line rows unbounded preceding)
  from unnest(new_entries, lines.amounts) with ordinality as l (entry_id, amount, line);

  select
    array_agg((l.entry_id, l.participant_id, l.amount)::ledger.join_entry order by l.line),
    array_agg(
      (normalize(l.username, NFC), l.participant_id, post_joins.group_id, l.amount)::ledger.current_participants
      order by l.line
    )
  into
    result.entries,
    result.participants
  from unnest(new_entries, participant_ids, lines.usernames, lines.amounts) with ordinality
    as l (entry_id, participant_id, username, amount, line);
  result.replayed := false;
  return result;
end
$$;

alter function ledger_internal.post_joins owner to ledger_owner;
comment on function ledger_internal.post_joins is
  'Write the entries of a list of joins and their amounts in the group''s total, and return the answer; this transaction has inserted the participants, with these amounts.';
revoke execute on function ledger_internal.post_joins from public;
-- <<< db/functions/internal/movements/post_joins.sql

-- >>> db/functions/internal/movements/repeated_line.sql
-- Find the first line of a list of joins that repeats an earlier line's username or address.
create or replace function ledger_internal.repeated_line(
  lines  ledger_internal.join_lines,
  linked boolean
) returns bigint
language sql immutable
as $$
  select min(r.line)
  from (
    select
      l.line,
      row_number() over (partition by normalize(l.username, NFC) collate "C" order by l.line) as times_username,
      row_number() over (partition by l.address order by l.line) as times_address,
      l.address
    from unnest((lines).usernames, (lines).addresses) with ordinality as l (username, address, line)
  ) as r
  where r.times_username > 1
    or (r.times_address > 1 and r.address is not null and not linked)
$$;

alter function ledger_internal.repeated_line owner to ledger_owner;
comment on function ledger_internal.repeated_line is
  'The number, from 1, of the first line whose username or address an earlier line has; null if there is none. In a group that is linked to a vault several may claim an address.';
revoke execute on function ledger_internal.repeated_line from public;
-- <<< db/functions/internal/movements/repeated_line.sql

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
    and not ledger_internal.claim_unused_key(group_id, idempotency_key)
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
    perform ledger_internal.store_entry(
      group_id, idempotency_key, ledger_internal.transfer_request(from_id, to_id, amount, metadata), made.entry_id
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

-- >>> db/functions/internal/validation/invalid_join_lines.sql
-- List the invalid fields of the lines of a list of joins.
create or replace function ledger_internal.invalid_join_lines(
  participants jsonb,
  out fields   text[],
  out reasons  text[]
)
language sql immutable
as $$
  select
    array_agg(f.field),
    array_agg(f.reason)
  from (
    select
      format('participants[%s]%s', l.line - 1, m.member) as field,
      m.reason
    from jsonb_array_elements(invalid_join_lines.participants) with ordinality as i (item, line)
    cross join lateral (
      select
        i.line,
        jsonb_typeof(i.item) <> 'object' as other,
        case when jsonb_typeof(i.item) = 'object' then i.item else '{}' end as item,
        nullif(i.item -> 'username', 'null') as username,
        ledger_internal.json_scalar_text(i.item -> 'amount') as amount,
        nullif(i.item -> 'address', 'null') as address
      offset 0
    ) as l
    cross join lateral (
      select 1 as place, '' as member, 'must be an object' as reason
      where l.other
      union all
      select 2, '.username', n.reason
      from (
        select case
          when jsonb_typeof(l.username) <> 'string'
          then 'must be a string'
          else ledger_internal.invalid_name(l.username #>> '{}')
        end
      ) as n (reason)
      where not l.other
        and n.reason is not null
      union all
      select 3, '.amount', a.reason
      from (
        select case
          when l.amount is not null and ledger_internal.parse_amount(l.amount) is null
          then 'must be a whole number below 2^256'
          else ledger_internal.invalid_amount(ledger_internal.parse_amount(l.amount), 0)
        end
      ) as a (reason)
      where not l.other
        and a.reason is not null
      union all
      select 4, '.address', a.reason
      from (
        select case
          when jsonb_typeof(l.address) <> 'string'
          then 'must be a string'
          when l.address is not null
          then ledger_internal.invalid_address(l.address #>> '{}')
        end
      ) as a (reason)
      where a.reason is not null
      union all
      select 5, '.metadata', n.reason
      from (select ledger_internal.invalid_metadata(nullif(l.item -> 'metadata', 'null'))) as n (reason)
      where n.reason is not null
      union all
      -- A name in which nothing can be taken for the end of a field or of a line.
      select 6, '.' || regexp_replace(left(k.name, 63) collate "C", '[\u0001-\u001f\u007f-\u009f:]', '?', 'g'), 'is not known'
      from jsonb_object_keys(l.item) as k (name)
      where k.name not in ('username', 'amount', 'address', 'metadata')
    ) as m
    order by l.line, m.place, m.member
    limit 100
  ) as f
$$;

alter function ledger_internal.invalid_join_lines owner to ledger_owner;
comment on function ledger_internal.invalid_join_lines is
  'The fields of the lines of a list of joins that are invalid, as participants[0].username, and the reasons; the first 100 of them, null if all are valid.';
revoke execute on function ledger_internal.invalid_join_lines from public;
-- <<< db/functions/internal/validation/invalid_join_lines.sql

-- >>> db/functions/internal/validation/parse_join_lines.sql
-- Parse the lines of a list of joins.
create or replace function ledger_internal.parse_join_lines(
  participants jsonb
) returns ledger_internal.join_lines
language plpgsql immutable
as $$
declare
  lines   ledger_internal.join_lines;
  valid   boolean;
  fields  text[];
  reasons text[];
begin
  select
    bool_and((
      l.username is not null
      and ledger_internal.invalid_name(l.username) is null
      and ledger_internal.invalid_amount(l.amount, 0) is null
      and (l.address is null or ledger_internal.invalid_address(l.address) is null)
      and ledger_internal.invalid_metadata(l.metadata) is null
      and l.item - array['username', 'amount', 'address', 'metadata'] = '{}'
    ) is true),
    array_agg(l.username order by l.line),
    array_agg(l.amount order by l.line),
    case when count(l.address) > 0 then array_agg(ledger_internal.parse_address(l.address) order by l.line) end,
    case when count(l.metadata) > 0 then array_agg(l.metadata order by l.line) end
  into
    valid,
    lines.usernames,
    lines.amounts,
    lines.addresses,
    lines.metadatas
  from ledger_internal.read_join_lines(participants) as l;

  if not valid then
    select
      f.fields,
      f.reasons
    into
      fields,
      reasons
    from ledger_internal.invalid_join_lines(participants) as f;
    perform ledger_internal.refuse_invalid(fields, reasons);
  end if;
  return lines;
end
$$;

alter function ledger_internal.parse_join_lines owner to ledger_owner;
comment on function ledger_internal.parse_join_lines is
  'The lines of a list of joins by columns, addresses and metadatas only if a line has any. Raises LG001 with the invalid fields of each line.';
revoke execute on function ledger_internal.parse_join_lines from public;
-- <<< db/functions/internal/validation/parse_join_lines.sql

-- >>> db/functions/internal/validation/read_join_lines.sql
-- Read the values of the lines of a list of joins.
create or replace function ledger_internal.read_join_lines(
  participants jsonb,
  out line     bigint,
  out item     jsonb,
  out username text,
  out amount   numeric,
  out address  text,
  out metadata jsonb
) returns setof record
language sql immutable
as $$
  select
    t.line,
    t.item,
    case when jsonb_typeof(t.username) = 'string' then t.username #>> '{}' end as username,
    -- 1e131071 is stored in a few bytes and written in 131,072, so numbers are not written out.
    case
      when jsonb_typeof(t.amount) = 'string'
      then ledger_internal.parse_amount(t.amount #>> '{}')
      when t.amount_number between 0 and 1e78 and scale(t.amount_number) = 0
      then t.amount_number
    end as amount,
    -- An address that is no string is none.
    case when jsonb_typeof(t.address) = 'string' then t.address #>> '{}' when t.address is not null then '' end as address,
    t.metadata
  from (
    select
      v.*,
      case when jsonb_typeof(v.amount) = 'number' then v.amount::numeric end as amount_number
    from (
      select
        i.line,
        case when jsonb_typeof(i.item) = 'object' then i.item else '{"": ""}' end as item,
        i.item -> 'username' as username,
        i.item -> 'amount' as amount,
        nullif(i.item -> 'address', 'null') as address,
        nullif(i.item -> 'metadata', 'null') as metadata
      from jsonb_array_elements(read_join_lines.participants) with ordinality as i (item, line)
      -- Each value is read once, and not once for each place that asks for it.
      offset 0
    ) as v
    offset 0
  ) as t
  offset 0
$$;

alter function ledger_internal.read_join_lines owner to ledger_owner;
comment on function ledger_internal.read_join_lines is
  'The values of each line of a list of joins, null where they are missing or cannot be read, and the line itself, with a member that no line may have in place of one that is no object; an empty address for one that is no string. For parse_join_lines.';
revoke execute on function ledger_internal.read_join_lines from public;
-- <<< db/functions/internal/validation/read_join_lines.sql

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
      return entry.kind = 'transfer' and entry.reverses is null and answer @> jsonb_build_object(
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
  answer      jsonb := case
    when kept.entry_id is null
    then ledger_internal.parse_answer(kept.answer)
    else jsonb_build_object('entry_id', kept.entry_id) || coalesce(ledger_internal.stored_answer(kept), '{}')
  end;
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
  elsif kept.entry_id is not null and kept.answer is not null then
    discrepancy.detail := 'has both an entry and an answer';
    return next discrepancy;
    return;
  elsif answer is null then
    discrepancy.detail := 'has an answer that cannot be read';
    return next discrepancy;
    return;
  elsif kept.operation = 'transfer_all' then
    return query select l.* from ledger_internal.transfer_all_discrepancies(kept.group_id, answer, kept.fingerprint) as l;
    return;
  elsif kept.operation = 'join_all' then
    return query select l.* from ledger_internal.join_all_discrepancies(kept.group_id, answer, kept.fingerprint) as l;
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

-- >>> db/functions/internal/verify/join_all_discrepancies.sql
-- Compare the stored answer to a list of joins with the record.
create or replace function ledger_internal.join_all_discrepancies(
  group_id    bigint,
  answer      jsonb,
  fingerprint bytea
) returns setof ledger.discrepancy
language sql stable
as $$
  with lines as materialized (
    select
      l.line,
      l.answered,
      l.participant,
      ledger_internal.parse_id(l.answered ->> 'id') as named,
      -- Looked up for each line, whatever the planner thinks of their number; null if it is not there.
      (
        select e
        from ledger.entries as e
        where e.group_id = join_all_discrepancies.group_id
          and e.id = ledger_internal.parse_id(l.answered ->> 'id')
        limit 1
      ) as entry
    from rows from (
      jsonb_array_elements(case when jsonb_typeof(answer -> 'entries') = 'array' then answer -> 'entries' end),
      jsonb_array_elements(case when jsonb_typeof(answer -> 'participants') = 'array' then answer -> 'participants' end)
    ) with ordinality as l (answered, participant, line)
  ), request as (
    select
      count(*) as lines,
      count((l.entry).id) as found,
      ledger_internal.fingerprint(
        ledger_internal.join_all_request(
          array_agg(l.participant ->> 'username' order by l.line),
          array_agg((l.entry).amount order by l.line),
          case when count(l.address) > 0 then array_agg(l.address order by l.line) end,
          case when count((l.entry).metadata) > 0 then array_agg((l.entry).metadata order by l.line) end
        )
      ) as fingerprint
    from (
      select
        i.*,
        -- One that was bound later was not in the request. Looked up by its id, and not among all of one transaction.
        (
          select case when p.address_xid = (i.entry).xid then p.address end
          from ledger.participants as p
          where p.group_id = join_all_discrepancies.group_id
            and p.id = (i.entry).to_id
          limit 1
        ) as address
      from lines as i
    ) as l
  )
  select
    join_all_discrepancies.group_id,
    f.entry_id,
    null::bigint,
    'idempotency key',
    f.detail
  from (
    select l.named as entry_id, 'names an entry that is not there' as detail
    from lines as l
    where (l.entry).id is null
    union all
    select (l.entry).id, 'has an answer to join_all that contradicts the record'
    from lines as l
    where (l.entry).id is not null
      and (
        (l.entry).kind = 'join'
        and l.answered @> jsonb_build_object('id', (l.entry).id, 'to_id', (l.entry).to_id, 'amount', (l.entry).amount)
        and l.participant @> jsonb_build_object(
          'id', (l.entry).to_id, 'group_id', join_all_discrepancies.group_id, 'amount', (l.entry).to_amount
        )
      ) is not true
    union all
    select null, 'has the fingerprint of another request than the record says'
    from request as r
    where r.lines = 0
      or (r.lines = r.found and r.fingerprint <> join_all_discrepancies.fingerprint)
  ) as f
$$;

alter function ledger_internal.join_all_discrepancies owner to ledger_owner;
comment on function ledger_internal.join_all_discrepancies is
  'The discrepancies of the answer to a list of joins: its entries, the participants, and the fingerprint of the request. For verify_keys.';
revoke execute on function ledger_internal.join_all_discrepancies from public;
-- <<< db/functions/internal/verify/join_all_discrepancies.sql

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
    select null, c.participant_id, 'rename', format('change %s leads to another name than the next one has', c.id)
    from (
      select
        n.*,
        coalesce(lead(n.old_name) over later, p.username) as following,
        lead(n.before_entry) over later as before_later_entry
      from ledger.name_changes as n
      join ledger.participants as p on p.group_id = n.group_id and p.id = n.participant_id
      where n.group_id = rename_discrepancies.group_id
      window later as (partition by n.participant_id order by n.id)
    ) as c
    where c.new_name <> c.following
      or c.before_entry >= c.before_later_entry
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
  'The discrepancies of a group''s changes of names: their participants, their times, their order, and their numbers. For verify_total.';
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
      and e.id = coalesce(
        k.entry_id, ledger_internal.parse_id(split_part(split_part(k.answer::text, '"entry_id":', -1), ',', 1))
      )
      and e.reverses is null
      and k.fingerprint = ledger_internal.fingerprint(ledger_internal.transfer_request(e.from_id, e.to_id, e.amount, e.metadata))
      and (k.entry_id is null) = (k.answer is not null)
      and (
        k.entry_id is not null
        or k.answer::text like '{"to_participant":{"username":"%","id":' || e.to_id || ',"group_id":' || e.group_id
          || ',"amount":' || e.to_amount || '},"from_participant":{"username":"%","id":' || e.from_id || ',"group_id":'
          || e.group_id || ',"amount":' || e.from_amount || '},"entry_id":' || e.id || ',"replayed":false}'
      )
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
      (k.group_id, k.key, k.operation, k.fingerprint, k.answer, k.created_at, k.entry_id)::ledger.idempotency_keys
    ) as a
    where t.is_right is not true
  ) as f (entry_id, participant_id, detail)
$$;

alter function ledger_internal.verify_keys owner to ledger_owner;
comment on function ledger_internal.verify_keys is
  'The discrepancies of a group''s idempotency keys that come after one and, where it is given, not after upto; of group 0, with those that created groups. For the owner.';
revoke execute on function ledger_internal.verify_keys from public;
-- <<< db/functions/internal/verify/verify_keys.sql
