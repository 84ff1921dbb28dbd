-- Lock a lone transfer once.
-- depends: 0015.read-cursors-in-decimal

set local lock_timeout = '5s';
set local role ledger_owner;
-- Functions may call each other in any order.
set local check_function_bodies = off;

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

  return ledger.write_transfer(sender, recipient, amount, metadata, reverses);
end
$$;

alter function ledger.move owner to ledger_owner;
comment on function ledger.move is
  'Move a valid amount between two different participants who are present; reverses names the entry whose amount it moves back, if it does. Raises LG001, LG002, LG003.';
revoke execute on function ledger.move from public;
-- <<< db/functions/move.sql

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
  sender      ledger.participants;
  recipient   ledger.participants;
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
      sender := participant;
    else
      recipient := participant;
    end if;
  end loop;
  if sender.id is null or recipient.id is null then
    select case when count(*) = 2 then 'locked' else 'left' end
    into outcome.outcome
    from ledger.participants as p
    where p.group_id = try_transfer.group_id
      and p.id in (try_transfer.from_id, try_transfer.to_id)
      and p.exited_at is null;
    return outcome;
  end if;
  if ledger.balance_fault(sender.amount - trunc(amount), recipient.amount + trunc(amount)) is not null then
    return outcome;
  end if;

  made := ledger.write_transfer(sender, recipient, amount, metadata, null);
  if idempotency_key is not null then
    perform ledger.remember(
      group_id, idempotency_key, ledger.transfer_request(from_id, to_id, amount, metadata), to_json(made)
    );
  end if;
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

-- >>> db/functions/write_transfer.sql
-- Write down a transfer between two participants who are locked: both balances and the entry.
create or replace function ledger.write_transfer(
  sender    ledger.participants,
  recipient ledger.participants,
  amount    numeric,
  metadata  jsonb,
  reverses  bigint
) returns ledger.transfer_result
language plpgsql volatile
as $$
declare
  -- Taken while both are locked, and never below a time that either has, whatever the clock does.
  moment timestamptz := greatest(clock_timestamp(), sender.moved_at, recipient.moved_at);
  result ledger.transfer_result;
begin
  sender.amount := sender.amount - amount;
  recipient.amount := recipient.amount + amount;

  update ledger.participants as p
  set
    amount = case when p.id = sender.id then sender.amount else recipient.amount end,
    moved_at = moment
  where p.group_id = sender.group_id
    and p.id in (sender.id, recipient.id);

  insert into ledger.entries (
    group_id, kind, from_id, to_id, amount, from_amount, to_amount, created_at, metadata, reverses
  )
  values (
    sender.group_id, 'transfer', sender.id, recipient.id, write_transfer.amount, sender.amount, recipient.amount, moment,
    write_transfer.metadata, write_transfer.reverses
  )
  returning entries.id into result.entry_id;

  result.to_participant := (recipient.username, recipient.id, recipient.group_id, recipient.amount);
  result.from_participant := (sender.username, sender.id, sender.group_id, sender.amount);
  result.replayed := false;
  return result;
end
$$;

alter function ledger.write_transfer owner to ledger_owner;
comment on function ledger.write_transfer is
  'Write what a transfer does that may be made, both balances and the entry; sender and recipient are rows that this transaction has locked.';
revoke execute on function ledger.write_transfer from public;
-- <<< db/functions/write_transfer.sql
