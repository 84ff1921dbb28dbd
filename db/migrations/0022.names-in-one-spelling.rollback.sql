-- Undo: names in one spelling.

set local lock_timeout = '5s';
set local role ledger_owner;
-- Functions may call each other in any order.
set local check_function_bodies = off;

-- >>> db/functions/create_api_key.sql
-- Make an API key, and say its secret for the only time.
create or replace function ledger.create_api_key(
  name     text,
  scope    text,
  group_id bigint default null
) returns ledger.api_key_result
language plpgsql volatile
set search_path = ledger, pg_temp
as $$
declare
  new_key api_key_result;
begin
  perform refuse_invalid(
    array['name', 'scope', 'group_id'],
    array[
      name_fault(name),
      case when scope in ('read', 'transact', 'admin') then null else 'must be read, transact or admin' end,
      case when group_id is not null then id_fault(group_id) end
    ]
  );
  if group_id is not null then
    perform from groups as g
    where g.id = create_api_key.group_id
      and g.closed_at is null
    for key share;
    if not found then
      perform refuse_unknown_group(group_id);
    end if;
  end if;

  new_key.id := nextval(pg_get_serial_sequence('ledger.api_keys', 'id'));
  -- Two UUIDs hold 244 bits of the server's strong random numbers.
  new_key.secret := format(
    'ledger_%s_%s', new_key.id, encode(sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())), 'hex')
  );
  insert into api_keys (id, name, scope, group_id, digest)
  overriding system value
  values (new_key.id, name, scope, group_id, sha256(convert_to(new_key.secret, 'UTF8')));
  return new_key;
end
$$;

alter function ledger.create_api_key owner to ledger_owner;
comment on function ledger.create_api_key is
  'Make an API key of scope read, transact or admin, for one group or, with null, for all. Returns its id and its secret, of which a digest alone is kept. Raises LG001, LG002. For the owner.';
revoke execute on function ledger.create_api_key from public;
-- <<< db/functions/create_api_key.sql

-- >>> db/functions/create_group.sql
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

-- >>> db/functions/group_named.sql
drop function if exists ledger.group_named;
-- <<< db/functions/group_named.sql

-- >>> db/functions/join_group.sql
-- Join a group with a deposit from the main network.
create or replace function ledger.join_group(
  group_id        bigint,
  username        text,
  amount          numeric,
  idempotency_key text  default null,
  metadata        jsonb default null
) returns ledger.join_result
language plpgsql volatile security definer
set search_path = ledger, pg_temp
as $$
declare
  request text[];
  answer  json;
  joined  join_result;
  counter group_counters;
begin
  perform refuse_invalid(
    array['group_id', 'username', 'amount', 'idempotency_key', 'metadata'],
    array[
      id_fault(group_id),
      name_fault(username),
      amount_fault(amount, 0),
      key_fault(idempotency_key),
      metadata_fault(metadata)
    ]
  );

  if idempotency_key is not null then
    request := array['join_group', username, trunc(amount)::text, metadata::text];
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

  -- Whoever waits for a username holds no counter, so the time is known only now.
  counter := count_in_total(group_id, amount, null);
  update participants as p
  set
    joined_at = counter.changed_at,
    moved_at = counter.changed_at
  where p.group_id = join_group.group_id
    and p.id = joined.id;

  insert into entries (group_id, kind, to_id, amount, to_amount, created_at, metadata)
  values (
    join_group.group_id, 'join', joined.id, join_group.amount, join_group.amount, counter.changed_at, join_group.metadata
  )
  returning entries.id into joined.entry_id;
  perform remember_total(counter, joined.entry_id);

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

-- >>> db/functions/name_fault.sql
-- Say what is wrong with a name or username, or null when nothing is.
create or replace function ledger.name_fault(
  name text
) returns text
language sql immutable parallel safe
as $$
  -- Control characters, and those that show nothing. Spelled out, as classes like [:space:] depend on the locale.
  select case
    when name_fault.name is null
    then 'must be given'
    when char_length(name_fault.name) > 255
    then 'must have at most 255 characters'
    when name_fault.name collate "C" ~ '[\u0001-\u001f\u007f-\u009f]'
    then 'must not contain control characters'
    when name_fault.name collate "C" !~ '[^ \u00a0\u00ad\u1680\u180e\u2000-\u200f\u2028\u2029\u202f\u205f-\u2064\u3000\ufeff]'
    then 'must not be blank'
  end
$$;

alter function ledger.name_fault owner to ledger_owner;
comment on function ledger.name_fault is
  'What is wrong with a name that must be 1 to 255 characters, not blank and without control characters; null when nothing is.';
revoke execute on function ledger.name_fault from public;
-- <<< db/functions/name_fault.sql

-- >>> db/functions/new_name_fault.sql
drop function if exists ledger.new_name_fault;
-- <<< db/functions/new_name_fault.sql

-- >>> db/functions/participant_named.sql
drop function if exists ledger.participant_named;
-- <<< db/functions/participant_named.sql

-- >>> db/functions/reference_fault.sql
drop function if exists ledger.reference_fault;
-- <<< db/functions/reference_fault.sql

-- >>> db/functions/refuse_rewriting.sql
-- Refuse to change or delete what the ledger keeps for ever; the trigger of its permanent tables.
create or replace function ledger.refuse_rewriting()
returns trigger
language plpgsql
as $$
begin
  raise exception using
    errcode = 'restrict_violation',
    message = format('%s on %I.%I is refused: the record is permanent', lower(tg_op), tg_table_schema, tg_table_name),
    hint    = case tg_table_name
      when 'api_keys'
      then 'Make an API key useless with ledger.revoke_api_key.'
      else 'Correct a mistake by a new movement: ledger.transfer, ledger.join_group or ledger.exit_group.'
    end;
end
$$;

alter function ledger.refuse_rewriting owner to ledger_owner;
comment on function ledger.refuse_rewriting is
  'Trigger that refuses UPDATE, DELETE and TRUNCATE on permanent tables, to their owner as well. Raises 23001.';
revoke execute on function ledger.refuse_rewriting from public;
-- <<< db/functions/refuse_rewriting.sql

-- >>> db/functions/refuse_taken.sql
drop function if exists ledger.refuse_taken;
-- Raise LG005 for a name or username that is in use.
create or replace function ledger.refuse_taken(
  field text,
  name  text
) returns void
language plpgsql immutable
as $$
begin
  raise exception using
    errcode = 'LG005',
    column  = field,
    message = format('%s "%s" is taken', field, name),
    detail  = format('%s: has already been taken', field),
    hint    = 'Choose another one.';
end
$$;

alter function ledger.refuse_taken owner to ledger_owner;
comment on function ledger.refuse_taken is
  'Raise LG005 that blames the field for a name that is in use.';
revoke execute on function ledger.refuse_taken from public;
-- <<< db/functions/refuse_taken.sql

-- >>> db/functions/rename_group.sql
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

-- >>> db/functions/settle_exit.sql
-- Note the transaction on the main network that paid out an exit, once.
create or replace function ledger.settle_exit(
  group_id        bigint,
  entry_id        bigint,
  reference       text,
  idempotency_key text default null
) returns ledger.entry_result
language plpgsql volatile security definer
set search_path = ledger, pg_temp
as $$
declare
  request    text[] := array['settle_exit', entry_id::text, reference];
  answer     json;
  settlement settlements;
  settled    entry_result;
begin
  perform refuse_invalid(
    array['group_id', 'entry_id', 'reference', 'idempotency_key'],
    array[id_fault(group_id), id_fault(entry_id), name_fault(reference), key_fault(idempotency_key)]
  );

  if idempotency_key is not null then
    answer := replay(group_id, idempotency_key, request);
    if answer is not null then
      settled := json_populate_record(settled, answer);
      settled.replayed := true;
      return settled;
    end if;
  end if;

  select s.*
  into settlement
  from settlements as s
  where s.group_id = settle_exit.group_id
    and s.entry_id = settle_exit.entry_id
  for no key update;
  if not found then
    perform get_entry(group_id, entry_id);
    perform refuse_invalid(array['entry_id'], array['must be an exit']);
  end if;
  if settlement.reference <> reference then
    raise exception using
      errcode = 'LG008',
      column  = 'reference',
      message = format('exit %s of group %s was settled with another reference', entry_id, group_id),
      detail  = format('reference: is %s already', settlement.reference),
      hint    = 'Look at the exit with ledger.get_entry(); a settlement is final.';
  end if;

  if settlement.settled_at is null then
    update settlements as s
    set
      reference = settle_exit.reference,
      settled_at = greatest(clock_timestamp(), settlement.exited_at)
    where s.group_id = settle_exit.group_id
      and s.entry_id = settle_exit.entry_id;
  end if;

  -- The same reference again is a repeated request, also without a key.
  select
    r.*,
    settlement.settled_at is not null
  into settled
  from ledger.record as r
  where r.group_id = settle_exit.group_id
    and r.id = settle_exit.entry_id;
  if idempotency_key is not null then
    perform remember(group_id, idempotency_key, request, to_json(settled));
  end if;
  return settled;
end
$$;

alter function ledger.settle_exit owner to ledger_owner;
comment on function ledger.settle_exit is
  'Note the transaction on the main network that paid out an exit, once; the same reference again changes nothing and is told by replayed. Raises LG001, LG002, LG006, LG008.';
revoke execute on function ledger.settle_exit from public;
grant execute on function ledger.settle_exit to ledger_api;
-- <<< db/functions/settle_exit.sql

-- >>> db/functions/spellings.sql
drop function if exists ledger.spellings;
-- <<< db/functions/spellings.sql

drop view if exists ledger.renames;

-- Changes that were recorded stay, and are shown again when the migration is applied again.
do $$
begin
  if to_regclass('ledger.name_changes') is not null then
    -- A snapshot from before the lock would not show what was committed while we waited for it.
    if current_setting('transaction_isolation') <> 'read committed' then
      raise exception using
        errcode = 'object_not_in_prerequisite_state',
        message = 'changes of names are rolled back at READ COMMITTED only',
        hint    = 'Set default_transaction_isolation of the database or the login to read committed.';
    end if;
    lock table ledger.name_changes in access exclusive mode;
    if not exists (select from ledger.name_changes) then
      drop table ledger.name_changes;
    end if;
  end if;
end
$$;
