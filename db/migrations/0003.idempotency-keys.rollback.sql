-- Undo: idempotency keys.

set local lock_timeout = '5s';
set local role ledger_owner;
-- Functions may call each other in any order.
set local check_function_bodies = off;

-- >>> db/functions/create_group.sql
drop function if exists ledger.create_group;
-- Open a group, which is one off-chain ledger.
create or replace function ledger.create_group(
  name text
) returns ledger.current_groups
language plpgsql volatile security definer
set search_path = ledger, pg_temp
as $$
declare
  new_group current_groups;
begin
  perform refuse_invalid(array['name'], array[name_fault(name)]);

  insert into groups (name)
  values (create_group.name)
  on conflict do nothing
  returning groups.name, groups.id into new_group;
  if not found then
    perform refuse_taken('name', name);
  end if;

  insert into group_counters (group_id, slot)
  select new_group.id, s.slot
  from generate_series(0, 7) as s (slot);

  return new_group;
end
$$;

alter function ledger.create_group owner to ledger_owner;
comment on function ledger.create_group is
  'Open a group under a name that no other existing group has. Raises LG001, LG005.';
revoke execute on function ledger.create_group from public;
grant execute on function ledger.create_group to ledger_api;
-- <<< db/functions/create_group.sql

-- >>> db/functions/exit_group.sql
drop function if exists ledger.exit_group;
-- Leave a group with the final amount, which returns to the main network.
create or replace function ledger.exit_group(
  group_id       bigint,
  participant_id bigint
) returns ledger.exit_result
language plpgsql volatile security definer
set search_path = ledger, pg_temp
as $$
declare
  exited exit_result;
begin
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

  return exited;
end
$$;

alter function ledger.exit_group owner to ledger_owner;
comment on function ledger.exit_group is
  'Leave the group with all that the participant holds, the final amount. entry_id is the entry written. Raises LG001, LG002.';
revoke execute on function ledger.exit_group from public;
grant execute on function ledger.exit_group to ledger_api;
-- <<< db/functions/exit_group.sql

-- >>> db/functions/fingerprint.sql
drop function if exists ledger.fingerprint;
-- <<< db/functions/fingerprint.sql

-- >>> db/functions/join_group.sql
drop function if exists ledger.join_group;
-- Join a group with a deposit from the main network.
create or replace function ledger.join_group(
  group_id bigint,
  username text,
  amount   numeric
) returns ledger.join_result
language plpgsql volatile security definer
set search_path = ledger, pg_temp
as $$
declare
  joined join_result;
begin
  perform refuse_invalid(
    array['group_id', 'username', 'amount'],
    array[id_fault(group_id), name_fault(username), amount_fault(amount, 0)]
  );

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

  return joined;
end
$$;

alter function ledger.join_group owner to ledger_owner;
comment on function ledger.join_group is
  'Join a group under a username that no one present has, with a deposit of 0 or more. entry_id is the entry written. Raises LG001, LG002, LG005.';
revoke execute on function ledger.join_group from public;
grant execute on function ledger.join_group to ledger_api;
-- <<< db/functions/join_group.sql

-- >>> db/functions/key_fault.sql
drop function if exists ledger.key_fault;
-- <<< db/functions/key_fault.sql

-- >>> db/functions/remember.sql
drop function if exists ledger.remember;
-- <<< db/functions/remember.sql

-- >>> db/functions/remove_group.sql
drop function if exists ledger.remove_group;
-- Remove a group that nobody is in; its record stays.
create or replace function ledger.remove_group(
  group_id bigint
) returns void
language plpgsql volatile security definer
set search_path = ledger, pg_temp
as $$
begin
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
end
$$;

alter function ledger.remove_group owner to ledger_owner;
comment on function ledger.remove_group is
  'Remove a group without participants; its name is free again and its record stays. Raises LG001, LG002, LG004.';
revoke execute on function ledger.remove_group from public;
grant execute on function ledger.remove_group to ledger_api;
-- <<< db/functions/remove_group.sql

-- >>> db/functions/rename_group.sql
drop function if exists ledger.rename_group;
-- Give a group another name.
create or replace function ledger.rename_group(
  group_id bigint,
  name     text
) returns ledger.current_groups
language plpgsql volatile security definer
set search_path = ledger, pg_temp
as $$
declare
  renamed_group current_groups;
begin
  perform refuse_invalid(array['group_id', 'name'], array[id_fault(group_id), name_fault(name)]);

  -- A name that is taken is not waited for: of two groups that are renamed to each other, each would.
  begin
    update groups as g
    set name = rename_group.name
    where g.id = rename_group.group_id
      and g.closed_at is null
      and not exists (
        select from current_groups as other
        where other.name = rename_group.name collate "C"
          and other.id <> g.id
      )
    returning g.name, g.id into renamed_group;
  exception when unique_violation then
    perform refuse_taken('name', name);
  end;

  if renamed_group.id is null then
    perform get_group(group_id);
    perform refuse_taken('name', name);
  end if;
  return renamed_group;
end
$$;

alter function ledger.rename_group owner to ledger_owner;
comment on function ledger.rename_group is
  'Give an existing group a name that no other existing group has. Raises LG001, LG002, LG005.';
revoke execute on function ledger.rename_group from public;
grant execute on function ledger.rename_group to ledger_api;
-- <<< db/functions/rename_group.sql

-- >>> db/functions/rename_participant.sql
drop function if exists ledger.rename_participant;
-- Give a participant another username.
create or replace function ledger.rename_participant(
  group_id       bigint,
  participant_id bigint,
  username       text
) returns ledger.current_participants
language plpgsql volatile security definer
set search_path = ledger, pg_temp
as $$
declare
  participant current_participants;
begin
  perform refuse_invalid(
    array['group_id', 'participant_id', 'username'],
    array[id_fault(group_id), id_fault(participant_id), name_fault(username)]
  );

  -- A name that is taken is not waited for: of two participants who rename themselves to each other, each would.
  begin
    update participants as p
    set username = rename_participant.username
    where p.group_id = rename_participant.group_id
      and p.id = rename_participant.participant_id
      and p.exited_at is null
      and not exists (
        select from current_participants as other
        where other.group_id = p.group_id
          and other.username = rename_participant.username collate "C"
          and other.id <> p.id
      )
    returning p.username, p.id, p.group_id, p.amount into participant;
  exception when unique_violation then
    perform refuse_taken('username', username);
  end;

  if participant.id is null then
    perform get_participant(group_id, participant_id);
    perform refuse_taken('username', username);
  end if;
  return participant;
end
$$;

alter function ledger.rename_participant owner to ledger_owner;
comment on function ledger.rename_participant is
  'Give a participant who is present a username that no one else present has. Raises LG001, LG002, LG005.';
revoke execute on function ledger.rename_participant from public;
grant execute on function ledger.rename_participant to ledger_api;
-- <<< db/functions/rename_participant.sql

-- >>> db/functions/replay.sql
drop function if exists ledger.replay;
-- <<< db/functions/replay.sql

-- >>> db/functions/transfer.sql
drop function if exists ledger.transfer;
-- Move money between two participants of one group.
create or replace function ledger.transfer(
  group_id bigint,
  from_id  bigint,
  to_id    bigint,
  amount   numeric
) returns ledger.transfer_result
language plpgsql volatile security definer
set search_path = ledger, pg_temp
as $$
declare
  participant participants;
  sender      current_participants;
  recipient   current_participants;
  result      transfer_result;
begin
  if (group_id is not null and from_id <> to_id and amount_fault(amount, 1) is null) is not true then
    perform refuse_invalid(
      array['group_id', 'from_id', 'to_id', 'amount'],
      array[
        id_fault(group_id),
        id_fault(from_id),
        case when to_id = from_id then 'must be another participant' else id_fault(to_id) end,
        amount_fault(amount, 1)
      ]
    );
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
  return result;
end
$$;

alter function ledger.transfer owner to ledger_owner;
comment on function ledger.transfer is
  'Move amount from one participant to another of the same group. entry_id is the entry written. Raises LG001, LG002, LG003.';
revoke execute on function ledger.transfer from public;
grant execute on function ledger.transfer to ledger_api;
-- <<< db/functions/transfer.sql

alter type ledger.join_result drop attribute if exists replayed;
alter type ledger.exit_result drop attribute if exists replayed;
alter type ledger.transfer_result drop attribute if exists replayed;
drop type if exists ledger.remove_result;
drop type if exists ledger.participant_result;
drop type if exists ledger.group_result;

-- Keys that were used stay, so that their requests are known when the migration is applied again.
do $$
begin
  if to_regclass('ledger.idempotency_keys') is not null then
    -- A snapshot from before the lock would not show what was committed while we waited for it.
    if current_setting('transaction_isolation') <> 'read committed' then
      raise exception using
        errcode = 'object_not_in_prerequisite_state',
        message = 'idempotency keys are rolled back at READ COMMITTED only',
        hint    = 'Set default_transaction_isolation of the database or the login to read committed.';
    end if;
    lock table ledger.idempotency_keys in access exclusive mode;
    if not exists (select from ledger.idempotency_keys) then
      drop table ledger.idempotency_keys;
    end if;
  end if;
end
$$;
