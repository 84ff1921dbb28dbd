-- Lone lines.
-- depends: 0009.validate-checks

set local lock_timeout = '5s';
set local role ledger_owner;
-- Functions may call each other in any order.
set local check_function_bodies = off;

-- >>> db/functions/spelled_id.sql
-- Read an id from its spelling in JSON.
create or replace function ledger.spelled_id(
  value text
) returns bigint
language sql immutable parallel safe
as $$
  -- In ASCII digits alone: the type's own parser takes signs, spaces and other bases as well.
  select case
    when octet_length(value) between 1 and 18 and ltrim(value, '0123456789') = ''
    then nullif(value::bigint, 0)
    when octet_length(value) not between 1 and 1000
      or value collate "C" ~ '[^0-9]'
      or length(ltrim(value, '0')) not between 1 and 19
    then null
    when value::numeric <= 9223372036854775807
    then value::bigint
  end
$$;

alter function ledger.spelled_id owner to ledger_owner;
comment on function ledger.spelled_id is
  'The positive bigint that is spelled in digits; null for anything else.';
revoke execute on function ledger.spelled_id from public;
-- <<< db/functions/spelled_id.sql

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
  if not transfer_is_valid(group_id, from_id, to_id, amount, idempotency_key, metadata) then
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

-- >>> db/functions/transfer_is_valid.sql
-- Say whether the values of a transfer are such as it can have.
create or replace function ledger.transfer_is_valid(
  group_id        bigint,
  from_id         bigint,
  to_id           bigint,
  amount          numeric,
  idempotency_key text,
  metadata        jsonb
) returns boolean
language sql immutable parallel safe
as $$
  select (
    transfer_is_valid.group_id is not null
    and transfer_is_valid.from_id <> transfer_is_valid.to_id
    and ledger.amount_fault(transfer_is_valid.amount, 1) is null
    and ledger.key_fault(transfer_is_valid.idempotency_key) is null
    and ledger.metadata_fault(transfer_is_valid.metadata) is null
  ) is true
$$;

alter function ledger.transfer_is_valid owner to ledger_owner;
comment on function ledger.transfer_is_valid is
  'Whether a transfer has a group, two different sides, an amount from 1 to 2^256 - 1, and an idempotency key and metadata that can be ones where it has them. What is wrong with it, transfer says.';
revoke execute on function ledger.transfer_is_valid from public;
-- <<< db/functions/transfer_is_valid.sql

-- >>> db/functions/transfer_lines.sql
-- Read the lines of a multi-party transfer.
create or replace function ledger.transfer_lines(
  transfers jsonb
) returns ledger.transfer_lines
language plpgsql immutable
as $$
declare
  lines  ledger.transfer_lines;
  valid  boolean;
  fields text[];
  faults text[];
begin
  select
    bool_and((
      l.from_id <> l.to_id and ledger.amount_fault(l.amount, 1) is null and ledger.metadata_fault(l.metadata) is null
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
    select
      i.line,
      case when jsonb_typeof(i.item) = 'object' then i.item else '{"": ""}' end as item,
      ledger.spelled_id(i.item ->> 'from') as from_id,
      ledger.spelled_id(i.item ->> 'to') as to_id,
      ledger.spelled_amount(i.item ->> 'amount') as amount,
      nullif(i.item -> 'metadata', 'null') as metadata
    from jsonb_array_elements(transfer_lines.transfers) with ordinality as i (item, line)
    -- Each value is read once, and not once for each place that asks for it.
    offset 0
  ) as l;

  if not valid then
    select
      f.fields,
      f.faults
    into
      fields,
      faults
    from ledger.transfer_line_faults(transfers) as f;
    perform ledger.refuse_invalid(fields, faults);
  end if;
  return lines;
end
$$;

alter function ledger.transfer_lines owner to ledger_owner;
comment on function ledger.transfer_lines is
  'The columns of a multi-party transfer, metadatas only where a line has any. Raises LG001 with what is wrong in each line.';
revoke execute on function ledger.transfer_lines from public;
-- <<< db/functions/transfer_lines.sql

-- >>> db/functions/try_transfer.sql
-- Make one transfer if it can be made without waiting for anybody.
create or replace function ledger.try_transfer(
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
  participant ledger.participants;
  sender      numeric;
  recipient   numeric;
  made        ledger.transfer_result;
  outcome     ledger.transfer_outcome;
begin
  outcome.place := 1;
  outcome.outcome := 'left';
  if not ledger.transfer_is_valid(group_id, from_id, to_id, amount, idempotency_key, metadata) then
    return outcome;
  end if;
  if idempotency_key is not null and not (ledger.keys_free(array[group_id], array[idempotency_key], array[true]))[1] then
    return outcome;
  end if;

  for participant in
    select p.*
    from ledger.participants as p
    where p.group_id = try_transfer.group_id
      and p.id in (try_transfer.from_id, try_transfer.to_id)
      and p.exited_at is null
    order by p.id
    for no key update skip locked
  loop
    if participant.id = from_id then
      sender := participant.amount;
    else
      recipient := participant.amount;
    end if;
  end loop;
  if sender is null or recipient is null then
    select case when count(*) = 2 then 'locked' else 'left' end
    into outcome.outcome
    from ledger.participants as p
    where p.group_id = try_transfer.group_id
      and p.id in (try_transfer.from_id, try_transfer.to_id)
      and p.exited_at is null;
    return outcome;
  end if;
  if ledger.balance_fault(sender - trunc(amount), recipient + trunc(amount)) is not null then
    return outcome;
  end if;

  made := ledger.transfer(group_id, from_id, to_id, amount, idempotency_key, metadata);
  outcome.outcome := 'done';
  outcome.to_participant := made.to_participant;
  outcome.from_participant := made.from_participant;
  outcome.entry_id := made.entry_id;
  return outcome;
end
$$;

alter function ledger.try_transfer owner to ledger_owner;
comment on function ledger.try_transfer is
  'What transfer_each does for a single line, in a third of the time: transfer, where nobody is in its way and nothing is to be refused.';
revoke execute on function ledger.try_transfer from public;
-- <<< db/functions/try_transfer.sql
