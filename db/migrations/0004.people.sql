-- For people: statements, and lists of joins.
-- depends: 0003.vaults

-- squawk-ignore-file ban-drop-function

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

-- Functions may call each other in any order.
set local check_function_bodies = off;

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

-- >>> db/functions/internal/checkpoints/pause_after.sql
-- Leave the processor to others, after some work.
create or replace function ledger_internal.pause_after(
  began timestamptz
) returns timestamptz
language plpgsql volatile
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
  -- As in post_join(): what waits for a username or an address holds no shard, so the time is known only now.
  shard       ledger.group_total_shards := ledger_internal.add_to_group_total(
    group_id, (select sum(l.amount) from unnest(lines.amounts) as l (amount)), null
  );
  before      numeric := shard.total - (select sum(l.amount) from unnest(lines.amounts) as l (amount));
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
