-- Undo: shared calls.

set local lock_timeout = '5s';
set local role ledger_owner;
-- Functions may call each other in any order.
set local check_function_bodies = off;

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
    then format('must be at least %s', amount_fault.minimum)
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
drop function if exists ledger.balance_fault;
-- <<< db/functions/balance_fault.sql

-- >>> db/functions/keys_free.sql
drop function if exists ledger.keys_free;
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

  if recipient.amount + amount >= 2::numeric ^ 256 then
    perform ledger.refuse_invalid(array['amount'], array['would take the recipient to 2^256 or more']);
  end if;
  if sender.amount < amount then
    raise exception using
      errcode = 'LG003',
      column  = 'amount',
      message = format('participant %s has %s, cannot send %s', sender.id, sender.amount, amount),
      detail  = format('amount: exceeds the balance of %s', sender.amount),
      hint    = 'Send at most the balance.';
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
    min(b.line) filter (where b.from_amount < 0 or b.to_amount >= 2::numeric ^ 256)
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

  if to_amounts[refused] >= 2::numeric ^ 256 then
    perform ledger.refuse_invalid(
      array[format('transfers[%s].amount', refused - 1)],
      array['would take the recipient to 2^256 or more']
    );
  elsif refused is not null then
    raise exception using
      errcode = 'LG003',
      column  = format('transfers[%s].amount', refused - 1),
      message = format(
        'participant %s has %s, cannot send %s',
        lines.from_ids[refused], from_amounts[refused] + lines.amounts[refused], lines.amounts[refused]
      ),
      detail  = format(
        'transfers[%s].amount: exceeds the balance of %s', refused - 1, from_amounts[refused] + lines.amounts[refused]
      ),
      hint    = 'Send at most the balance.';
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
drop function if exists ledger.refuse_transfer;
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

  request := array['transfer', from_id::text, to_id::text, trunc(amount)::text, metadata::text];
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
drop function if exists ledger.transfer_each;
-- <<< db/functions/transfer_each.sql

-- >>> db/functions/transfer_request.sql
drop function if exists ledger.transfer_request;
-- <<< db/functions/transfer_request.sql

drop type if exists ledger.transfer_outcome;
