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
  lines        integer;
  shape        text;
  free         boolean[];
  -- The locked participants, by ascending group and id, with the places of their rows; and which of them are the legs of
  -- the lines: first all senders, then all recipients.
  held_groups  bigint[];
  held_ids     bigint[];
  places       tid[];
  usernames    text[];
  balances     numeric[];
  moved        timestamptz[];
  changed      timestamptz[];
  legs         integer[];
  -- The outcome of each line: a leg that is not locked, or the values to write.
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

  -- Below, a line's values are found by its number. Lists that are shorter, or whose subscripts start elsewhere, are
  -- brought to the same shape.
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
    return next transfer_batch_of_one(
      group_ids[1], from_ids[1], to_ids[1], amounts[1], idempotency_keys[1], metadatas[1]
    );
    return;
  end if;

  if idempotency_keys is not null then
    select claim_idempotency_keys(
      group_ids, idempotency_keys,
      array_agg(transfer_is_valid(l.group_id, l.from_id, l.to_id, l.amount, l.key, l.metadata) order by l.line)
    )
    into free
    from unnest(group_ids, from_ids, to_ids, amounts, idempotency_keys, metadatas)
      with ordinality as l (group_id, from_id, to_id, amount, key, metadata, line);
  end if;

  -- Lock in ascending id, as every transfer does, and skip rows that another session has locked.
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
  into legs
  from unnest(group_ids || group_ids, from_ids || to_ids) with ordinality as s (group_id, id, place)
  left join unnest(held_groups, held_ids) with ordinality as h (group_id, id, number)
    on h.group_id = s.group_id
    and h.id = s.id;

  -- Lines are made one after the other, since each changes the balances that the next one finds. A refused line is
  -- deferred to transfer(), which raises the error. The arrays are filled first: one that is assigned from its middle
  -- would begin there.
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
    sender := legs[line];
    recipient := legs[lines + line];
    if sender is null or recipient is null then
      missed[line] := true;
      continue;
    end if;
    from_amount := balances[sender] - trunc(amounts[line]);
    to_amount := balances[recipient] + trunc(amounts[line]);
    continue when balance_violation(from_amount, to_amount) is not null;

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

  -- No other session can move a locked row, so its ctid is still valid.
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
      group_ids, from_ids, to_ids, amounts, idempotency_keys, metadatas, legs[: lines], legs[lines + 1 :],
      from_amounts, to_amounts, entry_ids
    ) as l (group_id, from_id, to_id, amount, key, metadata, sender, recipient, from_amount, to_amount, entry_id)
    where l.entry_id is not null
      and l.key is not null
    -- As in store_answer().
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
    group_ids, from_ids, to_ids, missed, legs[: lines], legs[lines + 1 :], from_amounts, to_amounts, entry_ids
  ) with ordinality as l (
    group_id, from_id, to_id, missed, sender, recipient, from_amount, to_amount, entry_id, line
  );
end
$$;

alter function ledger.transfer_batch owner to ledger_owner;
comment on function ledger.transfer_batch is
  'Make those of several transfers, also of several groups, that can be made at once: one row a line, in order. The outcome is done, with what transfer returns; locked, where another session holds a leg; or deferred, for all that transfer has to decide. A line that is not done changed nothing, and touches no other; one of shorter lists has nulls there. Raises 40001 where a balance or an idempotency key could not be written, and did nothing. For services that collect requests: call transfer for what is not done.';
revoke execute on function ledger.transfer_batch from public;
grant execute on function ledger.transfer_batch to ledger_api;
