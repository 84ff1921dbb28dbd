-- Shared calls.
-- depends: 0004.the-record

set local lock_timeout = '5s';
set local role ledger_owner;
-- Functions may call each other in any order.
set local check_function_bodies = off;

do $$
begin
  if to_regtype('ledger.transfer_outcome') is null then
    create type ledger.transfer_outcome as (
      place            integer,
      outcome          text,
      to_participant   ledger.current_participants,
      from_participant ledger.current_participants,
      entry_id         bigint
    );
  end if;
end
$$;

comment on type ledger.transfer_outcome is 'What came of a line of transfer_each: done, locked or left; the participants after it and the entry where it is done.';

-- >>> db/functions/amount_fault.sql
-- Say what is wrong with an amount, or null when nothing is.
create or replace function ledger.amount_fault(
  amount  numeric,
  minimum numeric
) returns text
language sql immutable parallel safe
as $$
  select case
    when amount_fault.amount is null
    then 'must be given'
    -- NaN and the infinities are numerics too, and equal to their own trunc().
    when amount_fault.amount in ('NaN', 'Infinity', '-Infinity')
      or amount_fault.amount <> trunc(amount_fault.amount)
    then 'must be a whole number'
    when amount_fault.amount < amount_fault.minimum
    -- Not format(), which is not immutable and would keep this from being inlined.
    then 'must be at least ' || amount_fault.minimum::text
    when amount_fault.amount >= 2::numeric ^ 256
    then 'must be below 2^256'
  end
$$;

alter function ledger.amount_fault owner to ledger_owner;
comment on function ledger.amount_fault is
  'What is wrong with an amount that must be a whole number from minimum to 2^256 - 1; null when nothing is.';
revoke execute on function ledger.amount_fault from public;
-- <<< db/functions/amount_fault.sql

-- >>> db/functions/balance_fault.sql
-- Say whether two balances that a transfer would leave behind may be.
create or replace function ledger.balance_fault(
  from_amount numeric,
  to_amount   numeric
) returns text
language sql immutable parallel safe
as $$
  select case
    when balance_fault.to_amount >= 2::numeric ^ 256
    then 'overflow'
    when balance_fault.from_amount < 0
    then 'insufficient funds'
  end
$$;

alter function ledger.balance_fault owner to ledger_owner;
comment on function ledger.balance_fault is
  'Why a transfer is refused that would leave its sender and its recipient with these balances: overflow or insufficient funds; null when it may be made. The rule of every transfer.';
revoke execute on function ledger.balance_fault from public;
-- <<< db/functions/balance_fault.sql

-- >>> db/functions/keys_free.sql
-- Take the idempotency keys of several transfers that nobody else uses or has used.
create or replace function ledger.keys_free(
  group_ids bigint[],
  keys      text[],
  possible  boolean[]
) returns boolean[]
language plpgsql volatile
as $$
declare
  free boolean[];
begin
  -- Nobody is waited for: a request under way elsewhere, or twice in this call, is left to transfer(), which waits.
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

alter function ledger.keys_free owner to ledger_owner;
comment on function ledger.keys_free is
  'Which of these transfers can go on: those that were possible and have no idempotency key, or one that is new and nobody else holds; it is theirs until the transaction ends. Waits for nobody.';
revoke execute on function ledger.keys_free from public;
-- <<< db/functions/keys_free.sql

-- >>> db/functions/move.sql
-- Move money between two participants of one group: the rule of every single transfer.
create or replace function ledger.move(
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
  participant ledger.participants;
  sender      ledger.participants;
  recipient   ledger.participants;
  fault       text;
  moment      timestamptz;
  result      ledger.transfer_result;
begin
  -- In ascending id, so that no two transfers wait for each other. Both are present until this commits, which keeps
  -- the group from being removed.
  for participant in
    select p.*
    from ledger.participants as p
    where p.group_id = move.group_id
      and p.id in (move.from_id, move.to_id)
      and p.exited_at is null
    order by p.id
    for no key update
  loop
    if participant.id = from_id then
      sender := participant;
    else
      recipient := participant;
    end if;
  end loop;

  if sender.id is null or recipient.id is null then
    perform ledger.refuse_unknown_participants(
      group_id,
      array_remove(array[case when sender.id is null then 'from_id' end, case when recipient.id is null then 'to_id' end], null),
      array_remove(array[case when sender.id is null then from_id end, case when recipient.id is null then to_id end], null)
    );
  end if;

  fault := ledger.balance_fault(sender.amount - amount, recipient.amount + amount);
  if fault is not null then
    perform ledger.refuse_transfer(fault, 'amount', sender.id, sender.amount, amount);
  end if;

  -- Taken while both are locked, and never below a time that either has, whatever the clock does.
  moment := greatest(clock_timestamp(), sender.moved_at, recipient.moved_at);
  sender.amount := sender.amount - amount;
  recipient.amount := recipient.amount + amount;

  update ledger.participants as p
  set
    amount = case when p.id = move.from_id then sender.amount else recipient.amount end,
    moved_at = moment
  where p.group_id = move.group_id
    and p.id in (move.from_id, move.to_id);

  insert into ledger.entries (
    group_id, kind, from_id, to_id, amount, from_amount, to_amount, created_at, metadata, reverses
  )
  values (
    move.group_id, 'transfer', move.from_id, move.to_id, move.amount, sender.amount, recipient.amount, moment,
    move.metadata, move.reverses
  )
  returning entries.id into result.entry_id;

  result.to_participant := (recipient.username, recipient.id, recipient.group_id, recipient.amount);
  result.from_participant := (sender.username, sender.id, sender.group_id, sender.amount);
  result.replayed := false;
  return result;
end
$$;

alter function ledger.move owner to ledger_owner;
comment on function ledger.move is
  'Move a valid amount between two different participants who are present; reverses names the entry whose amount it moves back, if it does. Raises LG001, LG002, LG003.';
revoke execute on function ledger.move from public;
-- <<< db/functions/move.sql

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

-- >>> db/functions/refuse_transfer.sql
-- Raise what balance_fault says of a transfer.
create or replace function ledger.refuse_transfer(
  fault   text,
  field   text,
  from_id bigint,
  held    numeric,
  amount  numeric
) returns void
language plpgsql immutable
as $$
begin
  if fault = 'overflow' then
    perform ledger.refuse_invalid(array[field], array['would take the recipient to 2^256 or more']);
  end if;
  raise exception using
    errcode = 'LG003',
    column  = field,
    message = format('participant %s has %s, cannot send %s', from_id, held, amount),
    detail  = format('%s: exceeds the balance of %s', field, held),
    hint    = 'Send at most the balance.';
end
$$;

alter function ledger.refuse_transfer owner to ledger_owner;
comment on function ledger.refuse_transfer is
  'Raise the fault of a transfer, as balance_fault says it, blaming the field with its amount: LG001 where the recipient would get too much, LG003 where the sender holds too little.';
revoke execute on function ledger.refuse_transfer from public;
-- <<< db/functions/refuse_transfer.sql

-- >>> db/functions/transfer.sql
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
set search_path = ledger, pg_temp
as $$
declare
  request text[];
  answer  json;
  result  transfer_result;
begin
  if (
    group_id is not null and from_id <> to_id and amount_fault(amount, 1) is null
    and key_fault(idempotency_key) is null and metadata_fault(metadata) is null
  ) is not true then
    perform refuse_invalid(
      array['group_id', 'from_id', 'to_id', 'amount', 'idempotency_key', 'metadata'],
      array[
        id_fault(group_id),
        id_fault(from_id),
        case when to_id = from_id then 'must be another participant' else id_fault(to_id) end,
        amount_fault(amount, 1),
        key_fault(idempotency_key),
        metadata_fault(metadata)
      ]
    );
  end if;

  if idempotency_key is null then
    return move(group_id, from_id, to_id, amount, metadata, null);
  end if;

  request := transfer_request(from_id, to_id, amount, metadata);
  answer := replay(group_id, idempotency_key, request);
  if answer is not null then
    result := json_populate_record(result, answer);
    result.replayed := true;
    return result;
  end if;
  result := move(group_id, from_id, to_id, amount, metadata, null);
  perform remember(group_id, idempotency_key, request, to_json(result));
  return result;
end
$$;

alter function ledger.transfer owner to ledger_owner;
comment on function ledger.transfer is
  'Move amount from one participant to another of the same group. entry_id is the entry written. Raises LG001, LG002, LG003, LG006.';
revoke execute on function ledger.transfer from public;
grant execute on function ledger.transfer to ledger_api;
-- <<< db/functions/transfer.sql

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
  select array_agg(
    (
      l.group_id is not null and l.from_id <> l.to_id and amount_fault(l.amount, 1) is null
      and key_fault(l.key) is null and metadata_fault(l.metadata) is null
    ) is true
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

-- >>> db/functions/transfer_request.sql
-- Say what a transfer asks for, to tell it from other requests under its idempotency key.
create or replace function ledger.transfer_request(
  from_id  bigint,
  to_id    bigint,
  amount   numeric,
  metadata jsonb
) returns text[]
language sql immutable parallel safe
as $$
  select array[
    'transfer',
    transfer_request.from_id::text,
    transfer_request.to_id::text,
    trunc(transfer_request.amount)::text,
    transfer_request.metadata::text
  ]
$$;

alter function ledger.transfer_request owner to ledger_owner;
comment on function ledger.transfer_request is
  'The operation and the values of a transfer, for its fingerprint.';
revoke execute on function ledger.transfer_request from public;
-- <<< db/functions/transfer_request.sql
