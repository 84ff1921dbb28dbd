-- Undo: the record.

set local lock_timeout = '5s';
set local role ledger_owner;
-- Functions may call each other in any order.
set local check_function_bodies = off;

-- >>> db/functions/count_in_total.sql
drop function if exists ledger.count_in_total;
-- Add a deposit to a group's total, or take an exit's amount off.
create or replace function ledger.count_in_total(
  group_id bigint,
  amount   numeric
) returns void
language plpgsql volatile
as $$
begin
  -- trunc() takes the zeros off a deposit spelled 100.0, which would show in every total after it.
  -- A session always takes the same one of the eight counters, so a transaction of many joins and exits holds one and
  -- cannot deadlock with another over two.
  update ledger.group_counters as c
  set total = c.total + trunc(count_in_total.amount)
  where c.group_id = count_in_total.group_id
    and c.slot = pg_backend_pid() % 8;
  if not found then
    raise exception 'group % has lost a counter', group_id;
  end if;
end
$$;

alter function ledger.count_in_total owner to ledger_owner;
comment on function ledger.count_in_total is
  'Add an amount, negative for an exit, to one of the counters that make up the group''s total.';
revoke execute on function ledger.count_in_total from public;
-- <<< db/functions/count_in_total.sql

-- >>> db/functions/exit_group.sql
drop function if exists ledger.exit_group;
-- Leave a group with the final amount, which returns to the main network.
create or replace function ledger.exit_group(
  group_id        bigint,
  participant_id  bigint,
  idempotency_key text default null
) returns ledger.exit_result
language plpgsql volatile security definer
set search_path = ledger, pg_temp
as $$
declare
  request text[] := array['exit_group', participant_id::text];
  answer  json;
  exited  exit_result;
begin
  perform refuse_invalid(
    array['group_id', 'participant_id', 'idempotency_key'],
    array[id_fault(group_id), id_fault(participant_id), key_fault(idempotency_key)]
  );

  if idempotency_key is not null then
    answer := replay(group_id, idempotency_key, request);
    if answer is not null then
      exited := json_populate_record(exited, answer);
      exited.replayed := true;
      return exited;
    end if;
  end if;

  select p.amount
  into exited.final_amount
  from participants as p
  where p.group_id = exit_group.group_id
    and p.id = exit_group.participant_id
    and p.exited_at is null
  for no key update;
  if not found then
    perform refuse_unknown_participants(group_id, array['participant_id'], array[participant_id]);
  end if;

  update participants as p
  set
    amount = 0,
    exited_at = clock_timestamp()
  where p.group_id = exit_group.group_id
    and p.id = exit_group.participant_id;

  perform count_in_total(group_id, -exited.final_amount);

  insert into entries (group_id, kind, from_id, amount, from_amount)
  values (exit_group.group_id, 'exit', exit_group.participant_id, exited.final_amount, 0)
  returning entries.id into exited.entry_id;

  exited.replayed := false;
  if idempotency_key is not null then
    perform remember(group_id, idempotency_key, request, to_json(exited));
  end if;
  return exited;
end
$$;

alter function ledger.exit_group owner to ledger_owner;
comment on function ledger.exit_group is
  'Leave the group with all that the participant holds, the final amount. entry_id is the entry written. Raises LG001, LG002, LG006.';
revoke execute on function ledger.exit_group from public;
grant execute on function ledger.exit_group to ledger_api;
-- <<< db/functions/exit_group.sql

-- >>> db/functions/feed_place.sql
drop function if exists ledger.feed_place;
-- <<< db/functions/feed_place.sql

-- >>> db/functions/fingerprint.sql
-- Tell two requests apart.
create or replace function ledger.fingerprint(
  request text[]
) returns bytea
language sql immutable parallel safe
as $$
  select sha256(convert_to(fingerprint.request::text, 'UTF8'))
$$;

alter function ledger.fingerprint owner to ledger_owner;
comment on function ledger.fingerprint is
  'SHA-256 of a request, an operation and its values; equal for equal requests only.';
revoke execute on function ledger.fingerprint from public;
-- <<< db/functions/fingerprint.sql

-- >>> db/functions/get_entry.sql
drop function if exists ledger.get_entry;
-- <<< db/functions/get_entry.sql

-- >>> db/functions/get_participant.sql
drop function if exists ledger.get_participant;
-- Show one participant with the balance.
create or replace function ledger.get_participant(
  group_id       bigint,
  participant_id bigint
) returns ledger.current_participants
language plpgsql stable security definer
set search_path = ledger, pg_temp
as $$
declare
  participant current_participants;
begin
  select p.*
  into participant
  from current_participants as p
  where p.group_id = get_participant.group_id
    and p.id = get_participant.participant_id;

  if not found then
    perform refuse_unknown_participants(group_id, array['participant_id'], array[participant_id]);
  end if;
  return participant;
end
$$;

alter function ledger.get_participant owner to ledger_owner;
comment on function ledger.get_participant is
  'One participant who is present in the group. Raises LG001, LG002.';
revoke execute on function ledger.get_participant from public;
grant execute on function ledger.get_participant to ledger_api;
-- <<< db/functions/get_participant.sql

-- >>> db/functions/group_total.sql
drop function if exists ledger.group_total;
-- Add up what a group's participants hold.
create or replace function ledger.group_total(
  group_id bigint
) returns numeric
language plpgsql stable security definer
set search_path = ledger, pg_temp
as $$
declare
  total numeric;
begin
  -- A transfer does not change the total, so joins and exits keep it in a few counters that need no adding up of balances.
  select sum(c.total)
  into total
  from groups as g
  join group_counters as c on c.group_id = g.id
  where g.id = group_total.group_id
    and g.closed_at is null;

  if total is null then
    perform refuse_unknown_group(group_id);
  end if;
  return total;
end
$$;

alter function ledger.group_total owner to ledger_owner;
comment on function ledger.group_total is
  'What the participants present in the group hold together; 0 when it is empty. Raises LG001, LG002.';
revoke execute on function ledger.group_total from public;
grant execute on function ledger.group_total to ledger_api;
-- <<< db/functions/group_total.sql

-- >>> db/functions/history_bounds.sql
drop function if exists ledger.history_bounds;
-- <<< db/functions/history_bounds.sql

-- >>> db/functions/history_moment.sql
drop function if exists ledger.history_moment;
-- <<< db/functions/history_moment.sql

-- >>> db/functions/history_page.sql
drop function if exists ledger.history_page;
-- <<< db/functions/history_page.sql

-- >>> db/functions/join_group.sql
drop function if exists ledger.join_group;
-- Join a group with a deposit from the main network.
create or replace function ledger.join_group(
  group_id        bigint,
  username        text,
  amount          numeric,
  idempotency_key text default null
) returns ledger.join_result
language plpgsql volatile security definer
set search_path = ledger, pg_temp
as $$
declare
  request text[] := array['join_group', username, trunc(amount)::text];
  answer  json;
  joined  join_result;
begin
  perform refuse_invalid(
    array['group_id', 'username', 'amount', 'idempotency_key'],
    array[id_fault(group_id), name_fault(username), amount_fault(amount, 0), key_fault(idempotency_key)]
  );

  if idempotency_key is not null then
    answer := replay(group_id, idempotency_key, request);
    if answer is not null then
      joined := json_populate_record(joined, answer);
      joined.replayed := true;
      return joined;
    end if;
  end if;

  -- Kept from removal until this commits; joins do not keep each other out.
  perform from groups as g
  where g.id = join_group.group_id
    and g.closed_at is null
  for key share;
  if not found then
    perform refuse_unknown_group(group_id);
  end if;

  insert into participants (group_id, username, amount)
  values (join_group.group_id, join_group.username, join_group.amount)
  on conflict do nothing
  returning participants.username, participants.id, participants.group_id, participants.amount
  into joined.username, joined.id, joined.group_id, joined.amount;
  if not found then
    perform refuse_taken('username', username);
  end if;

  perform count_in_total(group_id, amount);

  insert into entries (group_id, kind, to_id, amount, to_amount)
  values (join_group.group_id, 'join', joined.id, join_group.amount, join_group.amount)
  returning entries.id into joined.entry_id;

  joined.replayed := false;
  if idempotency_key is not null then
    perform remember(group_id, idempotency_key, request, to_json(joined));
  end if;
  return joined;
end
$$;

alter function ledger.join_group owner to ledger_owner;
comment on function ledger.join_group is
  'Join a group under a username that no one present has, with a deposit of 0 or more. entry_id is the entry written. Raises LG001, LG002, LG005, LG006.';
revoke execute on function ledger.join_group from public;
grant execute on function ledger.join_group to ledger_api;
-- <<< db/functions/join_group.sql

-- >>> db/functions/kind_fault.sql
drop function if exists ledger.kind_fault;
-- <<< db/functions/kind_fault.sql

-- >>> db/functions/last_leg.sql
drop function if exists ledger.last_leg;
-- <<< db/functions/last_leg.sql

-- >>> db/functions/list_entries.sql
drop function if exists ledger.list_entries;
-- <<< db/functions/list_entries.sql

-- >>> db/functions/list_participant_entries.sql
drop function if exists ledger.list_participant_entries;
-- <<< db/functions/list_participant_entries.sql

-- >>> db/functions/lock_sides.sql
drop function if exists ledger.lock_sides;
-- <<< db/functions/lock_sides.sql

-- >>> db/functions/metadata_fault.sql
drop function if exists ledger.metadata_fault;
-- <<< db/functions/metadata_fault.sql

-- >>> db/functions/move.sql
drop function if exists ledger.move;
-- <<< db/functions/move.sql

-- >>> db/functions/move_all.sql
drop function if exists ledger.move_all;
-- <<< db/functions/move_all.sql

-- >>> db/functions/past_participant.sql
drop function if exists ledger.past_participant;
-- <<< db/functions/past_participant.sql

-- >>> db/functions/past_total.sql
drop function if exists ledger.past_total;
-- <<< db/functions/past_total.sql

-- >>> db/functions/read_feed.sql
drop function if exists ledger.read_feed;
-- <<< db/functions/read_feed.sql

-- >>> db/functions/refuse_unknown_entry.sql
drop function if exists ledger.refuse_unknown_entry;
-- <<< db/functions/refuse_unknown_entry.sql

-- >>> db/functions/refuse_unknown_participants.sql
drop function if exists ledger.refuse_unknown_participants;
-- Raise LG002 for participants that are not present in a group, or for the group itself.
create or replace function ledger.refuse_unknown_participants(
  group_id        bigint,
  fields          text[],
  participant_ids bigint[]
) returns void
language plpgsql stable
as $$
begin
  perform ledger.refuse_invalid(
    array['group_id'] || fields,
    array(select ledger.id_fault(i.id) from unnest(group_id || participant_ids) as i (id))
  );

  if not exists (
    select from ledger.groups as g
    where g.id = refuse_unknown_participants.group_id
      and g.closed_at is null
  ) then
    perform ledger.refuse_unknown_group(group_id);
  end if;

  raise exception using
    errcode = 'LG002',
    column  = fields[1],
    message = format('no participant %s in group %s', array_to_string(participant_ids, ' and no participant '), group_id),
    detail  = array_to_string(fields, E': no such participant in the group\n') || ': no such participant in the group',
    hint    = 'List those who are present with ledger.list_participants().';
end
$$;

alter function ledger.refuse_unknown_participants owner to ledger_owner;
comment on function ledger.refuse_unknown_participants is
  'Raise LG002 that blames the fields for naming participants that are not present in the group, or the group when it does not exist; LG001 for a null.';
revoke execute on function ledger.refuse_unknown_participants from public;
-- <<< db/functions/refuse_unknown_participants.sql

-- >>> db/functions/remember_total.sql
drop function if exists ledger.remember_total;
-- <<< db/functions/remember_total.sql

-- >>> db/functions/remove_group.sql
-- Remove a group that nobody is in; its record stays.
create or replace function ledger.remove_group(
  group_id        bigint,
  idempotency_key text default null
) returns ledger.remove_result
language plpgsql volatile security definer
set search_path = ledger, pg_temp
as $$
declare
  request text[] := array['remove_group'];
  answer  json;
  removed remove_result;
begin
  perform refuse_invalid(
    array['group_id', 'idempotency_key'],
    array[id_fault(group_id), key_fault(idempotency_key)]
  );

  if idempotency_key is not null then
    answer := replay(group_id, idempotency_key, request);
    if answer is not null then
      removed := json_populate_record(removed, answer);
      removed.replayed := true;
      return removed;
    end if;
  end if;

  -- Joins hold this row in share mode: none is under way once it is ours, and none begins.
  perform from groups as g
  where g.id = remove_group.group_id
    and g.closed_at is null
  for update;
  if not found then
    perform refuse_unknown_group(group_id);
  end if;

  -- Each join and exit updates a counter. Locking them waits for exits under way, and, above READ COMMITTED, fails
  -- with 40001 where a join has committed that our snapshot does not show.
  perform from group_counters as c
  where c.group_id = remove_group.group_id
  order by c.slot
  for update;

  if exists (
    select from current_participants as p
    where p.group_id = remove_group.group_id
  ) then
    raise exception using
      errcode = 'LG004',
      column  = 'group_id',
      message = format('group %s has participants', group_id),
      detail  = 'group_id: participants are present',
      hint    = 'Let every participant exit first, with ledger.exit_group.';
  end if;

  update groups as g
  set closed_at = clock_timestamp()
  where g.id = remove_group.group_id;

  removed.replayed := false;
  if idempotency_key is not null then
    perform remember(group_id, idempotency_key, request, to_json(removed));
  end if;
  return removed;
end
$$;

alter function ledger.remove_group owner to ledger_owner;
comment on function ledger.remove_group is
  'Remove a group without participants; its name is free again and its record stays. Raises LG001, LG002, LG004, LG006.';
revoke execute on function ledger.remove_group from public;
grant execute on function ledger.remove_group to ledger_api;
-- <<< db/functions/remove_group.sql

-- >>> db/functions/restart_feed.sql
drop function if exists ledger.restart_feed;
-- <<< db/functions/restart_feed.sql

-- >>> db/functions/reverse_transfer.sql
drop function if exists ledger.reverse_transfer;
-- <<< db/functions/reverse_transfer.sql

-- >>> db/functions/settle_exit.sql
drop function if exists ledger.settle_exit;
-- <<< db/functions/settle_exit.sql

-- >>> db/functions/spelled_amount.sql
drop function if exists ledger.spelled_amount;
-- <<< db/functions/spelled_amount.sql

-- >>> db/functions/spelled_id.sql
drop function if exists ledger.spelled_id;
-- <<< db/functions/spelled_id.sql

-- >>> db/functions/transfer.sql
drop function if exists ledger.transfer;
-- Move money between two participants of one group.
create or replace function ledger.transfer(
  group_id        bigint,
  from_id         bigint,
  to_id           bigint,
  amount          numeric,
  idempotency_key text default null
) returns ledger.transfer_result
language plpgsql volatile security definer
set search_path = ledger, pg_temp
as $$
declare
  request     text[];
  answer      json;
  participant participants;
  sender      current_participants;
  recipient   current_participants;
  result      transfer_result;
begin
  if (
    group_id is not null and from_id <> to_id and amount_fault(amount, 1) is null and key_fault(idempotency_key) is null
  ) is not true then
    perform refuse_invalid(
      array['group_id', 'from_id', 'to_id', 'amount', 'idempotency_key'],
      array[
        id_fault(group_id),
        id_fault(from_id),
        case when to_id = from_id then 'must be another participant' else id_fault(to_id) end,
        amount_fault(amount, 1),
        key_fault(idempotency_key)
      ]
    );
  end if;

  if idempotency_key is not null then
    request := array['transfer', from_id::text, to_id::text, trunc(amount)::text];
    answer := replay(group_id, idempotency_key, request);
    if answer is not null then
      result := json_populate_record(result, answer);
      result.replayed := true;
      return result;
    end if;
  end if;

  -- In ascending id, so that no two transfers wait for each other. Both are present until this commits, which keeps
  -- the group from being removed.
  for participant in
    select p.*
    from participants as p
    where p.group_id = transfer.group_id
      and p.id in (transfer.from_id, transfer.to_id)
      and p.exited_at is null
    order by p.id
    for no key update
  loop
    if participant.id = from_id then
      sender := (participant.username, participant.id, participant.group_id, participant.amount);
    else
      recipient := (participant.username, participant.id, participant.group_id, participant.amount);
    end if;
  end loop;

  if sender.id is null or recipient.id is null then
    perform refuse_unknown_participants(
      group_id,
      array_remove(array[case when sender.id is null then 'from_id' end, case when recipient.id is null then 'to_id' end], null),
      array_remove(array[case when sender.id is null then from_id end, case when recipient.id is null then to_id end], null)
    );
  end if;

  if recipient.amount + amount >= 2::numeric ^ 256 then
    perform refuse_invalid(array['amount'], array['would take the recipient to 2^256 or more']);
  end if;
  if sender.amount < amount then
    raise exception using
      errcode = 'LG003',
      column  = 'amount',
      message = format('participant %s has %s, cannot send %s', sender.id, sender.amount, amount),
      detail  = format('amount: exceeds the balance of %s', sender.amount),
      hint    = 'Send at most the balance.';
  end if;

  sender.amount := sender.amount - amount;
  recipient.amount := recipient.amount + amount;

  update participants as p
  set amount = case when p.id = transfer.from_id then sender.amount else recipient.amount end
  where p.group_id = transfer.group_id
    and p.id in (transfer.from_id, transfer.to_id);

  insert into entries (group_id, kind, from_id, to_id, amount, from_amount, to_amount)
  values (transfer.group_id, 'transfer', transfer.from_id, transfer.to_id, transfer.amount, sender.amount, recipient.amount)
  returning entries.id into result.entry_id;

  result.to_participant := recipient;
  result.from_participant := sender;

  result.replayed := false;
  if idempotency_key is not null then
    perform remember(group_id, idempotency_key, request, to_json(result));
  end if;
  return result;
end
$$;

alter function ledger.transfer owner to ledger_owner;
comment on function ledger.transfer is
  'Move amount from one participant to another of the same group. entry_id is the entry written. Raises LG001, LG002, LG003, LG006.';
revoke execute on function ledger.transfer from public;
grant execute on function ledger.transfer to ledger_api;
-- <<< db/functions/transfer.sql

-- >>> db/functions/transfer_all.sql
drop function if exists ledger.transfer_all;
-- <<< db/functions/transfer_all.sql

-- >>> db/functions/transfer_line_faults.sql
drop function if exists ledger.transfer_line_faults;
-- <<< db/functions/transfer_line_faults.sql

-- >>> db/functions/transfer_lines.sql
drop function if exists ledger.transfer_lines;
-- <<< db/functions/transfer_lines.sql

-- >>> db/functions/verify.sql
drop function if exists ledger.verify;
-- <<< db/functions/verify.sql

-- >>> db/functions/verify_entries.sql
drop function if exists ledger.verify_entries;
-- <<< db/functions/verify_entries.sql

-- >>> db/functions/verify_keys.sql
drop function if exists ledger.verify_keys;
-- <<< db/functions/verify_keys.sql

-- >>> db/functions/verify_participants.sql
drop function if exists ledger.verify_participants;
-- <<< db/functions/verify_participants.sql

-- >>> db/functions/verify_total.sql
drop function if exists ledger.verify_total;
-- <<< db/functions/verify_total.sql

drop view ledger.record;
create view ledger.record as
select
  e.group_id,
  e.id,
  e.kind,
  e.from_id,
  e.to_id,
  e.amount,
  e.from_amount,
  e.to_amount,
  e.created_at
from ledger.entries as e;

comment on view ledger.record is 'Every movement there ever was, of removed groups and exited participants as well.';
comment on column ledger.record.group_id is 'The group.';
comment on column ledger.record.id is 'Number of the entry.';
comment on column ledger.record.kind is 'join, transfer or exit.';
comment on column ledger.record.from_id is 'The participant whose balance went down; null for a join.';
comment on column ledger.record.to_id is 'The participant whose balance went up; null for an exit.';
comment on column ledger.record.amount is 'What moved, in the smallest unit.';
comment on column ledger.record.from_amount is 'The balance of from_id after it.';
comment on column ledger.record.to_amount is 'The balance of to_id after it.';
comment on column ledger.record.created_at is 'When it moved.';
grant select on ledger.record to ledger_reader;

drop type if exists ledger.entry_result;
drop type if exists ledger.feed_entry;
drop type if exists ledger.feed_place;
drop type if exists ledger.history_bounds;
drop type if exists ledger.history_moment;
drop type if exists ledger.leg;
drop type if exists ledger.transfer_lines;
drop type if exists ledger.transfer_sides;
drop type if exists ledger.transfer_all_result;
drop type if exists ledger.transfer_entry;
drop type if exists ledger.fault;

-- What was noted stays, and with it the room for it. Applied again, the migration fills in what came since.
do $$
begin
  -- A snapshot from before the lock would not show what was committed while we waited for it.
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception using
      errcode = 'object_not_in_prerequisite_state',
      message = 'the record is rolled back at READ COMMITTED only',
      hint    = 'Set default_transaction_isolation of the database or the login to read committed.';
  end if;
  lock table ledger.groups, ledger.participants, ledger.group_counters, ledger.entries in access exclusive mode;
  if to_regclass('ledger.group_totals') is not null then
    drop trigger if exists group_totals_are_permanent on ledger.group_totals;
    if not exists (select from ledger.entries) then
      drop table ledger.feeds;
      drop table ledger.settlements;
      drop table ledger.group_totals;
      alter table ledger.entries
        drop column reverses,
        drop column metadata,
        drop column xid;
      alter table ledger.group_counters drop column changed_at;
      alter table ledger.participants drop column moved_at;
    end if;
  end if;
  drop index if exists ledger.entries_by_kind;
  drop index if exists ledger.entries_by_sender;
  drop index if exists ledger.entries_by_recipient;
end
$$;

comment on column ledger.entries.created_at is 'When it moved, taken while both sides were locked.';
