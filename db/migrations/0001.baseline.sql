-- The whole schema of release 1.0: roles, tables, views, types, functions by folder, and what guards the tables.

-- It can run again, and it completes what db/upgrade/0.1.sql leaves of a database of release 0.1: every statement makes
-- what is missing, or makes what is there equal to its text.
-- Slots are 0 to 7, and a feed's number grows by restores only.
-- squawk-ignore-file prefer-bigint-over-smallint, prefer-bigint-over-int

-- A migration waits this long for a lock, then fails and changes nothing, rather than stall a busy service.
set local lock_timeout = '5s';

do $$
declare
  missing   text;
  dangerous text;
begin
  if current_setting('server_version_num')::integer < 150000 then
    raise exception using
      errcode = 'feature_not_supported',
      message = format('ledger needs PostgreSQL 15 or newer, this is %s', current_setting('server_version'));
  end if;
  if getdatabaseencoding() <> 'UTF8' then
    raise exception using
      errcode = 'feature_not_supported',
      message = format('ledger needs a database in UTF8, this one is in %s', getdatabaseencoding()),
      hint    = 'Create it with: create database ... encoding ''UTF8'' template template0.';
  end if;
  if to_regclass('ledger.group_counters') is not null then
    raise exception using
      errcode = 'object_not_in_prerequisite_state',
      message = 'this database has the ledger of release 0.1, which plain migrations do not upgrade',
      hint    = 'Run: ledger migrate. It upgrades the database in one transaction.';
  end if;

  -- Roles belong to the cluster: another database in it may have created them, perhaps at this moment.
  foreach missing in array array['ledger_owner', 'ledger_api', 'ledger_reader'] loop
    begin
      if to_regrole(missing) is null then
        execute format('create role %I nologin', missing);
      end if;
    exception when duplicate_object or unique_violation then
      null;
    end;
  end loop;

  -- A role with more rights than the ledger's roles need would get them on everything that follows.
  select string_agg(r.rolname, ', ')
  into dangerous
  from pg_roles as r
  where r.rolname in ('ledger_owner', 'ledger_api', 'ledger_reader')
    and (
      r.rolsuper or r.rolcreaterole or r.rolcreatedb or r.rolreplication or r.rolbypassrls
      or (r.rolname = 'ledger_owner' and r.rolcanlogin)
    );
  if dangerous is not null then
    raise exception using
      errcode = 'object_not_in_prerequisite_state',
      message = format('these roles exist with attributes that they must not have: %s', dangerous),
      hint    = 'For each: alter role ... nosuperuser nocreaterole nocreatedb noreplication nobypassrls, and for ledger_owner nologin.';
  end if;
  if exists (select from pg_default_acl as d where d.defaclrole = to_regrole('ledger_owner')) then
    raise exception using
      errcode = 'object_not_in_prerequisite_state',
      message = 'default privileges of ledger_owner would give others rights on the ledger',
      hint    = 'Take them back with: alter default privileges for role ledger_owner revoke ... (\ddp in psql shows them).';
  end if;

  if not pg_has_role('ledger_owner', 'usage') then
    grant ledger_owner to current_user;
  end if;
exception when insufficient_privilege then
  raise exception using
    errcode = 'insufficient_privilege',
    message = format('%I may not create the ledger''s roles, or is no member of ledger_owner: %s', current_user, sqlerrm),
    hint    = format('Give it CREATEROLE, or, where the roles exist, as their creator: grant ledger_owner to %I.', current_user);
end
$$;

-- Temporary tables and functions can fill the disk. Only the owner of the database can forbid them: where the migration
-- runs as another role, `ledger serve` refuses to start and reports what the owner has to do.
do $$
begin
  execute format('revoke temporary on database %I from public', current_database());
exception when insufficient_privilege then
  raise warning 'not the owner of database %: temporary tables stay allowed', current_database();
end
$$;

create schema if not exists ledger authorization ledger_owner;
create schema if not exists ledger_internal authorization ledger_owner;
set local role ledger_owner;

comment on schema ledger is
  'Off-chain payment groups. Call the functions: \df ledger.*';
comment on schema ledger_internal is
  'What the functions of schema ledger call. No role but ledger_owner can use it.';
grant usage on schema ledger to ledger_api, ledger_reader;

create table if not exists ledger.groups (
  id         bigint generated always as identity,
  name       text collate "C" not null,
  created_at timestamptz not null default clock_timestamp(),
  closed_at  timestamptz,
  constraint groups_pkey primary key (id),
  constraint groups_name_not_empty check (name <> '')
);
create unique index if not exists groups_name_unique_while_open
  on ledger.groups (name)
  where closed_at is null;
create index if not exists groups_open
  on ledger.groups (id)
  where closed_at is null;

comment on table ledger.groups is 'Payment groups, including removed ones.';
comment on column ledger.groups.id is 'Number of the group, never used again.';
comment on column ledger.groups.name is 'Unique among the existing groups.';
comment on column ledger.groups.created_at is 'When the group was created.';
comment on column ledger.groups.closed_at is 'When the group was removed; null while it exists.';

create table if not exists ledger.group_total_shards (
  group_id   bigint not null,
  slot       smallint not null,
  total      numeric not null default 0,
  changed_at timestamptz not null default clock_timestamp(),
  constraint group_total_shards_pkey primary key (group_id, slot),
  constraint group_total_shards_of_a_group foreign key (group_id) references ledger.groups (id),
  constraint group_total_shards_whole check (total = trunc(total))
) with (fillfactor = 50);

comment on table ledger.group_total_shards is
  'The total of a group''s balances in eight shards, so that joins and exits of different sessions do not wait for each other.';
comment on column ledger.group_total_shards.group_id is 'The group.';
comment on column ledger.group_total_shards.slot is 'Number of the shard, 0 to 7.';
comment on column ledger.group_total_shards.total is 'Deposits less final amounts counted in this shard; only the sum of the shards has a meaning.';
comment on column ledger.group_total_shards.changed_at is 'The time of the last join or exit counted in this shard, or a later one.';

create table if not exists ledger.participants (
  group_id  bigint not null,
  id        bigint generated always as identity,
  username  text collate "C" not null,
  amount    numeric(78, 0) not null,
  joined_at timestamptz not null default clock_timestamp(),
  exited_at timestamptz,
  moved_at  timestamptz not null default clock_timestamp(),
  constraint participants_pkey primary key (group_id, id),
  constraint participants_of_a_group foreign key (group_id) references ledger.groups (id)
) with (
  -- Room for a new version of a row on its own page: a transfer's update touches no index (HOT).
  fillfactor = 70,
  -- Row versions for which a page has no room are vacuumed before they are many.
  autovacuum_vacuum_scale_factor = 0.02,
  autovacuum_vacuum_threshold = 1000
);
create unique index if not exists participants_username_unique_while_present
  on ledger.participants (group_id, username)
  where exited_at is null;
create index if not exists participants_present
  on ledger.participants (group_id, id)
  where exited_at is null;

comment on table ledger.participants is 'Present and former participants of groups, with their balances.';
comment on column ledger.participants.group_id is 'The group.';
comment on column ledger.participants.id is 'Number of the participant, never used again.';
comment on column ledger.participants.username is 'Unique among the participants present in the group.';
comment on column ledger.participants.amount is 'Balance in the smallest unit; 0 after the exit.';
comment on column ledger.participants.joined_at is 'When the participant joined.';
comment on column ledger.participants.exited_at is 'When the participant exited; null while present.';
comment on column ledger.participants.moved_at is 'The time of the last entry, or a later one.';

-- Without foreign keys to participants: they took two fifths of the time of an insert, to find rows that the function has
-- locked. A participant is locked before an entry names it, and none is ever deleted.
create table if not exists ledger.entries (
  group_id    bigint not null,
  id          bigint generated always as identity,
  kind        text collate "C" not null,
  from_id     bigint,
  to_id       bigint,
  amount      numeric(78, 0) not null,
  from_amount numeric(78, 0),
  to_amount   numeric(78, 0),
  created_at  timestamptz not null default clock_timestamp(),
  xid         xid8 not null default pg_current_xact_id(),
  metadata    jsonb,
  reverses    bigint,
  constraint entries_pkey primary key (group_id, id)
) with (
  -- Rows that never change are frozen when they are first vacuumed, some hundred thousand at a time: no later vacuum,
  -- not even one against the wraparound of transaction ids, has to read them again.
  autovacuum_vacuum_insert_scale_factor = 0.05,
  autovacuum_vacuum_insert_threshold = 100000,
  autovacuum_freeze_min_age = 0
);
create index if not exists entries_by_kind
  on ledger.entries (group_id, kind, created_at, id);
create index if not exists entries_by_sender
  on ledger.entries (group_id, from_id, created_at, id)
  where from_id is not null;
create index if not exists entries_by_recipient
  on ledger.entries (group_id, to_id, created_at, id)
  where to_id is not null;
create index if not exists entries_as_committed
  on ledger.entries (xid, id);
-- The next two cost an entry without a reversal and without metadata only the check of their conditions.
create unique index if not exists entries_reversed_once
  on ledger.entries (group_id, reverses)
  where reverses is not null;
-- Every key names the group, so that a search reads the entries of one group only. Without a pending list, which every
-- search of every group would read.
create index if not exists entries_by_group_and_metadata
  on ledger.entries using gin (
    jsonb_set(('{"group": ' || group_id::text || '}')::jsonb, array[group_id::text], metadata) jsonb_path_ops
  )
  with (fastupdate = off)
  where metadata is not null;

comment on table ledger.entries is
  'The permanent record: every movement with both its legs. Money enters a group by a join and leaves it by an exit.';
comment on column ledger.entries.group_id is 'The group.';
comment on column ledger.entries.id is 'Number of the entry.';
comment on column ledger.entries.kind is 'join, transfer or exit.';
comment on column ledger.entries.from_id is 'The participant whose balance decreased; null for a join, whose money comes from the main network.';
comment on column ledger.entries.to_id is 'The participant whose balance increased; null for an exit, whose money returns to the main network.';
comment on column ledger.entries.amount is 'What moved, in the smallest unit.';
comment on column ledger.entries.from_amount is 'The balance of from_id after it.';
comment on column ledger.entries.to_amount is 'The balance of to_id after it.';
comment on column ledger.entries.created_at is 'When it moved, taken while both participants were locked; never before the previous entry of either.';
comment on column ledger.entries.xid is 'The transaction that wrote it, for the feed.';
comment on column ledger.entries.metadata is 'What the client noted with it: a JSON object of at most 4096 bytes.';
comment on column ledger.entries.reverses is 'The transfer that it reverses.';

create table if not exists ledger.group_total_history (
  group_id   bigint not null,
  slot       smallint not null,
  created_at timestamptz not null,
  entry_id   bigint not null,
  total      numeric not null,
  constraint group_total_history_pkey primary key (group_id, slot, created_at, entry_id),
  constraint group_total_history_of_an_entry foreign key (group_id, entry_id) references ledger.entries (group_id, id)
) with (autovacuum_freeze_min_age = 0);

comment on table ledger.group_total_history is
  'The total of each shard after each join and exit, to look up a group''s total at a past moment.';
comment on column ledger.group_total_history.group_id is 'The group.';
comment on column ledger.group_total_history.slot is 'Number of the shard, 0 to 7.';
comment on column ledger.group_total_history.created_at is 'The time of the entry.';
comment on column ledger.group_total_history.entry_id is 'The join or exit.';
comment on column ledger.group_total_history.total is 'The shard''s total after it; only the sum of the eight has a meaning.';

create table if not exists ledger.settlements (
  group_id   bigint not null,
  entry_id   bigint not null,
  exited_at  timestamptz not null,
  reference  text collate "C",
  settled_at timestamptz,
  constraint settlements_pkey primary key (group_id, entry_id),
  constraint settlements_of_an_entry foreign key (group_id, entry_id) references ledger.entries (group_id, id),
  constraint settlements_have_a_reference check ((reference is null) = (settled_at is null)),
  constraint settlements_follow_the_exit check (settled_at >= exited_at)
);
create index if not exists settlements_to_make
  on ledger.settlements (group_id, exited_at, entry_id)
  where settled_at is null;
create index if not exists settlements_made
  on ledger.settlements (group_id, exited_at, entry_id)
  where settled_at is not null;

comment on table ledger.settlements is 'For each exit the transaction on the main network that paid it, once it is known.';
comment on column ledger.settlements.group_id is 'The group.';
comment on column ledger.settlements.entry_id is 'The exit.';
comment on column ledger.settlements.exited_at is 'The time of the exit.';
comment on column ledger.settlements.reference is 'The transaction on the main network; null until it is known.';
comment on column ledger.settlements.settled_at is 'When the reference was recorded.';

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

comment on table ledger.name_changes is 'The permanent record of former names of groups and participants.';
comment on column ledger.name_changes.group_id is 'The group.';
comment on column ledger.name_changes.id is 'Number of the change.';
comment on column ledger.name_changes.participant_id is 'The renamed participant; null if the group was renamed.';
comment on column ledger.name_changes.old_name is 'The name before the change.';
comment on column ledger.name_changes.new_name is 'The name after the change.';
comment on column ledger.name_changes.changed_at is 'When it was changed.';

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
) with (
  -- As for entries.
  autovacuum_vacuum_insert_scale_factor = 0.05,
  autovacuum_vacuum_insert_threshold = 100000,
  autovacuum_freeze_min_age = 0
);

comment on table ledger.idempotency_keys is 'The answers to requests with an idempotency key, kept for ever.';
comment on column ledger.idempotency_keys.group_id is 'The group of the request; 0 for create_group.';
comment on column ledger.idempotency_keys.key is 'The client''s name for the request, unique in the group.';
comment on column ledger.idempotency_keys.operation is 'The function that was called.';
comment on column ledger.idempotency_keys.fingerprint is 'SHA-256 of the function and its arguments.';
comment on column ledger.idempotency_keys.answer is 'The function''s result, with the names and balances of that time.';
comment on column ledger.idempotency_keys.created_at is 'When the request was done.';

create table if not exists ledger.feeds (
  generation        integer not null,
  system_identifier bigint not null,
  last_restored     bigint not null,
  first_xid         xid8 not null,
  began_at          timestamptz not null default clock_timestamp(),
  constraint feeds_pkey primary key (generation)
);
-- A new ledger's feed gets a number that no earlier ledger's feed is likely to have had: entry ids begin at 1 again after a
-- reset, and a cursor from before it would skip entries. A ledger that has entries keeps its feed and its cursors.
lock table ledger.entries in share row exclusive mode;
insert into ledger.feeds (generation, system_identifier, last_restored, first_xid)
select
  2 + floor(random() * 900000000)::integer,
  c.system_identifier,
  0,
  pg_snapshot_xmin(pg_current_snapshot())
from pg_control_system() as c
where not (select s.is_called from ledger.entries_id_seq as s)
  and coalesce((select max(f.generation) from ledger.feeds as f), 1) = 1;

comment on table ledger.feeds is
  'The feeds of all groups'' entries: the first one, and one after each restore of a backup. A feed 1 that is followed by another and has no entry is unused: it was created before the first feed''s number was drawn.';
comment on column ledger.feeds.generation is 'Number of the feed: drawn at random for the first one, then counted up. The highest is the one in use.';
comment on column ledger.feeds.system_identifier is 'The server of the feed: another one counts transactions differently.';
comment on column ledger.feeds.last_restored is 'The highest id of an entry that was restored from the backup; 0 for the first feed.';
comment on column ledger.feeds.first_xid is 'No transaction below it wrote an entry that was not restored from the backup; no cursor of such an entry is below it.';
comment on column ledger.feeds.began_at is 'When the feed began.';

create table if not exists ledger.api_keys (
  id         bigint generated always as identity,
  name       text collate "C" not null,
  scope      text collate "C" not null,
  group_id   bigint,
  digest     bytea not null,
  created_at timestamptz not null default clock_timestamp(),
  revoked_at timestamptz,
  constraint api_keys_pkey primary key (id),
  constraint api_keys_scope check (scope in ('read', 'transact', 'admin')),
  constraint api_keys_sha_256 check (octet_length(digest) = 32)
);

comment on table ledger.api_keys is 'API keys of HTTP clients, kept for ever: once one exists, an API key is always required.';
comment on column ledger.api_keys.id is 'Number of the API key, a part of its secret.';
comment on column ledger.api_keys.name is 'Name of its user, for people.';
comment on column ledger.api_keys.scope is 'read, transact (moves money as well) or admin (changes groups and names as well).';
comment on column ledger.api_keys.group_id is 'The only group that it is valid for; null means all groups.';
comment on column ledger.api_keys.digest is 'SHA-256 of its secret, which is stored nowhere.';
comment on column ledger.api_keys.created_at is 'When it was created.';
comment on column ledger.api_keys.revoked_at is 'When it was revoked; null while it is valid.';

create or replace view ledger.current_groups as
select
  g.name,
  g.id
from ledger.groups as g
where g.closed_at is null;

comment on view ledger.current_groups is 'The existing groups.';
comment on column ledger.current_groups.name is 'Unique among the existing groups.';
comment on column ledger.current_groups.id is 'Number of the group.';
grant select on ledger.current_groups to ledger_reader;

create or replace view ledger.current_participants as
select
  p.username,
  p.id,
  p.group_id,
  p.amount
from ledger.participants as p
where p.exited_at is null;

comment on view ledger.current_participants is 'The participants present in their groups.';
comment on column ledger.current_participants.username is 'Unique among the participants present in the group.';
comment on column ledger.current_participants.id is 'Number of the participant.';
comment on column ledger.current_participants.group_id is 'The group.';
comment on column ledger.current_participants.amount is 'Balance in the smallest unit.';
grant select on ledger.current_participants to ledger_reader;

create or replace view ledger.record as
select
  e.group_id,
  e.id,
  e.kind,
  e.from_id,
  e.to_id,
  e.amount,
  e.from_amount,
  e.to_amount,
  e.created_at,
  e.metadata,
  e.reverses,
  r.id as reversed_by,
  s.reference,
  s.settled_at
from ledger.entries as e
left join ledger.entries as r on r.group_id = e.group_id and r.reverses = e.id
left join ledger.settlements as s on s.group_id = e.group_id and s.entry_id = e.id;

comment on view ledger.record is 'All movements, including those of removed groups and of participants who exited.';
comment on column ledger.record.group_id is 'The group.';
comment on column ledger.record.id is 'Number of the entry.';
comment on column ledger.record.kind is 'join, transfer or exit.';
comment on column ledger.record.from_id is 'The participant whose balance decreased; null for a join.';
comment on column ledger.record.to_id is 'The participant whose balance increased; null for an exit.';
comment on column ledger.record.amount is 'What moved, in the smallest unit.';
comment on column ledger.record.from_amount is 'The balance of from_id after it.';
comment on column ledger.record.to_amount is 'The balance of to_id after it.';
comment on column ledger.record.created_at is 'When it moved.';
comment on column ledger.record.metadata is 'What the client noted with it.';
comment on column ledger.record.reverses is 'The transfer that it reverses.';
comment on column ledger.record.reversed_by is 'The transfer that reversed it.';
comment on column ledger.record.reference is 'Of an exit: the transaction on the main network that paid it.';
comment on column ledger.record.settled_at is 'Of an exit: when the reference was recorded.';
grant select on ledger.record to ledger_reader;

create or replace view ledger.renames as
select
  c.group_id,
  c.id,
  c.participant_id,
  c.old_name,
  c.new_name,
  c.changed_at
from ledger.name_changes as c;

comment on view ledger.renames is 'All changes of groups'' names and of participants'' usernames.';
comment on column ledger.renames.group_id is 'The group.';
comment on column ledger.renames.id is 'Number of the change; the changes of one group or participant ascend with time.';
comment on column ledger.renames.participant_id is 'The renamed participant; null if the group was renamed.';
comment on column ledger.renames.old_name is 'The name before the change.';
comment on column ledger.renames.new_name is 'The name after the change.';
comment on column ledger.renames.changed_at is 'When it was changed.';
grant select on ledger.renames to ledger_reader;

-- What the functions return, and what internal ones pass to each other: name, columns, comment.
do $$
declare
  shape text[];
begin
  foreach shape slice 1 in array array[
    ['ledger.group_result', 'name text, id bigint, replayed boolean', 'The group, and whether an earlier request with the same idempotency key did it.'],
    ['ledger.participant_result', 'username text, id bigint, group_id bigint, amount numeric, replayed boolean', 'The participant, and whether an earlier request with the same idempotency key did it.'],
    ['ledger.remove_result', 'replayed boolean', 'Whether an earlier request with the same idempotency key did it.'],
    ['ledger.join_result', 'username text, id bigint, group_id bigint, amount numeric, entry_id bigint, replayed boolean', 'The participant who joined, and the entry that the join wrote.'],
    ['ledger.exit_result', 'final_amount numeric, entry_id bigint, replayed boolean', 'The final amount of the participant, and the entry that the exit wrote.'],
    ['ledger.entry_result', 'group_id bigint, id bigint, kind text, from_id bigint, to_id bigint, amount numeric, from_amount numeric, to_amount numeric, created_at timestamptz, metadata jsonb, reverses bigint, reversed_by bigint, reference text, settled_at timestamptz, replayed boolean', 'The entry, and whether an earlier request did it.'],
    ['ledger.transfer_result', 'to_participant ledger.current_participants, from_participant ledger.current_participants, entry_id bigint, replayed boolean', 'Both participants after the transfer, and the entry that it wrote.'],
    ['ledger.transfer_entry', 'id bigint, from_id bigint, to_id bigint, amount numeric, from_amount numeric, to_amount numeric', 'An entry of a multi-party transfer.'],
    ['ledger.transfer_all_result', 'entries ledger.transfer_entry[], participants ledger.current_participants[], replayed boolean', 'The entries by line, the participants after all of them, and whether an earlier request with the same idempotency key did it.'],
    ['ledger.transfer_outcome', 'place integer, outcome text, to_participant ledger.current_participants, from_participant ledger.current_participants, entry_id bigint', 'The outcome of a line of transfer_batch: done, locked or deferred; if done, the participants after it and the entry.'],
    ['ledger.participant_outcome', 'place integer, outcome text, username text, id bigint, group_id bigint, amount numeric(78, 0)', 'The outcome of a line of get_participants: done, with the participant, or deferred.'],
    ['ledger.feed_entry', 'cursor text, group_id bigint, id bigint, kind text, from_id bigint, to_id bigint, amount numeric, from_amount numeric, to_amount numeric, created_at timestamptz, metadata jsonb, reverses bigint, reversed_by bigint, reference text, settled_at timestamptz', 'An entry and its position in the feed.'],
    ['ledger.api_key', 'id bigint, name text, scope text, group_id bigint, created_at timestamptz, revoked_at timestamptz', 'An API key without its secret.'],
    ['ledger.api_key_result', 'id bigint, secret text', 'A new API key: its id, and its secret, which is shown only once.'],
    ['ledger.principal', 'id bigint, name text, scope text, group_id bigint', 'The user of an API key: its id and name, its scope and its group (null means all).'],
    ['ledger.discrepancy', 'group_id bigint, entry_id bigint, participant_id bigint, kind text, detail text', 'A discrepancy in the books: the entry or the participant where it shows, its kind, and its description.'],
    ['ledger_internal.transfer_lines', 'group_ids bigint[], from_ids bigint[], to_ids bigint[], amounts numeric[], metadatas jsonb[], idempotency_keys text[], possible boolean[]', 'A list of transfers by columns, which have a value for each line or are null; a line that is not possible is left out.'],
    ['ledger_internal.locked_participant', 'group_id bigint, id bigint, place tid, username text, amount numeric(78, 0), moved_at timestamptz', 'A participant whose row is locked, and where the row is.'],
    ['ledger_internal.transfer_legs', 'group_ids bigint[], ids bigint[], places tid[], usernames text[], balances numeric[], moved_at timestamptz[], numbers integer[]', 'The locked participants of a list of transfers by columns, in ascending group and id; and which of them are the legs of the lines: first all senders, then all recipients.'],
    ['ledger_internal.transfer_decisions', 'entries ledger.transfer_entry[], moments timestamptz[], balances numeric[], changed_at timestamptz[], refused integer, violation text', 'What a list of transfers writes: for each line the entry and its time, nulls where it is not made; for each locked participant the balance at the end and the time of the last change, null if there is none; and the line that would break a rule, and which, if this refuses the list.'],
    ['ledger_internal.leg', 'id bigint, kind text, created_at timestamptz, balance numeric', 'One leg of an entry: the entry, and the balance of its participant after it.'],
    ['ledger_internal.history_position', 'created_at timestamptz, id bigint', 'A position in a group''s history, inclusive.'],
    ['ledger_internal.history_range', 'low_at timestamptz, low_id bigint, high_at timestamptz, high_id bigint', 'Two positions in a group''s history, which is ordered by time and then by id; both exclusive.'],
    ['ledger_internal.feed_position', 'generation integer, last_restored bigint, restored_xid xid8, restored_id bigint, xid xid8, id bigint', 'A position in the feed: restored entries come after (restored_xid, restored_id), and entries written since after (xid, id).']
  ] loop
    if to_regtype(shape[1]) is null then
      execute format('create type %s as (%s)', shape[1], shape[2]);
    end if;
    execute format('comment on type %s is %L', shape[1], shape[3]);
  end loop;
end
$$;

-- Functions may call each other in any order.
set local check_function_bodies = off;

-- >>> db/functions/api/activity.sql
-- Report what delays the feed and vacuum.
create or replace function ledger.activity(
  out feed_lag           numeric,
  out oldest_transaction numeric
)
language sql stable security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
  select
    -- Entries that have committed and are not in the feed yet, because an older transaction is open. No entry that this
    -- snapshot sees has a transaction number above the snapshot's; restored entries may have any number.
    coalesce(greatest(extract(epoch from clock_timestamp() - (
      select e.created_at
      from entries as e
      where e.xid >= pg_snapshot_xmin(pg_current_snapshot())
        and e.xid < pg_snapshot_xmax(pg_current_snapshot())
        and e.id > (select f.last_restored from feeds as f order by f.generation desc limit 1)
      order by e.xid, e.id
      limit 1
    )), 0), 0),
    -- Without that role only the owner's own sessions show their age, and no role logs in as the owner.
    case when pg_has_role('pg_read_all_stats', 'usage') then (
      select coalesce(greatest(extract(epoch from clock_timestamp() - min(a.xact_start)), 0), 0)
      from pg_stat_activity as a
      where a.datname = current_database()
        and a.backend_type = 'client backend'
        and a.pid <> pg_backend_pid()
    ) end
$$;

alter function ledger.activity owner to ledger_owner;
comment on function ledger.activity is
  'How long, in seconds, the oldest entry that the feed cannot return yet has waited, and how long the oldest transaction of this database has been open; null unless ledger_owner is a member of pg_read_all_stats, which this needs.';
revoke execute on function ledger.activity from public;
grant execute on function ledger.activity to ledger_api;
-- <<< db/functions/api/activity.sql

-- >>> db/functions/api/authenticate.sql
-- Find the API key whose secret has this digest.
create or replace function ledger.authenticate(
  key_id bigint,
  digest bytea
) returns setof ledger.principal
language sql stable security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
  select
    k.id,
    k.name,
    k.scope,
    k.group_id
  from api_keys as k
  cross join (select uuid_send(gen_random_uuid()) as salt offset 0) as s
  where k.id = authenticate.key_id
    and k.revoked_at is null
    -- Both are salted and hashed again, so that the time of the comparison reveals nothing of either digest.
    and sha256(s.salt || k.digest) = sha256(s.salt || authenticate.digest)
$$;

alter function ledger.authenticate owner to ledger_owner;
comment on function ledger.authenticate is
  'The API key with this id, if it is not revoked and digest is the SHA-256 of its secret: its id and name, its scope and its group. No row otherwise.';
revoke execute on function ledger.authenticate from public;
grant execute on function ledger.authenticate to ledger_api;
-- <<< db/functions/api/authenticate.sql

-- >>> db/functions/api/create_group.sql
-- Create a group, which is one off-chain ledger.
create or replace function ledger.create_group(
  name            text,
  idempotency_key text default null
) returns ledger.group_result
language plpgsql volatile security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  request   text[] := array['create_group', name];
  new_group group_result;
begin
  perform refuse_invalid(
    array['name', 'idempotency_key'],
    array[invalid_new_name(name, 0, idempotency_key, request), invalid_idempotency_key(idempotency_key)]
  );

  -- The group does not exist yet, so the idempotency key belongs to group 0, as for every request of create_group.
  new_group := claim_idempotency_key(0, idempotency_key, request, new_group);
  if new_group.replayed then
    return new_group;
  end if;

  -- Names stored before NFC was enforced also count as taken.
  insert into groups (name)
  select normalize(create_group.name, NFC)
  where find_group_id(array_remove(name_spellings(create_group.name), normalize(create_group.name, NFC))) is null
  on conflict do nothing
  returning groups.name, groups.id into new_group.name, new_group.id;
  if not found then
    perform refuse_taken_name('name', name, 'group ' || find_group_id(name_spellings(name))::text);
  end if;

  insert into group_total_shards (group_id, slot)
  select new_group.id, s.slot
  from generate_series(0, 7) as s (slot);

  new_group.replayed := false;
  perform store_answer(0, idempotency_key, request, new_group);
  return new_group;
end
$$;

alter function ledger.create_group owner to ledger_owner;
comment on function ledger.create_group is
  'Open a group under a name, composed (NFC), that no other existing group has. Raises LG001, LG005, LG006.';
revoke execute on function ledger.create_group from public;
grant execute on function ledger.create_group to ledger_api;
-- <<< db/functions/api/create_group.sql

-- >>> db/functions/api/exit_group.sql
-- Leave a group with the final amount, which returns to the main network.
create or replace function ledger.exit_group(
  group_id        bigint,
  participant_id  bigint,
  idempotency_key text  default null,
  metadata        jsonb default null
) returns ledger.exit_result
language plpgsql volatile security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  request    text[];
  exited     exit_result;
  last_moved timestamptz;
  shard      group_total_shards;
begin
  perform refuse_invalid(
    array['group_id', 'participant_id', 'idempotency_key', 'metadata'],
    array[invalid_id(group_id), invalid_id(participant_id), invalid_idempotency_key(idempotency_key), invalid_metadata(metadata)]
  );

  request := array['exit_group', participant_id::text, metadata::text];
  exited := claim_idempotency_key(group_id, idempotency_key, request, exited);
  if exited.replayed then
    return exited;
  end if;

  select
    p.amount,
    p.moved_at
  into
    exited.final_amount,
    last_moved
  from participants as p
  where p.group_id = exit_group.group_id
    and p.id = exit_group.participant_id
    and p.exited_at is null
  for no key update;
  if not found then
    perform refuse_unknown_participants(group_id, array['participant_id'], array[participant_id]);
  end if;

  shard := add_to_group_total(group_id, -exited.final_amount, last_moved);

  update participants as p
  set
    amount = 0,
    moved_at = shard.changed_at,
    exited_at = shard.changed_at
  where p.group_id = exit_group.group_id
    and p.id = exit_group.participant_id;

  insert into entries (group_id, kind, from_id, amount, from_amount, created_at, metadata)
  values (
    exit_group.group_id, 'exit', exit_group.participant_id, exited.final_amount, 0, shard.changed_at,
    exit_group.metadata
  )
  returning entries.id into exited.entry_id;
  perform record_group_total(shard, exited.entry_id);

  insert into settlements (group_id, entry_id, exited_at)
  values (exit_group.group_id, exited.entry_id, shard.changed_at);

  exited.replayed := false;
  perform store_answer(group_id, idempotency_key, request, exited);
  return exited;
end
$$;

alter function ledger.exit_group owner to ledger_owner;
comment on function ledger.exit_group is
  'Leave the group with all that the participant holds, the final amount. entry_id is the entry written. Raises LG001, LG002, LG006.';
revoke execute on function ledger.exit_group from public;
grant execute on function ledger.exit_group to ledger_api;
-- <<< db/functions/api/exit_group.sql

-- >>> db/functions/api/get_entry.sql
-- Show one entry.
create or replace function ledger.get_entry(
  group_id bigint,
  entry_id bigint
) returns ledger.record
language plpgsql stable security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  entry ledger.record;
begin
  select r.*
  into entry
  from ledger.record as r
  where r.group_id = get_entry.group_id
    and r.id = get_entry.entry_id;

  if not found then
    perform refuse_unknown_entry(group_id, 'entry_id', entry_id);
  end if;
  return entry;
end
$$;

alter function ledger.get_entry owner to ledger_owner;
comment on function ledger.get_entry is
  'One entry of a group, also of one that was removed. Raises LG001, LG002.';
revoke execute on function ledger.get_entry from public;
grant execute on function ledger.get_entry to ledger_api;
-- <<< db/functions/api/get_entry.sql

-- >>> db/functions/api/get_group.sql
-- Show one group.
create or replace function ledger.get_group(
  group_id bigint
) returns ledger.current_groups
language plpgsql stable security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  found_group current_groups;
begin
  select g.*
  into found_group
  from current_groups as g
  where g.id = get_group.group_id;

  if not found then
    perform refuse_unknown_group(group_id);
  end if;
  return found_group;
end
$$;

alter function ledger.get_group owner to ledger_owner;
comment on function ledger.get_group is
  'One group that exists. Raises LG001, LG002.';
revoke execute on function ledger.get_group from public;
grant execute on function ledger.get_group to ledger_api;
-- <<< db/functions/api/get_group.sql

-- >>> db/functions/api/get_participant.sql
-- Show one participant with the balance, now or at a past moment.
create or replace function ledger.get_participant(
  group_id       bigint,
  participant_id bigint,
  at_time        timestamptz default null,
  at_entry       bigint      default null
) returns ledger.current_participants
language plpgsql stable security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  in_history  boolean := at_time is not null or at_entry is not null;
  participant current_participants;
begin
  if in_history then
    perform refuse_invalid(
      array['group_id', 'participant_id'],
      array[invalid_id(group_id), invalid_id(participant_id)]
    );
    participant := participant_at(group_id, participant_id, history_position(group_id, at_time, at_entry));
  else
    select p.*
    into participant
    from current_participants as p
    where p.group_id = get_participant.group_id
      and p.id = get_participant.participant_id;
  end if;

  if participant.id is null then
    perform refuse_unknown_participants(group_id, array['participant_id'], array[participant_id], in_history);
  end if;
  return participant;
end
$$;

alter function ledger.get_participant owner to ledger_owner;
comment on function ledger.get_participant is
  'One participant present in the group; with a time, or an entry of the group, one who was present then, with the balance of then. Raises LG001, LG002.';
revoke execute on function ledger.get_participant from public;
grant execute on function ledger.get_participant to ledger_api;
-- <<< db/functions/api/get_participant.sql

-- >>> db/functions/api/get_participants.sql
-- Show several participants, also of several groups, in one call.
create or replace function ledger.get_participants(
  group_ids       bigint[],
  participant_ids bigint[]
) returns setof ledger.participant_outcome
language sql stable security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
  select
    l.place::integer,
    case when p.id is null then 'deferred' else 'done' end,
    p.username,
    p.id,
    p.group_id,
    p.amount
  from unnest(get_participants.group_ids, get_participants.participant_ids)
    with ordinality as l (group_id, participant_id, place)
  left join current_participants as p on p.group_id = l.group_id and p.id = l.participant_id
  order by l.place
$$;

alter function ledger.get_participants owner to ledger_owner;
comment on function ledger.get_participants is
  'Several participants: one row a line, in order. The outcome is done, with what get_participant returns, for a present participant, or deferred, for what get_participant has to decide. For services that collect requests.';
revoke execute on function ledger.get_participants from public;
grant execute on function ledger.get_participants to ledger_api;
-- <<< db/functions/api/get_participants.sql

-- >>> db/functions/api/group_total.sql
-- Return what a group's participants hold together, now or at a past moment.
create or replace function ledger.group_total(
  group_id bigint,
  at_time  timestamptz default null,
  at_entry bigint      default null
) returns numeric
language plpgsql stable security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  total numeric;
begin
  -- A transfer does not change the total, so joins and exits maintain it in eight shards, and no balances are added up.
  if at_time is null and at_entry is null then
    select sum(c.total)
    into total
    from groups as g
    join group_total_shards as c on c.group_id = g.id
    where g.id = group_total.group_id
      and g.closed_at is null;
  else
    total := group_total_at(group_id, history_position(group_id, at_time, at_entry));
  end if;

  if total is null then
    perform refuse_unknown_group(group_id);
  end if;
  return total;
end
$$;

alter function ledger.group_total owner to ledger_owner;
comment on function ledger.group_total is
  'What the participants present in the group hold together; 0 when it is empty. With a time, or an entry of the group, what they held then. Raises LG001, LG002.';
revoke execute on function ledger.group_total from public;
grant execute on function ledger.group_total to ledger_api;
-- <<< db/functions/api/group_total.sql

-- >>> db/functions/api/health.sql
-- Answer a health check.
create or replace function ledger.health(
  out status text
)
language sql stable security definer parallel safe
set search_path = ledger, ledger_internal, pg_temp
as $$
  select 'ok'
$$;

alter function ledger.health owner to ledger_owner;
comment on function ledger.health is
  'Returns ok while the database answers.';
revoke execute on function ledger.health from public;
grant execute on function ledger.health to ledger_api;
-- <<< db/functions/api/health.sql

-- >>> db/functions/api/join_group.sql
-- Join a group with a deposit from the main network.
create or replace function ledger.join_group(
  group_id        bigint,
  username        text,
  amount          numeric,
  idempotency_key text  default null,
  metadata        jsonb default null
) returns ledger.join_result
language plpgsql volatile security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  reasons text[];
  request text[];
  joined  join_result;
  shard   group_total_shards;
begin
  reasons := array[
    invalid_id(group_id), null, invalid_amount(amount, 0), invalid_idempotency_key(idempotency_key), invalid_metadata(metadata)
  ];
  -- Invalid values are not converted to text, which could be very long.
  if idempotency_key is not null and cardinality(array_remove(reasons, null)) = 0 then
    request := array['join_group', username, trunc(amount)::text, metadata::text];
  end if;
  reasons[2] := invalid_new_name(username, group_id, idempotency_key, request);
  perform refuse_invalid(array['group_id', 'username', 'amount', 'idempotency_key', 'metadata'], reasons);

  joined := claim_idempotency_key(group_id, idempotency_key, request, joined);
  if joined.replayed then
    return joined;
  end if;

  -- The group cannot be removed until this commits; joins do not block each other.
  perform from groups as g
  where g.id = join_group.group_id
    and g.closed_at is null
  for key share;
  if not found then
    perform refuse_unknown_group(group_id);
  end if;

  -- Usernames stored before NFC was enforced also count as taken; an ASCII username has only one spelling.
  insert into participants (group_id, username, amount)
  select
    join_group.group_id,
    normalize(join_group.username, NFC),
    join_group.amount
  where octet_length(join_group.username) = char_length(join_group.username)
    or find_participant_id(
      join_group.group_id, array_remove(name_spellings(join_group.username), normalize(join_group.username, NFC))
    ) is null
  on conflict do nothing
  returning participants.username, participants.id, participants.group_id, participants.amount
  into joined.username, joined.id, joined.group_id, joined.amount;
  if not found then
    perform refuse_taken_name(
      'username', username, 'participant ' || find_participant_id(group_id, name_spellings(username))::text
    );
  end if;

  -- A join that waits for a username holds no shard, so the time is known only now.
  shard := add_to_group_total(group_id, amount, null);
  update participants as p
  set
    joined_at = shard.changed_at,
    moved_at = shard.changed_at
  where p.group_id = join_group.group_id
    and p.id = joined.id;

  insert into entries (group_id, kind, to_id, amount, to_amount, created_at, metadata)
  values (
    join_group.group_id, 'join', joined.id, join_group.amount, join_group.amount, shard.changed_at, join_group.metadata
  )
  returning entries.id into joined.entry_id;
  perform record_group_total(shard, joined.entry_id);

  joined.replayed := false;
  perform store_answer(group_id, idempotency_key, request, joined);
  return joined;
end
$$;

alter function ledger.join_group owner to ledger_owner;
comment on function ledger.join_group is
  'Join a group under a username, composed (NFC), that no one present has, with a deposit of 0 or more. entry_id is the entry written. Raises LG001, LG002, LG005, LG006.';
revoke execute on function ledger.join_group from public;
grant execute on function ledger.join_group to ledger_api;
-- <<< db/functions/api/join_group.sql

-- >>> db/functions/api/keys_required.sql
-- Report whether requests need an API key.
create or replace function ledger.keys_required(
  out keys_required boolean
)
language sql stable security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
  select exists (select from api_keys)
    -- A reset dropped some, and was not completed.
    or to_regclass('public.ledger_keys_were_dropped') is not null
$$;

alter function ledger.keys_required owner to ledger_owner;
comment on function ledger.keys_required is
  'Whether an API key has ever been made: from then on each request needs one. Revoking the last, or a reset, does not change that.';
revoke execute on function ledger.keys_required from public;
grant execute on function ledger.keys_required to ledger_api;
-- <<< db/functions/api/keys_required.sql

-- >>> db/functions/api/list_entries.sql
-- List a group's entries, a page at a time, in the order of their time.
create or replace function ledger.list_entries(
  group_id     bigint,
  kind         text        default null,
  settled      boolean     default null,
  metadata     jsonb       default null,
  since        timestamptz default null,
  until        timestamptz default null,
  after        bigint      default null,
  before       bigint      default null,
  newest_first boolean     default false,
  max_rows     integer     default 1000
) returns setof ledger.record
language plpgsql stable security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  kinds  text[] := case when kind is null then array['join', 'transfer', 'exit'] else array[kind] end;
  bounds ledger_internal.history_range;
  source text;
begin
  perform refuse_invalid(
    array['group_id', 'kind', 'settled', 'metadata'],
    array[
      invalid_id(group_id),
      invalid_kind(kind),
      case when settled is not null and kind <> 'exit' then 'goes with the kind exit' end,
      invalid_metadata(metadata)
    ]
  );
  bounds := history_range(group_id, since, until, after, before);

  -- Planned at each call, for its filter and its direction: a range of one index, whatever is stored.
  if metadata is not null then
    -- Found through the index on groups and metadata alone, then sorted: meant for values that few entries have.
    source := $source$
      entries_with_metadata($1, $9) as e
      where e.kind = any ($2) and ($8 is null or exists (
        select from settlements as s
        where s.group_id = $1 and s.entry_id = e.id and (s.settled_at is not null) = $8
      ))
    $source$;
  elsif settled is not null then
    source := replace(
      $source$
        (select s.exited_at as created_at, s.entry_id as id from settlements as s
        where s.group_id = $1 and s.settled_at {state}
          and (s.exited_at, s.entry_id) > ($3, $4) and (s.exited_at, s.entry_id) < ($5, $6)
        order by s.exited_at {direction}, s.entry_id {direction} limit $7) as e
        where true
      $source$,
      '{state}',
      -- Spelled as the condition of an index.
      case when settled then 'is not null' else 'is null' end
    );
  else
    source := $source$
      unnest($2) as k (kind) cross join lateral (
        select f.created_at, f.id from entries as f
        where f.group_id = $1 and f.kind = k.kind
          and (f.created_at, f.id) > ($3, $4) and (f.created_at, f.id) < ($5, $6)
        order by f.created_at {direction}, f.id {direction} limit $7
      ) as e
      where true
    $source$;
  end if;

  return query execute history_query(source, newest_first)
  using
    group_id, kinds, bounds.low_at, bounds.low_id, bounds.high_at, bounds.high_id,
    greatest(coalesce(max_rows, 1000), 0), settled, metadata;
end
$$;

alter function ledger.list_entries owner to ledger_owner;
comment on function ledger.list_entries is
  'The entries of a group, also of one that was removed, by time and then id: those of a kind, exits that are settled or not, those whose metadata contain a JSON object, since a time and until before another, after and before another entry; at most max_rows of them. Raises LG001, LG002.';
revoke execute on function ledger.list_entries from public;
grant execute on function ledger.list_entries to ledger_api;
-- <<< db/functions/api/list_entries.sql

-- >>> db/functions/api/list_groups.sql
-- List the existing groups, a page at a time, or find one by its name.
create or replace function ledger.list_groups(
  after    bigint  default 0,
  max_rows integer default 1000,
  name     text    default null
) returns setof ledger.current_groups
language plpgsql stable security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  named bigint;
begin
  if name is not null then
    named := find_group_id(name_spellings(name));
    return query
    select g.*
    from current_groups as g
    where g.id = named
      and g.id > coalesce(list_groups.after, 0)
    limit greatest(coalesce(list_groups.max_rows, 1000), 0);
    return;
  end if;

  return query
  select g.*
  from current_groups as g
  where g.id > coalesce(list_groups.after, 0)
  order by g.id
  limit greatest(coalesce(list_groups.max_rows, 1000), 0);
end
$$;

alter function ledger.list_groups owner to ledger_owner;
comment on function ledger.list_groups is
  'The groups that exist with an id above after, at most max_rows of them, by ascending id; with a name, the one that has it, if any.';
revoke execute on function ledger.list_groups from public;
grant execute on function ledger.list_groups to ledger_api;
-- <<< db/functions/api/list_groups.sql

-- >>> db/functions/api/list_participant_entries.sql
-- List the entries of one participant, a page at a time, in the order of their time.
create or replace function ledger.list_participant_entries(
  group_id       bigint,
  participant_id bigint,
  kind           text        default null,
  metadata       jsonb       default null,
  since          timestamptz default null,
  until          timestamptz default null,
  after          bigint      default null,
  before         bigint      default null,
  newest_first   boolean     default false,
  max_rows       integer     default 1000
) returns setof ledger.record
language plpgsql stable security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  kinds  text[] := case when kind is null then array['join', 'transfer', 'exit'] else array[kind] end;
  bounds ledger_internal.history_range;
  source text;
begin
  perform refuse_invalid(
    array['group_id', 'participant_id', 'kind', 'metadata'],
    array[invalid_id(group_id), invalid_id(participant_id), invalid_kind(kind), invalid_metadata(metadata)]
  );
  bounds := history_range(group_id, since, until, after, before);
  if not exists (
    select from participants as p
    where p.group_id = list_participant_entries.group_id
      and p.id = list_participant_entries.participant_id
  ) then
    perform refuse_unknown_participants(group_id, array['participant_id'], array[participant_id], in_history => true);
  end if;

  -- Planned at each call, for its filter and its direction: a range of each leg's index.
  if metadata is not null then
    source := $source$
      entries_with_metadata($1, $9) as e
      where $8 in (e.from_id, e.to_id) and e.kind = any ($2)
    $source$;
  else
    -- A participant's first entry is the join, and the last one may be the exit: neither is looked for further.
    source := $source$
      (
        (select f.created_at, f.id from entries as f
        where 'transfer' = any ($2) and f.group_id = $1 and f.from_id = $8 and f.kind = 'transfer'
          and (f.created_at, f.id) > ($3, $4) and (f.created_at, f.id) < ($5, $6)
        order by f.created_at {direction}, f.id {direction} limit $7)
        union all
        (select f.created_at, f.id from entries as f
        where 'transfer' = any ($2) and f.group_id = $1 and f.to_id = $8 and f.kind = 'transfer'
          and (f.created_at, f.id) > ($3, $4) and (f.created_at, f.id) < ($5, $6)
        order by f.created_at {direction}, f.id {direction} limit $7)
        union all
        select f.created_at, f.id from (
          select * from entries as f
          where 'join' = any ($2) and f.group_id = $1 and f.to_id = $8
          order by f.created_at, f.id limit 1
        ) as f
        where f.kind = 'join'
        union all
        select f.created_at, f.id from (
          select * from entries as f
          where 'exit' = any ($2) and f.group_id = $1 and f.from_id = $8
          order by f.created_at desc, f.id desc limit 1
        ) as f
        where f.kind = 'exit'
      ) as e
      where true
    $source$;
  end if;

  return query execute history_query(source, newest_first)
  using
    group_id, kinds, bounds.low_at, bounds.low_id, bounds.high_at, bounds.high_id,
    greatest(coalesce(max_rows, 1000), 0), participant_id, metadata;
end
$$;

alter function ledger.list_participant_entries owner to ledger_owner;
comment on function ledger.list_participant_entries is
  'The entries of a present or former participant, by time and then id, chosen as with list_entries. Raises LG001, LG002.';
revoke execute on function ledger.list_participant_entries from public;
grant execute on function ledger.list_participant_entries to ledger_api;
-- <<< db/functions/api/list_participant_entries.sql

-- >>> db/functions/api/list_participants.sql
-- List the participants present in a group, a page at a time, or find one by username.
create or replace function ledger.list_participants(
  group_id bigint,
  after    bigint  default 0,
  max_rows integer default 1000,
  username text    default null
) returns setof ledger.current_participants
language plpgsql stable security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  named bigint;
begin
  perform get_group(group_id);

  if username is not null then
    named := find_participant_id(group_id, name_spellings(username));
    return query
    select p.*
    from current_participants as p
    where p.group_id = list_participants.group_id
      and p.id = named
      and p.id > coalesce(list_participants.after, 0)
    limit greatest(coalesce(list_participants.max_rows, 1000), 0);
    return;
  end if;

  return query
  select p.*
  from current_participants as p
  where p.group_id = list_participants.group_id
    and p.id > coalesce(list_participants.after, 0)
  order by p.id
  limit greatest(coalesce(list_participants.max_rows, 1000), 0);
end
$$;

alter function ledger.list_participants owner to ledger_owner;
comment on function ledger.list_participants is
  'The participants present in the group with an id above after, at most max_rows of them, by ascending id; with a username, the participant who has it, if any. Raises LG001, LG002.';
revoke execute on function ledger.list_participants from public;
grant execute on function ledger.list_participants to ledger_api;
-- <<< db/functions/api/list_participants.sql

-- >>> db/functions/api/read_feed.sql
-- Read the entries of all groups, each once, in an order that can be resumed.
create or replace function ledger.read_feed(
  after    text    default null,
  max_rows integer default 1000
) returns setof ledger.feed_entry
language plpgsql stable security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  place feed_position := parse_feed_cursor(after);
  rows  integer := greatest(coalesce(max_rows, 1000), 0);
  shown integer := 0;
begin
  -- Restored entries come first: their numbers are those of another server's transactions, which have all ended.
  if place.restored_xid is not null then
    return query
    select
      format('%s-%s-%s', place.generation, page.xid, page.id),
      r.*
    from (
      select
        e.group_id,
        e.xid,
        e.id
      from entries as e
      where (e.xid, e.id) > (place.restored_xid, place.restored_id)
        and e.id <= place.last_restored
      order by e.xid, e.id
      limit rows
    ) as page
    cross join lateral (
      select r.* from ledger.record as r where r.group_id = page.group_id and r.id = page.id offset 0
    ) as r
    order by page.xid, page.id;
    get diagnostics shown = row_count;
  end if;

  -- Transactions do not commit in the order of their numbers. Below the number of the oldest open transaction no entry
  -- can be added, so the entries there are complete.
  if shown < rows then
    return query
    select
      format('%s-%s-%s', place.generation, page.xid, page.id),
      r.*
    from (
      select
        e.group_id,
        e.xid,
        e.id
      from entries as e
      where (e.xid, e.id) > (place.xid, place.id)
        and e.xid < pg_snapshot_xmin(pg_current_snapshot())
        and e.id > place.last_restored
      order by e.xid, e.id
      limit rows - shown
    ) as page
    cross join lateral (
      select r.* from ledger.record as r where r.group_id = page.group_id and r.id = page.id offset 0
    ) as r
    order by page.xid, page.id;
  end if;
end
$$;

alter function ledger.read_feed owner to ledger_owner;
comment on function ledger.read_feed is
  'The entries of all groups that come after a cursor, the first ones for null, at most max_rows of them, each with its cursor. An entry comes once every transaction as old as its own has ended, so none is ever skipped. Raises LG001, LG009.';
revoke execute on function ledger.read_feed from public;
grant execute on function ledger.read_feed to ledger_api;
-- <<< db/functions/api/read_feed.sql

-- >>> db/functions/api/remove_group.sql
-- Remove an empty group; its record stays.
create or replace function ledger.remove_group(
  group_id        bigint,
  idempotency_key text default null
) returns ledger.remove_result
language plpgsql volatile security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  request text[] := array['remove_group'];
  removed remove_result;
begin
  perform refuse_invalid(
    array['group_id', 'idempotency_key'],
    array[invalid_id(group_id), invalid_idempotency_key(idempotency_key)]
  );

  removed := claim_idempotency_key(group_id, idempotency_key, request, removed);
  if removed.replayed then
    return removed;
  end if;

  -- Joins lock this row in share mode: once it is locked here, no join is under way and none can begin.
  perform from groups as g
  where g.id = remove_group.group_id
    and g.closed_at is null
  for update;
  if not found then
    perform refuse_unknown_group(group_id);
  end if;

  -- Each join and exit updates a shard. Locking them waits for exits under way, and, above READ COMMITTED, fails
  -- with 40001 where a join has committed that this snapshot does not show.
  perform from group_total_shards as c
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
  set closed_at = greatest(
    clock_timestamp(),
    (select max(c.changed_at) from group_total_shards as c where c.group_id = remove_group.group_id)
  )
  where g.id = remove_group.group_id;

  removed.replayed := false;
  perform store_answer(group_id, idempotency_key, request, removed);
  return removed;
end
$$;

alter function ledger.remove_group owner to ledger_owner;
comment on function ledger.remove_group is
  'Remove a group without participants; its name is free again and its record stays. Raises LG001, LG002, LG004, LG006.';
revoke execute on function ledger.remove_group from public;
grant execute on function ledger.remove_group to ledger_api;
-- <<< db/functions/api/remove_group.sql

-- >>> db/functions/api/rename_group.sql
-- Rename a group.
create or replace function ledger.rename_group(
  group_id        bigint,
  name            text,
  idempotency_key text default null
) returns ledger.group_result
language plpgsql volatile security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  request       text[] := array['rename_group', name];
  new_name      text;
  old_name      text;
  taken_by      bigint;
  renamed_group group_result;
begin
  perform refuse_invalid(
    array['group_id', 'name', 'idempotency_key'],
    array[
      invalid_id(group_id),
      invalid_new_name(name, group_id, idempotency_key, request),
      invalid_idempotency_key(idempotency_key)
    ]
  );

  renamed_group := claim_idempotency_key(group_id, idempotency_key, request, renamed_group);
  if renamed_group.replayed then
    return renamed_group;
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

  -- Do not wait for a taken name: two groups that are renamed to each other's names would wait for each other.
  taken_by := find_group_id(name_spellings(name), group_id);
  if taken_by is not null then
    perform refuse_taken_name('name', name, 'group ' || taken_by::text);
  end if;
  new_name := normalize(name, NFC);
  begin
    update groups as g
    set name = new_name
    where g.id = rename_group.group_id
    returning g.name, g.id into renamed_group.name, renamed_group.id;
  exception when unique_violation then
    perform refuse_taken_name('name', name, 'group ' || find_group_id(name_spellings(name), group_id)::text);
  end;

  if old_name <> new_name then
    insert into name_changes (group_id, old_name, new_name)
    values (rename_group.group_id, old_name, new_name);
  end if;

  renamed_group.replayed := false;
  perform store_answer(group_id, idempotency_key, request, renamed_group);
  return renamed_group;
end
$$;

alter function ledger.rename_group owner to ledger_owner;
comment on function ledger.rename_group is
  'Give an existing group a name, composed (NFC), that no other existing group has; the change is kept in ledger.renames. Raises LG001, LG002, LG005, LG006.';
revoke execute on function ledger.rename_group from public;
grant execute on function ledger.rename_group to ledger_api;
-- <<< db/functions/api/rename_group.sql

-- >>> db/functions/api/rename_participant.sql
-- Rename a participant.
create or replace function ledger.rename_participant(
  group_id        bigint,
  participant_id  bigint,
  username        text,
  idempotency_key text default null
) returns ledger.participant_result
language plpgsql volatile security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  request     text[] := array['rename_participant', participant_id::text, username];
  new_name    text;
  old_name    text;
  taken_by    bigint;
  participant participant_result;
begin
  perform refuse_invalid(
    array['group_id', 'participant_id', 'username', 'idempotency_key'],
    array[
      invalid_id(group_id),
      invalid_id(participant_id),
      invalid_new_name(username, group_id, idempotency_key, request),
      invalid_idempotency_key(idempotency_key)
    ]
  );

  participant := claim_idempotency_key(group_id, idempotency_key, request, participant);
  if participant.replayed then
    return participant;
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

  -- Do not wait for a taken name: two participants that are renamed to each other's names would wait for each other.
  taken_by := find_participant_id(group_id, name_spellings(username), participant_id);
  if taken_by is not null then
    perform refuse_taken_name('username', username, 'participant ' || taken_by::text);
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
    perform refuse_taken_name(
      'username', username, 'participant ' || find_participant_id(group_id, name_spellings(username), participant_id)::text
    );
  end;

  if old_name <> new_name then
    insert into name_changes (group_id, participant_id, old_name, new_name)
    values (rename_participant.group_id, rename_participant.participant_id, old_name, new_name);
  end if;

  participant.replayed := false;
  perform store_answer(group_id, idempotency_key, request, participant);
  return participant;
end
$$;

alter function ledger.rename_participant owner to ledger_owner;
comment on function ledger.rename_participant is
  'Give a present participant a username, composed (NFC), that no other present participant has; ledger.renames records the change. Raises LG001, LG002, LG005, LG006.';
revoke execute on function ledger.rename_participant from public;
grant execute on function ledger.rename_participant to ledger_api;
-- <<< db/functions/api/rename_participant.sql

-- >>> db/functions/api/reverse_transfer.sql
-- Transfer the amount of a transfer back, once.
create or replace function ledger.reverse_transfer(
  group_id        bigint,
  entry_id        bigint,
  idempotency_key text  default null,
  metadata        jsonb default null
) returns ledger.entry_result
language plpgsql volatile security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  request  text[];
  original entries;
  moved    transfer_result;
  reversal entry_result;
begin
  perform refuse_invalid(
    array['group_id', 'entry_id', 'idempotency_key', 'metadata'],
    array[invalid_id(group_id), invalid_id(entry_id), invalid_idempotency_key(idempotency_key), invalid_metadata(metadata)]
  );

  request := array['reverse_transfer', entry_id::text, metadata::text];
  reversal := claim_idempotency_key(group_id, idempotency_key, request, reversal);
  if reversal.replayed then
    return reversal;
  end if;

  select e.*
  into original
  from entries as e
  where e.group_id = reverse_transfer.group_id
    and e.id = reverse_transfer.entry_id;
  if not found then
    perform refuse_unknown_entry(group_id, 'entry_id', entry_id);
  end if;
  if original.kind <> 'transfer' then
    perform refuse_invalid(array['entry_id'], array[format('must be a transfer, not %s', original.kind)]);
  end if;

  -- Of two simultaneous reversals the second waits here, then finds the entry reversed.
  perform lock_pair(group_id, original.to_id, original.from_id, wait => true);

  -- A participant who exited is reported first, as in every function.
  perform get_participant(group_id, original.to_id);
  perform get_participant(group_id, original.from_id);
  if exists (
    select from entries as e
    where e.group_id = reverse_transfer.group_id
      and e.reverses = reverse_transfer.entry_id
  ) then
    raise exception using
      errcode = 'LG007',
      column  = 'entry_id',
      message = format('entry %s of group %s was reversed before', entry_id, group_id),
      detail  = 'entry_id: has already been reversed',
      hint    = 'Look at its reversed_by with ledger.get_entry().';
  end if;

  moved := execute_transfer(group_id, original.to_id, original.from_id, original.amount, metadata, entry_id);
  select
    r.*,
    false
  into reversal
  from ledger.record as r
  where r.group_id = reverse_transfer.group_id
    and r.id = moved.entry_id;
  perform store_answer(group_id, idempotency_key, request, reversal);
  return reversal;
end
$$;

alter function ledger.reverse_transfer owner to ledger_owner;
comment on function ledger.reverse_transfer is
  'Move the amount of a transfer back, at most once; returns the new entry, which names the one that it reverses. Raises LG001, LG002, LG003, LG006, LG007.';
revoke execute on function ledger.reverse_transfer from public;
grant execute on function ledger.reverse_transfer to ledger_api;
-- <<< db/functions/api/reverse_transfer.sql

-- >>> db/functions/api/settle_exit.sql
-- Record the transaction on the main network that paid an exit, once.
create or replace function ledger.settle_exit(
  group_id        bigint,
  entry_id        bigint,
  reference       text,
  idempotency_key text default null
) returns ledger.entry_result
language plpgsql volatile security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  request    text[] := array['settle_exit', entry_id::text, reference];
  settlement settlements;
  settled    entry_result;
begin
  perform refuse_invalid(
    array['group_id', 'entry_id', 'reference', 'idempotency_key'],
    array[invalid_id(group_id), invalid_id(entry_id), invalid_reference(reference), invalid_idempotency_key(idempotency_key)]
  );

  settled := claim_idempotency_key(group_id, idempotency_key, request, settled);
  if settled.replayed then
    return settled;
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
  perform store_answer(group_id, idempotency_key, request, settled);
  return settled;
end
$$;

alter function ledger.settle_exit owner to ledger_owner;
comment on function ledger.settle_exit is
  'Record the transaction on the main network that paid an exit, once; the same reference again changes nothing, and replayed is true. Raises LG001, LG002, LG006, LG008.';
revoke execute on function ledger.settle_exit from public;
grant execute on function ledger.settle_exit to ledger_api;
-- <<< db/functions/api/settle_exit.sql

-- >>> db/functions/api/transfer.sql
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
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  request text[];
  result  transfer_result;
begin
  if not transfer_is_valid(group_id, from_id, to_id, amount, idempotency_key, metadata) then
    perform refuse_invalid(
      array['group_id', 'from_id', 'to_id', 'amount', 'idempotency_key', 'metadata'],
      array[
        invalid_id(group_id),
        invalid_id(from_id),
        case when to_id = from_id then 'must be another participant' else invalid_id(to_id) end,
        invalid_amount(amount, 1),
        invalid_idempotency_key(idempotency_key),
        invalid_metadata(metadata)
      ]
    );
  end if;

  if idempotency_key is null then
    return execute_transfer(group_id, from_id, to_id, amount, metadata, null);
  end if;

  request := transfer_request(from_id, to_id, amount, metadata);
  result := claim_idempotency_key(group_id, idempotency_key, request, result);
  if result.replayed then
    return result;
  end if;
  result := execute_transfer(group_id, from_id, to_id, amount, metadata, null);
  perform store_answer(group_id, idempotency_key, request, result);
  return result;
end
$$;

alter function ledger.transfer owner to ledger_owner;
comment on function ledger.transfer is
  'Move amount from one participant to another of the same group. entry_id is the entry written. Raises LG001, LG002, LG003, LG006.';
revoke execute on function ledger.transfer from public;
grant execute on function ledger.transfer to ledger_api;
-- <<< db/functions/api/transfer.sql

-- >>> db/functions/api/transfer_all.sql
-- Make many transfers of one group in one step: all of them in their order, or none.
create or replace function ledger.transfer_all(
  group_id        bigint,
  transfers       jsonb,
  idempotency_key text default null
) returns ledger.transfer_all_result
language plpgsql volatile security definer
set search_path = ledger, ledger_internal, pg_temp
-- One plan serves every list: planning takes longer than executing a short list.
set plan_cache_mode = force_generic_plan
as $$
declare
  lines     transfer_lines;
  legs      transfer_legs;
  decisions transfer_decisions;
  request   text[];
  result    transfer_all_result;
begin
  perform refuse_invalid(
    array['group_id', 'transfers', 'idempotency_key'],
    array[
      invalid_id(group_id),
      case
        when transfers is null
        then 'must be given'
        when jsonb_typeof(transfers) <> 'array'
        then 'must be a list'
        when jsonb_array_length(transfers) not between 1 and 10000
        then 'must have 1 to 10000 lines'
      end,
      invalid_idempotency_key(idempotency_key)
    ]
  );
  lines := parse_transfer_lines(group_id, transfers);

  if idempotency_key is not null then
    request := array[
      'transfer_all', lines.from_ids::text, lines.to_ids::text, lines.amounts::text, lines.metadatas::text
    ];
    result := claim_idempotency_key(group_id, idempotency_key, request, result);
    if result.replayed then
      return result;
    end if;
  end if;

  legs := lock_legs(lines, wait => true);
  if array_position(legs.numbers, null) is not null then
    perform refuse_unknown_legs(lines, legs);
  end if;
  decisions := decide_transfers(lines, legs, all_or_nothing => true);
  if decisions.violation is not null then
    perform refuse_transfer(
      decisions.violation,
      format('transfers[%s].amount', decisions.refused - 1),
      lines.from_ids[decisions.refused],
      decisions.balances[legs.numbers[decisions.refused]],
      lines.amounts[decisions.refused]
    );
  end if;
  perform post_transfers(lines, legs, decisions);

  result.entries := decisions.entries;
  select array_agg((l.username, l.id, l.group_id, l.balance)::current_participants)
  into result.participants
  from unnest(legs.usernames, legs.ids, legs.group_ids, decisions.balances) as l (username, id, group_id, balance);
  result.replayed := false;
  perform store_answer(group_id, idempotency_key, request, result);
  return result;
end
$$;

alter function ledger.transfer_all owner to ledger_owner;
comment on function ledger.transfer_all is
  'Make 1 to 10,000 transfers of a group, a JSON list of {"from", "to", "amount", "metadata"}, all or none, in order: a line may spend what an earlier line transferred. entries are the entries written, by line; participants are the participants of all lines, with their balances at the end. A field of a line is named as transfers[0].amount. Raises LG001, LG002, LG003, LG006.';
revoke execute on function ledger.transfer_all from public;
grant execute on function ledger.transfer_all to ledger_api;
-- <<< db/functions/api/transfer_all.sql

-- >>> db/functions/api/transfer_batch.sql
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
  lines     transfer_lines;
  last      integer;
  legs      transfer_legs;
  decisions transfer_decisions;
  usernames text[];
begin
  lines.group_ids := group_ids;
  lines.from_ids := from_ids;
  lines.to_ids := to_ids;
  lines.amounts := amounts;
  lines.idempotency_keys := idempotency_keys;
  lines.metadatas := metadatas;
  lines := align_transfer_lines(lines);
  last := coalesce(cardinality(lines.amounts), 0);
  if last = 0 then
    return;
  elsif last = 1 then
    return next transfer_batch_of_one(
      lines.group_ids[1], lines.from_ids[1], lines.to_ids[1], lines.amounts[1], lines.idempotency_keys[1],
      lines.metadatas[1]
    );
    return;
  end if;

  select array_agg(transfer_is_valid(l.group_id, l.from_id, l.to_id, l.amount, l.key, l.metadata) order by l.line)
  into lines.possible
  from unnest(
    lines.group_ids, lines.from_ids, lines.to_ids, lines.amounts, lines.idempotency_keys, lines.metadatas
  ) with ordinality as l (group_id, from_id, to_id, amount, key, metadata, line);
  if lines.idempotency_keys is not null then
    lines.possible := claim_idempotency_keys(lines.group_ids, lines.idempotency_keys, lines.possible);
  end if;

  -- A refused line is deferred to transfer(), which raises the error.
  legs := lock_legs(lines, wait => false);
  decisions := decide_transfers(lines, legs, all_or_nothing => false);
  perform post_transfers(lines, legs, decisions);
  if lines.idempotency_keys is not null then
    perform store_transfer_answers(lines, legs, decisions);
  end if;

  usernames := legs.usernames;
  return query
  select
    l.line::integer,
    case
      when l.entry_id is not null
      then 'done'
      when l.possible and (l.sender is null or l.recipient is null)
      then unmade_outcome(l.group_id, l.from_id, l.to_id)
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
    lines.group_ids, lines.from_ids, lines.to_ids, lines.possible, legs.numbers[: last], legs.numbers[last + 1 :],
    decisions.entries
  ) with ordinality as l (
    group_id, from_id, to_id, possible, sender, recipient,
    entry_id, entry_from_id, entry_to_id, amount, from_amount, to_amount, line
  );
end
$$;

alter function ledger.transfer_batch owner to ledger_owner;
comment on function ledger.transfer_batch is
  'Make those of several transfers, also of several groups, that can be made at once: one row a line, in order. The outcome is done, with what transfer returns; locked, where another session holds a leg; or deferred, for all that transfer has to decide. A line that is not done changed nothing, and touches no other; one of shorter lists has nulls there. Raises 40001 where a balance or an idempotency key could not be written, and did nothing. For services that collect requests: call transfer for what is not done.';
revoke execute on function ledger.transfer_batch from public;
grant execute on function ledger.transfer_batch to ledger_api;
-- <<< db/functions/api/transfer_batch.sql

-- >>> db/functions/internal/constraints/entry_is_valid.sql
-- Check a row of the record, whatever function wrote it.
create or replace function ledger_internal.entry_is_valid(
  id          bigint,
  kind        text,
  from_id     bigint,
  to_id       bigint,
  amount      numeric,
  from_amount numeric,
  to_amount   numeric,
  metadata    jsonb,
  reverses    bigint
) returns boolean
language plpgsql immutable parallel safe
as $$
begin
  return (
    case
      when kind = 'transfer'
      then from_id <> to_id
        and from_amount >= 0 and from_amount < 2::numeric ^ 256
        and to_amount >= 0 and to_amount < 2::numeric ^ 256
      when kind = 'join'
      then from_id is null and from_amount is null
        and to_id is not null and to_amount >= 0 and to_amount < 2::numeric ^ 256
      when kind = 'exit'
      then to_id is null and to_amount is null
        and from_id is not null and from_amount >= 0 and from_amount < 2::numeric ^ 256
    end
    and amount >= 0 and amount < 2::numeric ^ 256
    and (metadata is null or jsonb_typeof(metadata) = 'object')
    and (reverses is null or kind = 'transfer' and reverses < id)
  ) is true;
end
$$;

alter function ledger_internal.entry_is_valid owner to ledger_owner;
comment on function ledger_internal.entry_is_valid is
  'Whether an entry has the legs that fit its kind, a balance for each of them, amounts from 0 to 2^256 - 1, metadata that are an object, and reverses an earlier entry if any. A function, because PostgreSQL reads the text of a check constraint for each statement: as expressions these took half of the time of a transfer.';
revoke execute on function ledger_internal.entry_is_valid from public;
-- <<< db/functions/internal/constraints/entry_is_valid.sql

-- >>> db/functions/internal/constraints/forbid_mutation.sql
-- Refuse to change or delete a row of a permanent table.
create or replace function ledger_internal.forbid_mutation()
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

alter function ledger_internal.forbid_mutation owner to ledger_owner;
comment on function ledger_internal.forbid_mutation is
  'Trigger that refuses UPDATE, DELETE and TRUNCATE on permanent tables, to their owner as well. Raises 23001.';
revoke execute on function ledger_internal.forbid_mutation from public;
-- <<< db/functions/internal/constraints/forbid_mutation.sql

-- >>> db/functions/internal/constraints/participant_is_valid.sql
-- Check a participant's row, whatever function wrote it.
create or replace function ledger_internal.participant_is_valid(
  username  text,
  amount    numeric,
  exited_at timestamptz
) returns boolean
language plpgsql immutable parallel safe
as $$
begin
  return username <> '' and amount >= 0 and amount < 2::numeric ^ 256 and (exited_at is null or amount = 0);
end
$$;

alter function ledger_internal.participant_is_valid owner to ledger_owner;
comment on function ledger_internal.participant_is_valid is
  'Whether a participant has a username, an amount from 0 to 2^256 - 1, and nothing after an exit. A function for the reason that entry_is_valid gives.';
revoke execute on function ledger_internal.participant_is_valid from public;
-- <<< db/functions/internal/constraints/participant_is_valid.sql

-- >>> db/functions/internal/errors/refuse_invalid.sql
-- Raise LG001 with every invalid argument of a function; return when all are valid.
create or replace function ledger_internal.refuse_invalid(
  fields text[],
  reasons text[]
) returns void
language plpgsql immutable
as $$
declare
  first_field text;
  first_reason text;
  all_reasons text;
begin
  select
    (array_agg(f.field order by f.position))[1],
    (array_agg(f.reason order by f.position))[1],
    string_agg(f.field || ': ' || f.reason, E'\n' order by f.position)
  into first_field, first_reason, all_reasons
  from unnest(refuse_invalid.fields, refuse_invalid.reasons) with ordinality as f (field, reason, position)
  where f.reason is not null;

  if first_field is not null then
    raise exception using
      errcode = 'LG001',
      column  = first_field,
      message = format('%s %s', first_field, first_reason),
      detail  = all_reasons,
      hint    = 'Correct each value that DETAIL names.';
  end if;
end
$$;

alter function ledger_internal.refuse_invalid owner to ledger_owner;
comment on function ledger_internal.refuse_invalid is
  'Raise LG001 when any of the reasons, one for each of the fields, is not null. DETAIL has a line "field: reason" for each.';
revoke execute on function ledger_internal.refuse_invalid from public;
-- <<< db/functions/internal/errors/refuse_invalid.sql

-- >>> db/functions/internal/errors/refuse_taken_name.sql
-- Raise LG005 for a name or username that is in use.
create or replace function ledger_internal.refuse_taken_name(
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

alter function ledger_internal.refuse_taken_name owner to ledger_owner;
comment on function ledger_internal.refuse_taken_name is
  'Raise LG005 that blames the field for a name that is in use; owner is the group or participant that has it, if known.';
revoke execute on function ledger_internal.refuse_taken_name from public;
-- <<< db/functions/internal/errors/refuse_taken_name.sql

-- >>> db/functions/internal/errors/refuse_transfer.sql
-- Raise the error of a transfer that balance_violation refuses.
create or replace function ledger_internal.refuse_transfer(
  violation text,
  field     text,
  from_id   bigint,
  held      numeric,
  amount    numeric
) returns void
language plpgsql immutable
as $$
begin
  if violation = 'overflow' then
    perform ledger_internal.refuse_invalid(array[field], array['would take the recipient to 2^256 or more']);
  end if;
  raise exception using
    errcode = 'LG003',
    column  = field,
    message = format('participant %s has %s, cannot send %s', from_id, held, amount),
    detail  = format('%s: exceeds the balance of %s', field, held),
    hint    = 'Send at most the balance.';
end
$$;

alter function ledger_internal.refuse_transfer owner to ledger_owner;
comment on function ledger_internal.refuse_transfer is
  'Raise the violation that balance_violation returned, blaming the field with its amount: LG001 where the recipient would get too much, LG003 where the sender holds too little.';
revoke execute on function ledger_internal.refuse_transfer from public;
-- <<< db/functions/internal/errors/refuse_transfer.sql

-- >>> db/functions/internal/errors/refuse_unknown_entry.sql
-- Raise LG002 for an entry that a group does not have, or for the group itself.
create or replace function ledger_internal.refuse_unknown_entry(
  group_id bigint,
  field    text,
  entry_id bigint
) returns void
language plpgsql stable
as $$
begin
  perform ledger_internal.refuse_invalid(
    array['group_id', field],
    array[ledger_internal.invalid_id(group_id), ledger_internal.invalid_id(entry_id)]
  );
  if not exists (select from ledger.groups as g where g.id = refuse_unknown_entry.group_id) then
    perform ledger_internal.refuse_unknown_group(group_id);
  end if;
  raise exception using
    errcode = 'LG002',
    column  = field,
    message = format('no entry %s in group %s', entry_id, group_id),
    detail  = format('%s: no such entry in the group', field),
    hint    = 'List the group''s entries with ledger.list_entries().';
end
$$;

alter function ledger_internal.refuse_unknown_entry owner to ledger_owner;
comment on function ledger_internal.refuse_unknown_entry is
  'Raise LG002 that blames the field for naming an entry that is not in the group, or the group when there never was one; LG001 for a null.';
revoke execute on function ledger_internal.refuse_unknown_entry from public;
-- <<< db/functions/internal/errors/refuse_unknown_entry.sql

-- >>> db/functions/internal/errors/refuse_unknown_group.sql
-- Raise LG002 for a group that does not exist or was removed.
create or replace function ledger_internal.refuse_unknown_group(
  group_id bigint
) returns void
language plpgsql immutable
as $$
begin
  perform ledger_internal.refuse_invalid(array['group_id'], array[ledger_internal.invalid_id(group_id)]);
  raise exception using
    errcode = 'LG002',
    column  = 'group_id',
    message = format('no group %s', group_id),
    detail  = 'group_id: no such group',
    hint    = 'List the groups that exist with ledger.list_groups().';
end
$$;

alter function ledger_internal.refuse_unknown_group owner to ledger_owner;
comment on function ledger_internal.refuse_unknown_group is
  'Raise LG002 for a group that does not exist or was removed, LG001 for a null.';
revoke execute on function ledger_internal.refuse_unknown_group from public;
-- <<< db/functions/internal/errors/refuse_unknown_group.sql

-- >>> db/functions/internal/errors/refuse_unknown_legs.sql
-- Raise LG002 for the legs of a multi-party transfer that are not present.
create or replace function ledger_internal.refuse_unknown_legs(
  lines ledger_internal.transfer_lines,
  legs  ledger_internal.transfer_legs
) returns void
language plpgsql stable
as $$
declare
  fields  text[];
  missing bigint[];
begin
  select
    array_agg(m.field),
    array_agg(m.id)
  into
    fields,
    missing
  from (
    select
      format('transfers[%s].%s', l.line - 1, s.member) as field,
      s.id
    from unnest(lines.from_ids, lines.to_ids) with ordinality as l (from_id, to_id, line)
    cross join lateral (values ('from', l.from_id), ('to', l.to_id)) as s (member, id)
    where s.id <> all (coalesce(legs.ids, '{}'))
    order by l.line
    limit 100
  ) as m;
  perform ledger_internal.refuse_unknown_participants(lines.group_ids[1], fields, missing);
end
$$;

alter function ledger_internal.refuse_unknown_legs owner to ledger_owner;
comment on function ledger_internal.refuse_unknown_legs is
  'Raise LG002 for the first 100 legs of a multi-party transfer that were not locked, as transfers[0].from, or for its group.';
revoke execute on function ledger_internal.refuse_unknown_legs from public;
-- <<< db/functions/internal/errors/refuse_unknown_legs.sql

-- >>> db/functions/internal/errors/refuse_unknown_participants.sql
-- Raise LG002 for participants that are not present in a group, or for the group itself.
create or replace function ledger_internal.refuse_unknown_participants(
  group_id        bigint,
  fields          text[],
  participant_ids bigint[],
  in_history      boolean default false
) returns void
language plpgsql stable
as $$
begin
  perform ledger_internal.refuse_invalid(
    array['group_id'] || fields,
    array(select ledger_internal.invalid_id(i.id) from unnest(group_id || participant_ids) as i (id))
  );

  if not exists (
    select from ledger.groups as g
    where g.id = refuse_unknown_participants.group_id
      and (g.closed_at is null or in_history)
  ) then
    perform ledger_internal.refuse_unknown_group(group_id);
  end if;

  raise exception using
    errcode = 'LG002',
    column  = fields[1],
    message = format('no participant %s in group %s', array_to_string(participant_ids, ' and no participant '), group_id),
    detail  = array_to_string(fields, E': no such participant in the group\n') || ': no such participant in the group',
    hint    = 'List those who are present with ledger.list_participants().';
end
$$;

alter function ledger_internal.refuse_unknown_participants owner to ledger_owner;
comment on function ledger_internal.refuse_unknown_participants is
  'Raise LG002 that blames the fields for naming participants that are not present in the group, or the group when it does not exist, or in history never did; LG001 for a null.';
revoke execute on function ledger_internal.refuse_unknown_participants from public;
-- <<< db/functions/internal/errors/refuse_unknown_participants.sql

-- >>> db/functions/internal/feed/parse_feed_cursor.sql
-- Parse a cursor of the feed.
create or replace function ledger_internal.parse_feed_cursor(
  after text
) returns ledger_internal.feed_position
language plpgsql stable
as $$
declare
  feed  ledger.feeds;
  part  text[];
  place ledger_internal.feed_position;
begin
  select f.*
  into feed
  from ledger.feeds as f
  order by f.generation desc
  limit 1;
  if feed.system_identifier <> (select c.system_identifier from pg_control_system() as c) then
    raise exception using
      errcode = 'LG009',
      column  = 'after',
      message = 'the ledger was restored into another server, so the feed has ended',
      detail  = 'after: belongs to the feed of another server',
      hint    = 'As the owner call ledger.restart_feed(); then read the new feed from its beginning, without a cursor.';
  end if;

  place.generation := feed.generation;
  place.last_restored := feed.last_restored;
  place.xid := feed.first_xid;
  place.id := 0;
  if after is null then
    if feed.last_restored > 0 then
      place.restored_xid := '0';
      place.restored_id := 0;
    end if;
    return place;
  end if;

  -- The type xid8 reads digits after a zero in base 8.
  part := regexp_match(after collate "C", '^([0-9]+)-(0|[1-9][0-9]*)-([0-9]+)$');
  if part is null or length(part[1]) > 9 or length(part[2]) > 19 or ledger_internal.parse_id(part[3]) is null then
    perform ledger_internal.refuse_invalid(array['after'], array['must be a cursor of the feed']);
  end if;
  if part[1]::integer <> feed.generation
    or (
      part[3]::bigint > feed.last_restored
      and (part[2]::xid8 < feed.first_xid or part[2]::xid8 >= pg_snapshot_xmax(pg_current_snapshot()))
    )
  then
    raise exception using
      errcode = 'LG009',
      column  = 'after',
      message = 'the cursor belongs to a feed that has ended',
      detail  = 'after: belongs to a feed that has ended',
      hint    = 'The ledger was reset, or restored from a backup. Read the feed from its beginning, without a cursor.';
  end if;
  if part[3]::bigint <= feed.last_restored then
    place.restored_xid := part[2]::xid8;
    place.restored_id := part[3]::bigint;
  else
    place.xid := part[2]::xid8;
    place.id := part[3]::bigint;
  end if;
  return place;
end
$$;

alter function ledger_internal.parse_feed_cursor owner to ledger_owner;
comment on function ledger_internal.parse_feed_cursor is
  'The position of a cursor in the feed; its beginning for null. Raises LG001 for an invalid cursor, LG009 for one of a feed that a reset or a restored backup ended.';
revoke execute on function ledger_internal.parse_feed_cursor from public;
-- <<< db/functions/internal/feed/parse_feed_cursor.sql

-- >>> db/functions/internal/history/entries_with_metadata.sql
-- Find the entries of a group whose metadata contain a JSON object.
create or replace function ledger_internal.entries_with_metadata(
  group_id bigint,
  metadata jsonb
) returns setof ledger.entries
language sql stable
-- Without statistics, or with many matching entries, the planner would read the entries of all groups.
set enable_seqscan = off
as $$
  -- As the index entries_by_group_and_metadata has it: every key of it names the group, so that no entry of another group
  -- is looked at, and the member "group" is there to be found where the metadata asked for have no values.
  select e.*
  from ledger.entries as e
  where e.metadata is not null
    and jsonb_set(('{"group": ' || e.group_id::text || '}')::jsonb, array[e.group_id::text], e.metadata)
      @> jsonb_set(
        ('{"group": ' || entries_with_metadata.group_id::text || '}')::jsonb,
        array[entries_with_metadata.group_id::text],
        entries_with_metadata.metadata
      )
$$;

alter function ledger_internal.entries_with_metadata owner to ledger_owner;
comment on function ledger_internal.entries_with_metadata is
  'The entries of a group whose metadata contain metadata, unordered, without reading any other group''s.';
revoke execute on function ledger_internal.entries_with_metadata from public;
-- <<< db/functions/internal/history/entries_with_metadata.sql

-- >>> db/functions/internal/history/history_position.sql
-- Find the position in a group's history that a time or an entry stands for.
create or replace function ledger_internal.history_position(
  group_id bigint,
  at_time  timestamptz,
  at_entry bigint
) returns ledger_internal.history_position
language plpgsql stable
as $$
declare
  moment ledger_internal.history_position;
begin
  perform ledger_internal.refuse_invalid(
    array['group_id', 'at_time', 'at_entry'],
    array[
      ledger_internal.invalid_id(group_id),
      -- A client's clock may be ahead of the server's.
      case when at_time > clock_timestamp() + interval '5 seconds' then 'must not be in the future' end,
      case when at_time is not null and at_entry is not null then 'must not be given with a time' end
    ]
  );
  if at_time is not null then
    moment := (at_time, 9223372036854775807);
    return moment;
  end if;

  select
    e.created_at,
    e.id
  into moment
  from ledger.entries as e
  where e.group_id = history_position.group_id
    and e.id = history_position.at_entry;
  if not found then
    perform ledger_internal.refuse_unknown_entry(group_id, 'at_entry', at_entry);
  end if;
  return moment;
end
$$;

alter function ledger_internal.history_position owner to ledger_owner;
comment on function ledger_internal.history_position is
  'The last place of a group''s history that counts at a time, or after an entry. Raises LG001 for a time that is more than 5 seconds in the future, LG002 for an entry that the group does not have.';
revoke execute on function ledger_internal.history_position from public;
-- <<< db/functions/internal/history/history_position.sql

-- >>> db/functions/internal/history/history_query.sql
-- Build the query of a page of history.
create or replace function ledger_internal.history_query(
  source       text,
  newest_first boolean
) returns text
language sql stable
as $$
  -- With the limit and the offset the planner does not join whole tables for one page.
  select replace(
    format(
      $page$
        select r.*
        from (
          select e.created_at, e.id
          from %s
            and (e.created_at, e.id) > ($3, $4) and (e.created_at, e.id) < ($5, $6)
          order by e.created_at {direction}, e.id {direction}
          limit $7
        ) as page
        cross join lateral (
          select r.* from ledger.record as r where r.group_id = $1 and r.id = page.id offset 0
        ) as r
        order by page.created_at {direction}, page.id {direction}
      $page$,
      source
    ),
    '{direction}',
    case when newest_first then 'desc' else 'asc' end
  )
$$;

alter function ledger_internal.history_query owner to ledger_owner;
comment on function ledger_internal.history_query is
  'The query of a page of history: source, which ends in a where clause, names the entries e and their order {direction}. $1 is the group, $3 to $6 its bounds, $7 the limit.';
revoke execute on function ledger_internal.history_query from public;
-- <<< db/functions/internal/history/history_query.sql

-- >>> db/functions/internal/history/history_range.sql
-- Find the positions in a group's history that limit a page.
create or replace function ledger_internal.history_range(
  group_id bigint,
  since    timestamptz,
  until    timestamptz,
  after    bigint,
  before   bigint
) returns ledger_internal.history_range
language plpgsql stable
as $$
declare
  earlier ledger.entries;
  later   ledger.entries;
  bounds  ledger_internal.history_range;
begin
  if not exists (select from ledger.groups as g where g.id = history_range.group_id) then
    perform ledger_internal.refuse_unknown_group(group_id);
  end if;

  select e.*
  into earlier
  from ledger.entries as e
  where e.group_id = history_range.group_id
    and e.id = history_range.after;
  select e.*
  into later
  from ledger.entries as e
  where e.group_id = history_range.group_id
    and e.id = history_range.before;
  perform ledger_internal.refuse_invalid(
    array['after', 'before'],
    array[
      case when earlier.id is null and after <> 0 then 'must be an entry of the group' end,
      case when later.id is null and before <> 0 then 'must be an entry of the group' end
    ]
  );

  -- History goes by time and then by id, and no id is 0 or less.
  bounds := (coalesce(since, '-infinity'), 0, coalesce(until, 'infinity'), 0);
  if (earlier.created_at, earlier.id) > (bounds.low_at, bounds.low_id) then
    bounds.low_at := earlier.created_at;
    bounds.low_id := earlier.id;
  end if;
  if (later.created_at, later.id) < (bounds.high_at, bounds.high_id) then
    bounds.high_at := later.created_at;
    bounds.high_id := later.id;
  end if;
  return bounds;
end
$$;

alter function ledger_internal.history_range owner to ledger_owner;
comment on function ledger_internal.history_range is
  'The two positions in a group''s history, both exclusive, that since (inclusive), until (exclusive), after and before leave between them; 0 stands for no entry. Raises LG001 for an after or before that is no entry of the group, LG002 for a group that never existed.';
revoke execute on function ledger_internal.history_range from public;
-- <<< db/functions/internal/history/history_range.sql

-- >>> db/functions/internal/history/latest_leg_at.sql
-- Find the latest entry of a participant at a moment.
create or replace function ledger_internal.latest_leg_at(
  group_id       bigint,
  participant_id bigint,
  moment         ledger_internal.history_position
) returns setof ledger_internal.leg
language sql stable
as $$
  select
    l.id,
    l.kind,
    l.created_at,
    l.balance
  from (
    (
      select
        e.id,
        e.kind,
        e.created_at,
        e.from_amount as balance
      from ledger.entries as e
      where e.group_id = latest_leg_at.group_id
        and e.from_id = latest_leg_at.participant_id
        and (e.created_at, e.id) <= ((moment).created_at, (moment).id)
      order by e.created_at desc, e.id desc
      limit 1
    )
    union all
    (
      select
        e.id,
        e.kind,
        e.created_at,
        e.to_amount
      from ledger.entries as e
      where e.group_id = latest_leg_at.group_id
        and e.to_id = latest_leg_at.participant_id
        and (e.created_at, e.id) <= ((moment).created_at, (moment).id)
      order by e.created_at desc, e.id desc
      limit 1
    )
  ) as l
  order by l.created_at desc, l.id desc
  limit 1
$$;

alter function ledger_internal.latest_leg_at owner to ledger_owner;
comment on function ledger_internal.latest_leg_at is
  'The latest entry of a participant up to a moment, with the participant''s balance after it; no row if there is none. Two index look-ups.';
revoke execute on function ledger_internal.latest_leg_at from public;
-- <<< db/functions/internal/history/latest_leg_at.sql

-- >>> db/functions/internal/history/participant_at.sql
-- Show a participant as of a past moment.
create or replace function ledger_internal.participant_at(
  group_id       bigint,
  participant_id bigint,
  moment         ledger_internal.history_position
) returns ledger.current_participants
language sql stable
as $$
  select
    p.username,
    p.id,
    p.group_id,
    l.balance
  from ledger.participants as p
  cross join lateral ledger_internal.latest_leg_at(p.group_id, p.id, moment) as l
  where p.group_id = participant_at.group_id
    and p.id = participant_at.participant_id
    and l.kind <> 'exit'
$$;

alter function ledger_internal.participant_at owner to ledger_owner;
comment on function ledger_internal.participant_at is
  'A participant who was present at a moment, with the balance of then and the username of now; null for any other participant.';
revoke execute on function ledger_internal.participant_at from public;
-- <<< db/functions/internal/history/participant_at.sql

-- >>> db/functions/internal/idempotency/claim_idempotency_key.sql
-- Claim an idempotency key, and find the answer to an earlier request with it.
create or replace function ledger_internal.claim_idempotency_key(
  group_id bigint,
  key      text,
  request  text[],
  result   anyelement
) returns anyelement
language plpgsql volatile
as $$
declare
  first ledger.idempotency_keys;
begin
  if key is null then
    return result;
  end if;

  -- Until this transaction ends, no other session acts under the key: a repeated request waits for the first outcome.
  -- The lock comes before every row lock. The look-up is a statement of its own, to see what committed during the wait.
  perform pg_advisory_xact_lock(hashtextextended(claim_idempotency_key.key collate "C", claim_idempotency_key.group_id));

  select k.*
  into first
  from ledger.idempotency_keys as k
  where k.group_id = claim_idempotency_key.group_id
    and k.key = claim_idempotency_key.key collate "C";
  if not found then
    return result;
  end if;

  if first.fingerprint <> ledger_internal.fingerprint(request) then
    raise exception using
      errcode = 'LG006',
      column  = 'idempotency_key',
      message = 'idempotency key belongs to another request',
      detail  = 'idempotency_key: was used for another request',
      hint    = 'Repeat a request with exactly its values, and give each new request a key of its own.';
  end if;
  return jsonb_populate_record(result, first.answer::jsonb || '{"replayed": true}');
end
$$;

alter function ledger_internal.claim_idempotency_key owner to ledger_owner;
comment on function ledger_internal.claim_idempotency_key is
  'The answer that was given to this request, an operation and its values, under this idempotency key of the group, with replayed true; the empty result where there was none. Claims the key, if one is given, until the transaction ends. Raises LG006 when the key was used for another request.';
revoke execute on function ledger_internal.claim_idempotency_key from public;
-- <<< db/functions/internal/idempotency/claim_idempotency_key.sql

-- >>> db/functions/internal/idempotency/claim_idempotency_keys.sql
-- Claim those idempotency keys of several transfers that are unused, without waiting.
create or replace function ledger_internal.claim_idempotency_keys(
  group_ids bigint[],
  keys      text[],
  possible  boolean[]
) returns boolean[]
language plpgsql volatile
as $$
declare
  free boolean[];
begin
  -- No lock is waited for: a request under way elsewhere, or twice in this call, is deferred to transfer(), which waits.
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

alter function ledger_internal.claim_idempotency_keys owner to ledger_owner;
comment on function ledger_internal.claim_idempotency_keys is
  'Which of these transfers can go on: those that were possible and have no idempotency key, or an unused one that no other session holds. Claims these keys until the transaction ends. Does not wait.';
revoke execute on function ledger_internal.claim_idempotency_keys from public;
-- <<< db/functions/internal/idempotency/claim_idempotency_keys.sql

-- >>> db/functions/internal/idempotency/fingerprint.sql
-- Hash a request, to compare it with others.
create or replace function ledger_internal.fingerprint(
  request text[]
) returns bytea
language sql stable parallel safe
as $$
  -- Nulls are left out, so that a fingerprint stays the same when a function gets a new optional parameter.
  select sha256(convert_to(array_remove(fingerprint.request, null)::text, 'UTF8'))
$$;

alter function ledger_internal.fingerprint owner to ledger_owner;
comment on function ledger_internal.fingerprint is
  'SHA-256 of a request, an operation and its values, those that are null left out; equal for equal requests only.';
revoke execute on function ledger_internal.fingerprint from public;
-- <<< db/functions/internal/idempotency/fingerprint.sql

-- >>> db/functions/internal/idempotency/store_answer.sql
-- Store the answer to a request under its idempotency key, permanently.
create or replace function ledger_internal.store_answer(
  group_id bigint,
  key      text,
  request  text[],
  result   record
) returns void
language plpgsql volatile
as $$
begin
  if key is null then
    return;
  end if;

  -- claim_idempotency_key() has locked the key; a snapshot from before another's commit ends in 40001 here. No money moves
  -- without a stored answer.
  insert into ledger.idempotency_keys (group_id, key, operation, fingerprint, answer)
  values (store_answer.group_id, store_answer.key, request[1], ledger_internal.fingerprint(request), to_json(result))
  on conflict do nothing;
  if not found then
    raise exception using
      errcode = 'serialization_failure',
      message = format('idempotency key "%s" of group %s has been used', key, group_id);
  end if;
end
$$;

alter function ledger_internal.store_answer owner to ledger_owner;
comment on function ledger_internal.store_answer is
  'Store the result of a request, an operation and its values, under its idempotency key, if one is given. Call claim_idempotency_key first. Raises 40001 when the key has been used, also by a request that the snapshot does not show.';
revoke execute on function ledger_internal.store_answer from public;
-- <<< db/functions/internal/idempotency/store_answer.sql

-- >>> db/functions/internal/idempotency/store_transfer_answers.sql
-- Store the answers to the transfers of a list under their idempotency keys, permanently.
create or replace function ledger_internal.store_transfer_answers(
  lines     ledger_internal.transfer_lines,
  legs      ledger_internal.transfer_legs,
  decisions ledger_internal.transfer_decisions
) returns void
language plpgsql volatile
as $$
declare
  last      integer := cardinality(lines.amounts);
  usernames text[] := legs.usernames;
  keyed     integer;
  written   integer;
begin
  insert into ledger.idempotency_keys (group_id, key, operation, fingerprint, answer)
  select
    l.group_id,
    l.key,
    'transfer',
    ledger_internal.fingerprint(ledger_internal.transfer_request(l.from_id, l.to_id, l.amount, l.metadata)),
    to_json((
      (usernames[l.recipient], l.to_id, l.group_id, l.to_amount)::ledger.current_participants,
      (usernames[l.sender], l.from_id, l.group_id, l.from_amount)::ledger.current_participants,
      l.entry_id,
      false
    )::ledger.transfer_result)
  from unnest(
    lines.group_ids, lines.amounts, lines.idempotency_keys, lines.metadatas, legs.numbers[: last], legs.numbers[last + 1 :],
    decisions.entries
  ) as l (
    group_id, amount, key, metadata, sender, recipient, entry_id, from_id, to_id, entry_amount, from_amount, to_amount
  )
  where l.entry_id is not null
    and l.key is not null
  -- As in store_answer().
  on conflict do nothing;
  get diagnostics written = row_count;
  keyed := (
    select count(*) from unnest(lines.idempotency_keys, decisions.moments) as l (key, moment)
    where l.key is not null
      and l.moment is not null
  );
  if written <> keyed then
    raise exception using
      errcode = 'serialization_failure',
      message = format('of %s idempotency keys %s were new', keyed, written);
  end if;
end
$$;

alter function ledger_internal.store_transfer_answers owner to ledger_owner;
comment on function ledger_internal.store_transfer_answers is
  'Store the answers to the transfers that were made and have an idempotency key. Call claim_idempotency_keys first. Raises 40001 when a key has been used, also by a request that the snapshot does not show.';
revoke execute on function ledger_internal.store_transfer_answers from public;
-- <<< db/functions/internal/idempotency/store_transfer_answers.sql

-- >>> db/functions/internal/idempotency/transfer_request.sql
-- List the values that identify a transfer among requests with the same idempotency key.
create or replace function ledger_internal.transfer_request(
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

alter function ledger_internal.transfer_request owner to ledger_owner;
comment on function ledger_internal.transfer_request is
  'The operation and the values of a transfer, for its fingerprint.';
revoke execute on function ledger_internal.transfer_request from public;
-- <<< db/functions/internal/idempotency/transfer_request.sql

-- >>> db/functions/internal/totals/add_to_group_total.sql
-- Add a deposit to a group's total, or subtract an exit.
create or replace function ledger_internal.add_to_group_total(
  group_id   bigint,
  amount     numeric,
  not_before timestamptz
) returns ledger.group_total_shards
language plpgsql volatile
as $$
declare
  shard ledger.group_total_shards;
begin
  -- trunc() removes the decimal places of a deposit written as 100.0; otherwise every later total would show them.
  -- A session always takes the same shard of the eight, so a transaction of many joins and exits locks only one shard
  -- and cannot deadlock with another transaction. A shard's times ascend even if the clock goes back.
  update ledger.group_total_shards as c
  set
    total = c.total + trunc(add_to_group_total.amount),
    changed_at = greatest(clock_timestamp(), c.changed_at, add_to_group_total.not_before)
  where c.group_id = add_to_group_total.group_id
    and c.slot = pg_backend_pid() % 8
  returning c.* into shard;
  if not found then
    raise exception 'group % has lost a shard', group_id;
  end if;
  return shard;
end
$$;

alter function ledger_internal.add_to_group_total owner to ledger_owner;
comment on function ledger_internal.add_to_group_total is
  'Add an amount, negative for an exit, to one of the shards that make up the group''s total; its changed_at, not below not_before, is the time of the movement.';
revoke execute on function ledger_internal.add_to_group_total from public;
-- <<< db/functions/internal/totals/add_to_group_total.sql

-- >>> db/functions/internal/totals/group_total_at.sql
-- Compute a group's total at a past moment.
create or replace function ledger_internal.group_total_at(
  group_id bigint,
  moment   ledger_internal.history_position
) returns numeric
language sql stable
as $$
  -- One look-up in an index for each of the shards.
  select coalesce(sum(l.total), 0)
  from ledger.groups as g
  cross join generate_series(0, 7) as s (slot)
  left join lateral (
    select t.total
    from ledger.group_total_history as t
    where t.group_id = g.id
      and t.slot = s.slot
      and (t.created_at, t.entry_id) <= ((moment).created_at, (moment).id)
    order by t.created_at desc, t.entry_id desc
    limit 1
  ) as l on true
  where g.id = group_total_at.group_id
    and g.created_at <= (moment).created_at
    and (g.closed_at is null or g.closed_at >= (moment).created_at)
  having count(*) > 0
$$;

alter function ledger_internal.group_total_at owner to ledger_owner;
comment on function ledger_internal.group_total_at is
  'What the participants present in a group held together at a moment; null when it did not exist then.';
revoke execute on function ledger_internal.group_total_at from public;
-- <<< db/functions/internal/totals/group_total_at.sql

-- >>> db/functions/internal/totals/record_group_total.sql
-- Record the total of a shard after a join or an exit.
create or replace function ledger_internal.record_group_total(
  shard    ledger.group_total_shards,
  entry_id bigint
) returns void
language sql volatile
as $$
  insert into ledger.group_total_history (group_id, slot, created_at, entry_id, total)
  values (shard.group_id, shard.slot, shard.changed_at, record_group_total.entry_id, shard.total)
$$;

alter function ledger_internal.record_group_total owner to ledger_owner;
comment on function ledger_internal.record_group_total is
  'Record a shard''s total after an entry, so that a group''s total at a past moment is looked up instead of added up.';
revoke execute on function ledger_internal.record_group_total from public;
-- <<< db/functions/internal/totals/record_group_total.sql

-- >>> db/functions/internal/transfers/balance_violation.sql
-- Return which rule a transfer's resulting balances break: an overdraft or an overflow; null if none.
create or replace function ledger_internal.balance_violation(
  from_amount numeric,
  to_amount   numeric
) returns text
language sql immutable parallel safe
as $$
  select case
    when balance_violation.to_amount >= 2::numeric ^ 256
    then 'overflow'
    when balance_violation.from_amount < 0
    then 'insufficient funds'
  end
$$;

alter function ledger_internal.balance_violation owner to ledger_owner;
comment on function ledger_internal.balance_violation is
  'Why a transfer that leaves its sender and its recipient with these balances is refused: overflow or insufficient funds; null if it is allowed. The rule of every transfer.';
revoke execute on function ledger_internal.balance_violation from public;
-- <<< db/functions/internal/transfers/balance_violation.sql

-- >>> db/functions/internal/transfers/decide_transfers.sql
-- Decide which transfers of a list can be made, one line after the other.
create or replace function ledger_internal.decide_transfers(
  lines          ledger_internal.transfer_lines,
  legs           ledger_internal.transfer_legs,
  all_or_nothing boolean
) returns ledger_internal.transfer_decisions
language plpgsql volatile
as $$
declare
  -- Local arrays: a subscript finds its value at once, while in a row's array it would be counted to.
  possible     boolean[] := lines.possible;
  from_ids     bigint[] := lines.from_ids;
  to_ids       bigint[] := lines.to_ids;
  amounts      numeric[] := lines.amounts;
  numbers      integer[] := legs.numbers;
  balances     numeric[] := legs.balances;
  moved_at     timestamptz[] := legs.moved_at;
  -- Filled first: an array that is assigned from its middle would begin there.
  changed_at   timestamptz[] := array_fill(null::timestamptz, array[coalesce(cardinality(balances), 0)]);
  entries      ledger.transfer_entry[] := array_fill(null::ledger.transfer_entry, array[cardinality(amounts)]);
  moments      timestamptz[] := array_fill(null::timestamptz, array[cardinality(amounts)]);
  -- All lines of one request have one time.
  called_at    timestamptz := greatest(
    clock_timestamp(),
    case when all_or_nothing then (select max(m.moved_at) from unnest(legs.moved_at) as m (moved_at)) end
  );
  sender       integer;
  recipient    integer;
  from_amount  numeric;
  to_amount    numeric;
  moment       timestamptz;
  violation    text;
begin
  -- Each line changes the balances that the next one finds.
  for line in 1 .. cardinality(amounts) loop
    sender := numbers[line];
    recipient := numbers[cardinality(amounts) + line];
    continue when not possible[line] or sender is null or recipient is null;
    from_amount := balances[sender] - trunc(amounts[line]);
    to_amount := balances[recipient] + trunc(amounts[line]);
    violation := ledger_internal.balance_violation(from_amount, to_amount);
    if violation is not null and all_or_nothing then
      return (entries, moments, balances, changed_at, line, violation);
    end if;
    continue when violation is not null;

    moment := greatest(called_at, moved_at[sender], moved_at[recipient], changed_at[sender], changed_at[recipient]);
    balances[sender] := from_amount;
    balances[recipient] := to_amount;
    changed_at[sender] := moment;
    changed_at[recipient] := moment;
    entries[line] := (
      nextval('ledger.entries_id_seq'), from_ids[line], to_ids[line], amounts[line], from_amount, to_amount
    )::ledger.transfer_entry;
    moments[line] := moment;
  end loop;
  return (entries, moments, balances, changed_at, null::integer, null::text);
end
$$;

alter function ledger_internal.decide_transfers owner to ledger_owner;
comment on function ledger_internal.decide_transfers is
  'The balances and the new entry of each line that can be made, in their order, between the participants that lock_legs locked; nulls for a line that cannot. With all_or_nothing, only up to the first line that would break a rule, with this line and the rule.';
revoke execute on function ledger_internal.decide_transfers from public;
-- <<< db/functions/internal/transfers/decide_transfers.sql

-- >>> db/functions/internal/transfers/execute_transfer.sql
-- Make one transfer: lock, decide, write.
create or replace function ledger_internal.execute_transfer(
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
  pair      ledger.participants[] := ledger_internal.lock_pair(group_id, from_id, to_id, wait => true);
  sender    ledger.participants := pair[1];
  recipient ledger.participants := pair[2];
  violation text;
begin
  if sender.id is null or recipient.id is null then
    perform ledger_internal.refuse_unknown_participants(
      group_id,
      array_remove(array[case when sender.id is null then 'from_id' end, case when recipient.id is null then 'to_id' end], null),
      array_remove(array[case when sender.id is null then from_id end, case when recipient.id is null then to_id end], null)
    );
  end if;

  violation := ledger_internal.balance_violation(sender.amount - amount, recipient.amount + amount);
  if violation is not null then
    perform ledger_internal.refuse_transfer(violation, 'amount', sender.id, sender.amount, amount);
  end if;

  return ledger_internal.post_transfer(sender, recipient, amount, metadata, reverses);
end
$$;

alter function ledger_internal.execute_transfer owner to ledger_owner;
comment on function ledger_internal.execute_transfer is
  'Transfer a valid amount between two different participants of a group; reverses is the entry that it reverses, if any. Raises LG001, LG002, LG003.';
revoke execute on function ledger_internal.execute_transfer from public;
-- <<< db/functions/internal/transfers/execute_transfer.sql

-- >>> db/functions/internal/transfers/lock_legs.sql
-- Lock the participants of a list of transfers.
create or replace function ledger_internal.lock_legs(
  lines ledger_internal.transfer_lines,
  wait  boolean
) returns ledger_internal.transfer_legs
language plpgsql volatile
as $$
declare
  legs ledger_internal.transfer_legs;
begin
  -- In ascending id within each group, as lock_pair() does. SQL has no parameter for `skip locked`; a function that
  -- returned the rows would cost every list 2 %.
  if wait then
    select
      array_agg(p.group_id),
      array_agg(p.id),
      array_agg(p.place),
      array_agg(p.username),
      array_agg(p.amount),
      array_agg(p.moved_at)
    into
      legs.group_ids,
      legs.ids,
      legs.places,
      legs.usernames,
      legs.balances,
      legs.moved_at
    from (
      select l.group_id, array_agg(l.id) as ids
      from unnest(lines.group_ids || lines.group_ids, lines.from_ids || lines.to_ids) as l (group_id, id)
      group by l.group_id
      order by l.group_id
    ) as l
    cross join lateral (
      select p.*, p.ctid as place
      from ledger.participants as p
      where p.group_id = l.group_id
        and p.id = any (l.ids)
        and p.exited_at is null
      order by p.id
      for no key update
    ) as p;
  else
    select
      array_agg(p.group_id),
      array_agg(p.id),
      array_agg(p.place),
      array_agg(p.username),
      array_agg(p.amount),
      array_agg(p.moved_at)
    into
      legs.group_ids,
      legs.ids,
      legs.places,
      legs.usernames,
      legs.balances,
      legs.moved_at
    from (
      select l.group_id, array_agg(l.id) as ids
      from unnest(lines.group_ids || lines.group_ids, lines.from_ids || lines.to_ids) as l (group_id, id)
      group by l.group_id
      order by l.group_id
    ) as l
    cross join lateral (
      select p.*, p.ctid as place
      from ledger.participants as p
      where p.group_id = l.group_id
        and p.id = any (l.ids)
        and p.exited_at is null
      order by p.id
      for no key update skip locked
    ) as p;
  end if;

  legs.numbers := ledger_internal.number_legs(lines, legs);
  return legs;
end
$$;

alter function ledger_internal.lock_legs owner to ledger_owner;
comment on function ledger_internal.lock_legs is
  'Lock the present participants of the lines until the transaction ends, by ascending group and id. Without wait, all but those that another session has locked.';
revoke execute on function ledger_internal.lock_legs from public;
-- <<< db/functions/internal/transfers/lock_legs.sql

-- >>> db/functions/internal/transfers/lock_pair.sql
-- Lock the sender and the recipient of one transfer.
create or replace function ledger_internal.lock_pair(
  group_id bigint,
  from_id  bigint,
  to_id    bigint,
  wait     boolean
) returns ledger.participants[]
language plpgsql volatile
as $$
declare
  pair ledger.participants[];
begin
  -- In ascending id, so that no two transfers wait for each other. Both stay present until this transaction ends, so the
  -- group cannot be removed. SQL has no parameter for `skip locked`.
  if wait then
    pair := array(
      select p
      from ledger.participants as p
      where p.group_id = lock_pair.group_id
        and p.id in (lock_pair.from_id, lock_pair.to_id)
        and p.exited_at is null
      order by p.id
      for no key update
    );
  else
    pair := array(
      select p
      from ledger.participants as p
      where p.group_id = lock_pair.group_id
        and p.id in (lock_pair.from_id, lock_pair.to_id)
        and p.exited_at is null
      order by p.id
      for no key update skip locked
    );
  end if;
  if pair[1].id = from_id then
    return pair;
  end if;
  return array[pair[2], pair[1]];
end
$$;

alter function ledger_internal.lock_pair owner to ledger_owner;
comment on function ledger_internal.lock_pair is
  'Lock two different participants of a group until the transaction ends, and return the sender and then the recipient; null for one who is not present, or, without wait, whom another session has locked.';
revoke execute on function ledger_internal.lock_pair from public;
-- <<< db/functions/internal/transfers/lock_pair.sql

-- >>> db/functions/internal/transfers/number_legs.sql
-- Find which of the locked participants are the legs of the lines.
create or replace function ledger_internal.number_legs(
  lines ledger_internal.transfer_lines,
  legs  ledger_internal.transfer_legs
) returns integer[]
language plpgsql stable
as $$
begin
  return (
    select array_agg(p.number order by l.place)
    from unnest(lines.group_ids || lines.group_ids, lines.from_ids || lines.to_ids)
      with ordinality as l (group_id, id, place)
    left join unnest(legs.group_ids, legs.ids) with ordinality as p (group_id, id, number)
      on p.group_id = l.group_id
      and p.id = l.id
  );
end
$$;

alter function ledger_internal.number_legs owner to ledger_owner;
comment on function ledger_internal.number_legs is
  'The legs of the lines, first all senders, then all recipients, as subscripts of the locked participants; null for one that is not locked.';
revoke execute on function ledger_internal.number_legs from public;
-- <<< db/functions/internal/transfers/number_legs.sql

-- >>> db/functions/internal/transfers/post_transfer.sql
-- Write a transfer between two locked participants: both balances and the entry.
create or replace function ledger_internal.post_transfer(
  sender    ledger.participants,
  recipient ledger.participants,
  amount    numeric,
  metadata  jsonb,
  reverses  bigint
) returns ledger.transfer_result
language plpgsql volatile
as $$
declare
  -- Read while both are locked, and never before either participant's last movement, even if the clock goes back.
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
    sender.group_id, 'transfer', sender.id, recipient.id, post_transfer.amount, sender.amount, recipient.amount, moment,
    post_transfer.metadata, post_transfer.reverses
  )
  returning entries.id into result.entry_id;

  result.to_participant := (recipient.username, recipient.id, recipient.group_id, recipient.amount);
  result.from_participant := (sender.username, sender.id, sender.group_id, sender.amount);
  result.replayed := false;
  return result;
end
$$;

alter function ledger_internal.post_transfer owner to ledger_owner;
comment on function ledger_internal.post_transfer is
  'Write a valid transfer, both balances and the entry; this transaction has locked the rows sender and recipient.';
revoke execute on function ledger_internal.post_transfer from public;
-- <<< db/functions/internal/transfers/post_transfer.sql

-- >>> db/functions/internal/transfers/post_transfers.sql
-- Write the transfers of a list that were decided: the balances and the entries.
create or replace function ledger_internal.post_transfers(
  lines     ledger_internal.transfer_lines,
  legs      ledger_internal.transfer_legs,
  decisions ledger_internal.transfer_decisions
) returns void
language plpgsql volatile
as $$
declare
  changed integer := cardinality(array_remove(decisions.changed_at, null));
  written integer;
begin
  -- No other session can move a locked row, so its ctid is still valid.
  update ledger.participants as p
  set
    amount = l.balance,
    moved_at = l.changed_at
  from unnest(legs.ids, legs.places, decisions.balances, decisions.changed_at) as l (id, place, balance, changed_at)
  where l.changed_at is not null
    and p.ctid = l.place
    and p.id = l.id;
  get diagnostics written = row_count;
  if written <> changed then
    raise exception using
      errcode = 'serialization_failure',
      message = format('of %s balances %s were written', changed, written);
  end if;

  insert into ledger.entries (
    group_id, id, kind, from_id, to_id, amount, from_amount, to_amount, created_at, metadata
  )
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
  from unnest(lines.group_ids, decisions.entries, decisions.moments, lines.metadatas)
    as l (group_id, id, from_id, to_id, amount, from_amount, to_amount, moment, metadata)
  where l.id is not null;
end
$$;

alter function ledger_internal.post_transfers owner to ledger_owner;
comment on function ledger_internal.post_transfers is
  'Write the transfers that decide_transfers allowed, between the participants that lock_legs locked: their balances and the entries. Raises 40001 where a balance could not be written.';
revoke execute on function ledger_internal.post_transfers from public;
-- <<< db/functions/internal/transfers/post_transfers.sql

-- >>> db/functions/internal/transfers/transfer_batch_of_one.sql
-- Make one transfer without waiting for a lock.
create or replace function ledger_internal.transfer_batch_of_one(
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
  pair      ledger.participants[];
  sender    ledger.participants;
  recipient ledger.participants;
  made      ledger.transfer_result;
  outcome   ledger.transfer_outcome;
begin
  outcome.place := 1;
  outcome.outcome := 'deferred';
  if not ledger_internal.transfer_is_valid(group_id, from_id, to_id, amount, idempotency_key, metadata) then
    return outcome;
  end if;
  if idempotency_key is not null
    and not (ledger_internal.claim_idempotency_keys(array[group_id], array[idempotency_key], array[true]))[1]
  then
    return outcome;
  end if;

  pair := ledger_internal.lock_pair(group_id, from_id, to_id, wait => false);
  sender := pair[1];
  recipient := pair[2];
  if sender.id is null or recipient.id is null then
    outcome.outcome := ledger_internal.unmade_outcome(group_id, from_id, to_id);
    return outcome;
  end if;
  if ledger_internal.balance_violation(sender.amount - trunc(amount), recipient.amount + trunc(amount)) is not null then
    return outcome;
  end if;

  made := ledger_internal.post_transfer(sender, recipient, amount, metadata, null);
  if idempotency_key is not null then
    perform ledger_internal.store_answer(
      group_id, idempotency_key, ledger_internal.transfer_request(from_id, to_id, amount, metadata), made
    );
  end if;
  outcome.outcome := 'done';
  outcome.to_participant := made.to_participant;
  outcome.from_participant := made.from_participant;
  outcome.entry_id := made.entry_id;
  return outcome;
end
$$;

alter function ledger_internal.transfer_batch_of_one owner to ledger_owner;
comment on function ledger_internal.transfer_batch_of_one is
  'What transfer_batch does for a single line, in two thirds of the time: the transfer, unless it would wait or be refused.';
revoke execute on function ledger_internal.transfer_batch_of_one from public;
-- <<< db/functions/internal/transfers/transfer_batch_of_one.sql

-- >>> db/functions/internal/transfers/unmade_outcome.sql
-- Return the outcome of a line of transfer_batch whose legs are not both locked.
create or replace function ledger_internal.unmade_outcome(
  group_id bigint,
  from_id  bigint,
  to_id    bigint
) returns text
language sql stable
as $$
  select case when count(*) = 2 then 'locked' else 'deferred' end
  from ledger.participants as p
  where p.group_id = unmade_outcome.group_id
    and p.id in (unmade_outcome.from_id, unmade_outcome.to_id)
    and p.exited_at is null
$$;

alter function ledger_internal.unmade_outcome owner to ledger_owner;
comment on function ledger_internal.unmade_outcome is
  'locked if both legs of a transfer are present, so that another session has locked one of them; deferred if not.';
revoke execute on function ledger_internal.unmade_outcome from public;
-- <<< db/functions/internal/transfers/unmade_outcome.sql

-- >>> db/functions/internal/validation/align_transfer_lines.sql
-- Bring the columns of a list of transfers to one shape.
create or replace function ledger_internal.align_transfer_lines(
  lines ledger_internal.transfer_lines
) returns ledger_internal.transfer_lines
language plpgsql immutable
as $$
declare
  shape text := format('[1:%s]', coalesce(greatest(
    cardinality(lines.group_ids), cardinality(lines.from_ids), cardinality(lines.to_ids), cardinality(lines.amounts),
    cardinality(lines.idempotency_keys), cardinality(lines.metadatas)
  ), 0));
begin
  if (
    array_dims(lines.group_ids) = shape
    and array_dims(lines.from_ids) = shape
    and array_dims(lines.to_ids) = shape
    and array_dims(lines.amounts) = shape
    and coalesce(array_dims(lines.idempotency_keys), shape) = shape
    and coalesce(array_dims(lines.metadatas), shape) = shape
  ) is not true then
    select
      array_agg(l.group_id order by l.line),
      array_agg(l.from_id order by l.line),
      array_agg(l.to_id order by l.line),
      array_agg(l.amount order by l.line),
      array_agg(l.key order by l.line),
      array_agg(l.metadata order by l.line)
    into
      lines.group_ids,
      lines.from_ids,
      lines.to_ids,
      lines.amounts,
      lines.idempotency_keys,
      lines.metadatas
    from unnest(
      lines.group_ids, lines.from_ids, lines.to_ids, lines.amounts, lines.idempotency_keys, lines.metadatas
    ) with ordinality as l (group_id, from_id, to_id, amount, key, metadata, line);
  end if;
  return lines;
end
$$;

alter function ledger_internal.align_transfer_lines owner to ledger_owner;
comment on function ledger_internal.align_transfer_lines is
  'The lines with columns that all begin at 1 and have the length of the longest, filled with nulls: a line''s values are found by its number.';
revoke execute on function ledger_internal.align_transfer_lines from public;
-- <<< db/functions/internal/validation/align_transfer_lines.sql

-- >>> db/functions/internal/validation/find_group_id.sql
-- Find the group that uses one of several names; the first name in use decides.
create or replace function ledger_internal.find_group_id(
  names   text[],
  besides bigint default null
) returns bigint
language plpgsql stable
as $$
declare
  wanted   text;
  group_id bigint;
begin
  -- One by one: each is a look-up in the unique index, whatever the table's statistics.
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

alter function ledger_internal.find_group_id owner to ledger_owner;
comment on function ledger_internal.find_group_id is
  'The id of the existing group, other than besides, that has the first of these names in use; null if none is in use.';
revoke execute on function ledger_internal.find_group_id from public;
-- <<< db/functions/internal/validation/find_group_id.sql

-- >>> db/functions/internal/validation/find_participant_id.sql
-- Find the present participant that uses one of several usernames; the first username in use decides.
create or replace function ledger_internal.find_participant_id(
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
  -- One by one: each is a look-up in the unique index, whatever the table's statistics.
  foreach wanted in array usernames loop
    select p.id
    into participant_id
    from ledger.current_participants as p
    where p.group_id = find_participant_id.group_id
      and p.username = wanted collate "C"
      and p.id is distinct from besides;
    exit when participant_id is not null;
  end loop;
  return participant_id;
end
$$;

alter function ledger_internal.find_participant_id owner to ledger_owner;
comment on function ledger_internal.find_participant_id is
  'The id of the participant present in the group, other than besides, who has the first of these usernames in use; null if none is in use.';
revoke execute on function ledger_internal.find_participant_id from public;
-- <<< db/functions/internal/validation/find_participant_id.sql

-- >>> db/functions/internal/validation/invalid_amount.sql
-- Return why an amount is invalid; null if it is valid.
create or replace function ledger_internal.invalid_amount(
  amount  numeric,
  minimum numeric
) returns text
language sql immutable parallel safe
as $$
  select case
    when invalid_amount.amount is null
    then 'must be given'
    -- NaN and the infinities are numerics too, and equal to their own trunc().
    when invalid_amount.amount in ('NaN', 'Infinity', '-Infinity')
      or invalid_amount.amount <> trunc(invalid_amount.amount)
    then 'must be a whole number'
    when invalid_amount.amount < invalid_amount.minimum
    -- Not format(), which is not immutable: this function could not be inlined.
    then 'must be at least ' || invalid_amount.minimum::text
    when invalid_amount.amount >= 2::numeric ^ 256
    then 'must be below 2^256'
  end
$$;

alter function ledger_internal.invalid_amount owner to ledger_owner;
comment on function ledger_internal.invalid_amount is
  'Why an amount is not a whole number from minimum to 2^256 - 1; null if it is valid.';
revoke execute on function ledger_internal.invalid_amount from public;
-- <<< db/functions/internal/validation/invalid_amount.sql

-- >>> db/functions/internal/validation/invalid_id.sql
-- Return why an id is invalid; null if it is valid.
create or replace function ledger_internal.invalid_id(
  id bigint
) returns text
language sql immutable parallel safe
as $$
  select case when invalid_id.id is null then 'must be given' end
$$;

alter function ledger_internal.invalid_id owner to ledger_owner;
comment on function ledger_internal.invalid_id is
  'Why an id is invalid: it must be given; null if it is valid.';
revoke execute on function ledger_internal.invalid_id from public;
-- <<< db/functions/internal/validation/invalid_id.sql

-- >>> db/functions/internal/validation/invalid_idempotency_key.sql
-- Return why an idempotency key is invalid; null if it is valid or not given.
create or replace function ledger_internal.invalid_idempotency_key(
  key text
) returns text
language sql immutable parallel safe
as $$
  select case
    when octet_length(invalid_idempotency_key.key) not between 1 and 255
      or invalid_idempotency_key.key collate "C" ~ '[^\u0021-\u007e]'
    then 'must be 1 to 255 visible ASCII characters'
  end
$$;

alter function ledger_internal.invalid_idempotency_key owner to ledger_owner;
comment on function ledger_internal.invalid_idempotency_key is
  'Why an idempotency key is not 1 to 255 visible ASCII characters; null if it is valid or null.';
revoke execute on function ledger_internal.invalid_idempotency_key from public;
-- <<< db/functions/internal/validation/invalid_idempotency_key.sql

-- >>> db/functions/internal/validation/invalid_kind.sql
-- Return why a kind of entry is invalid; null if it is valid or not given.
create or replace function ledger_internal.invalid_kind(
  kind text
) returns text
language sql immutable parallel safe
as $$
  select case when invalid_kind.kind not in ('join', 'transfer', 'exit') then 'must be join, transfer or exit' end
$$;

alter function ledger_internal.invalid_kind owner to ledger_owner;
comment on function ledger_internal.invalid_kind is
  'Why a kind of entry is invalid; null if it is valid or null.';
revoke execute on function ledger_internal.invalid_kind from public;
-- <<< db/functions/internal/validation/invalid_kind.sql

-- >>> db/functions/internal/validation/invalid_metadata.sql
-- Return why an entry's metadata are invalid; null if they are valid or not given.
create or replace function ledger_internal.invalid_metadata(
  metadata jsonb
) returns text
language sql immutable parallel safe
as $$
  select case
    when invalid_metadata.metadata is null
    then null
    when jsonb_typeof(invalid_metadata.metadata) <> 'object'
    then 'must be an object'
    -- Only zeros and numbers with an exponent can be much longer as text than they were given: 0e-4096, 1e4096.
    when invalid_metadata.metadata @? 'strict $.** ? (!(@ >= 1e-20 && @ <= 1e20) && !(@ <= -1e-20 && @ >= -1e20))'
      and ledger_internal.metadata_is_long(invalid_metadata.metadata)
    then 'must have at most 4096 bytes'
    when octet_length(invalid_metadata.metadata::text) > 4096
    then 'must have at most 4096 bytes'
  end
$$;

alter function ledger_internal.invalid_metadata owner to ledger_owner;
comment on function ledger_internal.invalid_metadata is
  'Why metadata are not a JSON object of at most 4096 bytes; null if they are valid or null.';
revoke execute on function ledger_internal.invalid_metadata from public;
-- <<< db/functions/internal/validation/invalid_metadata.sql

-- >>> db/functions/internal/validation/invalid_name.sql
-- Return why a name or username is invalid; null if it is valid.
create or replace function ledger_internal.invalid_name(
  name text
) returns text
language sql immutable parallel safe
as $$
  -- Spelled out, as classes like [:space:] depend on the locale.
  select case
    when invalid_name.name is null
    then 'must be given'
    -- Most names are of ASCII alone.
    when octet_length(invalid_name.name) <= 255 and invalid_name.name collate "C" ~ '^[ -~]*[!-~][ -~]*$'
    then null
    -- A character in NFC replaces at most four others, so a much longer name need not be normalized.
    when char_length(invalid_name.name) > 4 * 255
    then 'must have at most 255 characters'
    when char_length(normalize(invalid_name.name, NFC)) > 255
    then 'must have at most 255 characters'
    when invalid_name.name collate "C" ~ '[\u0001-\u001f\u007f-\u009f]'
    then 'must not contain control characters'
    -- White space, Unicode's default ignorable characters, and four that render as nothing: the Braille blank, the Khitan
    -- filler, the null notehead, interlinear annotations.
    when invalid_name.name collate "C" !~ (
      '[^ \u00a0\u00ad\u034f\u061c\u115f\u1160\u1680\u17b4\u17b5\u180b-\u180f\u2000-\u200f\u2028-\u202f\u205f-\u206f\u2800'
      || '\u3000\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U00016fe4\U0001bca0-\U0001bca3\U0001d159\U0001d173-\U0001d17a'
      || '\U000e0000-\U000e0fff]'
    )
    then 'must not be blank'
    -- Unicode's default ignorable characters, which include bidirectional controls, and line separators. A variation
    -- selector may follow an emoji, and a joiner may stand between two.
    when invalid_name.name collate "C" ~ (
      '[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200c\u200e\u200f\u2028-\u202e\u2060-\u206f\u3164'
      || '\ufe00-\ufe0e\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]'
    )
    then 'must not contain invisible characters'
    when invalid_name.name collate "C" ~ '[\u200d\ufe0f]'
      -- The emoji of a key has a digit, a variation selector, and the key.
      and replace(invalid_name.name, U&'\FE0F\20E3', '') collate "C" ~ (
        '(?<![\u00a9\u00ae\u203c\u2049\u2122-\u27bf\u2934\u2935\u2b05-\u2b55\u3030\u303d\u3297\u3299\U0001f000-\U0001faff])\ufe0f'
        || '|(?<![\u2122-\u27bf\u2b05-\u2b55\U0001f000-\U0001faff\ufe0f])\u200d'
        || '|\u200d(?![\u2122-\u27bf\u2b05-\u2b55\U0001f000-\U0001faff])'
      )
    then 'must not contain invisible characters'
  end
$$;

alter function ledger_internal.invalid_name owner to ledger_owner;
comment on function ledger_internal.invalid_name is
  'Why a name is invalid: it must have 1 to 255 characters in NFC, not be blank, and have no control or invisible characters; null if it is valid.';
revoke execute on function ledger_internal.invalid_name from public;
-- <<< db/functions/internal/validation/invalid_name.sql

-- >>> db/functions/internal/validation/invalid_new_name.sql
-- Return why a requested name is invalid; null if it is valid or was given to the same request before.
create or replace function ledger_internal.invalid_new_name(
  name            text,
  group_id        bigint,
  idempotency_key text,
  request         text[]
) returns text
language plpgsql stable
as $$
declare
  reason text := ledger_internal.invalid_name(name);
begin
  -- A repeated request gets its answer, even if a later rule refuses its name.
  if reason is not null and idempotency_key is not null and exists (
    select from ledger.idempotency_keys as k
    where k.group_id = invalid_new_name.group_id
      and k.key = invalid_new_name.idempotency_key collate "C"
      and k.fingerprint = ledger_internal.fingerprint(request)
  ) then
    return null;
  end if;
  return reason;
end
$$;

alter function ledger_internal.invalid_new_name owner to ledger_owner;
comment on function ledger_internal.invalid_new_name is
  'The result of invalid_name; null if this request, an operation and its values, was answered before under its idempotency key of the group.';
revoke execute on function ledger_internal.invalid_new_name from public;
-- <<< db/functions/internal/validation/invalid_new_name.sql

-- >>> db/functions/internal/validation/invalid_reference.sql
-- Return why a settlement's reference is invalid; null if it is valid.
create or replace function ledger_internal.invalid_reference(
  reference text
) returns text
language sql immutable parallel safe
as $$
  -- Control characters, and those that show nothing. Spelled out, as classes like [:space:] depend on the locale.
  select case
    when invalid_reference.reference is null
    then 'must be given'
    when char_length(invalid_reference.reference) > 255
    then 'must have at most 255 characters'
    when invalid_reference.reference collate "C" ~ '[\u0001-\u001f\u007f-\u009f]'
    then 'must not contain control characters'
    when invalid_reference.reference collate "C" !~ '[^ \u00a0\u00ad\u1680\u180e\u2000-\u200f\u2028\u2029\u202f\u205f-\u2064\u3000\ufeff]'
    then 'must not be blank'
  end
$$;

alter function ledger_internal.invalid_reference owner to ledger_owner;
comment on function ledger_internal.invalid_reference is
  'Why a reference is not 1 to 255 characters, not blank and without control characters; null if it is valid.';
revoke execute on function ledger_internal.invalid_reference from public;
-- <<< db/functions/internal/validation/invalid_reference.sql

-- >>> db/functions/internal/validation/invalid_transfer_lines.sql
-- List the invalid fields of a multi-party transfer's lines.
create or replace function ledger_internal.invalid_transfer_lines(
  transfers jsonb,
  out fields text[],
  out reasons text[]
)
language sql immutable
as $$
  select
    array_agg(f.field),
    array_agg(f.reason)
  from (
    select
      format('transfers[%s]%s', l.line - 1, m.member) as field,
      m.reason
    from jsonb_array_elements(invalid_transfer_lines.transfers) with ordinality as i (item, line)
    cross join lateral (
      select
        i.line,
        jsonb_typeof(i.item) <> 'object' as other,
        case when jsonb_typeof(i.item) = 'object' then i.item else '{}' end as item,
        ledger_internal.json_scalar_text(i.item -> 'from') as from_id,
        ledger_internal.json_scalar_text(i.item -> 'to') as to_id,
        ledger_internal.json_scalar_text(i.item -> 'amount') as amount
      offset 0
    ) as l
    cross join lateral (
      select 1 as place, '' as member, 'must be an object' as reason
      where l.other
      union all
      select s.place, s.member, case when s.id is null then 'must be given' else 'must be a positive integer below 2^63' end
      from (values (2, '.from', l.from_id), (3, '.to', l.to_id)) as s (place, member, id)
      where not l.other
        and ledger_internal.parse_id(s.id) is null
      union all
      select 3, '.to', 'must be another participant'
      where ledger_internal.parse_id(l.from_id) = ledger_internal.parse_id(l.to_id)
      union all
      select 4, '.amount', a.reason
      from (
        select case
          when l.amount is not null and ledger_internal.parse_amount(l.amount) is null
          then 'must be a whole number below 2^256'
          else ledger_internal.invalid_amount(ledger_internal.parse_amount(l.amount), 1)
        end
      ) as a (reason)
      where not l.other
        and a.reason is not null
      union all
      select 5, '.metadata', n.reason
      from (select ledger_internal.invalid_metadata(nullif(l.item -> 'metadata', 'null'))) as n (reason)
      where n.reason is not null
      union all
      -- A name in which nothing can be taken for the end of a field or of a line.
      select 6, '.' || regexp_replace(left(k.name, 63) collate "C", '[\u0001-\u001f\u007f-\u009f:]', '?', 'g'), 'is not known'
      from jsonb_object_keys(l.item) as k (name)
      where k.name not in ('from', 'to', 'amount', 'metadata')
    ) as m
    order by l.line, m.place, m.member
    limit 100
  ) as f
$$;

alter function ledger_internal.invalid_transfer_lines owner to ledger_owner;
comment on function ledger_internal.invalid_transfer_lines is
  'The fields of a multi-party transfer''s lines that are invalid, as transfers[0].amount, and the reasons; the first 100 of them, null if all are valid.';
revoke execute on function ledger_internal.invalid_transfer_lines from public;
-- <<< db/functions/internal/validation/invalid_transfer_lines.sql

-- >>> db/functions/internal/validation/json_scalar_text.sql
-- Read the text of an id or an amount from JSON.
create or replace function ledger_internal.json_scalar_text(
  value jsonb
) returns text
language sql immutable parallel safe
as $$
  select case jsonb_typeof(value)
    when 'string'
    then value #>> '{}'
    -- 1e131071 is stored in a few bytes and written in 131,072. What is too long for an amount is not written out.
    when 'number'
    then case when value::numeric between 0 and 1e78 and scale(value::numeric) <= 78 then value #>> '{}' else '' end
    when 'null'
    then null
    else case when value is not null then '' end
  end
$$;

alter function ledger_internal.json_scalar_text owner to ledger_owner;
comment on function ledger_internal.json_scalar_text is
  'The text of a JSON string, or of a number that may be an id or an amount; an empty one for any other value, and null for null.';
revoke execute on function ledger_internal.json_scalar_text from public;
-- <<< db/functions/internal/validation/json_scalar_text.sql

-- >>> db/functions/internal/validation/metadata_is_long.sql
-- Check whether metadata have too many bytes, without writing their numbers out.
create or replace function ledger_internal.metadata_is_long(
  metadata jsonb
) returns boolean
language plpgsql immutable parallel safe
as $$
begin
  -- No JSON text takes more than four times its bytes when it is stored.
  if pg_column_size(metadata) > 5 * 4096 then
    return true;
  end if;

  -- 1e4096 is stored in a few bytes and written in 4,097: a number counts with its decimal places and the digits that its
  -- size is certain to have.
  return coalesce(sum(scale(n.number) + (array[1, 1, 17, 65, 257, 1025, 4097])[
    1 + width_bucket(abs(n.number), array[1e0, 1e16, 1e64, 1e256, 1e1024, 1e4096]::numeric[])
  ]) > 4096, false)
  from (
    select v.value::numeric as number
    from jsonb_path_query(metadata, 'strict $.** ? (@.type() == "number")') as v (value)
    offset 0
  ) as n;
end
$$;

alter function ledger_internal.metadata_is_long owner to ledger_owner;
comment on function ledger_internal.metadata_is_long is
  'Whether metadata certainly have more than 4096 bytes as text. Where this returns false, writing them out is cheap.';
revoke execute on function ledger_internal.metadata_is_long from public;
-- <<< db/functions/internal/validation/metadata_is_long.sql

-- >>> db/functions/internal/validation/name_spellings.sql
-- List the spellings that a name may be stored in.
create or replace function ledger_internal.name_spellings(
  name text
) returns text[]
language sql immutable parallel safe
as $$
  select array[name_spellings.name, normalize(name_spellings.name, NFC), normalize(name_spellings.name, NFD)]
$$;

alter function ledger_internal.name_spellings owner to ledger_owner;
comment on function ledger_internal.name_spellings is
  'A name as it is, composed (NFC) as new names are stored, and decomposed (NFD) as older names may be.';
revoke execute on function ledger_internal.name_spellings from public;
-- <<< db/functions/internal/validation/name_spellings.sql

-- >>> db/functions/internal/validation/parse_amount.sql
-- Parse an amount.
create or replace function ledger_internal.parse_amount(
  value text
) returns numeric
language sql immutable parallel safe
as $$
  -- 2^256 - 1 has 78 digits. A longer number would be refused anyway, after a costly conversion.
  select case
    when octet_length(value) not between 1 and 1000
    then null
    when value collate "C" !~ '[^0-9]' and length(ltrim(value, '0')) <= 78
    then value::numeric
  end
$$;

alter function ledger_internal.parse_amount owner to ledger_owner;
comment on function ledger_internal.parse_amount is
  'The whole number that is spelled in at most 78 digits, zeros before them aside; null for anything else.';
revoke execute on function ledger_internal.parse_amount from public;
-- <<< db/functions/internal/validation/parse_amount.sql

-- >>> db/functions/internal/validation/parse_id.sql
-- Parse an id.
create or replace function ledger_internal.parse_id(
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

alter function ledger_internal.parse_id owner to ledger_owner;
comment on function ledger_internal.parse_id is
  'The positive bigint that is spelled in digits; null for anything else.';
revoke execute on function ledger_internal.parse_id from public;
-- <<< db/functions/internal/validation/parse_id.sql

-- >>> db/functions/internal/validation/parse_transfer_lines.sql
-- Parse the lines of a multi-party transfer.
create or replace function ledger_internal.parse_transfer_lines(
  group_id  bigint,
  transfers jsonb
) returns ledger_internal.transfer_lines
language plpgsql immutable
as $$
declare
  lines  ledger_internal.transfer_lines;
  valid  boolean;
  fields text[];
  reasons text[];
begin
  select
    bool_and((
      l.from_id <> l.to_id
      and ledger_internal.invalid_amount(l.amount, 1) is null
      and ledger_internal.invalid_metadata(l.metadata) is null
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
    -- 1e131071 is stored in a few bytes and written in 131,072, so numbers are not written out.
    select
      t.line,
      t.item,
      case
        when jsonb_typeof(t.from_id) = 'string'
        then ledger_internal.parse_id(t.from_id #>> '{}')
        when t.from_number between 1 and 9223372036854775807 and scale(t.from_number) = 0
        then t.from_number::bigint
      end as from_id,
      case
        when jsonb_typeof(t.to_id) = 'string'
        then ledger_internal.parse_id(t.to_id #>> '{}')
        when t.to_number between 1 and 9223372036854775807 and scale(t.to_number) = 0
        then t.to_number::bigint
      end as to_id,
      case
        when jsonb_typeof(t.amount) = 'string'
        then ledger_internal.parse_amount(t.amount #>> '{}')
        when t.amount_number between 0 and 1e78 and scale(t.amount_number) = 0
        then t.amount_number
      end as amount,
      t.metadata
    from (
      select
        v.*,
        case when jsonb_typeof(v.from_id) = 'number' then v.from_id::numeric end as from_number,
        case when jsonb_typeof(v.to_id) = 'number' then v.to_id::numeric end as to_number,
        case when jsonb_typeof(v.amount) = 'number' then v.amount::numeric end as amount_number
      from (
        select
          i.line,
          case when jsonb_typeof(i.item) = 'object' then i.item else '{"": ""}' end as item,
          i.item -> 'from' as from_id,
          i.item -> 'to' as to_id,
          i.item -> 'amount' as amount,
          nullif(i.item -> 'metadata', 'null') as metadata
        from jsonb_array_elements(parse_transfer_lines.transfers) with ordinality as i (item, line)
        -- Each value is read once, and not once for each place that asks for it.
        offset 0
      ) as v
      offset 0
    ) as t
    offset 0
  ) as l;

  if not valid then
    select
      f.fields,
      f.reasons
    into
      fields,
      reasons
    from ledger_internal.invalid_transfer_lines(transfers) as f;
    perform ledger_internal.refuse_invalid(fields, reasons);
  end if;
  lines.group_ids := array_fill(group_id, array[cardinality(lines.amounts)]);
  return lines;
end
$$;

alter function ledger_internal.parse_transfer_lines owner to ledger_owner;
comment on function ledger_internal.parse_transfer_lines is
  'The lines of a multi-party transfer in a group by columns, metadatas only if a line has any. Raises LG001 with the invalid fields of each line.';
revoke execute on function ledger_internal.parse_transfer_lines from public;
-- <<< db/functions/internal/validation/parse_transfer_lines.sql

-- >>> db/functions/internal/validation/transfer_is_valid.sql
-- Check the values of a transfer.
create or replace function ledger_internal.transfer_is_valid(
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
    and ledger_internal.invalid_amount(transfer_is_valid.amount, 1) is null
    and ledger_internal.invalid_idempotency_key(transfer_is_valid.idempotency_key) is null
    and ledger_internal.invalid_metadata(transfer_is_valid.metadata) is null
  ) is true
$$;

alter function ledger_internal.transfer_is_valid owner to ledger_owner;
comment on function ledger_internal.transfer_is_valid is
  'Whether a transfer has a group, two different participants, an amount from 1 to 2^256 - 1, and a valid idempotency key and valid metadata, if any. transfer reports why it is invalid.';
revoke execute on function ledger_internal.transfer_is_valid from public;
-- <<< db/functions/internal/validation/transfer_is_valid.sql

-- >>> db/functions/internal/verify/answer_discrepancies.sql
-- Compare a stored answer and its fingerprint with the record.
create or replace function ledger_internal.answer_discrepancies(
  kept ledger.idempotency_keys
) returns setof ledger.discrepancy
language plpgsql stable
as $$
declare
  answer      jsonb := ledger_internal.parse_answer(kept.answer);
  of_entry    boolean := kept.operation in ('transfer', 'join_group', 'exit_group', 'reverse_transfer', 'settle_exit');
  named       bigint := ledger_internal.parse_id(coalesce(answer ->> 'entry_id', answer ->> 'id'));
  entry       ledger.entries;
  -- The entry in the form in which a reversal or a settlement returns it.
  written     jsonb;
  -- The request, as far as the record and the names in the answer show it, and whether the answer agrees with it.
  request     text[] := array[kept.operation];
  agrees      boolean;
  discrepancy ledger.discrepancy := (kept.group_id, null, null, 'idempotency key', null);
begin
  if octet_length(kept.fingerprint) is distinct from 32 then
    discrepancy.detail := 'has no fingerprint';
    return next discrepancy;
    return;
  elsif answer is null then
    discrepancy.detail := 'has an answer that cannot be read';
    return next discrepancy;
    return;
  elsif kept.operation = 'transfer_all' then
    return query select l.* from ledger_internal.transfer_all_discrepancies(kept.group_id, answer, kept.fingerprint) as l;
    return;
  end if;

  if of_entry then
    discrepancy.entry_id := named;
    select e.*
    into entry
    from ledger.entries as e
    where e.group_id = kept.group_id
      and e.id = named;
    if not found then
      discrepancy.detail := 'names an entry that is not there';
      return next discrepancy;
      return;
    end if;
  end if;

  if kept.operation in ('reverse_transfer', 'settle_exit') then
    written := jsonb_build_object(
      'group_id', entry.group_id, 'id', entry.id, 'kind', entry.kind, 'from_id', entry.from_id, 'to_id', entry.to_id,
      'amount', entry.amount, 'from_amount', entry.from_amount, 'to_amount', entry.to_amount,
      'created_at', entry.created_at, 'metadata', entry.metadata, 'reverses', entry.reverses
    );
  end if;

  case kept.operation
    when 'transfer' then
      request := ledger_internal.transfer_request(entry.from_id, entry.to_id, entry.amount, entry.metadata);
      agrees := entry.reverses is null and answer @> jsonb_build_object(
        'to_participant', jsonb_build_object('id', entry.to_id, 'group_id', entry.group_id, 'amount', entry.to_amount),
        'from_participant', jsonb_build_object('id', entry.from_id, 'group_id', entry.group_id, 'amount', entry.from_amount)
      );
    when 'join_group' then
      request := request || array[answer ->> 'username', entry.amount::text, entry.metadata::text];
      agrees := entry.kind = 'join'
        and answer @> jsonb_build_object('id', entry.to_id, 'group_id', entry.group_id, 'amount', entry.amount);
    when 'exit_group' then
      request := request || array[entry.from_id::text, entry.metadata::text];
      agrees := entry.kind = 'exit' and answer @> jsonb_build_object('final_amount', entry.amount);
    when 'reverse_transfer' then
      request := request || array[entry.reverses::text, entry.metadata::text];
      agrees := entry.reverses is not null and answer @> written;
    when 'settle_exit' then
      request := request || array[entry.id::text, answer ->> 'reference'];
      agrees := answer @> written and exists (
        select from ledger.settlements as s
        where s.group_id = entry.group_id
          and s.entry_id = entry.id
          and s.reference is not null
          and answer @> jsonb_build_object('reference', s.reference, 'settled_at', s.settled_at)
      );
    when 'create_group' then
      request := request || array[answer ->> 'name'];
      agrees := kept.group_id = 0 and exists (select from ledger.groups as g where g.id = named);
    when 'rename_group' then
      request := request || array[answer ->> 'name'];
      agrees := named = kept.group_id;
    when 'rename_participant' then
      request := request || array[named::text, answer ->> 'username'];
      agrees := answer @> jsonb_build_object('group_id', kept.group_id) and exists (
        select from ledger.participants as p
        where p.group_id = kept.group_id
          and p.id = named
      );
    when 'remove_group' then
      agrees := exists (select from ledger.groups as g where g.id = kept.group_id and g.closed_at is not null);
    else
      agrees := false;
  end case;

  if agrees is not true then
    discrepancy.detail := format('has an answer to %s that contradicts the record', kept.operation);
    return next discrepancy;
  -- A name is kept in NFC, and another spelling may have been asked for, unless it has none: of ASCII these three have one.
  elsif kept.fingerprint <> ledger_internal.fingerprint(request)
    and coalesce(answer ->> 'name', answer ->> 'username', '') !~ '[K;`\u0080-\uffff\U00010000-\U0010ffff]'
  then
    discrepancy.detail := 'has the fingerprint of another request than the record says';
    return next discrepancy;
  end if;
end
$$;

alter function ledger_internal.answer_discrepancies owner to ledger_owner;
comment on function ledger_internal.answer_discrepancies is
  'The discrepancies of the answer stored under an idempotency key, and of the fingerprint of its request; names in the answer are not compared. For verify_keys.';
revoke execute on function ledger_internal.answer_discrepancies from public;
-- <<< db/functions/internal/verify/answer_discrepancies.sql

-- >>> db/functions/internal/verify/parse_answer.sql
-- Parse a stored answer; return null if it is damaged.
create or replace function ledger_internal.parse_answer(
  answer json
) returns jsonb
language plpgsql stable
as $$
declare
  read jsonb;
begin
  read := answer;
  -- A time is spelled in the time zone of the session that stored it.
  if read ? 'created_at' then
    read := read || jsonb_build_object(
      'created_at', (read ->> 'created_at')::timestamptz,
      'settled_at', (read ->> 'settled_at')::timestamptz
    );
  end if;
  return read;
exception when data_exception then
  return null;
end
$$;

alter function ledger_internal.parse_answer owner to ledger_owner;
comment on function ledger_internal.parse_answer is
  'A stored answer, its times in this session''s time zone; null where it cannot be read.';
revoke execute on function ledger_internal.parse_answer from public;
-- <<< db/functions/internal/verify/parse_answer.sql

-- >>> db/functions/internal/verify/transfer_all_discrepancies.sql
-- Compare the stored answer to a multi-party transfer with the record.
create or replace function ledger_internal.transfer_all_discrepancies(
  group_id    bigint,
  answer      jsonb,
  fingerprint bytea
) returns setof ledger.discrepancy
language sql stable
as $$
  with written as materialized (
    select
      e.*,
      l.entry,
      l.line,
      ledger_internal.parse_id(l.entry ->> 'id') as named
    from jsonb_array_elements(
      case when jsonb_typeof(transfer_all_discrepancies.answer -> 'entries') = 'array' then transfer_all_discrepancies.answer -> 'entries' end
    ) with ordinality as l (entry, line)
    -- Looked up for each line, whatever the planner thinks of their number.
    left join lateral (
      select e.*
      from ledger.entries as e
      where e.group_id = transfer_all_discrepancies.group_id
        and e.id = ledger_internal.parse_id(l.entry ->> 'id')
      limit 1
    ) as e on true
  ), request as (
    select
      count(*) as lines,
      count(w.id) as found,
      ledger_internal.fingerprint(array[
        'transfer_all',
        array_agg(w.from_id order by w.line)::text,
        array_agg(w.to_id order by w.line)::text,
        array_agg(w.amount order by w.line)::text,
        case when count(w.metadata) > 0 then array_agg(w.metadata order by w.line)::text end
      ]) as fingerprint
    from written as w
  ), legs as (
    select
      s.id,
      -- As the last line that the participant is in leaves it.
      (array_agg(s.balance order by w.line desc))[1] as balance
    from written as w
    cross join lateral (values (w.from_id, w.from_amount), (w.to_id, w.to_amount)) as s (id, balance)
    group by s.id
  ), answered as (
    select
      ledger_internal.parse_id(p.participant ->> 'id') as id,
      p.participant
    from jsonb_array_elements(
      case when jsonb_typeof(transfer_all_discrepancies.answer -> 'participants') = 'array' then transfer_all_discrepancies.answer -> 'participants' end
    ) as p (participant)
  )
  select
    transfer_all_discrepancies.group_id,
    f.entry_id,
    f.participant_id,
    'idempotency key',
    f.detail
  from (
    select w.named as entry_id, null::bigint as participant_id, 'names an entry that is not there' as detail
    from written as w
    where w.id is null
    union all
    select w.id, null, 'has an answer to transfer_all that contradicts the record'
    from written as w
    where w.id is not null
      and (
        w.kind = 'transfer'
        and w.reverses is null
        and w.entry @> jsonb_build_object(
          'id', w.id, 'from_id', w.from_id, 'to_id', w.to_id, 'amount', w.amount,
          'from_amount', w.from_amount, 'to_amount', w.to_amount
        )
      ) is not true
    union all
    select null, coalesce(s.id, t.id), 'has an answer to transfer_all that gives another balance than its entries'
    from legs as s
    full join answered as t on t.id = s.id
    where (select r.lines = r.found from request as r)
      and (
        t.participant @> jsonb_build_object('id', s.id, 'group_id', transfer_all_discrepancies.group_id, 'amount', s.balance)
      ) is not true
    union all
    select null, null, 'has the fingerprint of another request than the record says'
    from request as r
    where r.lines = 0
      or (r.lines = r.found and r.fingerprint <> transfer_all_discrepancies.fingerprint)
  ) as f
$$;

alter function ledger_internal.transfer_all_discrepancies owner to ledger_owner;
comment on function ledger_internal.transfer_all_discrepancies is
  'The discrepancies of the answer to a multi-party transfer: its entries, the participants with their balances after it, and the fingerprint of the request. For verify_keys.';
revoke execute on function ledger_internal.transfer_all_discrepancies from public;
-- <<< db/functions/internal/verify/transfer_all_discrepancies.sql

-- >>> db/functions/internal/verify/verify_bounds.sql
-- Find the bounds that every committed row is within.
create or replace function ledger_internal.verify_bounds(
  out latest    timestamptz,
  out restored  bigint,
  out first_xid xid8,
  out next_xid  xid8
)
language sql stable
as $$
  select
    -- Clocks differ, and are set back.
    clock_timestamp() + interval '1 minute',
    f.last_restored,
    f.first_xid,
    -- Another server counts transactions differently, until restart_feed() is called there. A transaction that is under way
    -- may have a number above those that have ended.
    case when f.system_identifier = c.system_identifier then
      greatest(
        pg_snapshot_xmax(pg_current_snapshot()),
        (pg_current_xact_id_if_assigned()::text::numeric + 1)::text::xid8
      )
    end
  from pg_control_system() as c
  left join (select * from ledger.feeds order by generation desc limit 1) as f on true
$$;

alter function ledger_internal.verify_bounds owner to ledger_owner;
comment on function ledger_internal.verify_bounds is
  'What verify holds each row against: the latest time that a clock may show, the last entry that came with a backup, the oldest transaction of the feed, and the first that this snapshot does not show, null in another server than the feed''s.';
revoke execute on function ledger_internal.verify_bounds from public;
-- <<< db/functions/internal/verify/verify_bounds.sql

-- >>> db/functions/internal/verify/verify_entries.sql
-- Find the discrepancies of a range of a group's entries.
create or replace function ledger_internal.verify_entries(
  group_id bigint,
  after    bigint,
  upto     bigint
) returns setof ledger.discrepancy
language sql stable
as $$
  select
    e.group_id,
    e.id,
    f.participant_id,
    f.kind,
    f.detail
  from (
    select
      e.*,
      count(*) over (partition by e.id) as times
    from ledger.entries as e
    where e.group_id = verify_entries.group_id
      and e.id > verify_entries.after
      -- Not "is null or": a plan for any parameters would read on to the group's end.
      and e.id <= coalesce(verify_entries.upto, 9223372036854775807)
  ) as e
  cross join ledger_internal.verify_bounds() as b
  -- What each participant held before: if every step is right, so is every balance.
  left join lateral ledger_internal.latest_leg_at(e.group_id, e.from_id, (e.created_at, e.id - 1)::ledger_internal.history_position) as sender
    on true
  left join lateral ledger_internal.latest_leg_at(e.group_id, e.to_id, (e.created_at, e.id - 1)::ledger_internal.history_position) as recipient
    on true
  cross join lateral (
    select
      e.from_id,
      'kind',
      format(
        'a movement of kind %s from %s, with %s after it, to %s, with %s after it',
        e.kind,
        coalesce(e.from_id::text, 'outside'),
        coalesce(e.from_amount::text, 'no balance'),
        coalesce(e.to_id::text, 'outside'),
        coalesce(e.to_amount::text, 'no balance')
      )
    where case
        when e.kind = 'join' then e.from_id is not null or e.to_id is null
        when e.kind = 'transfer' then e.from_id is null or e.to_id is null or e.from_id = e.to_id
        when e.kind = 'exit' then e.from_id is null or e.to_id is not null
        else true
      end
      or (e.from_id is null) <> (e.from_amount is null)
      or (e.to_id is null) <> (e.to_amount is null)
    union all
    select null, 'amount', format('moves %s, and the balances after it are %s and %s', e.amount, e.from_amount, e.to_amount)
    -- As in invalid_amount, which costs as much as all the rest. NaN is above every number.
    where (e.amount >= case when e.kind = 'transfer' then 1 else 0 end) is not true
      or e.amount >= 2::numeric ^ 256
      or e.amount <> trunc(e.amount)
      or e.from_amount < 0
      or e.from_amount >= 2::numeric ^ 256
      or e.from_amount <> trunc(e.from_amount)
      or e.to_amount < 0
      or e.to_amount >= 2::numeric ^ 256
      or e.to_amount <> trunc(e.to_amount)
    union all
    select
      e.from_id,
      'running balance',
      format('the sender has %s after it, and had %s before it', e.from_amount, sender.balance)
    where sender.id is not null
      and e.from_amount is distinct from sender.balance - e.amount
    union all
    select e.from_id, 'running balance', format('the participant left with %s and kept %s', e.amount, e.from_amount)
    where e.kind = 'exit'
      and e.from_amount <> 0
    union all
    select
      e.to_id,
      'running balance',
      format('the recipient has %s after it, and had %s before it', e.to_amount, coalesce(recipient.balance, 0))
    where (e.kind = 'join' or recipient.id is not null)
      and e.to_amount is distinct from coalesce(recipient.balance, 0) + e.amount
    union all
    select s.participant_id, 'presence', 'the participant has not joined before it'
    from (values (e.from_id, sender.id), (e.to_id, recipient.id)) as s (participant_id, earlier)
    where e.kind <> 'join'
      and s.participant_id is not null
      and s.earlier is null
    union all
    select e.to_id, 'presence', 'the participant was there before joining'
    where e.kind = 'join'
      and recipient.id is not null
    union all
    select s.participant_id, 'presence', 'the participant had left before it'
    from (values (e.from_id, sender.kind), (e.to_id, recipient.kind)) as s (participant_id, earlier)
    where e.kind <> 'join'
      and s.earlier = 'exit'
    union all
    select s.participant_id, 'time', format('entry %s is earlier and has a higher id', s.earlier)
    from (values (e.from_id, sender.id), (e.to_id, recipient.id)) as s (participant_id, earlier)
    where s.earlier > e.id
    union all
    select s.participant_id, 'participant', 'there never was such a participant'
    from (values (e.from_id, sender.id), (e.to_id, recipient.id)) as s (participant_id, earlier)
    -- What comes later leads back to the participant's first entry.
    where s.participant_id is not null
      and s.earlier is null
      and not exists (
        select from ledger.participants as p
        where p.group_id = e.group_id
          and p.id = s.participant_id
      )
    union all
    select null, 'time', format('it is of %s', e.created_at)
    where e.created_at > b.latest
      or e.created_at = '-infinity'
    union all
    select null, 'transaction', format('it is of transaction %s, and the feed from %s on', e.xid, b.first_xid)
    where e.id > b.restored
      and e.xid < b.first_xid
    union all
    select null, 'transaction', format('it is of transaction %s, and none from %s on has ended', e.xid, b.next_xid)
    where e.id > b.restored
      and e.xid >= b.next_xid
    union all
    select null, 'metadata', 'they are no object'
    where jsonb_typeof(e.metadata) <> 'object'
    union all
    select null, 'entry id', format('%s entries have it', e.times)
    where e.times > 1
    union all
    select null, 'entry id', 'it is below 1'
    where e.id < 1
    union all
    select null, 'reversal', format('entry %s is no transfer of this amount the other way', e.reverses)
    where e.reverses is not null
      and not exists (
        select from ledger.entries as o
        where o.group_id = e.group_id
          and o.id = e.reverses
          and o.id < e.id
          and o.kind = 'transfer'
          and o.from_id = e.to_id
          and o.to_id = e.from_id
          and o.amount = e.amount
      )
    union all
    select null, 'reversal', format('entry %s is reversed more than once', e.reverses)
    where e.reverses is not null
      and (
        select count(*) from ledger.entries as o
        where o.group_id = e.group_id
          and o.reverses = e.reverses
      ) > 1
    union all
    -- A settlement or a total of what has none is found by verify_total: here it would be a look-up for each transfer.
    select e.from_id, 'settlement', 'the exit has none'
    where e.kind = 'exit'
      and not exists (
        select from ledger.settlements as s
        where s.group_id = e.group_id
          and s.entry_id = e.id
      )
    union all
    select e.from_id, 'settlement', 'it has another time than its exit, a time to come, or no reference'
    from ledger.settlements as s
    where e.kind = 'exit'
      and s.group_id = e.group_id
      and s.entry_id = e.id
      and (
        s.exited_at <> e.created_at
        or (s.reference is null) <> (s.settled_at is null)
        or s.settled_at < s.exited_at
        or s.settled_at > b.latest
      )
    union all
    select null, 'total', format('the total is noted %s times', n.times)
    from (
      select count(*) as times
      from generate_series(0, 7) as s (slot)
      cross join lateral (
        select from ledger.group_total_history as t
        where t.group_id = e.group_id
          and t.slot = s.slot
          and t.created_at = e.created_at
          and t.entry_id = e.id
        -- Kept from being merged into a join: a look-up for each shard, whose key begins with the slot.
        offset 0
      ) as t
    ) as n
    where e.kind <> 'transfer'
      and n.times <> 1
    union all
    select
      null,
      'total',
      format('shard %s came to %s, and stood at %s before', s.slot, t.total, coalesce(before.total, 0))
    from generate_series(0, 7) as s (slot)
    cross join lateral (
      select t.total
      from ledger.group_total_history as t
      where t.group_id = e.group_id
        and t.slot = s.slot
        and t.created_at = e.created_at
        and t.entry_id = e.id
      offset 0
    ) as t
    left join lateral (
      select b.total
      from ledger.group_total_history as b
      where b.group_id = e.group_id
        and b.slot = s.slot
        and (b.created_at, b.entry_id) < (e.created_at, e.id)
      order by b.created_at desc, b.entry_id desc
      limit 1
    ) as before on true
    where e.kind <> 'transfer'
      and t.total <> coalesce(before.total, 0) + case when e.kind = 'join' then e.amount else -e.amount end
  ) as f (participant_id, kind, detail)
$$;

alter function ledger_internal.verify_entries owner to ledger_owner;
comment on function ledger_internal.verify_entries is
  'The discrepancies of a group''s entries whose ids are above after and, where it is given, not above upto. For the owner.';
revoke execute on function ledger_internal.verify_entries from public;
-- <<< db/functions/internal/verify/verify_entries.sql

-- >>> db/functions/internal/verify/verify_groups.sql
-- Find the discrepancies of a range of groups, and rows whose group is missing.
create or replace function ledger_internal.verify_groups(
  after bigint,
  upto  bigint
) returns setof ledger.discrepancy
language sql stable
as $$
  with looked_at as materialized (
    select
      g.*,
      count(*) over (partition by g.id) as times,
      lag(g.id, 1, verify_groups.after) over (order by g.id) as before
    from ledger.groups as g
    where g.id > verify_groups.after
      and g.id <= coalesce(verify_groups.upto, 9223372036854775807)
  )
  select
    g.id,
    null::bigint,
    null::bigint,
    f.kind,
    f.detail
  from looked_at as g
  cross join ledger_internal.verify_bounds() as b
  left join lateral (
    select
      e.created_at,
      e.xid
    from ledger.entries as e
    where e.group_id = g.id
      and e.kind = 'join'
    order by e.created_at, e.id
    limit 1
  ) as first on true
  left join lateral (
    select
      e.created_at,
      e.xid
    from ledger.entries as e
    where e.group_id = g.id
      and e.kind = 'exit'
    order by e.created_at desc, e.id desc
    limit 1
  ) as last on true
  cross join lateral (
    select 'group id', format('%s groups have it', g.times)
    where g.times > 1
    union all
    select 'group id', 'it is below 1'
    where g.id < 1
    union all
    select 'sequence', 'it will give ids again that are in use'
    where g.id > (select s.last_value - (not s.is_called)::integer from ledger.groups_id_seq as s)
    union all
    select 'name', 'it is empty'
    where g.name = ''
    union all
    select 'name', 'another group that exists has it'
    where g.closed_at is null
      and exists (
        select from ledger.groups as o
        where o.name = g.name collate "C"
          and o.closed_at is null
          and o.id <> g.id
      )
    union all
    select 'group time', format('was opened at %s, and first joined at %s', g.created_at, first.created_at)
    where g.created_at > b.latest
      or g.created_at = '-infinity'
      -- Until entries had their transaction's number, a clock that was set back showed in their times.
      or (g.created_at > first.created_at and first.xid <> '0')
    union all
    select
      'group time',
      format('was opened at %s and removed at %s, and last left at %s', g.created_at, g.closed_at, last.created_at)
    where g.closed_at > b.latest
      or g.closed_at < g.created_at
      or (g.closed_at < last.created_at and last.xid <> '0')
  ) as f (kind, detail)
  union all
  -- Groups are numbered nearly without gaps, so there is little to look through.
  select
    o.group_id,
    null,
    null,
    'group',
    format('there is no such group, and it has %s', string_agg(format('%s: %s', o.name, o.rows), ', ' order by o.name))
  from (
    select
      l.before,
      l.id - 1 as upto
    from looked_at as l
    union all
    select
      coalesce(max(l.id), verify_groups.after),
      coalesce(verify_groups.upto, 9223372036854775807)
    from looked_at as l
  ) as gap
  cross join lateral (
    select p.group_id, 'participants', count(*)
    from ledger.participants as p
    where p.group_id > gap.before
      and p.group_id <= gap.upto
    group by p.group_id
    union all
    select e.group_id, 'entries', count(*)
    from ledger.entries as e
    where e.group_id > gap.before
      and e.group_id <= gap.upto
    group by e.group_id
    union all
    select s.group_id, 'settlements', count(*)
    from ledger.settlements as s
    where s.group_id > gap.before
      and s.group_id <= gap.upto
    group by s.group_id
    union all
    select c.group_id, 'shards', count(*)
    from ledger.group_total_shards as c
    where c.group_id > gap.before
      and c.group_id <= gap.upto
    group by c.group_id
    union all
    select t.group_id, 'totals', count(*)
    from ledger.group_total_history as t
    where t.group_id > gap.before
      and t.group_id <= gap.upto
    group by t.group_id
    union all
    select c.group_id, 'changes of names', count(*)
    from ledger.name_changes as c
    where c.group_id > gap.before
      and c.group_id <= gap.upto
    group by c.group_id
    union all
    select k.group_id, 'idempotency keys', count(*)
    from ledger.idempotency_keys as k
    where k.group_id > gap.before
      and k.group_id <= gap.upto
      -- Those of requests that created a group.
      and k.group_id <> 0
    group by k.group_id
  ) as o (group_id, name, rows)
  where gap.before < gap.upto
  group by o.group_id
$$;

alter function ledger_internal.verify_groups owner to ledger_owner;
comment on function ledger_internal.verify_groups is
  'The discrepancies of the groups whose ids are above after and, where it is given, not above upto: their rows, and what belongs to a group of such an id that is not there. For the owner.';
revoke execute on function ledger_internal.verify_groups from public;
-- <<< db/functions/internal/verify/verify_groups.sql

-- >>> db/functions/internal/verify/verify_ids.sql
-- Find entries and participants whose id another group has too.
create or replace function ledger_internal.verify_ids(
  after bigint,
  upto  bigint
) returns setof ledger.discrepancy
language sql stable
as $$
  select
    s.group_id,
    e.id,
    null::bigint,
    'entry id',
    format('group %s has it as well', s.other)
  from (
    select
      e.id,
      min(e.group_id) as low,
      max(e.group_id) as high
    from (select g.id from ledger.groups as g offset 0) as g
    -- Looked up in each group, whose ids are in order: no index has them without it.
    cross join lateral (
      select
        e.group_id,
        e.id
      from ledger.entries as e
      where e.group_id = g.id
        and e.id > verify_ids.after
        and e.id <= coalesce(verify_ids.upto, 9223372036854775807)
      offset 0
    ) as e
    group by e.id
    having min(e.group_id) <> max(e.group_id)
  ) as e
  cross join lateral (values (e.low, e.high), (e.high, e.low)) as s (group_id, other)
  union all
  select
    s.group_id,
    null,
    p.id,
    'participant id',
    format('group %s has it as well', s.other)
  from (
    select
      p.id,
      min(p.group_id) as low,
      max(p.group_id) as high
    from (select g.id from ledger.groups as g offset 0) as g
    cross join lateral (
      select
        p.group_id,
        p.id
      from ledger.participants as p
      where p.group_id = g.id
        and p.id > verify_ids.after
        and p.id <= coalesce(verify_ids.upto, 9223372036854775807)
      offset 0
    ) as p
    group by p.id
    having min(p.group_id) <> max(p.group_id)
  ) as p
  cross join lateral (values (p.low, p.high), (p.high, p.low)) as s (group_id, other)
$$;

alter function ledger_internal.verify_ids owner to ledger_owner;
comment on function ledger_internal.verify_ids is
  'The entries and participants whose ids are above after and, where it is given, not above upto, and are those of another group''s as well. For the owner.';
revoke execute on function ledger_internal.verify_ids from public;
-- <<< db/functions/internal/verify/verify_ids.sql

-- >>> db/functions/internal/verify/verify_keys.sql
-- Find the discrepancies of a range of a group's idempotency keys.
create or replace function ledger_internal.verify_keys(
  group_id bigint,
  after    text,
  upto     text
) returns setof ledger.discrepancy
language sql stable
as $$
  select
    k.group_id,
    f.entry_id,
    f.participant_id,
    'idempotency key',
    format('the key %s %s', k.key, f.detail)
  from (
    select
      i.*,
      count(*) over (partition by i.key) as times
    from ledger.idempotency_keys as i
    where i.group_id = verify_keys.group_id
      and i.key > verify_keys.after collate "C"
      -- Above every key is the last character that there is.
      and i.key <= coalesce(verify_keys.upto, chr(1114111)) collate "C"
  ) as k
  cross join ledger_internal.verify_bounds() as b
  -- Nearly every key is of a transfer and as it should be: that is seen without reading the JSON, which takes longer than
  -- all the rest. Looked up for each key: as a join it read all entries of the group for each range.
  left join lateral (
    select true as is_right
    from ledger.entries as e
    where k.operation = 'transfer'
      and e.group_id = k.group_id
      and e.id = ledger_internal.parse_id(split_part(split_part(k.answer::text, '"entry_id":', -1), ',', 1))
      and e.reverses is null
      and k.fingerprint = ledger_internal.fingerprint(ledger_internal.transfer_request(e.from_id, e.to_id, e.amount, e.metadata))
      and k.answer::text like '{"to_participant":{"username":"%","id":' || e.to_id || ',"group_id":' || e.group_id
        || ',"amount":' || e.to_amount || '},"from_participant":{"username":"%","id":' || e.from_id || ',"group_id":'
        || e.group_id || ',"amount":' || e.from_amount || '},"entry_id":' || e.id || ',"replayed":false}'
    limit 1
  ) as t on true
  cross join lateral (
    select null::bigint, null::bigint, format('belongs to %s requests', k.times)
    where k.times > 1
    union all
    select null, null, format('has the time %s', k.created_at)
    where k.created_at > b.latest
      or not isfinite(k.created_at)
    union all
    select a.entry_id, a.participant_id, a.detail
    from ledger_internal.answer_discrepancies(
      (k.group_id, k.key, k.operation, k.fingerprint, k.answer, k.created_at)::ledger.idempotency_keys
    ) as a
    where t.is_right is not true
  ) as f (entry_id, participant_id, detail)
$$;

alter function ledger_internal.verify_keys owner to ledger_owner;
comment on function ledger_internal.verify_keys is
  'The discrepancies of a group''s idempotency keys that come after one and, where it is given, not after upto; of group 0, with those that created groups. For the owner.';
revoke execute on function ledger_internal.verify_keys from public;
-- <<< db/functions/internal/verify/verify_keys.sql

-- >>> db/functions/internal/verify/verify_ledger.sql
-- Find the discrepancies of what belongs to no group: feeds, API keys, and idempotency keys of create_group.
create or replace function ledger_internal.verify_ledger()
returns setof ledger.discrepancy
language sql stable
as $$
  select
    f.group_id,
    null::bigint,
    null::bigint,
    f.kind,
    f.detail
  from ledger_internal.verify_bounds() as b
  cross join lateral (
    select null::bigint, 'feed', 'there is none'
    where not exists (select from ledger.feeds)
    union all
    select null, 'feed', format('feed %s began at %s', d.generation, d.began_at)
    from ledger.feeds as d
    where d.began_at > b.latest
      or d.began_at = '-infinity'
    union all
    select null, 'feed', format('feed %s begins after entry %s, and none above %s was written', d.generation, d.last_restored, g.given)
    from ledger.feeds as d
    cross join (select s.last_value - (not s.is_called)::integer as given from ledger.entries_id_seq as s) as g
    where d.last_restored not between 0 and g.given
    union all
    select null, 'feed', format('feed %s begins with transaction %s, and none from %s on has ended', d.generation, b.first_xid, b.next_xid)
    from (select max(d.generation) as generation from ledger.feeds as d) as d
    where b.first_xid >= b.next_xid
    union all
    select null, 'feed', format('%s feeds have number %s', count(*), d.generation)
    from ledger.feeds as d
    group by d.generation
    having count(*) > 1
    union all
    select k.group_id, 'API key', format('key %s %s', k.id, c.detail)
    from (
      select
        k.*,
        count(*) over (partition by k.id) as times,
        count(*) over (partition by k.digest) as alike
      from ledger.api_keys as k
    ) as k
    cross join lateral (
      select 'is there more than once'
      where k.times > 1
      union all
      select 'has the digest of another one'
      where k.alike > k.times
      union all
      select 'has no digest'
      where octet_length(k.digest) is distinct from 32
      union all
      select format('has the scope %s', k.scope)
      where k.scope not in ('read', 'transact', 'admin')
      union all
      select 'is for a group that is not there'
      where k.group_id is not null
        and not exists (select from ledger.groups as g where g.id = k.group_id)
      union all
      select format('was made at %s and revoked at %s', k.created_at, k.revoked_at)
      where greatest(k.created_at, k.revoked_at) > b.latest
        or least(k.created_at, k.revoked_at) = '-infinity'
      union all
      select 'has an id that will be given again'
      where k.id not between 1 and (select s.last_value - (not s.is_called)::integer from ledger.api_keys_id_seq as s)
    ) as c (detail)
    union all
    select 0, 'idempotency key', 'there is an empty key'
    from ledger.idempotency_keys as k
    where k.group_id = 0
      and k.key = ''
  ) as f (group_id, kind, detail)
$$;

alter function ledger_internal.verify_ledger owner to ledger_owner;
comment on function ledger_internal.verify_ledger is
  'The discrepancies of the feeds, the API keys, and the empty key of a request that created a group, which no range has. For the owner.';
revoke execute on function ledger_internal.verify_ledger from public;
-- <<< db/functions/internal/verify/verify_ledger.sql

-- >>> db/functions/internal/verify/verify_participants.sql
-- Find the discrepancies of a range of a group's participants.
create or replace function ledger_internal.verify_participants(
  group_id bigint,
  after    bigint,
  upto     bigint
) returns setof ledger.discrepancy
language sql stable
as $$
  select
    p.group_id,
    null::bigint,
    p.id,
    f.kind,
    f.detail
  from (
    select
      p.*,
      count(*) over (partition by p.id) as times
    from ledger.participants as p
    where p.group_id = verify_participants.group_id
      and p.id > verify_participants.after
      and p.id <= coalesce(verify_participants.upto, 9223372036854775807)
  ) as p
  cross join ledger_internal.verify_bounds() as b
  left join lateral ledger_internal.latest_leg_at(p.group_id, p.id, ('infinity', 9223372036854775807)::ledger_internal.history_position) as last
    on true
  left join lateral (
    select e.created_at
    from ledger.entries as e
    where e.group_id = p.group_id
      and e.to_id = p.id
    order by e.created_at, e.id
    limit 1
  ) as joined on true
  cross join lateral (
    select 'balance', format('holds %s, and the record says %s', p.amount, last.balance)
    where p.amount is distinct from last.balance
      and last.id is not null
      and last.kind <> 'exit'
    union all
    select 'balance', format('left and holds %s', p.amount)
    where last.kind = 'exit'
      and p.amount <> 0
    union all
    select 'presence', 'is not in the record'
    where last.id is null
    union all
    select 'presence', 'left without an exit, or is present after one'
    where (p.exited_at is not null) <> (last.kind is not distinct from 'exit')
    union all
    select 'presence', 'is present in a group that was removed'
    where p.exited_at is null
      and exists (select from ledger.groups as g where g.id = p.group_id and g.closed_at is not null)
    union all
    select 'presence time', format('joined at %s, and the record says %s', p.joined_at, joined.created_at)
    where p.joined_at <> joined.created_at
    union all
    select 'presence time', format('left at %s, and the record says %s', p.exited_at, last.created_at)
    where last.kind = 'exit'
      and p.exited_at <> last.created_at
    union all
    select 'presence time', format('last moved at %s, and the record says %s', p.moved_at, last.created_at)
    where p.moved_at < last.created_at
      or p.moved_at > b.latest
      -- What moved before moved_at was there has no transaction's number, and a later time.
      or (
        p.moved_at > last.created_at
        and exists (
          select from ledger.entries as e
          where e.group_id = p.group_id
            and e.id = last.id
            and e.xid <> '0'
        )
      )
    union all
    select 'username', 'is empty'
    where p.username = ''
    union all
    select 'participant id', format('%s participants have it', p.times)
    where p.times > 1
    union all
    select 'participant id', 'it is below 1'
    where p.id < 1
  ) as f (kind, detail)
$$;

alter function ledger_internal.verify_participants owner to ledger_owner;
comment on function ledger_internal.verify_participants is
  'The discrepancies of a group''s participants whose ids are above after and, where it is given, not above upto. For the owner.';
revoke execute on function ledger_internal.verify_participants from public;
-- <<< db/functions/internal/verify/verify_participants.sql

-- >>> db/functions/internal/verify/verify_schema.sql
-- Find rules of the schema that are not in force, in a database of any release.
create or replace function ledger_internal.verify_schema()
returns setof ledger.discrepancy
language sql stable
as $$
  with schemas as (
    select n.* from pg_namespace as n where n.nspname in ('ledger', 'ledger_internal')
  ), objects (kind, name, owner, rights) as (
    select 'schema', s.nspname, s.nspowner, s.nspacl from schemas as s
    union all
    select 'relation', c.relname, c.relowner, c.relacl from pg_class as c where c.relnamespace in (select s.oid from schemas as s)
    union all
    select 'function', p.proname, p.proowner, coalesce(p.proacl, acldefault('f', p.proowner))
    from pg_proc as p
    where p.pronamespace in (select s.oid from schemas as s)
  )
  select
    null::bigint,
    null::bigint,
    null::bigint,
    'schema',
    f.detail
  from (
    select format('trigger %s of %s is disabled', coalesce(k.conname, t.tgname), t.tgrelid::regclass)
    from pg_trigger as t
    join pg_class as c on c.oid = t.tgrelid
    left join pg_constraint as k on k.oid = t.tgconstraint
    where c.relnamespace = 'ledger'::regnamespace
      and t.tgenabled not in ('O', 'A')
    union all
    select format('table %s can be rewritten: no trigger refuses it', p.name)
    from unnest(
      array[
        'entries', 'group_total_history', 'idempotency_keys', 'feeds', 'name_changes',
        'settlements', 'api_keys', 'groups', 'participants'
      ],
      array[true, true, true, true, true, false, false, false, false]
    ) as p (name, is_permanent)
    where not exists (
      select from pg_trigger as t
      where t.tgrelid = to_regclass('ledger.' || p.name)
        and t.tgfoid = to_regproc('ledger_internal.forbid_mutation')
        -- Before DELETE and TRUNCATE, a statement; for what is permanent before each UPDATE as well.
        and t.tgtype & 43 = 42
        and (not p.is_permanent or t.tgtype & 16 = 16)
        and t.tgqual is null
        and cardinality(t.tgattr::smallint[]) = 0
    )
    union all
    select format('table %s has no primary key', c.oid::regclass)
    from pg_class as c
    where c.relnamespace = 'ledger'::regnamespace
      and c.relkind in ('r', 'p')
      and not exists (select from pg_constraint as k where k.conrelid = c.oid and k.contype = 'p')
    union all
    select format('constraint %s of %s is not validated', k.conname, k.conrelid::regclass)
    from pg_constraint as k
    where k.connamespace = 'ledger'::regnamespace
      and not k.convalidated
    union all
    select format('index %s is not valid', i.indexrelid::regclass)
    from pg_index as i
    join pg_class as c on c.oid = i.indexrelid
    where c.relnamespace = 'ledger'::regnamespace
      and not (i.indisvalid and i.indisready and i.indislive)
    union all
    select format('%s %s belongs to %s', o.kind, o.name, o.owner::regrole)
    from objects as o
    where o.owner <> 'ledger_owner'::regrole
    union all
    select format(
      '%s is granted on %s %s to %s',
      a.privilege_type, o.kind, o.name, case a.grantee when 0 then 'PUBLIC' else a.grantee::regrole::text end
    )
    from objects as o
    cross join lateral aclexplode(o.rights) as a
    where a.grantee = 0
      or (o.kind = 'schema' and o.name = 'ledger_internal' and a.grantee <> o.owner)
    union all
    select format('function %s runs as its owner with the search_path of its caller', p.oid::regprocedure)
    from pg_proc as p
    where p.pronamespace in (select s.oid from schemas as s)
      and p.prosecdef
      and not exists (select from unnest(p.proconfig) as s (setting) where s.setting ~ '^search_path=ledger,.*pg_temp$')
    union all
    select format('table %s has rule %s', r.ev_class::regclass, r.rulename)
    from pg_rewrite as r
    join pg_class as c on c.oid = r.ev_class
    where c.relnamespace = 'ledger'::regnamespace
      and c.relkind in ('r', 'p')
    union all
    select format('table %s has row security', c.oid::regclass)
    from pg_class as c
    where c.relnamespace = 'ledger'::regnamespace
      and (c.relrowsecurity or exists (select from pg_policy as p where p.polrelid = c.oid))
  ) as f (detail)
$$;

alter function ledger_internal.verify_schema owner to ledger_owner;
comment on function ledger_internal.verify_schema is
  'Rules of the schema that are not in force: triggers that are disabled or missing, constraints that are not validated, invalid indexes, other owners than ledger_owner, rights of PUBLIC, rights on ledger_internal. The command ledger verify compares every object with what the migrations made. For the owner.';
revoke execute on function ledger_internal.verify_schema from public;
-- <<< db/functions/internal/verify/verify_schema.sql

-- >>> db/functions/internal/verify/verify_total.sql
-- Find the discrepancies of a group as a whole.
create or replace function ledger_internal.verify_total(
  group_id bigint
) returns setof ledger.discrepancy
language sql stable
as $$
  select
    verify_total.group_id,
    f.entry_id,
    f.participant_id,
    f.kind,
    f.detail
  from (
    select
      null::bigint,
      null::bigint,
      'total',
      format('shard %s stands at %s, and came to %s last', c.slot, c.total, coalesce(last.total, 0))
    from ledger.group_total_shards as c
    left join lateral (
      select t.total
      from ledger.group_total_history as t
      where t.group_id = c.group_id
        and t.slot = c.slot
      order by t.created_at desc, t.entry_id desc
      limit 1
    ) as last on true
    where c.group_id = verify_total.group_id
      and c.total <> coalesce(last.total, 0)
    union all
    select null, null, 'total', format('the shards add up to %s, the balances to %s', c.total, p.total)
    from (
      select coalesce(sum(c.total), 0) as total from ledger.group_total_shards as c where c.group_id = verify_total.group_id
    ) as c
    cross join (
      select coalesce(sum(p.amount), 0) as total from ledger.participants as p where p.group_id = verify_total.group_id
    ) as p
    where c.total <> p.total
    union all
    select null, null, 'total', format('there are %s shards, from %s to %s', count(*), min(c.slot), max(c.slot))
    from ledger.group_total_shards as c
    where c.group_id = verify_total.group_id
    having count(*) <> 8
      or min(c.slot) <> 0
      or max(c.slot) <> 7
    union all
    select t.entry_id, null, 'total', format('shard %s came to %s with it, and it is no join or exit of that time', t.slot, t.total)
    from ledger.group_total_history as t
    left join ledger.entries as e on e.group_id = t.group_id and e.id = t.entry_id
    where t.group_id = verify_total.group_id
      and (e.kind is null or e.kind = 'transfer' or e.created_at <> t.created_at or t.slot not between 0 and 7)
    union all
    select s.entry_id, null, 'settlement', 'it is settled, and is no exit'
    from ledger.settlements as s
    left join ledger.entries as e on e.group_id = s.group_id and e.id = s.entry_id
    where s.group_id = verify_total.group_id
      and e.kind is distinct from 'exit'
    union all
    select
      null,
      null,
      'total time',
      format('shard %s changed at %s, and with its last join or exit at %s', c.slot, c.changed_at, last.created_at)
    from ledger.group_total_shards as c
    cross join ledger_internal.verify_bounds() as b
    left join lateral (
      select t.created_at
      from ledger.group_total_history as t
      where t.group_id = c.group_id
        and t.slot = c.slot
      order by t.created_at desc, t.entry_id desc
      limit 1
    ) as last on true
    where c.group_id = verify_total.group_id
      and (c.changed_at > b.latest or c.changed_at = '-infinity' or c.changed_at < last.created_at)
    union all
    select null, null, 'username', format('%s who are present have the username %s', count(*), p.username)
    from ledger.participants as p
    where p.group_id = verify_total.group_id
      and p.exited_at is null
    group by p.username
    having count(*) > 1
    union all
    select null, c.participant_id, 'rename', format('change %s is of a participant who is not there', c.id)
    from ledger.name_changes as c
    where c.group_id = verify_total.group_id
      and c.participant_id is not null
      and not exists (
        select from ledger.participants as p
        where p.group_id = c.group_id
          and p.id = c.participant_id
      )
    union all
    select null, c.participant_id, 'rename', format('change %s was made at %s', c.id, c.changed_at)
    from ledger.name_changes as c
    cross join ledger_internal.verify_bounds() as b
    where c.group_id = verify_total.group_id
      and (c.changed_at > b.latest or c.changed_at = '-infinity')
    union all
    select null, null, 'sequence', format('name_changes has number %s, which will be given again', c.last)
    from (
      select max(c.id) as last from ledger.name_changes as c where c.group_id = verify_total.group_id
    ) as c
    cross join ledger.name_changes_id_seq as s
    where c.last > s.last_value - (not s.is_called)::integer
    union all
    select l.entry_id, l.participant_id, 'sequence', 'it will give ids again that are in use'
    from (
      select
        (select max(e.id) from ledger.entries as e where e.group_id = verify_total.group_id),
        null,
        (select s.last_value - (not s.is_called)::integer from ledger.entries_id_seq as s)
      union all
      select
        null,
        (select max(p.id) from ledger.participants as p where p.group_id = verify_total.group_id),
        (select s.last_value - (not s.is_called)::integer from ledger.participants_id_seq as s)
    ) as l (entry_id, participant_id, given)
    where coalesce(l.entry_id, l.participant_id) > l.given
    union all
    select null, null, 'idempotency key', 'there is an empty key'
    from ledger.idempotency_keys as k
    where k.group_id = verify_total.group_id
      and k.key = ''
  ) as f (entry_id, participant_id, kind, detail)
$$;

alter function ledger_internal.verify_total owner to ledger_owner;
comment on function ledger_internal.verify_total is
  'The discrepancies of a group as a whole: its shards and their history, its settlements, changes of names, usernames that two have, and ids above those that were given. For the owner.';
revoke execute on function ledger_internal.verify_total from public;
-- <<< db/functions/internal/verify/verify_total.sql

-- >>> db/functions/owner/create_api_key.sql
-- Create an API key and return its secret, which is shown only once.
create or replace function ledger.create_api_key(
  name     text,
  scope    text,
  group_id bigint default null
) returns ledger.api_key_result
language plpgsql volatile
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  new_key api_key_result;
begin
  perform refuse_invalid(
    array['name', 'scope', 'group_id'],
    array[
      invalid_name(name),
      case when scope in ('read', 'transact', 'admin') then null else 'must be read, transact or admin' end,
      case when group_id is not null then invalid_id(group_id) end
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
-- <<< db/functions/owner/create_api_key.sql

-- >>> db/functions/owner/list_api_keys.sql
-- List API keys without their secrets, revoked ones included.
create or replace function ledger.list_api_keys(
  after    bigint  default 0,
  max_rows integer default 1000
) returns setof ledger.api_key
language sql stable
set search_path = ledger, ledger_internal, pg_temp
as $$
  select
    k.id,
    k.name,
    k.scope,
    k.group_id,
    k.created_at,
    k.revoked_at
  from api_keys as k
  where k.id > coalesce(list_api_keys.after, 0)
  order by k.id
  limit greatest(coalesce(list_api_keys.max_rows, 1000), 0)
$$;

alter function ledger.list_api_keys owner to ledger_owner;
comment on function ledger.list_api_keys is
  'The API keys with an id above after, at most max_rows of them, by ascending id. For the owner.';
revoke execute on function ledger.list_api_keys from public;
-- <<< db/functions/owner/list_api_keys.sql

-- >>> db/functions/owner/restart_feed.sql
-- Restart the feed after the ledger was restored from a backup.
create or replace function ledger.restart_feed()
returns integer
language plpgsql volatile
as $$
declare
  generation integer;
begin
  -- No session writes until this commits, so that every entry is either restored or new.
  lock table ledger.entries in share row exclusive mode;
  insert into ledger.feeds (generation, system_identifier, last_restored, first_xid)
  select
    (select max(f.generation) from ledger.feeds as f) + 1,
    c.system_identifier,
    (select coalesce(max(e.id), 0) from ledger.entries as e),
    pg_snapshot_xmin(pg_current_snapshot())
  from pg_control_system() as c
  on conflict do nothing
  returning feeds.generation into generation;
  if not found then
    raise exception using
      errcode = 'serialization_failure',
      message = 'the feed has just begun again';
  end if;
  return generation;
end
$$;

alter function ledger.restart_feed owner to ledger_owner;
comment on function ledger.restart_feed is
  'Restart the feed after a restore: earlier cursors are refused, and the restored entries come first. Returns the number of the new feed. Raises 40001 when another call began it. For the owner.';
revoke execute on function ledger.restart_feed from public;
-- <<< db/functions/owner/restart_feed.sql

-- >>> db/functions/owner/revoke_api_key.sql
-- Revoke an API key for good.
create or replace function ledger.revoke_api_key(
  key_id bigint
) returns ledger.api_key
language plpgsql volatile
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  revoked api_key;
begin
  perform refuse_invalid(array['key_id'], array[invalid_id(key_id)]);

  update api_keys as k
  set revoked_at = coalesce(k.revoked_at, clock_timestamp())
  where k.id = revoke_api_key.key_id
  returning k.id, k.name, k.scope, k.group_id, k.created_at, k.revoked_at into revoked;
  if not found then
    raise exception using
      errcode = 'LG002',
      column  = 'key_id',
      message = format('no API key %s', key_id),
      detail  = 'key_id: no such API key',
      hint    = 'List the API keys with ledger.list_api_keys().';
  end if;
  return revoked;
end
$$;

alter function ledger.revoke_api_key owner to ledger_owner;
comment on function ledger.revoke_api_key is
  'Revoke an API key: the service refuses it within 5 seconds. One that was revoked stays as it is. Raises LG001, LG002. For the owner.';
revoke execute on function ledger.revoke_api_key from public;
-- <<< db/functions/owner/revoke_api_key.sql

-- >>> db/functions/owner/verify.sql
-- Prove that the books are right, or list the discrepancies.
create or replace function ledger.verify(
  group_id bigint default null
) returns setof ledger.discrepancy
language plpgsql stable
as $$
declare
  -- Ids that are no positive number are looked at as well.
  lowest    bigint := -9223372036854775808;
  one_group bigint;
begin
  if verify.group_id is null then
    return query select f.* from ledger_internal.verify_schema() as f;
    return query select f.* from ledger_internal.verify_ledger() as f;
    return query select f.* from ledger_internal.verify_groups(lowest, null) as f;
    return query select f.* from ledger_internal.verify_ids(lowest, null) as f;
    return query select f.* from ledger_internal.verify_keys(0, '', null) as f;
  elsif not exists (select from ledger.groups as g where g.id = verify.group_id) then
    perform ledger_internal.refuse_unknown_group(group_id);
  else
    return query select f.* from ledger_internal.verify_groups(group_id - 1, group_id) as f;
  end if;

  for one_group in
    select distinct g.id
    from ledger.groups as g
    where verify.group_id is null
      or g.id = verify.group_id
    order by g.id
  loop
    return query select f.* from ledger_internal.verify_entries(one_group, lowest, null) as f;
    return query select f.* from ledger_internal.verify_participants(one_group, lowest, null) as f;
    return query select f.* from ledger_internal.verify_keys(one_group, '', null) as f;
    return query select f.* from ledger_internal.verify_total(one_group) as f;
  end loop;
end
$$;

alter function ledger.verify owner to ledger_owner;
comment on function ledger.verify is
  'One row for each discrepancy in the books of a group, or of all; none if they are right. What belongs to no group, the schema and ids that two groups share are looked at with all of them only. Takes no lock that stops anybody, but keeps its snapshot throughout: on a large ledger use the command ledger verify, which goes in short ranges and compares every object of the schema with what the migrations made. For the owner. Raises LG001, LG002.';
revoke execute on function ledger.verify from public;
-- <<< db/functions/owner/verify.sql

-- What holds for every row, whatever function writes it.
do $$
begin
  if not exists (
    select from pg_catalog.pg_constraint as c
    where c.conrelid = 'ledger.entries'::regclass and c.conname = 'entries_are_valid'
  ) then
    alter table ledger.entries
      add constraint entries_are_valid check (
        ledger_internal.entry_is_valid(id, kind, from_id, to_id, amount, from_amount, to_amount, metadata, reverses)
      );
    alter table ledger.participants
      add constraint participants_are_valid check (ledger_internal.participant_is_valid(username, amount, exited_at));
  end if;
end
$$;

create or replace trigger groups_are_kept
  before delete or truncate on ledger.groups
  for each statement execute function ledger_internal.forbid_mutation();
create or replace trigger participants_are_kept
  before delete or truncate on ledger.participants
  for each statement execute function ledger_internal.forbid_mutation();
create or replace trigger entries_are_permanent
  before update or delete or truncate on ledger.entries
  for each statement execute function ledger_internal.forbid_mutation();
create or replace trigger group_total_history_is_permanent
  before update or delete or truncate on ledger.group_total_history
  for each statement execute function ledger_internal.forbid_mutation();
create or replace trigger settlements_are_permanent
  before delete or truncate on ledger.settlements
  for each statement execute function ledger_internal.forbid_mutation();
create or replace trigger settlements_are_final
  before update on ledger.settlements
  for each row
  when (
    old.settled_at is not null
    or (old.group_id <> new.group_id or old.entry_id <> new.entry_id or old.exited_at <> new.exited_at)
  )
  execute function ledger_internal.forbid_mutation();
create or replace trigger name_changes_are_permanent
  before update or delete or truncate on ledger.name_changes
  for each statement execute function ledger_internal.forbid_mutation();
create or replace trigger idempotency_keys_are_permanent
  before update or delete or truncate on ledger.idempotency_keys
  for each statement execute function ledger_internal.forbid_mutation();
create or replace trigger feeds_are_permanent
  before update or delete or truncate on ledger.feeds
  for each statement execute function ledger_internal.forbid_mutation();
create or replace trigger api_keys_are_kept
  before delete or truncate on ledger.api_keys
  for each statement execute function ledger_internal.forbid_mutation();
