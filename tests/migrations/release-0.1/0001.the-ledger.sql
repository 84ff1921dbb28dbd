-- The ledger: roles, tables, views and the first rules.

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

  -- Whoever may do more than these roles are for would be let in, or run as, by all that follows.
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

create schema if not exists ledger authorization ledger_owner;
set local role ledger_owner;

comment on schema ledger is
  'Off-chain payment groups. Call the functions: \df ledger.*';
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

comment on table ledger.groups is 'Payment groups, those removed included.';
comment on column ledger.groups.id is 'Number of the group, never used again.';
comment on column ledger.groups.name is 'Unique among the groups that exist.';
comment on column ledger.groups.created_at is 'When the group was opened.';
comment on column ledger.groups.closed_at is 'When the group was removed; null while it exists.';

create table if not exists ledger.group_counters (
  group_id bigint not null,
  slot     smallint not null,
  total    numeric not null default 0,
  constraint group_counters_pkey primary key (group_id, slot),
  constraint group_counters_of_a_group foreign key (group_id) references ledger.groups (id),
  constraint group_counters_whole check (total = trunc(total))
) with (fillfactor = 50);

comment on table ledger.group_counters is
  'What a group''s participants hold together, in eight parts, so that joins and exits of different sessions do not wait for each other.';
comment on column ledger.group_counters.group_id is 'The group.';
comment on column ledger.group_counters.slot is 'Which of the eight parts, 0 to 7.';
comment on column ledger.group_counters.total is 'Deposits less final amounts counted here; only the sum of the parts means something.';

create table if not exists ledger.participants (
  group_id  bigint not null,
  id        bigint generated always as identity,
  username  text collate "C" not null,
  amount    numeric(78, 0) not null,
  joined_at timestamptz not null default clock_timestamp(),
  exited_at timestamptz,
  constraint participants_pkey primary key (group_id, id),
  constraint participants_of_a_group foreign key (group_id) references ledger.groups (id),
  constraint participants_username_not_empty check (username <> ''),
  constraint participants_amount_not_negative check (amount >= 0),
  constraint participants_amount_below_2_256 check (amount < 2::numeric ^ 256),
  constraint participants_hold_nothing_after_exit check (exited_at is null or amount = 0)
-- Room for a new version of a row on its own page: a transfer's update touches no index (HOT).
) with (fillfactor = 70);
create unique index if not exists participants_username_unique_while_present
  on ledger.participants (group_id, username)
  where exited_at is null;
create index if not exists participants_present
  on ledger.participants (group_id, id)
  where exited_at is null;

comment on table ledger.participants is 'Who is or was in a group, with the balance.';
comment on column ledger.participants.group_id is 'The group.';
comment on column ledger.participants.id is 'Number of the participant, never used again.';
comment on column ledger.participants.username is 'Unique among those present in the group.';
comment on column ledger.participants.amount is 'Balance in the smallest unit; 0 after the exit.';
comment on column ledger.participants.joined_at is 'When the participant joined.';
comment on column ledger.participants.exited_at is 'When the participant left; null while present.';

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
  constraint entries_pkey primary key (group_id, id),
  constraint entries_from_a_participant foreign key (group_id, from_id) references ledger.participants (group_id, id),
  constraint entries_to_a_participant foreign key (group_id, to_id) references ledger.participants (group_id, id),
  constraint entries_sides_fit_kind check (
    case
      when kind = 'join' then from_id is null and to_id is not null
      when kind = 'transfer' then from_id is not null and to_id is not null and from_id <> to_id
      when kind = 'exit' then from_id is not null and to_id is null
      else false
    end
  ),
  constraint entries_balance_for_each_side check (
    (from_id is null) = (from_amount is null) and (to_id is null) = (to_amount is null)
  ),
  constraint entries_amounts_not_negative check (amount >= 0 and from_amount >= 0 and to_amount >= 0),
  constraint entries_amounts_below_2_256 check (
    amount < 2::numeric ^ 256 and from_amount < 2::numeric ^ 256 and to_amount < 2::numeric ^ 256
  )
);

comment on table ledger.entries is
  'The permanent record: every movement with both its sides. Money enters a group by a join and leaves it by an exit.';
comment on column ledger.entries.group_id is 'The group.';
comment on column ledger.entries.id is 'Number of the entry.';
comment on column ledger.entries.kind is 'join, transfer or exit.';
comment on column ledger.entries.from_id is 'The participant whose balance went down; null for a join, whose money comes from the main network.';
comment on column ledger.entries.to_id is 'The participant whose balance went up; null for an exit, whose money returns to the main network.';
comment on column ledger.entries.amount is 'What moved, in the smallest unit.';
comment on column ledger.entries.from_amount is 'The balance of from_id after it.';
comment on column ledger.entries.to_amount is 'The balance of to_id after it.';
comment on column ledger.entries.created_at is 'When it moved, taken while both sides were locked.';

create or replace view ledger.current_groups as
select
  g.name,
  g.id
from ledger.groups as g
where g.closed_at is null;

comment on view ledger.current_groups is 'The groups that exist.';
comment on column ledger.current_groups.name is 'Unique among them.';
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
comment on column ledger.current_participants.username is 'Unique among those present in the group.';
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

do $$
begin
  if to_regtype('ledger.join_result') is null then
    create type ledger.join_result as (
      username text,
      id       bigint,
      group_id bigint,
      amount   numeric,
      entry_id bigint
    );
  end if;
  if to_regtype('ledger.exit_result') is null then
    create type ledger.exit_result as (
      final_amount numeric,
      entry_id     bigint
    );
  end if;
  if to_regtype('ledger.transfer_result') is null then
    create type ledger.transfer_result as (
      to_participant   ledger.current_participants,
      from_participant ledger.current_participants,
      entry_id         bigint
    );
  end if;
end
$$;

comment on type ledger.join_result is 'The participant who joined, and the entry that the join wrote.';
comment on type ledger.exit_result is 'What the participant left with, and the entry that the exit wrote.';
comment on type ledger.transfer_result is 'Both participants after the transfer, and the entry that it wrote.';

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

-- >>> db/functions/count_in_total.sql
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

-- >>> db/functions/create_group.sql
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

-- >>> db/functions/get_group.sql
-- Show one group.
create or replace function ledger.get_group(
  group_id bigint
) returns ledger.current_groups
language plpgsql stable security definer
set search_path = ledger, pg_temp
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
-- <<< db/functions/get_group.sql

-- >>> db/functions/get_participant.sql
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

-- >>> db/functions/health.sql
-- Answer, so that a health check knows that the database can.
create or replace function ledger.health(
  out status text
)
language sql stable security definer parallel safe
set search_path = ledger, pg_temp
as $$
  select 'ok'
$$;

alter function ledger.health owner to ledger_owner;
comment on function ledger.health is
  'Returns ok while the database answers.';
revoke execute on function ledger.health from public;
grant execute on function ledger.health to ledger_api;
-- <<< db/functions/health.sql

-- >>> db/functions/id_fault.sql
-- Say what is wrong with an id, or null when nothing is.
create or replace function ledger.id_fault(
  id bigint
) returns text
language sql immutable parallel safe
as $$
  select case when id_fault.id is null then 'must be given' end
$$;

alter function ledger.id_fault owner to ledger_owner;
comment on function ledger.id_fault is
  'What is wrong with an id that must be given; null when nothing is.';
revoke execute on function ledger.id_fault from public;
-- <<< db/functions/id_fault.sql

-- >>> db/functions/join_group.sql
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

-- >>> db/functions/list_groups.sql
-- List the groups that exist, a page at a time.
create or replace function ledger.list_groups(
  after    bigint  default 0,
  max_rows integer default 1000
) returns setof ledger.current_groups
language sql stable security definer
set search_path = ledger, pg_temp
as $$
  select g.*
  from current_groups as g
  where g.id > coalesce(list_groups.after, 0)
  order by g.id
  limit greatest(coalesce(list_groups.max_rows, 1000), 0)
$$;

alter function ledger.list_groups owner to ledger_owner;
comment on function ledger.list_groups is
  'The groups that exist with an id above after, at most max_rows of them, by ascending id.';
revoke execute on function ledger.list_groups from public;
grant execute on function ledger.list_groups to ledger_api;
-- <<< db/functions/list_groups.sql

-- >>> db/functions/list_participants.sql
-- List the participants present in a group, a page at a time.
create or replace function ledger.list_participants(
  group_id bigint,
  after    bigint  default 0,
  max_rows integer default 1000
) returns setof ledger.current_participants
language plpgsql stable security definer
set search_path = ledger, pg_temp
as $$
begin
  perform get_group(group_id);

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
  'The participants present in the group with an id above after, at most max_rows of them, by ascending id. Raises LG001, LG002.';
revoke execute on function ledger.list_participants from public;
grant execute on function ledger.list_participants to ledger_api;
-- <<< db/functions/list_participants.sql

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

-- >>> db/functions/refuse_invalid.sql
-- Raise LG001 with every fault found in a function's arguments; return when there is none.
create or replace function ledger.refuse_invalid(
  fields text[],
  faults text[]
) returns void
language plpgsql immutable
as $$
declare
  first_field text;
  first_fault text;
  all_faults  text;
begin
  select
    (array_agg(f.field order by f.position))[1],
    (array_agg(f.fault order by f.position))[1],
    string_agg(f.field || ': ' || f.fault, E'\n' order by f.position)
  into first_field, first_fault, all_faults
  from unnest(refuse_invalid.fields, refuse_invalid.faults) with ordinality as f (field, fault, position)
  where f.fault is not null;

  if first_field is not null then
    raise exception using
      errcode = 'LG001',
      column  = first_field,
      message = format('%s %s', first_field, first_fault),
      detail  = all_faults,
      hint    = 'Correct each value that DETAIL names.';
  end if;
end
$$;

alter function ledger.refuse_invalid owner to ledger_owner;
comment on function ledger.refuse_invalid is
  'Raise LG001 when any of the faults, one for each of the fields, is not null. DETAIL has a line "field: fault" for each.';
revoke execute on function ledger.refuse_invalid from public;
-- <<< db/functions/refuse_invalid.sql

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
    hint    = 'Correct a mistake by a new movement: ledger.transfer, ledger.join_group or ledger.exit_group.';
end
$$;

alter function ledger.refuse_rewriting owner to ledger_owner;
comment on function ledger.refuse_rewriting is
  'Trigger that refuses UPDATE, DELETE and TRUNCATE on permanent tables, to their owner as well. Raises 23001.';
revoke execute on function ledger.refuse_rewriting from public;
-- <<< db/functions/refuse_rewriting.sql

-- >>> db/functions/refuse_taken.sql
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

-- >>> db/functions/refuse_unknown_group.sql
-- Raise LG002 for a group that does not exist or was removed.
create or replace function ledger.refuse_unknown_group(
  group_id bigint
) returns void
language plpgsql immutable
as $$
begin
  perform ledger.refuse_invalid(array['group_id'], array[ledger.id_fault(group_id)]);
  raise exception using
    errcode = 'LG002',
    column  = 'group_id',
    message = format('no group %s', group_id),
    detail  = 'group_id: no such group',
    hint    = 'List the groups that exist with ledger.list_groups().';
end
$$;

alter function ledger.refuse_unknown_group owner to ledger_owner;
comment on function ledger.refuse_unknown_group is
  'Raise LG002 for a group that does not exist or was removed, LG001 for a null.';
revoke execute on function ledger.refuse_unknown_group from public;
-- <<< db/functions/refuse_unknown_group.sql

-- >>> db/functions/refuse_unknown_participants.sql
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

-- >>> db/functions/remove_group.sql
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

-- >>> db/functions/transfer.sql
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

create or replace trigger entries_are_permanent
  before update or delete or truncate on ledger.entries
  for each statement execute function ledger.refuse_rewriting();
create or replace trigger participants_are_kept
  before delete or truncate on ledger.participants
  for each statement execute function ledger.refuse_rewriting();
create or replace trigger groups_are_kept
  before delete or truncate on ledger.groups
  for each statement execute function ledger.refuse_rewriting();
