-- Idempotency keys.
-- depends: 0002.refuse-recipient-overflow

set local lock_timeout = '5s';
set local role ledger_owner;
-- Functions may call each other in any order.
set local check_function_bodies = off;

create table if not exists ledger.idempotency_keys (
  group_id    bigint not null,
  key         text collate "C" not null,
  operation   text collate "C" not null,
  fingerprint bytea not null,
  answer      json not null,
  created_at  timestamptz not null default clock_timestamp(),
  constraint idempotency_keys_pkey primary key (group_id, key),
  constraint idempotency_keys_length check (octet_length(key) between 1 and 255),
  constraint idempotency_keys_sha_256 check (octet_length(fingerprint) = 32)
);

comment on table ledger.idempotency_keys is 'What was answered to requests with an idempotency key, kept for ever.';
comment on column ledger.idempotency_keys.group_id is 'The group that the request was for; 0 for one that created a group.';
comment on column ledger.idempotency_keys.key is 'The client''s name for the request, unique in the group.';
comment on column ledger.idempotency_keys.operation is 'The function that was called.';
comment on column ledger.idempotency_keys.fingerprint is 'SHA-256 of the function and its arguments.';
comment on column ledger.idempotency_keys.answer is 'The function''s result, names and balances as they were.';
comment on column ledger.idempotency_keys.created_at is 'When the request was done.';

create or replace trigger idempotency_keys_are_permanent
  before update or delete or truncate on ledger.idempotency_keys
  for each statement execute function ledger.refuse_rewriting();

do $$
declare
  result text;
begin
  if to_regtype('ledger.group_result') is null then
    create type ledger.group_result as (
      name text,
      id   bigint
    );
  end if;
  if to_regtype('ledger.participant_result') is null then
    create type ledger.participant_result as (
      username text,
      id       bigint,
      group_id bigint,
      amount   numeric
    );
  end if;
  if to_regtype('ledger.remove_result') is null then
    create type ledger.remove_result as ();
  end if;

  foreach result in array array['group', 'participant', 'remove', 'join', 'exit', 'transfer'] loop
    if not exists (
      select from pg_catalog.pg_attribute as a
      join pg_catalog.pg_class as c on c.oid = a.attrelid
      where c.reltype = to_regtype(format('ledger.%s_result', result))
        and a.attname = 'replayed'
        and not a.attisdropped
    ) then
      execute format('alter type ledger.%s_result add attribute replayed boolean', result);
    end if;
  end loop;
end
$$;

comment on type ledger.group_result is 'The group, and whether an earlier request with the same key did it.';
comment on type ledger.participant_result is 'The participant, and whether an earlier request with the same key did it.';
comment on type ledger.remove_result is 'Whether an earlier request with the same key did it.';

-- >>> db/functions/create_group.sql
drop function if exists ledger.create_group;
-- Open a group, which is one off-chain ledger.
create or replace function ledger.create_group(
  name            text,
  idempotency_key text default null
) returns ledger.group_result
language plpgsql volatile security definer
set search_path = ledger, pg_temp
as $$
declare
  request   text[] := array['create_group', name];
  answer    json;
  new_group group_result;
begin
  perform refuse_invalid(array['name', 'idempotency_key'], array[name_fault(name), key_fault(idempotency_key)]);

  -- The key cannot belong to the group, which is not there yet: it is unique among all that create groups.
  if idempotency_key is not null then
    answer := replay(0, idempotency_key, request);
    if answer is not null then
      new_group := json_populate_record(new_group, answer);
      new_group.replayed := true;
      return new_group;
    end if;
  end if;

  insert into groups (name)
  values (create_group.name)
  on conflict do nothing
  returning groups.name, groups.id into new_group.name, new_group.id;
  if not found then
    perform refuse_taken('name', name);
  end if;

  insert into group_counters (group_id, slot)
  select new_group.id, s.slot
  from generate_series(0, 7) as s (slot);

  new_group.replayed := false;
  if idempotency_key is not null then
    perform remember(0, idempotency_key, request, to_json(new_group));
  end if;
  return new_group;
end
$$;

alter function ledger.create_group owner to ledger_owner;
comment on function ledger.create_group is
  'Open a group under a name that no other existing group has. Raises LG001, LG005, LG006.';
revoke execute on function ledger.create_group from public;
grant execute on function ledger.create_group to ledger_api;
-- <<< db/functions/create_group.sql

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

-- >>> db/functions/key_fault.sql
-- Say what is wrong with an idempotency key, or null when nothing is or there is none.
create or replace function ledger.key_fault(
  key text
) returns text
language sql immutable parallel safe
as $$
  select case
    when octet_length(key_fault.key) not between 1 and 255
      or key_fault.key collate "C" ~ '[^\u0021-\u007e]'
    then 'must be 1 to 255 visible ASCII characters'
  end
$$;

alter function ledger.key_fault owner to ledger_owner;
comment on function ledger.key_fault is
  'What is wrong with an idempotency key that must be 1 to 255 visible ASCII characters where there is one; null when nothing is.';
revoke execute on function ledger.key_fault from public;
-- <<< db/functions/key_fault.sql

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
  -- The lock that replay() took keeps the key free; a snapshot from before another's commit ends in 40001 here.
  insert into ledger.idempotency_keys (group_id, key, operation, fingerprint, answer)
  values (remember.group_id, remember.key, request[1], ledger.fingerprint(request), remember.answer)
  on conflict do nothing;
end
$$;

alter function ledger.remember owner to ledger_owner;
comment on function ledger.remember is
  'Keep the answer to a request, an operation and its values, under its idempotency key. Call replay first. Raises 40001 when a request that the snapshot does not show used the key.';
revoke execute on function ledger.remember from public;
-- <<< db/functions/remember.sql

-- >>> db/functions/remove_group.sql
drop function if exists ledger.remove_group;
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

-- >>> db/functions/rename_group.sql
drop function if exists ledger.rename_group;
-- Give a group another name.
create or replace function ledger.rename_group(
  group_id        bigint,
  name            text,
  idempotency_key text default null
) returns ledger.group_result
language plpgsql volatile security definer
set search_path = ledger, pg_temp
as $$
declare
  request       text[] := array['rename_group', name];
  answer        json;
  renamed_group group_result;
begin
  perform refuse_invalid(
    array['group_id', 'name', 'idempotency_key'],
    array[id_fault(group_id), name_fault(name), key_fault(idempotency_key)]
  );

  if idempotency_key is not null then
    answer := replay(group_id, idempotency_key, request);
    if answer is not null then
      renamed_group := json_populate_record(renamed_group, answer);
      renamed_group.replayed := true;
      return renamed_group;
    end if;
  end if;

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
    returning g.name, g.id into renamed_group.name, renamed_group.id;
  exception when unique_violation then
    perform refuse_taken('name', name);
  end;

  if renamed_group.id is null then
    perform get_group(group_id);
    perform refuse_taken('name', name);
  end if;

  renamed_group.replayed := false;
  if idempotency_key is not null then
    perform remember(group_id, idempotency_key, request, to_json(renamed_group));
  end if;
  return renamed_group;
end
$$;

alter function ledger.rename_group owner to ledger_owner;
comment on function ledger.rename_group is
  'Give an existing group a name that no other existing group has. Raises LG001, LG002, LG005, LG006.';
revoke execute on function ledger.rename_group from public;
grant execute on function ledger.rename_group to ledger_api;
-- <<< db/functions/rename_group.sql

-- >>> db/functions/rename_participant.sql
drop function if exists ledger.rename_participant;
-- Give a participant another username.
create or replace function ledger.rename_participant(
  group_id        bigint,
  participant_id  bigint,
  username        text,
  idempotency_key text default null
) returns ledger.participant_result
language plpgsql volatile security definer
set search_path = ledger, pg_temp
as $$
declare
  request     text[] := array['rename_participant', participant_id::text, username];
  answer      json;
  participant participant_result;
begin
  perform refuse_invalid(
    array['group_id', 'participant_id', 'username', 'idempotency_key'],
    array[id_fault(group_id), id_fault(participant_id), name_fault(username), key_fault(idempotency_key)]
  );

  if idempotency_key is not null then
    answer := replay(group_id, idempotency_key, request);
    if answer is not null then
      participant := json_populate_record(participant, answer);
      participant.replayed := true;
      return participant;
    end if;
  end if;

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
    returning p.username, p.id, p.group_id, p.amount
    into participant.username, participant.id, participant.group_id, participant.amount;
  exception when unique_violation then
    perform refuse_taken('username', username);
  end;

  if participant.id is null then
    perform get_participant(group_id, participant_id);
    perform refuse_taken('username', username);
  end if;

  participant.replayed := false;
  if idempotency_key is not null then
    perform remember(group_id, idempotency_key, request, to_json(participant));
  end if;
  return participant;
end
$$;

alter function ledger.rename_participant owner to ledger_owner;
comment on function ledger.rename_participant is
  'Give a participant who is present a username that no one else present has. Raises LG001, LG002, LG005, LG006.';
revoke execute on function ledger.rename_participant from public;
grant execute on function ledger.rename_participant to ledger_api;
-- <<< db/functions/rename_participant.sql

-- >>> db/functions/replay.sql
-- Find what was answered to a request with this idempotency key before.
create or replace function ledger.replay(
  group_id bigint,
  key      text,
  request  text[]
) returns json
language plpgsql volatile
as $$
declare
  first ledger.idempotency_keys;
begin
  -- Until this transaction ends, nobody else acts under the key: a repeated request waits for the first one's outcome.
  -- The lock comes before every row lock, and the look-up is a statement of its own, to see what committed meanwhile.
  perform pg_advisory_xact_lock(hashtextextended(replay.key collate "C", replay.group_id));

  select k.*
  into first
  from ledger.idempotency_keys as k
  where k.group_id = replay.group_id
    and k.key = replay.key collate "C";

  if first.fingerprint <> ledger.fingerprint(request) then
    raise exception using
      errcode = 'LG006',
      column  = 'idempotency_key',
      message = 'idempotency key belongs to another request',
      detail  = 'idempotency_key: was used for another request',
      hint    = 'Repeat a request with exactly its values, and give each new request a key of its own.';
  end if;
  return first.answer;
end
$$;

alter function ledger.replay owner to ledger_owner;
comment on function ledger.replay is
  'The answer that was given to this request, an operation and its values, under this idempotency key of the group; null when there was none. Keeps the key to itself until the transaction ends. Raises LG006 when the key was used for another request.';
revoke execute on function ledger.replay from public;
-- <<< db/functions/replay.sql

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
