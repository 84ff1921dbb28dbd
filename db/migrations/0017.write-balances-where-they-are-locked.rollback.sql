-- Undo: write balances where they are locked.

set local lock_timeout = '5s';
set local role ledger_owner;
-- Functions may call each other in any order.
set local check_function_bodies = off;

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
    array_agg(s.amount),
    max(s.moved_at)
  into
    held.ids,
    held.amounts,
    held.moved_at
  from (
    select p.*
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
  from_amounts numeric[];
  to_amounts   numeric[];
  refused      integer;
  result       ledger.transfer_all_result;
begin
  -- A balance after a line is what was held at first and all that came and went up to there. Sums over windows, no
  -- joins: the plan is the same for ten lines and for ten thousand.
  select
    array_agg(b.from_amount order by b.line),
    array_agg(b.to_amount order by b.line),
    min(b.line) filter (where ledger.balance_fault(b.from_amount, b.to_amount) is not null)
  into
    from_amounts,
    to_amounts,
    refused
  from (
    select
      r.line,
      max(r.balance) filter (where r.change < 0) as from_amount,
      max(r.balance) filter (where r.change > 0) as to_amount
    from (
      select
        c.line,
        c.change,
        sum(c.change) over (partition by c.id order by c.line) as balance
      from (
        select 0 as line, h.id, h.amount as change
        from unnest(held.ids, held.amounts) as h (id, amount)
        union all
        select l.line, l.id, -l.amount
        from unnest(lines.from_ids, lines.amounts) with ordinality as l (id, amount, line)
        union all
        select l.line, l.id, l.amount
        from unnest(lines.to_ids, lines.amounts) with ordinality as l (id, amount, line)
      ) as c
    ) as r
    where r.line > 0
    group by r.line
  ) as b;

  if refused is not null then
    perform ledger.refuse_transfer(
      ledger.balance_fault(from_amounts[refused], to_amounts[refused]),
      format('transfers[%s].amount', refused - 1),
      lines.from_ids[refused],
      from_amounts[refused] + lines.amounts[refused],
      lines.amounts[refused]
    );
  end if;

  with moved as (
    update ledger.participants as p
    set
      amount = f.amount,
      moved_at = moment
    from (
      select
        c.id,
        sum(c.change) as amount
      from (
        select h.id, h.amount as change
        from unnest(held.ids, held.amounts) as h (id, amount)
        union all
        select l.id, -l.amount
        from unnest(lines.from_ids, lines.amounts) as l (id, amount)
        union all
        select l.id, l.amount
        from unnest(lines.to_ids, lines.amounts) as l (id, amount)
      ) as c
      group by c.id
    ) as f
    where p.group_id = move_all.group_id
      and p.id = f.id
    returning p.username, p.id, p.group_id, p.amount
  )
  select array_agg((m.username, m.id, m.group_id, m.amount)::ledger.current_participants order by m.id)
  into result.participants
  from moved as m;

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
    from unnest(lines.from_ids, lines.to_ids, lines.amounts, from_amounts, to_amounts, lines.metadatas)
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
  'Make the transfers of the lines, in their order, between participants whom lock_sides returned. Raises LG003, and LG001 where a balance would reach 2^256, for the first line that cannot be made.';
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
  lines         integer;
  possible      boolean[];
  -- Who is held, by ascending group and id, and which of them are each line's sides.
  held_groups   bigint[];
  held_ids      bigint[];
  usernames     text[];
  balances      numeric[];
  moved         timestamptz[];
  senders       integer[];
  recipients    integer[];
  -- What comes of each line that is made.
  from_amounts  numeric[];
  to_amounts    numeric[];
  moments       timestamptz[];
  entry_ids     bigint[];
  touched       boolean[];
  sender        integer;
  recipient     integer;
  from_amount   numeric;
  to_amount     numeric;
  moment        timestamptz;
  called_at     timestamptz;
begin
  if greatest(
    cardinality(group_ids), cardinality(from_ids), cardinality(to_ids), cardinality(amounts),
    cardinality(idempotency_keys), cardinality(metadatas)
  ) = 1 then
    return next try_transfer(
      group_ids[1], from_ids[1], to_ids[1], amounts[1], idempotency_keys[1], metadatas[1]
    );
    return;
  end if;

  select array_agg(
    transfer_is_valid(l.group_id, l.from_id, l.to_id, l.amount, l.key, l.metadata)
    order by l.place
  )
  into possible
  from unnest(group_ids, from_ids, to_ids, amounts, idempotency_keys, metadatas)
    with ordinality as l (group_id, from_id, to_id, amount, key, metadata, place);
  lines := coalesce(cardinality(possible), 0);
  if idempotency_keys is not null then
    possible := keys_free(group_ids, idempotency_keys, possible);
  end if;

  -- In ascending id, as every transfer does, and those that are free: a row that another session holds is not waited for.
  with held as materialized (
    select p.*
    from (
      select distinct
        s.group_id,
        s.id
      from unnest(group_ids, from_ids, to_ids, possible) as l (group_id, from_id, to_id, possible)
      cross join lateral (values (l.group_id, l.from_id), (l.group_id, l.to_id)) as s (group_id, id)
      where l.possible
    ) as s
    join participants as p on p.group_id = s.group_id and p.id = s.id
    where p.exited_at is null
    order by p.group_id, p.id
    for no key update of p skip locked
  ), numbered as materialized (
    select
      h.*,
      row_number() over (order by h.group_id, h.id)::integer as number
    from held as h
  )
  select
    h.group_ids,
    h.ids,
    h.usernames,
    h.balances,
    h.moved,
    l.senders,
    l.recipients
  into
    held_groups,
    held_ids,
    usernames,
    balances,
    moved,
    senders,
    recipients
  from (
    select
      array_agg(n.group_id order by n.number) as group_ids,
      array_agg(n.id order by n.number) as ids,
      array_agg(n.username order by n.number) as usernames,
      array_agg(n.amount order by n.number) as balances,
      array_agg(n.moved_at order by n.number) as moved
    from numbered as n
  ) as h
  cross join (
    select
      array_agg(s.number order by l.place) as senders,
      array_agg(r.number order by l.place) as recipients
    from unnest(group_ids, from_ids, to_ids, possible) with ordinality as l (group_id, from_id, to_id, possible, place)
    left join numbered as s on l.possible and s.group_id = l.group_id and s.id = l.from_id
    left join numbered as r on l.possible and r.group_id = l.group_id and r.id = l.to_id
  ) as l;

  -- One after the other, since each changes what the next one finds. What is refused is left to transfer(), which says why.
  -- An array that is filled from its middle would begin there.
  from_amounts := array_fill(null::numeric, array[lines]);
  to_amounts := from_amounts;
  moments := array_fill(null::timestamptz, array[lines]);
  touched := array_fill(false, array[coalesce(cardinality(held_ids), 0)]);
  called_at := clock_timestamp();
  for line in 1 .. lines loop
    sender := senders[line];
    recipient := recipients[line];
    continue when sender is null or recipient is null;
    from_amount := balances[sender] - trunc(amounts[line]);
    to_amount := balances[recipient] + trunc(amounts[line]);
    continue when balance_fault(from_amount, to_amount) is not null;

    moment := greatest(called_at, moved[sender], moved[recipient]);
    balances[sender] := from_amount;
    balances[recipient] := to_amount;
    moved[sender] := moment;
    moved[recipient] := moment;
    touched[sender] := true;
    touched[recipient] := true;
    from_amounts[line] := from_amount;
    to_amounts[line] := to_amount;
    moments[line] := moment;
  end loop;

  update participants as p
  set
    amount = h.amount,
    moved_at = h.moved_at
  from unnest(held_groups, held_ids, balances, moved, touched) as h (group_id, id, amount, moved_at, touched)
  where h.touched
    and p.group_id = h.group_id
    and p.id = h.id;

  with written as (
    insert into entries (group_id, kind, from_id, to_id, amount, from_amount, to_amount, created_at, metadata)
    select
      l.group_id,
      'transfer',
      l.from_id,
      l.to_id,
      l.amount,
      l.from_amount,
      l.to_amount,
      l.moment,
      l.metadata
    from unnest(group_ids, from_ids, to_ids, amounts, from_amounts, to_amounts, moments, metadatas)
      with ordinality as l (group_id, from_id, to_id, amount, from_amount, to_amount, moment, metadata, place)
    where l.moment is not null
    order by l.place
    returning id
  )
  select array_agg(w.id order by w.id)
  into entry_ids
  from written as w;

  return query
  with outcomes as materialized (
    select
      l.*,
      (usernames[l.recipient], l.to_id, l.group_id, l.to_amount)::current_participants as to_participant,
      (usernames[l.sender], l.from_id, l.group_id, l.from_amount)::current_participants as from_participant,
      -- Ids ascend with the lines that were made.
      entry_ids[count(l.moment) over (order by l.place)] as entry_id
    from unnest(
      group_ids, from_ids, to_ids, amounts, idempotency_keys, metadatas, possible, senders, recipients,
      from_amounts, to_amounts, moments
    ) with ordinality as l (
      group_id, from_id, to_id, amount, key, metadata, possible, sender, recipient, from_amount, to_amount, moment, place
    )
  ), remembered as (
    insert into idempotency_keys (group_id, key, operation, fingerprint, answer)
    select
      o.group_id,
      o.key,
      'transfer',
      fingerprint(transfer_request(o.from_id, o.to_id, o.amount, o.metadata)),
      to_json((o.to_participant, o.from_participant, o.entry_id, false)::transfer_result)
    from outcomes as o
    where o.moment is not null
      and o.key is not null
  )
  select
    o.place::integer,
    case
      when o.moment is not null
      then 'done'
      when o.possible
        and (o.sender is null or o.recipient is null)
        and (
          select count(*) from participants as p
          where p.group_id = o.group_id
            and p.id in (o.from_id, o.to_id)
            and p.exited_at is null
        ) = 2
      then 'locked'
      else 'left'
    end,
    case when o.moment is not null then o.to_participant end,
    case when o.moment is not null then o.from_participant end,
    case when o.moment is not null then o.entry_id end
  from outcomes as o
  order by o.place;
end
$$;

alter function ledger.transfer_each owner to ledger_owner;
comment on function ledger.transfer_each is
  'Make those of several transfers, also of several groups, that can be made at once: one row a line, in order. The outcome is done, with what transfer returns; locked, where another session holds a side; or left, for all that only transfer can tell. A line that is not done changed nothing, and touches no other. For services that collect requests: call transfer for what is not done.';
revoke execute on function ledger.transfer_each from public;
grant execute on function ledger.transfer_each to ledger_api;
-- <<< db/functions/transfer_each.sql

alter type ledger.transfer_sides drop attribute if exists places;
comment on type ledger.transfer_sides is 'Who takes part in a multi-party transfer: ids, balances before it, and when the last of them moved.';
