-- Write balances where they are locked.
-- depends: 0016.lock-a-lone-transfer-once

set local lock_timeout = '5s';
set local role ledger_owner;
-- Functions may call each other in any order.
set local check_function_bodies = off;

do $$
begin
  if not exists (
    select from pg_catalog.pg_class as c
    join pg_catalog.pg_attribute as a on a.attrelid = c.oid
    where c.reltype = 'ledger.transfer_sides'::regtype
      and a.attname = 'places'
      and not a.attisdropped
  ) then
    alter type ledger.transfer_sides add attribute places tid[];
  end if;
end
$$;
comment on type ledger.transfer_sides is
  'Who takes part in a multi-party transfer: ids, balances before it, when the last of them moved, and where their rows are.';

-- >>> db/functions/lock_sides.sql
-- Lock all who take part in a multi-party transfer.
create or replace function ledger.lock_sides(
  group_id bigint,
  lines    ledger.transfer_lines
) returns ledger.transfer_sides
language plpgsql volatile
as $$
declare
  wanted  bigint[];
  held    ledger.transfer_sides;
  fields  text[];
  missing bigint[];
begin
  select array_agg(distinct s.id)
  into wanted
  from unnest(lines.from_ids || lines.to_ids) as s (id);

  -- In ascending id, as every transfer does.
  select
    array_agg(s.id),
    array_agg(s.place),
    array_agg(s.amount),
    max(s.moved_at)
  into
    held.ids,
    held.places,
    held.amounts,
    held.moved_at
  from (
    select
      p.*,
      p.ctid as place
    from ledger.participants as p
    where p.group_id = lock_sides.group_id
      and p.id = any (wanted)
      and p.exited_at is null
    order by p.id
    for no key update
  ) as s;

  if cardinality(held.ids) is distinct from cardinality(wanted) then
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
      where s.id <> all (coalesce(held.ids, '{}'))
      order by l.line
      limit 100
    ) as m;
    perform ledger.refuse_unknown_participants(group_id, fields, missing);
  end if;
  return held;
end
$$;

alter function ledger.lock_sides owner to ledger_owner;
comment on function ledger.lock_sides is
  'Lock the participants of a multi-party transfer until the transaction ends; returns them by ascending id. Raises LG002.';
revoke execute on function ledger.lock_sides from public;
-- <<< db/functions/lock_sides.sql

-- >>> db/functions/move_all.sql
-- Move money between participants who are locked, line by line: the rule of every multi-party transfer.
create or replace function ledger.move_all(
  group_id bigint,
  lines    ledger.transfer_lines,
  held     ledger.transfer_sides
) returns ledger.transfer_all_result
language plpgsql volatile
as $$
declare
  moment       timestamptz := greatest(clock_timestamp(), held.moved_at);
  amounts      numeric[] := lines.amounts;
  balances     numeric[] := held.amounts;
  -- Which of those who are held are the lines' sides: first those who give, then those who get.
  sides        integer[];
  from_amounts numeric[] := array_fill(null::numeric, array[cardinality(amounts)]);
  to_amounts   numeric[] := from_amounts;
  sender       integer;
  recipient    integer;
  given        numeric;
  got          numeric;
  fault        text;
  result       ledger.transfer_all_result;
begin
  select array_agg(h.number order by s.place)
  into sides
  from unnest(lines.from_ids || lines.to_ids) with ordinality as s (id, place)
  join unnest(held.ids) with ordinality as h (id, number) on h.id = s.id;

  for line in 1 .. cardinality(amounts) loop
    sender := sides[line];
    recipient := sides[cardinality(amounts) + line];
    given := balances[sender] - amounts[line];
    got := balances[recipient] + amounts[line];
    fault := ledger.balance_fault(given, got);
    if fault is not null then
      perform ledger.refuse_transfer(
        fault, format('transfers[%s].amount', line - 1), lines.from_ids[line], balances[sender], amounts[line]
      );
    end if;
    balances[sender] := given;
    balances[recipient] := got;
    from_amounts[line] := given;
    to_amounts[line] := got;
  end loop;

  -- Nobody moves a row that is locked, so it is where it was found.
  with moved as (
    update ledger.participants as p
    set
      amount = h.amount,
      moved_at = moment
    from unnest(held.ids, held.places, balances) as h (id, place, amount)
    where p.group_id = move_all.group_id
      and p.ctid = h.place
      and p.id = h.id
    returning p.username, p.id, p.group_id, p.amount
  )
  select array_agg((m.username, m.id, m.group_id, m.amount)::ledger.current_participants order by m.id)
  into result.participants
  from moved as m;
  if cardinality(result.participants) is distinct from cardinality(held.ids) then
    raise exception using
      errcode = 'serialization_failure',
      message = format('of %s balances %s were written', cardinality(held.ids), coalesce(cardinality(result.participants), 0));
  end if;

  with written as (
    insert into ledger.entries (
      group_id, kind, from_id, to_id, amount, from_amount, to_amount, created_at, metadata
    )
    select
      move_all.group_id,
      'transfer',
      l.from_id,
      l.to_id,
      l.amount,
      l.from_amount,
      l.to_amount,
      moment,
      l.metadata
    from unnest(lines.from_ids, lines.to_ids, amounts, from_amounts, to_amounts, lines.metadatas)
      with ordinality as l (from_id, to_id, amount, from_amount, to_amount, metadata, line)
    order by l.line
    returning id, from_id, to_id, amount, from_amount, to_amount
  )
  -- Ids ascend with the lines.
  select array_agg((w.id, w.from_id, w.to_id, w.amount, w.from_amount, w.to_amount)::ledger.transfer_entry order by w.id)
  into result.entries
  from written as w;
  return result;
end
$$;

alter function ledger.move_all owner to ledger_owner;
comment on function ledger.move_all is
  'Make the transfers of the lines, in their order, between participants whom lock_sides returned. Raises LG003, and LG001 where a balance would reach 2^256, for the first line that cannot be made; 40001 where a balance could not be written.';
revoke execute on function ledger.move_all from public;
-- <<< db/functions/move_all.sql

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
      and l.key is not null;
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
  'Make those of several transfers, also of several groups, that can be made at once: one row a line, in order. The outcome is done, with what transfer returns; locked, where another session holds a side; or left, for all that only transfer can tell. A line that is not done changed nothing, and touches no other; one of shorter lists has nulls there. Raises 40001 where a balance could not be written, and did nothing. For services that collect requests: call transfer for what is not done.';
revoke execute on function ledger.transfer_each from public;
grant execute on function ledger.transfer_each to ledger_api;
-- <<< db/functions/transfer_each.sql
