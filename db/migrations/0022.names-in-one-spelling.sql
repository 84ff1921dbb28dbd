-- Names in one spelling.
-- depends: 0021.drop-the-index-of-all-metadata

-- Functions that others call stay as they are; those that are dropped are called by the ledger's own alone.
-- squawk-ignore-file ban-drop-function

set local lock_timeout = '5s';
set local role ledger_owner;

create table if not exists ledger.name_changes (
  group_id       bigint not null,
  id             bigint generated always as identity,
  participant_id bigint,
  old_name       text collate "C" not null,
  new_name       text collate "C" not null,
  changed_at     timestamptz not null default clock_timestamp(),
  constraint name_changes_pkey primary key (group_id, id),
  constraint name_changes_of_a_group foreign key (group_id) references ledger.groups (id),
  constraint name_changes_of_a_participant foreign key (group_id, participant_id)
    references ledger.participants (group_id, id),
  constraint name_changes_change_the_name check (old_name <> new_name)
);

comment on table ledger.name_changes is 'The permanent record of the names that groups and participants had before.';
comment on column ledger.name_changes.group_id is 'The group.';
comment on column ledger.name_changes.id is 'Number of the change.';
comment on column ledger.name_changes.participant_id is 'The participant who was renamed; null where the group was.';
comment on column ledger.name_changes.old_name is 'The name until then.';
comment on column ledger.name_changes.new_name is 'The name from then on.';
comment on column ledger.name_changes.changed_at is 'When it was changed.';

create or replace trigger name_changes_are_permanent
  before update or delete or truncate on ledger.name_changes
  for each statement execute function ledger.refuse_rewriting();

create or replace view ledger.renames as
select
  c.group_id,
  c.id,
  c.participant_id,
  c.old_name,
  c.new_name,
  c.changed_at
from ledger.name_changes as c;

comment on view ledger.renames is 'Every change of a group''s name or of a participant''s username.';
comment on column ledger.renames.group_id is 'The group.';
comment on column ledger.renames.id is 'Number of the change; those of one group or participant ascend with time.';
comment on column ledger.renames.participant_id is 'The participant who was renamed; null where the group was.';
comment on column ledger.renames.old_name is 'The name until then.';
comment on column ledger.renames.new_name is 'The name from then on.';
comment on column ledger.renames.changed_at is 'When it was changed.';
grant select on ledger.renames to ledger_reader;

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
  values (new_key.id, normalize(name, NFC), scope, group_id, sha256(convert_to(new_key.secret, 'UTF8')));
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
  perform refuse_invalid(
    array['name', 'idempotency_key'],
    array[new_name_fault(name, 0, idempotency_key, request), key_fault(idempotency_key)]
  );

  -- The key cannot belong to the group, which is not there yet: it is unique among all that create groups.
  if idempotency_key is not null then
    answer := replay(0, idempotency_key, request);
    if answer is not null then
      new_group := json_populate_record(new_group, answer);
      new_group.replayed := true;
      return new_group;
    end if;
  end if;

  -- A name from before names were composed counts, too.
  insert into groups (name)
  select normalize(create_group.name, NFC)
  where group_named(array_remove(spellings(create_group.name), normalize(create_group.name, NFC))) is null
  on conflict do nothing
  returning groups.name, groups.id into new_group.name, new_group.id;
  if not found then
    perform refuse_taken('name', name, 'group ' || group_named(spellings(name))::text);
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
  'Open a group under a name, composed (NFC), that no other existing group has. Raises LG001, LG005, LG006.';
revoke execute on function ledger.create_group from public;
grant execute on function ledger.create_group to ledger_api;
-- <<< db/functions/create_group.sql

-- >>> db/functions/group_named.sql
-- Find the existing group that has the first of some names that is in use.
create or replace function ledger.group_named(
  names   text[],
  besides bigint default null
) returns bigint
language plpgsql stable
as $$
declare
  wanted   text;
  group_id bigint;
begin
  -- One by one: a look-up through the unique index, whatever is known of the table.
  foreach wanted in array names loop
    select g.id
    into group_id
    from ledger.current_groups as g
    where g.name = wanted collate "C"
      and g.id is distinct from besides;
    exit when group_id is not null;
  end loop;
  return group_id;
end
$$;

alter function ledger.group_named owner to ledger_owner;
comment on function ledger.group_named is
  'The id of the existing group that has the first of these names that another group than besides has; null where none has one.';
revoke execute on function ledger.group_named from public;
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
  faults  text[];
  request text[];
  answer  json;
  joined  join_result;
  counter group_counters;
begin
  faults := array[
    id_fault(group_id), null, amount_fault(amount, 0), key_fault(idempotency_key), metadata_fault(metadata)
  ];
  -- Nothing is written out that is not valid.
  if idempotency_key is not null and cardinality(array_remove(faults, null)) = 0 then
    request := array['join_group', username, trunc(amount)::text, metadata::text];
  end if;
  faults[2] := new_name_fault(username, group_id, idempotency_key, request);
  perform refuse_invalid(array['group_id', 'username', 'amount', 'idempotency_key', 'metadata'], faults);

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

  -- A username from before usernames were composed counts, too.
  insert into participants (group_id, username, amount)
  select
    join_group.group_id,
    normalize(join_group.username, NFC),
    join_group.amount
  where participant_named(
    join_group.group_id, array_remove(spellings(join_group.username), normalize(join_group.username, NFC))
  ) is null
  on conflict do nothing
  returning participants.username, participants.id, participants.group_id, participants.amount
  into joined.username, joined.id, joined.group_id, joined.amount;
  if not found then
    perform refuse_taken('username', username, 'participant ' || participant_named(group_id, spellings(username))::text);
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
  'Join a group under a username, composed (NFC), that no one present has, with a deposit of 0 or more. entry_id is the entry written. Raises LG001, LG002, LG005, LG006.';
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
  -- Spelled out, as classes like [:space:] depend on the locale.
  select case
    when name_fault.name is null
    then 'must be given'
    -- No character in NFC stands for more than four others, so what is much longer need not be normalized.
    when char_length(name_fault.name) > 4 * 255
    then 'must have at most 255 characters'
    when char_length(normalize(name_fault.name, NFC)) > 255
    then 'must have at most 255 characters'
    when name_fault.name collate "C" ~ '[\u0001-\u001f\u007f-\u009f]'
    then 'must not contain control characters'
    -- White space, what Unicode has for ignorable, and four that are drawn as nothing: Braille, Khitan, a note, annotations.
    when name_fault.name collate "C" !~ (
      '[^ \u00a0\u00ad\u034f\u061c\u115f\u1160\u1680\u17b4\u17b5\u180b-\u180f\u2000-\u200f\u2028-\u202f\u205f-\u206f\u2800'
      || '\u3000\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U00016fe4\U0001bca0-\U0001bca3\U0001d159\U0001d173-\U0001d17a'
      || '\U000e0000-\U000e0fff]'
    )
    then 'must not be blank'
    -- What Unicode has for ignorable, which bidirectional controls are, too, and separators of lines. A variation selector
    -- may follow an emoji, and a joiner may stand between two.
    when name_fault.name collate "C" ~ (
      '[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200c\u200e\u200f\u2028-\u202e\u2060-\u206f\u3164'
      || '\ufe00-\ufe0e\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]'
    )
    then 'must not contain invisible characters'
    when name_fault.name collate "C" ~ '[\u200d\ufe0f]'
      and name_fault.name collate "C" ~ (
        '(?<![\u00a9\u00ae\u203c\u2049\u2122-\u27bf\u2934\u2935\u2b05-\u2b55\u3030\u303d\u3297\u3299\U0001f000-\U0001faff])\ufe0f'
        || '|(?<![\u2122-\u27bf\u2b05-\u2b55\U0001f000-\U0001faff\ufe0f])\u200d'
        || '|\u200d(?![\u2122-\u27bf\u2b05-\u2b55\U0001f000-\U0001faff])'
      )
    then 'must not contain invisible characters'
  end
$$;

alter function ledger.name_fault owner to ledger_owner;
comment on function ledger.name_fault is
  'What is wrong with a name that must be 1 to 255 characters in NFC, not blank and without control characters or invisible ones; null when nothing is.';
revoke execute on function ledger.name_fault from public;
-- <<< db/functions/name_fault.sql

-- >>> db/functions/new_name_fault.sql
-- Say what is wrong with a name that is asked for, unless it was given to the same request before.
create or replace function ledger.new_name_fault(
  name            text,
  group_id        bigint,
  idempotency_key text,
  request         text[]
) returns text
language plpgsql stable
as $$
declare
  fault text := ledger.name_fault(name);
begin
  -- A rule that came later does not keep a repeated request from its answer.
  if fault is not null and idempotency_key is not null and exists (
    select from ledger.idempotency_keys as k
    where k.group_id = new_name_fault.group_id
      and k.key = new_name_fault.idempotency_key collate "C"
      and k.fingerprint = ledger.fingerprint(request)
  ) then
    return null;
  end if;
  return fault;
end
$$;

alter function ledger.new_name_fault owner to ledger_owner;
comment on function ledger.new_name_fault is
  'What name_fault says of a name; null where this request, an operation and its values, was answered before under its idempotency key of the group.';
revoke execute on function ledger.new_name_fault from public;
-- <<< db/functions/new_name_fault.sql

-- >>> db/functions/participant_named.sql
-- Find the participant present in a group who has the first of some usernames that is in use.
create or replace function ledger.participant_named(
  group_id  bigint,
  usernames text[],
  besides   bigint default null
) returns bigint
language plpgsql stable
as $$
declare
  wanted         text;
  participant_id bigint;
begin
  -- One by one: a look-up through the unique index, whatever is known of the table.
  foreach wanted in array usernames loop
    select p.id
    into participant_id
    from ledger.current_participants as p
    where p.group_id = participant_named.group_id
      and p.username = wanted collate "C"
      and p.id is distinct from besides;
    exit when participant_id is not null;
  end loop;
  return participant_id;
end
$$;

alter function ledger.participant_named owner to ledger_owner;
comment on function ledger.participant_named is
  'The id of the participant present in the group who has the first of these usernames that another one than besides has; null where nobody has one.';
revoke execute on function ledger.participant_named from public;
-- <<< db/functions/participant_named.sql

-- >>> db/functions/reference_fault.sql
-- Say what is wrong with a settlement's reference, or null when nothing is.
create or replace function ledger.reference_fault(
  reference text
) returns text
language sql immutable parallel safe
as $$
  -- Control characters, and those that show nothing. Spelled out, as classes like [:space:] depend on the locale.
  select case
    when reference_fault.reference is null
    then 'must be given'
    when char_length(reference_fault.reference) > 255
    then 'must have at most 255 characters'
    when reference_fault.reference collate "C" ~ '[\u0001-\u001f\u007f-\u009f]'
    then 'must not contain control characters'
    when reference_fault.reference collate "C" !~ '[^ \u00a0\u00ad\u1680\u180e\u2000-\u200f\u2028\u2029\u202f\u205f-\u2064\u3000\ufeff]'
    then 'must not be blank'
  end
$$;

alter function ledger.reference_fault owner to ledger_owner;
comment on function ledger.reference_fault is
  'What is wrong with a reference that must be 1 to 255 characters, not blank and without control characters; null when nothing is.';
revoke execute on function ledger.reference_fault from public;
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
      when 'name_changes'
      then 'Correct a name by another one: ledger.rename_group or ledger.rename_participant.'
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
  name  text,
  owner text
) returns void
language plpgsql immutable
as $$
begin
  raise exception using
    errcode = 'LG005',
    column  = field,
    message = format('%s "%s" is taken', field, name) || coalesce(' by ' || owner, ''),
    detail  = format('%s: has already been taken', field),
    hint    = 'Choose another one.';
end
$$;

alter function ledger.refuse_taken owner to ledger_owner;
comment on function ledger.refuse_taken is
  'Raise LG005 that blames the field for a name that is in use; owner says which group or participant has it, where that is known.';
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
  new_name      text;
  old_name      text;
  taken_by      bigint;
  answer        json;
  renamed_group group_result;
begin
  perform refuse_invalid(
    array['group_id', 'name', 'idempotency_key'],
    array[id_fault(group_id), new_name_fault(name, group_id, idempotency_key, request), key_fault(idempotency_key)]
  );

  if idempotency_key is not null then
    answer := replay(group_id, idempotency_key, request);
    if answer is not null then
      renamed_group := json_populate_record(renamed_group, answer);
      renamed_group.replayed := true;
      return renamed_group;
    end if;
  end if;

  select g.name
  into old_name
  from groups as g
  where g.id = rename_group.group_id
    and g.closed_at is null
  for no key update;
  if not found then
    perform refuse_unknown_group(group_id);
  end if;

  -- A name that is taken is not waited for: of two groups that are renamed to each other, each would.
  taken_by := group_named(spellings(name), group_id);
  if taken_by is not null then
    perform refuse_taken('name', name, 'group ' || taken_by::text);
  end if;
  new_name := normalize(name, NFC);
  begin
    update groups as g
    set name = new_name
    where g.id = rename_group.group_id
    returning g.name, g.id into renamed_group.name, renamed_group.id;
  exception when unique_violation then
    perform refuse_taken('name', name, 'group ' || group_named(spellings(name), group_id)::text);
  end;

  if old_name <> new_name then
    insert into name_changes (group_id, old_name, new_name)
    values (rename_group.group_id, old_name, new_name);
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
  'Give an existing group a name, composed (NFC), that no other existing group has; the change is kept in ledger.renames. Raises LG001, LG002, LG005, LG006.';
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
  new_name    text;
  old_name    text;
  taken_by    bigint;
  answer      json;
  participant participant_result;
begin
  perform refuse_invalid(
    array['group_id', 'participant_id', 'username', 'idempotency_key'],
    array[
      id_fault(group_id),
      id_fault(participant_id),
      new_name_fault(username, group_id, idempotency_key, request),
      key_fault(idempotency_key)
    ]
  );

  if idempotency_key is not null then
    answer := replay(group_id, idempotency_key, request);
    if answer is not null then
      participant := json_populate_record(participant, answer);
      participant.replayed := true;
      return participant;
    end if;
  end if;

  select p.username
  into old_name
  from participants as p
  where p.group_id = rename_participant.group_id
    and p.id = rename_participant.participant_id
    and p.exited_at is null
  for no key update;
  if not found then
    perform refuse_unknown_participants(group_id, array['participant_id'], array[participant_id]);
  end if;

  -- A name that is taken is not waited for: of two participants who rename themselves to each other, each would.
  taken_by := participant_named(group_id, spellings(username), participant_id);
  if taken_by is not null then
    perform refuse_taken('username', username, 'participant ' || taken_by::text);
  end if;
  new_name := normalize(username, NFC);
  begin
    update participants as p
    set username = new_name
    where p.group_id = rename_participant.group_id
      and p.id = rename_participant.participant_id
    returning p.username, p.id, p.group_id, p.amount
    into participant.username, participant.id, participant.group_id, participant.amount;
  exception when unique_violation then
    perform refuse_taken(
      'username', username, 'participant ' || participant_named(group_id, spellings(username), participant_id)::text
    );
  end;

  if old_name <> new_name then
    insert into name_changes (group_id, participant_id, old_name, new_name)
    values (rename_participant.group_id, rename_participant.participant_id, old_name, new_name);
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
  'Give a participant who is present a username, composed (NFC), that no one else present has; the change is kept in ledger.renames. Raises LG001, LG002, LG005, LG006.';
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
    array[id_fault(group_id), id_fault(entry_id), reference_fault(reference), key_fault(idempotency_key)]
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
-- List what a name may be stored as.
create or replace function ledger.spellings(
  name text
) returns text[]
language sql immutable parallel safe
as $$
  select array[spellings.name, normalize(spellings.name, NFC), normalize(spellings.name, NFD)]
$$;

alter function ledger.spellings owner to ledger_owner;
comment on function ledger.spellings is
  'A name as it is, composed (NFC) as new names are stored, and decomposed (NFD) as names from before may be.';
revoke execute on function ledger.spellings from public;
-- <<< db/functions/spellings.sql
