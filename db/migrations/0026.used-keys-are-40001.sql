-- Used idempotency keys are 40001.
-- depends: 0025.draw-the-feeds-number

set local lock_timeout = '5s';
set local role ledger_owner;
-- Functions may call each other in any order.
set local check_function_bodies = off;

-- >>> db/functions/remember.sql
-- Keep what is answered to a request, under its idempotency key, for ever.
create or replace function ledger.remember(
  group_id bigint,
  key      text,
  request  text[],
  answer   json
) returns void
language plpgsql volatile
as $$
begin
  -- The lock that replay() took keeps the key free; a snapshot from before another's commit ends in 40001 here. Nothing is
  -- moved whose answer is not kept.
  insert into ledger.idempotency_keys (group_id, key, operation, fingerprint, answer)
  values (remember.group_id, remember.key, request[1], ledger.fingerprint(request), remember.answer)
  on conflict do nothing;
  if not found then
    raise exception using
      errcode = 'serialization_failure',
      message = format('idempotency key "%s" of group %s has been used', key, group_id);
  end if;
end
$$;

alter function ledger.remember owner to ledger_owner;
comment on function ledger.remember is
  'Keep the answer to a request, an operation and its values, under its idempotency key. Call replay first. Raises 40001 when the key has been used, also by a request that the snapshot does not show.';
revoke execute on function ledger.remember from public;
-- <<< db/functions/remember.sql

-- >>> db/functions/restart_feed.sql
-- Begin the feed anew after the ledger was restored from a backup.
create or replace function ledger.restart_feed()
returns integer
language plpgsql volatile
as $$
declare
  generation integer;
begin
  -- Nobody writes meanwhile, so that every entry is either restored or new.
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
  'Begin the feed anew after a restore: earlier cursors are refused, and the entries that are there come first. Returns the number of the new feed. Raises 40001 when another call began it. For the owner.';
revoke execute on function ledger.restart_feed from public;
-- <<< db/functions/restart_feed.sql

-- >>> db/functions/transfer_each.sql
-- Make transfers that have nothing to do with each other in one call: those that can be made without waiting.
create or replace function ledger.transfer_each(
  group_ids        bigint[],
  from_ids         bigint[],
  to_ids           bigint[],
  amounts          numeric[],
  idempotency_keys text[]  default null,
  metadatas        jsonb[] default null
) returns setof ledger.transfer_outcome
language plpgsql volatile security definer
set search_path = ledger, pg_temp
-- The lists differ at each call, the plans need not: making them anew takes longer than a short list.
set plan_cache_mode = force_generic_plan
as $$
declare
  lines        integer;
  shape        text;
  free         boolean[];
  -- Who is held, by ascending group and id, where their rows are, and which of them are the lines' sides: first those who
  -- give, then those who get.
  held_groups  bigint[];
  held_ids     bigint[];
  places       tid[];
  usernames    text[];
  balances     numeric[];
  moved        timestamptz[];
  changed      timestamptz[];
  sides        integer[];
  -- What comes of each line: that a side is not held, or what is written.
  missed       boolean[];
  entry_ids    bigint[];
  from_amounts numeric[];
  to_amounts   numeric[];
  moments      timestamptz[];
  sender       integer;
  recipient    integer;
  from_amount  numeric;
  to_amount    numeric;
  moment       timestamptz;
  called_at    timestamptz;
  written      integer;
  keyed        integer;
begin
  lines := coalesce(greatest(
    cardinality(group_ids), cardinality(from_ids), cardinality(to_ids), cardinality(amounts),
    cardinality(idempotency_keys), cardinality(metadatas)
  ), 0);

  -- What follows finds a line's values by its number. Lists that are shorter, or count from elsewhere, are made to fit.
  shape := format('[1:%s]', lines);
  if (
    array_dims(group_ids) = shape and array_dims(from_ids) = shape and array_dims(to_ids) = shape
    and array_dims(amounts) = shape and coalesce(array_dims(idempotency_keys), shape) = shape
    and coalesce(array_dims(metadatas), shape) = shape
  ) is not true then
    select
      array_agg(l.group_id order by l.line),
      array_agg(l.from_id order by l.line),
      array_agg(l.to_id order by l.line),
      array_agg(l.amount order by l.line),
      array_agg(l.key order by l.line),
      array_agg(l.metadata order by l.line)
    into
      group_ids,
      from_ids,
      to_ids,
      amounts,
      idempotency_keys,
      metadatas
    from unnest(group_ids, from_ids, to_ids, amounts, idempotency_keys, metadatas)
      with ordinality as l (group_id, from_id, to_id, amount, key, metadata, line);
  end if;

  if lines = 1 then
    return next try_transfer(
      group_ids[1], from_ids[1], to_ids[1], amounts[1], idempotency_keys[1], metadatas[1]
    );
    return;
  end if;

  if idempotency_keys is not null then
    select keys_free(
      group_ids, idempotency_keys,
      array_agg(transfer_is_valid(l.group_id, l.from_id, l.to_id, l.amount, l.key, l.metadata) order by l.line)
    )
    into free
    from unnest(group_ids, from_ids, to_ids, amounts, idempotency_keys, metadatas)
      with ordinality as l (group_id, from_id, to_id, amount, key, metadata, line);
  end if;

  -- In ascending id, as every transfer does, and those that are free: a row that another session holds is not waited for.
  select
    array_agg(h.group_id),
    array_agg(h.id),
    array_agg(h.place),
    array_agg(h.username),
    array_agg(h.amount),
    array_agg(h.moved_at)
  into
    held_groups,
    held_ids,
    places,
    usernames,
    balances,
    moved
  from (
    select
      p.*,
      p.ctid as place
    from (
      select distinct
        s.group_id,
        s.id
      from unnest(group_ids || group_ids, from_ids || to_ids) as s (group_id, id)
    ) as s
    join participants as p on p.group_id = s.group_id and p.id = s.id
    where p.exited_at is null
    order by p.group_id, p.id
    for no key update of p skip locked
  ) as h;

  select array_agg(h.number order by s.place)
  into sides
  from unnest(group_ids || group_ids, from_ids || to_ids) with ordinality as s (group_id, id, place)
  left join unnest(held_groups, held_ids) with ordinality as h (group_id, id, number)
    on h.group_id = s.group_id
    and h.id = s.id;

  -- One after the other, since each changes what the next one finds. What is refused is left to transfer(), which says why.
  -- An array that is filled from its middle would begin there.
  changed := array_fill(null::timestamptz, array[coalesce(cardinality(held_ids), 0)]);
  missed := array_fill(false, array[lines]);
  entry_ids := array_fill(null::bigint, array[lines]);
  from_amounts := array_fill(null::numeric, array[lines]);
  to_amounts := from_amounts;
  moments := array_fill(null::timestamptz, array[lines]);
  called_at := clock_timestamp();
  for line in 1 .. lines loop
    continue when not coalesce(free[line], transfer_is_valid(
      group_ids[line], from_ids[line], to_ids[line], amounts[line], idempotency_keys[line], metadatas[line]
    ));
    sender := sides[line];
    recipient := sides[lines + line];
    if sender is null or recipient is null then
      missed[line] := true;
      continue;
    end if;
    from_amount := balances[sender] - trunc(amounts[line]);
    to_amount := balances[recipient] + trunc(amounts[line]);
    continue when balance_fault(from_amount, to_amount) is not null;

    moment := greatest(called_at, moved[sender], moved[recipient], changed[sender], changed[recipient]);
    balances[sender] := from_amount;
    balances[recipient] := to_amount;
    changed[sender] := moment;
    changed[recipient] := moment;
    entry_ids[line] := nextval('entries_id_seq');
    from_amounts[line] := from_amount;
    to_amounts[line] := to_amount;
    moments[line] := moment;
  end loop;

  -- Nobody moves a row that is locked, so it is where it was found.
  update participants as p
  set
    amount = h.amount,
    moved_at = h.moved_at
  from unnest(held_ids, places, balances, changed) as h (id, place, amount, moved_at)
  where h.moved_at is not null
    and p.ctid = h.place
    and p.id = h.id;
  get diagnostics written = row_count;
  if written <> cardinality(array_remove(changed, null)) then
    raise exception using
      errcode = 'serialization_failure',
      message = format('of %s balances %s were written', cardinality(array_remove(changed, null)), written);
  end if;

  insert into entries (group_id, id, kind, from_id, to_id, amount, from_amount, to_amount, created_at, metadata)
  overriding system value
  select
    l.group_id,
    l.id,
    'transfer',
    l.from_id,
    l.to_id,
    l.amount,
    l.from_amount,
    l.to_amount,
    l.moment,
    l.metadata
  from unnest(group_ids, entry_ids, from_ids, to_ids, amounts, from_amounts, to_amounts, moments, metadatas)
    as l (group_id, id, from_id, to_id, amount, from_amount, to_amount, moment, metadata)
  where l.id is not null;

  if idempotency_keys is not null then
    insert into idempotency_keys (group_id, key, operation, fingerprint, answer)
    select
      l.group_id,
      l.key,
      'transfer',
      fingerprint(transfer_request(l.from_id, l.to_id, l.amount, l.metadata)),
      to_json((
        (usernames[l.recipient], l.to_id, l.group_id, l.to_amount)::current_participants,
        (usernames[l.sender], l.from_id, l.group_id, l.from_amount)::current_participants,
        l.entry_id,
        false
      )::transfer_result)
    from unnest(
      group_ids, from_ids, to_ids, amounts, idempotency_keys, metadatas, sides[: lines], sides[lines + 1 :],
      from_amounts, to_amounts, entry_ids
    ) as l (group_id, from_id, to_id, amount, key, metadata, sender, recipient, from_amount, to_amount, entry_id)
    where l.entry_id is not null
      and l.key is not null
    -- As in remember().
    on conflict do nothing;
    get diagnostics written = row_count;
    keyed := (
      select count(*) from unnest(idempotency_keys, entry_ids) as l (key, entry_id)
      where l.key is not null
        and l.entry_id is not null
    );
    if written <> keyed then
      raise exception using
        errcode = 'serialization_failure',
        message = format('of %s idempotency keys %s were new', keyed, written);
    end if;
  end if;

  return query
  select
    l.line::integer,
    case
      when l.entry_id is not null
      then 'done'
      when l.missed
        and (
          select count(*) from participants as p
          where p.group_id = l.group_id
            and p.id in (l.from_id, l.to_id)
            and p.exited_at is null
        ) = 2
      then 'locked'
      else 'left'
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
    group_ids, from_ids, to_ids, missed, sides[: lines], sides[lines + 1 :], from_amounts, to_amounts, entry_ids
  ) with ordinality as l (
    group_id, from_id, to_id, missed, sender, recipient, from_amount, to_amount, entry_id, line
  );
end
$$;

alter function ledger.transfer_each owner to ledger_owner;
comment on function ledger.transfer_each is
  'Make those of several transfers, also of several groups, that can be made at once: one row a line, in order. The outcome is done, with what transfer returns; locked, where another session holds a side; or left, for all that only transfer can tell. A line that is not done changed nothing, and touches no other; one of shorter lists has nulls there. Raises 40001 where a balance or an idempotency key could not be written, and did nothing. For services that collect requests: call transfer for what is not done.';
revoke execute on function ledger.transfer_each from public;
grant execute on function ledger.transfer_each to ledger_api;
-- <<< db/functions/transfer_each.sql
