-- The record.
-- depends: 0003.idempotency-keys

set local lock_timeout = '5s';
set local role ledger_owner;
-- Functions may call each other in any order.
set local check_function_bodies = off;

-- The order of the locks is that of the functions.
lock table ledger.groups, ledger.participants, ledger.group_counters, ledger.entries in access exclusive mode;

-- History: when each side and each counter last moved, which an entry's time is never below.
do $$
begin
  if not exists (
    select from pg_catalog.pg_attribute as a
    where a.attrelid = 'ledger.participants'::regclass and a.attname = 'moved_at' and not a.attisdropped
  ) then
    -- A constant, so that no row is rewritten. Nobody has moved since.
    execute format('alter table ledger.participants add column moved_at timestamptz not null default %L', clock_timestamp());
    execute format('alter table ledger.group_counters add column changed_at timestamptz not null default %L', clock_timestamp());
  end if;
end
$$;
alter table ledger.participants alter column moved_at set default clock_timestamp();
alter table ledger.group_counters alter column changed_at set default clock_timestamp();

comment on column ledger.participants.moved_at is 'The time of the last entry, or a later one.';
comment on column ledger.group_counters.changed_at is 'The time of the last join or exit counted here, or a later one.';

-- What entries were written before has number 0: all those transactions have ended.
alter table ledger.entries add column if not exists xid xid8 not null default '0';
alter table ledger.entries alter column xid set default pg_current_xact_id();
alter table ledger.entries add column if not exists metadata jsonb;
alter table ledger.entries add column if not exists reverses bigint;

comment on column ledger.entries.created_at is 'When it moved, taken while both sides were locked; never below the time of either side''s previous entry.';
comment on column ledger.entries.xid is 'The transaction that wrote it, for the feed.';
comment on column ledger.entries.metadata is 'What the client noted with it: a JSON object of at most 4096 bytes.';
comment on column ledger.entries.reverses is 'The transfer whose amount it moves back.';

do $$
begin
  if not exists (
    select from pg_catalog.pg_constraint as c
    where c.conrelid = 'ledger.entries'::regclass and c.conname = 'entries_reverse_an_earlier_transfer'
  ) then
    alter table ledger.entries
      add constraint entries_reverse_an_earlier_transfer check (reverses is null or (kind = 'transfer' and reverses < id)),
      add constraint entries_metadata_is_an_object check (jsonb_typeof(metadata) = 'object');
  end if;
end
$$;

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
-- These two cost an entry that has neither nothing but the look at its condition.
create unique index if not exists entries_reversed_once
  on ledger.entries (group_id, reverses)
  where reverses is not null;
create index if not exists entries_by_metadata
  on ledger.entries using gin (metadata jsonb_path_ops)
  where metadata is not null;

create table if not exists ledger.group_totals (
  group_id   bigint not null,
  slot       smallint not null,
  created_at timestamptz not null,
  entry_id   bigint not null,
  total      numeric not null,
  constraint group_totals_pkey primary key (group_id, slot, created_at, entry_id),
  constraint group_totals_of_an_entry foreign key (group_id, entry_id) references ledger.entries (group_id, id)
);

comment on table ledger.group_totals is 'What each counter of a group''s total came to with each join and exit, to find the total of a past moment.';
comment on column ledger.group_totals.group_id is 'The group.';
comment on column ledger.group_totals.slot is 'Which of the eight counters, 0 to 7.';
comment on column ledger.group_totals.created_at is 'The time of the entry.';
comment on column ledger.group_totals.entry_id is 'The join or exit.';
comment on column ledger.group_totals.total is 'The counter after it; only the sum of the eight means something.';

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

comment on table ledger.settlements is 'For each exit the transaction on the main network that paid it out, once it is known.';
comment on column ledger.settlements.group_id is 'The group.';
comment on column ledger.settlements.entry_id is 'The exit.';
comment on column ledger.settlements.exited_at is 'The time of the exit.';
comment on column ledger.settlements.reference is 'The transaction on the main network; null while it is not known.';
comment on column ledger.settlements.settled_at is 'When that was noted.';

create table if not exists ledger.feeds (
  generation        integer,
  system_identifier bigint not null,
  last_restored     bigint not null,
  first_xid         xid8 not null,
  began_at          timestamptz not null default clock_timestamp(),
  constraint feeds_pkey primary key (generation)
);
insert into ledger.feeds (generation, system_identifier, last_restored, first_xid)
select
  1,
  c.system_identifier,
  0,
  '0'
from pg_control_system() as c
on conflict do nothing;

comment on table ledger.feeds is 'The feeds of all groups'' entries that there were: the first one, and one after each restore of a backup.';
comment on column ledger.feeds.generation is 'Number of the feed; the highest is the one that is read.';
comment on column ledger.feeds.system_identifier is 'The server it belongs to: another one counts transactions differently.';
comment on column ledger.feeds.last_restored is 'The highest id of an entry that came with the backup; 0 for the first feed.';
comment on column ledger.feeds.first_xid is 'No transaction below it wrote an entry that did not come with the backup.';
comment on column ledger.feeds.began_at is 'When it began.';

-- What was written without them: all of it the first time, and after a roll-back what came since.
do $$
declare
  behind bigint;
begin
  update ledger.participants as p
  set joined_at = e.created_at
  from ledger.entries as e
  where e.group_id = p.group_id
    and e.to_id = p.id
    and e.kind = 'join'
    and p.joined_at <> e.created_at;

  update ledger.participants as p
  set exited_at = e.created_at
  from ledger.entries as e
  where e.group_id = p.group_id
    and e.from_id = p.id
    and e.kind = 'exit'
    and p.exited_at <> e.created_at;

  update ledger.participants as p
  set moved_at = e.created_at
  from (
    select
      s.group_id,
      s.id,
      max(e.created_at) as created_at
    from ledger.entries as e
    cross join lateral (values (e.group_id, e.from_id), (e.group_id, e.to_id)) as s (group_id, id)
    -- None the first time, when everybody has just been given a later one.
    where e.created_at > (select min(p.moved_at) from ledger.participants as p)
    group by s.group_id, s.id
  ) as e
  where p.group_id = e.group_id
    and p.id = e.id
    and p.moved_at < e.created_at;

  insert into ledger.settlements (group_id, entry_id, exited_at)
  select
    e.group_id,
    e.id,
    e.created_at
  from ledger.entries as e
  where e.kind = 'exit'
    and not exists (
      select from ledger.settlements as s
      where s.group_id = e.group_id
        and s.entry_id = e.id
    );

  for behind in
    select distinct e.group_id
    from ledger.entries as e
    where e.kind <> 'transfer'
      and not exists (
        select from ledger.group_totals as t
        where t.group_id = e.group_id
          and t.entry_id = e.id
      )
  loop
    -- Which counter an old entry went to is not known: the first one takes over the whole total.
    delete from ledger.group_totals as t
    where t.group_id = behind;

    insert into ledger.group_totals (group_id, slot, created_at, entry_id, total)
    select
      e.group_id,
      0,
      e.created_at,
      e.id,
      sum(case when e.kind = 'join' then e.amount else -e.amount end) over (order by e.created_at, e.id)
    from ledger.entries as e
    where e.group_id = behind
      and e.kind <> 'transfer';

    update ledger.group_counters as c
    set
      total = case when c.slot = 0 then s.total else 0 end,
      changed_at = greatest(c.changed_at, s.changed_at)
    from (
      select
        (select sum(c.total) from ledger.group_counters as c where c.group_id = behind) as total,
        (select max(t.created_at) from ledger.group_totals as t where t.group_id = behind) as changed_at
    ) as s
    where c.group_id = behind;
  end loop;
end
$$;

create or replace trigger group_totals_are_permanent
  before update or delete or truncate on ledger.group_totals
  for each statement execute function ledger.refuse_rewriting();
create or replace trigger feeds_are_permanent
  before update or delete or truncate on ledger.feeds
  for each statement execute function ledger.refuse_rewriting();
create or replace trigger settlements_are_permanent
  before delete or truncate on ledger.settlements
  for each statement execute function ledger.refuse_rewriting();
create or replace trigger settlements_are_final
  before update on ledger.settlements
  for each row
  when (old.settled_at is not null or (old.group_id, old.entry_id, old.exited_at) <> (new.group_id, new.entry_id, new.exited_at))
  execute function ledger.refuse_rewriting();

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

comment on column ledger.record.metadata is 'What the client noted with it.';
comment on column ledger.record.reverses is 'The transfer whose amount it moves back.';
comment on column ledger.record.reversed_by is 'The transfer that moved its amount back.';
comment on column ledger.record.reference is 'Of an exit: the transaction on the main network that paid it out.';
comment on column ledger.record.settled_at is 'Of an exit: when that was noted.';

do $$
begin
  if to_regtype('ledger.entry_result') is null then
    create type ledger.entry_result as (
      group_id    bigint,
      id          bigint,
      kind        text,
      from_id     bigint,
      to_id       bigint,
      amount      numeric,
      from_amount numeric,
      to_amount   numeric,
      created_at  timestamptz,
      metadata    jsonb,
      reverses    bigint,
      reversed_by bigint,
      reference   text,
      settled_at  timestamptz,
      replayed    boolean
    );
    create type ledger.feed_entry as (
      cursor      text,
      group_id    bigint,
      id          bigint,
      kind        text,
      from_id     bigint,
      to_id       bigint,
      amount      numeric,
      from_amount numeric,
      to_amount   numeric,
      created_at  timestamptz,
      metadata    jsonb,
      reverses    bigint,
      reversed_by bigint,
      reference   text,
      settled_at  timestamptz
    );
    create type ledger.feed_place as (
      generation    integer,
      last_restored bigint,
      restored_xid  xid8,
      restored_id   bigint,
      xid           xid8,
      id            bigint
    );
    create type ledger.history_bounds as (
      low_at  timestamptz,
      low_id  bigint,
      high_at timestamptz,
      high_id bigint
    );
    create type ledger.history_moment as (
      created_at timestamptz,
      id         bigint
    );
    create type ledger.leg as (
      id         bigint,
      kind       text,
      created_at timestamptz,
      balance    numeric
    );
    create type ledger.transfer_lines as (
      from_ids  bigint[],
      to_ids    bigint[],
      amounts   numeric[],
      metadatas jsonb[]
    );
    create type ledger.transfer_sides as (
      ids      bigint[],
      amounts  numeric[],
      moved_at timestamptz
    );
    create type ledger.transfer_entry as (
      id          bigint,
      from_id     bigint,
      to_id       bigint,
      amount      numeric,
      from_amount numeric,
      to_amount   numeric
    );
    create type ledger.transfer_all_result as (
      entries      ledger.transfer_entry[],
      participants ledger.current_participants[],
      replayed     boolean
    );
    create type ledger.fault as (
      group_id       bigint,
      entry_id       bigint,
      participant_id bigint,
      fault          text,
      detail         text
    );
  end if;
end
$$;

comment on type ledger.entry_result is 'The entry, and whether an earlier request did it.';
comment on type ledger.feed_entry is 'An entry and its place in the feed.';
comment on type ledger.feed_place is 'A place in the feed: what a restored dump brought along comes after (restored_xid, restored_id), and what was written since after (xid, id).';
comment on type ledger.history_bounds is 'Two places in a group''s history, which goes by time and then by id; both exclusive.';
comment on type ledger.history_moment is 'A place in a group''s history, inclusive.';
comment on type ledger.leg is 'One side of an entry: the entry, and the balance of that side after it.';
comment on type ledger.transfer_lines is 'The lines of a multi-party transfer, by columns.';
comment on type ledger.transfer_sides is 'Who takes part in a multi-party transfer: ids, balances before it, and when the last of them moved.';
comment on type ledger.transfer_entry is 'An entry of a multi-party transfer.';
comment on type ledger.transfer_all_result is 'The entries by line, the participants after all of them, and whether an earlier request with the same key did it.';
comment on type ledger.fault is 'Something that is wrong with the books: the entry or the participant where it shows, what it is, and in which way.';

-- >>> db/functions/count_in_total.sql
drop function if exists ledger.count_in_total;
-- Add a deposit to a group's total, or take an exit's amount off.
create or replace function ledger.count_in_total(
  group_id   bigint,
  amount     numeric,
  not_before timestamptz
) returns ledger.group_counters
language plpgsql volatile
as $$
declare
  counter ledger.group_counters;
begin
  -- trunc() takes the zeros off a deposit spelled 100.0, which would show in every total after it.
  -- A session always takes the same one of the eight counters, so a transaction of many joins and exits holds one and
  -- cannot deadlock with another over two. Its times ascend, also when the clock does not.
  update ledger.group_counters as c
  set
    total = c.total + trunc(count_in_total.amount),
    changed_at = greatest(clock_timestamp(), c.changed_at, count_in_total.not_before)
  where c.group_id = count_in_total.group_id
    and c.slot = pg_backend_pid() % 8
  returning c.* into counter;
  if not found then
    raise exception 'group % has lost a counter', group_id;
  end if;
  return counter;
end
$$;

alter function ledger.count_in_total owner to ledger_owner;
comment on function ledger.count_in_total is
  'Add an amount, negative for an exit, to one of the counters that make up the group''s total; its changed_at, not below not_before, is the time of the movement.';
revoke execute on function ledger.count_in_total from public;
-- <<< db/functions/count_in_total.sql

-- >>> db/functions/exit_group.sql
drop function if exists ledger.exit_group;
-- Leave a group with the final amount, which returns to the main network.
create or replace function ledger.exit_group(
  group_id        bigint,
  participant_id  bigint,
  idempotency_key text  default null,
  metadata        jsonb default null
) returns ledger.exit_result
language plpgsql volatile security definer
set search_path = ledger, pg_temp
as $$
declare
  request    text[] := array['exit_group', participant_id::text, metadata::text];
  answer     json;
  exited     exit_result;
  last_moved timestamptz;
  counter    group_counters;
begin
  perform refuse_invalid(
    array['group_id', 'participant_id', 'idempotency_key', 'metadata'],
    array[id_fault(group_id), id_fault(participant_id), key_fault(idempotency_key), metadata_fault(metadata)]
  );

  if idempotency_key is not null then
    answer := replay(group_id, idempotency_key, request);
    if answer is not null then
      exited := json_populate_record(exited, answer);
      exited.replayed := true;
      return exited;
    end if;
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

  counter := count_in_total(group_id, -exited.final_amount, last_moved);

  update participants as p
  set
    amount = 0,
    moved_at = counter.changed_at,
    exited_at = counter.changed_at
  where p.group_id = exit_group.group_id
    and p.id = exit_group.participant_id;

  insert into entries (group_id, kind, from_id, amount, from_amount, created_at, metadata)
  values (
    exit_group.group_id, 'exit', exit_group.participant_id, exited.final_amount, 0, counter.changed_at,
    exit_group.metadata
  )
  returning entries.id into exited.entry_id;
  perform remember_total(counter, exited.entry_id);

  insert into settlements (group_id, entry_id, exited_at)
  values (exit_group.group_id, exited.entry_id, counter.changed_at);

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
-- Read a cursor of the feed.
create or replace function ledger.feed_place(
  after text
) returns ledger.feed_place
language plpgsql stable
as $$
declare
  feed  ledger.feeds;
  part  text[];
  place ledger.feed_place;
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

  part := regexp_match(after collate "C", '^([0-9]+)-([0-9]+)-([0-9]+)$');
  if part is null or length(part[1]) > 9 or length(part[2]) > 19 or ledger.spelled_id(part[3]) is null then
    perform ledger.refuse_invalid(array['after'], array['must be a cursor of the feed']);
  end if;
  if part[1]::integer <> feed.generation
    or (part[3]::bigint > feed.last_restored and part[2]::xid8 >= pg_snapshot_xmax(pg_current_snapshot()))
  then
    raise exception using
      errcode = 'LG009',
      column  = 'after',
      message = 'the cursor belongs to a feed that has ended',
      detail  = 'after: belongs to a feed that has ended',
      hint    = 'The ledger was restored from a backup. Read the feed from its beginning, without a cursor.';
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

alter function ledger.feed_place owner to ledger_owner;
comment on function ledger.feed_place is
  'Where in the feed a cursor stands; its beginning for null. Raises LG001 for what is no cursor, LG009 for one of a feed that a restored backup ended.';
revoke execute on function ledger.feed_place from public;
-- <<< db/functions/feed_place.sql

-- >>> db/functions/fingerprint.sql
-- Tell two requests apart.
create or replace function ledger.fingerprint(
  request text[]
) returns bytea
language sql immutable parallel safe
as $$
  -- What is not given leaves no trace, so that a key outlives the coming of a new optional parameter.
  select sha256(convert_to(array_remove(fingerprint.request, null)::text, 'UTF8'))
$$;

alter function ledger.fingerprint owner to ledger_owner;
comment on function ledger.fingerprint is
  'SHA-256 of a request, an operation and its values, those that are null left out; equal for equal requests only.';
revoke execute on function ledger.fingerprint from public;
-- <<< db/functions/fingerprint.sql

-- >>> db/functions/get_entry.sql
-- Show one entry.
create or replace function ledger.get_entry(
  group_id bigint,
  entry_id bigint
) returns ledger.record
language plpgsql stable security definer
set search_path = ledger, pg_temp
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
-- <<< db/functions/get_entry.sql

-- >>> db/functions/get_participant.sql
drop function if exists ledger.get_participant;
-- Show one participant with the balance, now or at a past moment.
create or replace function ledger.get_participant(
  group_id       bigint,
  participant_id bigint,
  at_time        timestamptz default null,
  at_entry       bigint      default null
) returns ledger.current_participants
language plpgsql stable security definer
set search_path = ledger, pg_temp
as $$
declare
  in_history  boolean := at_time is not null or at_entry is not null;
  participant current_participants;
begin
  if in_history then
    perform refuse_invalid(
      array['group_id', 'participant_id'],
      array[id_fault(group_id), id_fault(participant_id)]
    );
    participant := past_participant(group_id, participant_id, history_moment(group_id, at_time, at_entry));
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
  'One participant who is present in the group; with a time, or an entry of the group, one who was present then, with the balance then. Raises LG001, LG002.';
revoke execute on function ledger.get_participant from public;
grant execute on function ledger.get_participant to ledger_api;
-- <<< db/functions/get_participant.sql

-- >>> db/functions/group_total.sql
drop function if exists ledger.group_total;
-- Add up what a group's participants hold, now or at a past moment.
create or replace function ledger.group_total(
  group_id bigint,
  at_time  timestamptz default null,
  at_entry bigint      default null
) returns numeric
language plpgsql stable security definer
set search_path = ledger, pg_temp
as $$
declare
  total numeric;
begin
  -- A transfer does not change the total, so joins and exits keep it in a few counters that need no adding up of balances.
  if at_time is null and at_entry is null then
    select sum(c.total)
    into total
    from groups as g
    join group_counters as c on c.group_id = g.id
    where g.id = group_total.group_id
      and g.closed_at is null;
  else
    total := past_total(group_id, history_moment(group_id, at_time, at_entry));
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
-- <<< db/functions/group_total.sql

-- >>> db/functions/history_bounds.sql
-- Put what limits a page of a group's history into two places in it.
create or replace function ledger.history_bounds(
  group_id bigint,
  since    timestamptz,
  until    timestamptz,
  after    bigint,
  before   bigint
) returns ledger.history_bounds
language plpgsql stable
as $$
declare
  earlier ledger.entries;
  later   ledger.entries;
  bounds  ledger.history_bounds;
begin
  if not exists (select from ledger.groups as g where g.id = history_bounds.group_id) then
    perform ledger.refuse_unknown_group(group_id);
  end if;

  select e.*
  into earlier
  from ledger.entries as e
  where e.group_id = history_bounds.group_id
    and e.id = history_bounds.after;
  select e.*
  into later
  from ledger.entries as e
  where e.group_id = history_bounds.group_id
    and e.id = history_bounds.before;
  perform ledger.refuse_invalid(
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

alter function ledger.history_bounds owner to ledger_owner;
comment on function ledger.history_bounds is
  'The two places in a group''s history, both exclusive, between which lies what is since (inclusive), until (exclusive), after and before; 0 stands for no entry. Raises LG001 for an after or before that is no entry of the group, LG002 for a group that never was.';
revoke execute on function ledger.history_bounds from public;
-- <<< db/functions/history_bounds.sql

-- >>> db/functions/history_moment.sql
-- Say which place in a group's history a moment is.
create or replace function ledger.history_moment(
  group_id bigint,
  at_time  timestamptz,
  at_entry bigint
) returns ledger.history_moment
language plpgsql stable
as $$
declare
  moment ledger.history_moment;
begin
  perform ledger.refuse_invalid(
    array['group_id', 'at_time', 'at_entry'],
    array[
      ledger.id_fault(group_id),
      case when at_time > clock_timestamp() then 'must not be in the future' end,
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
  where e.group_id = history_moment.group_id
    and e.id = history_moment.at_entry;
  if not found then
    perform ledger.refuse_unknown_entry(group_id, 'at_entry', at_entry);
  end if;
  return moment;
end
$$;

alter function ledger.history_moment owner to ledger_owner;
comment on function ledger.history_moment is
  'The last place of a group''s history that counts at a time, or after an entry. Raises LG001 for a time in the future, LG002 for an entry that the group does not have.';
revoke execute on function ledger.history_moment from public;
-- <<< db/functions/history_moment.sql

-- >>> db/functions/history_page.sql
-- Spell the query of a page of history.
create or replace function ledger.history_page(
  source       text,
  newest_first boolean
) returns text
language sql stable
as $$
  -- The limit and the offset keep the planner from joining whole tables for one page.
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

alter function ledger.history_page owner to ledger_owner;
comment on function ledger.history_page is
  'The query of a page of history: source, which ends in a where clause, calls the entries e and spells their order as {direction}. $1 is the group, $3 to $6 its bounds, $7 the limit.';
revoke execute on function ledger.history_page from public;
-- <<< db/functions/history_page.sql

-- >>> db/functions/join_group.sql
drop function if exists ledger.join_group;
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
  request text[] := array['join_group', username, trunc(amount)::text, metadata::text];
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

-- >>> db/functions/kind_fault.sql
-- Say what is wrong with a kind of entry, or null when nothing is or none is asked for.
create or replace function ledger.kind_fault(
  kind text
) returns text
language sql immutable parallel safe
as $$
  select case when kind_fault.kind not in ('join', 'transfer', 'exit') then 'must be join, transfer or exit' end
$$;

alter function ledger.kind_fault owner to ledger_owner;
comment on function ledger.kind_fault is
  'What is wrong with a kind of entry; null when nothing is, or there is none.';
revoke execute on function ledger.kind_fault from public;
-- <<< db/functions/kind_fault.sql

-- >>> db/functions/last_leg.sql
-- Find the last entry of a participant at a moment.
create or replace function ledger.last_leg(
  group_id       bigint,
  participant_id bigint,
  moment         ledger.history_moment
) returns setof ledger.leg
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
      where e.group_id = last_leg.group_id
        and e.from_id = last_leg.participant_id
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
      where e.group_id = last_leg.group_id
        and e.to_id = last_leg.participant_id
        and (e.created_at, e.id) <= ((moment).created_at, (moment).id)
      order by e.created_at desc, e.id desc
      limit 1
    )
  ) as l
  order by l.created_at desc, l.id desc
  limit 1
$$;

alter function ledger.last_leg owner to ledger_owner;
comment on function ledger.last_leg is
  'The last entry of a participant up to a moment, with the participant''s balance after it; no row when there is none. Two look-ups in an index.';
revoke execute on function ledger.last_leg from public;
-- <<< db/functions/last_leg.sql

-- >>> db/functions/list_entries.sql
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
set search_path = ledger, pg_temp
as $$
declare
  kinds  text[] := case when kind is null then array['join', 'transfer', 'exit'] else array[kind] end;
  bounds history_bounds;
  source text;
begin
  perform refuse_invalid(
    array['group_id', 'kind', 'settled', 'metadata'],
    array[
      id_fault(group_id),
      kind_fault(kind),
      case when settled is not null and kind <> 'exit' then 'goes with the kind exit' end,
      metadata_fault(metadata)
    ]
  );
  bounds := history_bounds(group_id, since, until, after, before);

  -- Planned anew at each call, for the filter and the direction it has: a range of one index, whatever is stored.
  if metadata is not null then
    -- Found through the index on metadata alone, then sorted: meant for values that few entries have.
    source := $source$
      (with found as materialized (select * from entries as f where f.metadata is not null and f.metadata @> $9)
      select * from found as f where f.group_id = $1 and f.kind = any ($2)) as e
      where ($8 is null or exists (
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

  return query execute history_page(source, newest_first)
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
-- <<< db/functions/list_entries.sql

-- >>> db/functions/list_participant_entries.sql
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
set search_path = ledger, pg_temp
as $$
declare
  kinds  text[] := case when kind is null then array['join', 'transfer', 'exit'] else array[kind] end;
  bounds history_bounds;
  source text;
begin
  perform refuse_invalid(
    array['group_id', 'participant_id', 'kind', 'metadata'],
    array[id_fault(group_id), id_fault(participant_id), kind_fault(kind), metadata_fault(metadata)]
  );
  bounds := history_bounds(group_id, since, until, after, before);
  if not exists (
    select from participants as p
    where p.group_id = list_participant_entries.group_id
      and p.id = list_participant_entries.participant_id
  ) then
    perform refuse_unknown_participants(group_id, array['participant_id'], array[participant_id], in_history => true);
  end if;

  -- Planned anew at each call, as the filter and the direction are: a range of each side's index.
  if metadata is not null then
    source := $source$
      (with found as materialized (select * from entries as f where f.metadata is not null and f.metadata @> $9)
      select * from found as f where f.group_id = $1 and $8 in (f.from_id, f.to_id) and f.kind = any ($2)) as e
      where true
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

  return query execute history_page(source, newest_first)
  using
    group_id, kinds, bounds.low_at, bounds.low_id, bounds.high_at, bounds.high_id,
    greatest(coalesce(max_rows, 1000), 0), participant_id, metadata;
end
$$;

alter function ledger.list_participant_entries owner to ledger_owner;
comment on function ledger.list_participant_entries is
  'The entries of a participant, also of one who exited, by time and then id, chosen as with list_entries. Raises LG001, LG002.';
revoke execute on function ledger.list_participant_entries from public;
grant execute on function ledger.list_participant_entries to ledger_api;
-- <<< db/functions/list_participant_entries.sql

-- >>> db/functions/lock_sides.sql
-- Lock all who take part in a multi-party transfer.
create or replace function ledger.lock_sides(
  group_id bigint,
  lines    ledger.transfer_lines
) returns ledger.transfer_sides
language plpgsql volatile
as $$
declare
  wanted  bigint[];
  held    ledger.transfer_sides;
  fields  text[];
  missing bigint[];
begin
  select array_agg(distinct s.id)
  into wanted
  from unnest(lines.from_ids || lines.to_ids) as s (id);

  -- In ascending id, as every transfer does.
  select
    array_agg(s.id),
    array_agg(s.amount),
    max(s.moved_at)
  into
    held.ids,
    held.amounts,
    held.moved_at
  from (
    select p.*
    from ledger.participants as p
    where p.group_id = lock_sides.group_id
      and p.id = any (wanted)
      and p.exited_at is null
    order by p.id
    for no key update
  ) as s;

  if cardinality(held.ids) is distinct from cardinality(wanted) then
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
      where s.id <> all (coalesce(held.ids, '{}'))
      order by l.line
      limit 100
    ) as m;
    perform ledger.refuse_unknown_participants(group_id, fields, missing);
  end if;
  return held;
end
$$;

alter function ledger.lock_sides owner to ledger_owner;
comment on function ledger.lock_sides is
  'Lock the participants of a multi-party transfer until the transaction ends; returns them by ascending id. Raises LG002.';
revoke execute on function ledger.lock_sides from public;
-- <<< db/functions/lock_sides.sql

-- >>> db/functions/metadata_fault.sql
-- Say what is wrong with an entry's metadata, or null when nothing is or there is none.
create or replace function ledger.metadata_fault(
  metadata jsonb
) returns text
language sql immutable parallel safe
as $$
  select case
    when jsonb_typeof(metadata_fault.metadata) <> 'object'
    then 'must be an object'
    when octet_length(metadata_fault.metadata::text) > 4096
    then 'must have at most 4096 bytes'
  end
$$;

alter function ledger.metadata_fault owner to ledger_owner;
comment on function ledger.metadata_fault is
  'What is wrong with metadata that must be a JSON object of at most 4096 bytes where there is any; null when nothing is.';
revoke execute on function ledger.metadata_fault from public;
-- <<< db/functions/metadata_fault.sql

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

-- >>> db/functions/past_participant.sql
-- Show a participant as of a past moment.
create or replace function ledger.past_participant(
  group_id       bigint,
  participant_id bigint,
  moment         ledger.history_moment
) returns ledger.current_participants
language sql stable
as $$
  select
    p.username,
    p.id,
    p.group_id,
    l.balance
  from ledger.participants as p
  cross join lateral ledger.last_leg(p.group_id, p.id, moment) as l
  where p.group_id = past_participant.group_id
    and p.id = past_participant.participant_id
    and l.kind <> 'exit'
$$;

alter function ledger.past_participant owner to ledger_owner;
comment on function ledger.past_participant is
  'A participant who was present at a moment, with the balance then and the username of now; null for one who was not.';
revoke execute on function ledger.past_participant from public;
-- <<< db/functions/past_participant.sql

-- >>> db/functions/past_total.sql
-- Find a group's total at a past moment.
create or replace function ledger.past_total(
  group_id bigint,
  moment   ledger.history_moment
) returns numeric
language sql stable
as $$
  -- One look-up in an index for each of the counters.
  select coalesce(sum(l.total), 0)
  from ledger.groups as g
  cross join generate_series(0, 7) as s (slot)
  left join lateral (
    select t.total
    from ledger.group_totals as t
    where t.group_id = g.id
      and t.slot = s.slot
      and (t.created_at, t.entry_id) <= ((moment).created_at, (moment).id)
    order by t.created_at desc, t.entry_id desc
    limit 1
  ) as l on true
  where g.id = past_total.group_id
    and g.created_at <= (moment).created_at
    and (g.closed_at is null or g.closed_at >= (moment).created_at)
  having count(*) > 0
$$;

alter function ledger.past_total owner to ledger_owner;
comment on function ledger.past_total is
  'What the participants present in a group held together at a moment; null when it did not exist then.';
revoke execute on function ledger.past_total from public;
-- <<< db/functions/past_total.sql

-- >>> db/functions/read_feed.sql
-- Read the entries of all groups, each once, in an order that can be resumed.
create or replace function ledger.read_feed(
  after    text    default null,
  max_rows integer default 1000
) returns setof ledger.feed_entry
language plpgsql stable security definer
set search_path = ledger, pg_temp
as $$
declare
  place feed_place := feed_place(after);
  rows  integer := greatest(coalesce(max_rows, 1000), 0);
  shown integer := 0;
begin
  -- What a restored dump brought along comes first: its numbers are those of another server's transactions, which have
  -- all ended.
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

  -- Transactions commit in another order than they take numbers. Below the oldest that is still open nothing comes any
  -- more, so what lies there is complete.
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
-- <<< db/functions/read_feed.sql

-- >>> db/functions/refuse_unknown_entry.sql
-- Raise LG002 for an entry that a group does not have, or for the group itself.
create or replace function ledger.refuse_unknown_entry(
  group_id bigint,
  field    text,
  entry_id bigint
) returns void
language plpgsql stable
as $$
begin
  perform ledger.refuse_invalid(
    array['group_id', field],
    array[ledger.id_fault(group_id), ledger.id_fault(entry_id)]
  );
  if not exists (select from ledger.groups as g where g.id = refuse_unknown_entry.group_id) then
    perform ledger.refuse_unknown_group(group_id);
  end if;
  raise exception using
    errcode = 'LG002',
    column  = field,
    message = format('no entry %s in group %s', entry_id, group_id),
    detail  = format('%s: no such entry in the group', field),
    hint    = 'List the group''s entries with ledger.list_entries().';
end
$$;

alter function ledger.refuse_unknown_entry owner to ledger_owner;
comment on function ledger.refuse_unknown_entry is
  'Raise LG002 that blames the field for naming an entry that is not in the group, or the group when there never was one; LG001 for a null.';
revoke execute on function ledger.refuse_unknown_entry from public;
-- <<< db/functions/refuse_unknown_entry.sql

-- >>> db/functions/refuse_unknown_participants.sql
drop function if exists ledger.refuse_unknown_participants;
-- Raise LG002 for participants that are not present in a group, or for the group itself.
create or replace function ledger.refuse_unknown_participants(
  group_id        bigint,
  fields          text[],
  participant_ids bigint[],
  in_history      boolean default false
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
      and (g.closed_at is null or in_history)
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
  'Raise LG002 that blames the fields for naming participants that are not present in the group, or the group when it does not exist, or in history never did; LG001 for a null.';
revoke execute on function ledger.refuse_unknown_participants from public;
-- <<< db/functions/refuse_unknown_participants.sql

-- >>> db/functions/remember_total.sql
-- Keep what a counter of a group's total came to with a join or an exit.
create or replace function ledger.remember_total(
  counter  ledger.group_counters,
  entry_id bigint
) returns void
language sql volatile
as $$
  insert into ledger.group_totals (group_id, slot, created_at, entry_id, total)
  values (counter.group_id, counter.slot, counter.changed_at, remember_total.entry_id, counter.total)
$$;

alter function ledger.remember_total owner to ledger_owner;
comment on function ledger.remember_total is
  'Keep a counter''s total after an entry, so that a group''s total at a past moment is found and not added up.';
revoke execute on function ledger.remember_total from public;
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
  set closed_at = greatest(
    clock_timestamp(),
    (select max(c.changed_at) from group_counters as c where c.group_id = remove_group.group_id)
  )
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
-- Begin the feed anew after the ledger was restored from a backup.
create or replace function ledger.restart_feed()
returns integer
language plpgsql volatile
as $$
declare
  generation integer;
begin
  -- Nobody writes meanwhile, so that every entry is either restored or new.
  lock table ledger.entries in share row exclusive mode;
  insert into ledger.feeds (generation, system_identifier, last_restored, first_xid)
  select
    (select max(f.generation) from ledger.feeds as f) + 1,
    c.system_identifier,
    (select coalesce(max(e.id), 0) from ledger.entries as e),
    pg_snapshot_xmin(pg_current_snapshot())
  from pg_control_system() as c
  returning feeds.generation into generation;
  return generation;
end
$$;

alter function ledger.restart_feed owner to ledger_owner;
comment on function ledger.restart_feed is
  'Begin the feed anew after a restore: earlier cursors are refused, and the entries that are there come first. Returns the number of the new feed. For the owner.';
revoke execute on function ledger.restart_feed from public;
-- <<< db/functions/restart_feed.sql

-- >>> db/functions/reverse_transfer.sql
-- Move the amount of a transfer back, once.
create or replace function ledger.reverse_transfer(
  group_id        bigint,
  entry_id        bigint,
  idempotency_key text  default null,
  metadata        jsonb default null
) returns ledger.entry_result
language plpgsql volatile security definer
set search_path = ledger, pg_temp
as $$
declare
  request  text[] := array['reverse_transfer', entry_id::text, metadata::text];
  answer   json;
  original entries;
  moved    transfer_result;
  reversal entry_result;
begin
  perform refuse_invalid(
    array['group_id', 'entry_id', 'idempotency_key', 'metadata'],
    array[id_fault(group_id), id_fault(entry_id), key_fault(idempotency_key), metadata_fault(metadata)]
  );

  if idempotency_key is not null then
    answer := replay(group_id, idempotency_key, request);
    if answer is not null then
      reversal := json_populate_record(reversal, answer);
      reversal.replayed := true;
      return reversal;
    end if;
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

  -- Of two at once the second waits here, in ascending id as everywhere, and then finds the entry reversed.
  perform from participants as p
  where p.group_id = reverse_transfer.group_id
    and p.id in (original.from_id, original.to_id)
    and p.exited_at is null
  order by p.id
  for no key update;

  -- Who is gone is told first, as everywhere.
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

  moved := move(group_id, original.to_id, original.from_id, original.amount, metadata, entry_id);
  select
    r.*,
    false
  into reversal
  from ledger.record as r
  where r.group_id = reverse_transfer.group_id
    and r.id = moved.entry_id;
  if idempotency_key is not null then
    perform remember(group_id, idempotency_key, request, to_json(reversal));
  end if;
  return reversal;
end
$$;

alter function ledger.reverse_transfer owner to ledger_owner;
comment on function ledger.reverse_transfer is
  'Move the amount of a transfer back, at most once; returns the new entry, which names the one that it reverses. Raises LG001, LG002, LG003, LG006, LG007.';
revoke execute on function ledger.reverse_transfer from public;
grant execute on function ledger.reverse_transfer to ledger_api;
-- <<< db/functions/reverse_transfer.sql

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

-- >>> db/functions/spelled_amount.sql
-- Read an amount from its spelling in JSON.
create or replace function ledger.spelled_amount(
  value text
) returns numeric
language sql immutable parallel safe
as $$
  -- 2^256 - 1 has 78 digits. What has more would be refused all the same, after a costly conversion.
  select case
    when octet_length(value) not between 1 and 1000
    then null
    when value collate "C" !~ '[^0-9]' and length(ltrim(value, '0')) <= 78
    then value::numeric
  end
$$;

alter function ledger.spelled_amount owner to ledger_owner;
comment on function ledger.spelled_amount is
  'The whole number that is spelled in at most 78 digits, zeros before them aside; null for anything else.';
revoke execute on function ledger.spelled_amount from public;
-- <<< db/functions/spelled_amount.sql

-- >>> db/functions/spelled_id.sql
-- Read an id from its spelling in JSON.
create or replace function ledger.spelled_id(
  value text
) returns bigint
language sql immutable parallel safe
as $$
  -- In ASCII digits alone: the type's own parser takes signs, spaces and other bases as well.
  select case
    when octet_length(value) not between 1 and 1000
      or value collate "C" ~ '[^0-9]'
      or length(ltrim(value, '0')) not between 1 and 19
    then null
    when value::numeric <= 9223372036854775807
    then value::bigint
  end
$$;

alter function ledger.spelled_id owner to ledger_owner;
comment on function ledger.spelled_id is
  'The positive bigint that is spelled in digits; null for anything else.';
revoke execute on function ledger.spelled_id from public;
-- <<< db/functions/spelled_id.sql

-- >>> db/functions/transfer.sql
drop function if exists ledger.transfer;
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

-- >>> db/functions/transfer_all.sql
-- Make many transfers of one group in one step: all of them, in their order, or none.
create or replace function ledger.transfer_all(
  group_id        bigint,
  transfers       jsonb,
  idempotency_key text default null
) returns ledger.transfer_all_result
language plpgsql volatile security definer
set search_path = ledger, pg_temp
as $$
declare
  lines   transfer_lines;
  held    transfer_sides;
  request text[];
  answer  json;
  result  transfer_all_result;
begin
  perform refuse_invalid(
    array['group_id', 'transfers', 'idempotency_key'],
    array[
      id_fault(group_id),
      case
        when transfers is null
        then 'must be given'
        when jsonb_typeof(transfers) <> 'array'
        then 'must be a list'
        when jsonb_array_length(transfers) not between 1 and 10000
        then 'must have 1 to 10000 lines'
      end,
      key_fault(idempotency_key)
    ]
  );
  lines := transfer_lines(transfers);

  if idempotency_key is not null then
    request := array[
      'transfer_all', lines.from_ids::text, lines.to_ids::text, lines.amounts::text, lines.metadatas::text
    ];
    answer := replay(group_id, idempotency_key, request);
    if answer is not null then
      result := json_populate_record(result, answer);
      result.replayed := true;
      return result;
    end if;
  end if;

  held := lock_sides(group_id, lines);
  result := move_all(group_id, lines, held);
  result.replayed := false;
  if idempotency_key is not null then
    perform remember(group_id, idempotency_key, request, to_json(result));
  end if;
  return result;
end
$$;

alter function ledger.transfer_all owner to ledger_owner;
comment on function ledger.transfer_all is
  'Make 1 to 10,000 transfers of a group, a JSON list of {"from", "to", "amount", "metadata"}, all or none, in order: a line may spend what an earlier one gave. entries are those written, by line; participants are those who took part, with their balances at the end. A field of a line is named as transfers[0].amount. Raises LG001, LG002, LG003, LG006.';
revoke execute on function ledger.transfer_all from public;
grant execute on function ledger.transfer_all to ledger_api;
-- <<< db/functions/transfer_all.sql

-- >>> db/functions/transfer_line_faults.sql
-- Say what is wrong with the lines of a multi-party transfer.
create or replace function ledger.transfer_line_faults(
  transfers jsonb,
  out fields text[],
  out faults text[]
)
language sql immutable
as $$
  select
    array_agg(f.field),
    array_agg(f.fault)
  from (
    select
      format('transfers[%s]%s', l.line - 1, m.member) as field,
      m.fault
    from jsonb_array_elements(transfer_line_faults.transfers) with ordinality as i (item, line)
    cross join lateral (
      select
        i.line,
        jsonb_typeof(i.item) <> 'object' as other,
        case when jsonb_typeof(i.item) = 'object' then i.item else '{}' end as item,
        i.item ->> 'from' as from_id,
        i.item ->> 'to' as to_id,
        i.item ->> 'amount' as amount
    ) as l
    cross join lateral (
      select 1 as place, '' as member, 'must be an object' as fault
      where l.other
      union all
      select s.place, s.member, case when s.id is null then 'must be given' else 'must be a positive integer below 2^63' end
      from (values (2, '.from', l.from_id), (3, '.to', l.to_id)) as s (place, member, id)
      where not l.other
        and ledger.spelled_id(s.id) is null
      union all
      select 3, '.to', 'must be another participant'
      where ledger.spelled_id(l.from_id) = ledger.spelled_id(l.to_id)
      union all
      select 4, '.amount', a.fault
      from (
        select case
          when l.amount is not null and ledger.spelled_amount(l.amount) is null
          then 'must be a whole number below 2^256'
          else ledger.amount_fault(ledger.spelled_amount(l.amount), 1)
        end
      ) as a (fault)
      where not l.other
        and a.fault is not null
      union all
      select 5, '.metadata', n.fault
      from (select ledger.metadata_fault(nullif(l.item -> 'metadata', 'null'))) as n (fault)
      where n.fault is not null
      union all
      -- A name in which nothing can be taken for the end of a field or of a line.
      select 6, '.' || left(regexp_replace(k.name collate "C", '[\u0001-\u001f\u007f-\u009f:]', '?', 'g'), 63), 'is not known'
      from jsonb_object_keys(l.item) as k (name)
      where k.name not in ('from', 'to', 'amount', 'metadata')
    ) as m
    order by l.line, m.place, m.member
    limit 100
  ) as f
$$;

alter function ledger.transfer_line_faults owner to ledger_owner;
comment on function ledger.transfer_line_faults is
  'The fields of a multi-party transfer''s lines that are wrong, as transfers[0].amount, and what is wrong with each; the first 100 of them, null when there is none.';
revoke execute on function ledger.transfer_line_faults from public;
-- <<< db/functions/transfer_line_faults.sql

-- >>> db/functions/transfer_lines.sql
-- Read the lines of a multi-party transfer.
create or replace function ledger.transfer_lines(
  transfers jsonb
) returns ledger.transfer_lines
language plpgsql immutable
as $$
declare
  lines  ledger.transfer_lines;
  valid  boolean;
  fields text[];
  faults text[];
begin
  select
    bool_and((
      l.from_id <> l.to_id and ledger.amount_fault(l.amount, 1) is null and ledger.metadata_fault(l.metadata) is null
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
    select
      i.line,
      case when jsonb_typeof(i.item) = 'object' then i.item else '{"": ""}' end as item,
      ledger.spelled_id(i.item ->> 'from') as from_id,
      ledger.spelled_id(i.item ->> 'to') as to_id,
      ledger.spelled_amount(i.item ->> 'amount') as amount,
      nullif(i.item -> 'metadata', 'null') as metadata
    from jsonb_array_elements(transfer_lines.transfers) with ordinality as i (item, line)
  ) as l;

  if not valid then
    select
      f.fields,
      f.faults
    into
      fields,
      faults
    from ledger.transfer_line_faults(transfers) as f;
    perform ledger.refuse_invalid(fields, faults);
  end if;
  return lines;
end
$$;

alter function ledger.transfer_lines owner to ledger_owner;
comment on function ledger.transfer_lines is
  'The columns of a multi-party transfer, metadatas only where a line has any. Raises LG001 with what is wrong in each line.';
revoke execute on function ledger.transfer_lines from public;
-- <<< db/functions/transfer_lines.sql

-- >>> db/functions/verify.sql
-- Prove that the books are right, or say where they are not.
create or replace function ledger.verify(
  group_id bigint default null
) returns setof ledger.fault
language plpgsql stable
as $$
declare
  one_group bigint;
begin
  if verify.group_id is null then
    return query select f.* from ledger.verify_keys(0, '', null) as f;
  elsif not exists (select from ledger.groups as g where g.id = verify.group_id) then
    perform ledger.refuse_unknown_group(group_id);
  end if;

  for one_group in
    select g.id
    from ledger.groups as g
    where verify.group_id is null
      or g.id = verify.group_id
    order by g.id
  loop
    return query select f.* from ledger.verify_entries(one_group, 0, null) as f;
    return query select f.* from ledger.verify_participants(one_group, 0, null) as f;
    return query select f.* from ledger.verify_keys(one_group, '', null) as f;
    return query select f.* from ledger.verify_total(one_group) as f;
  end loop;
end
$$;

alter function ledger.verify owner to ledger_owner;
comment on function ledger.verify is
  'One row for each fault in the books of a group, or of all; none when they are right. Takes no lock that stops anybody, but keeps its snapshot throughout: on a large ledger use the command ledger verify, which goes in short ranges. For the owner. Raises LG001, LG002.';
revoke execute on function ledger.verify from public;
-- <<< db/functions/verify.sql

-- >>> db/functions/verify_entries.sql
-- Find what is wrong with a range of a group's entries, each by itself and beside those before it.
create or replace function ledger.verify_entries(
  group_id bigint,
  after    bigint,
  upto     bigint
) returns setof ledger.fault
language sql stable
as $$
  select
    e.group_id,
    e.id,
    f.participant_id,
    f.fault,
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
  -- What each side held before: with every step right, so is every balance.
  left join lateral ledger.last_leg(e.group_id, e.from_id, (e.created_at, e.id - 1)::ledger.history_moment) as sender
    on true
  left join lateral ledger.last_leg(e.group_id, e.to_id, (e.created_at, e.id - 1)::ledger.history_moment) as recipient
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
    -- As in amount_fault, which costs as much as all the rest. NaN is above every number.
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
    select null, 'entry id', format('%s entries have it', e.times)
    where e.times > 1
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
    select e.from_id, 'settlement', 'it has another time than its exit, or is settled without a reference'
    from ledger.settlements as s
    where e.kind = 'exit'
      and s.group_id = e.group_id
      and s.entry_id = e.id
      and (s.exited_at <> e.created_at or (s.reference is null) <> (s.settled_at is null) or s.settled_at < s.exited_at)
    union all
    select null, 'total', format('the total is noted %s times', n.times)
    from (
      select count(*) as times
      from generate_series(0, 7) as s (slot)
      cross join lateral (
        select from ledger.group_totals as t
        where t.group_id = e.group_id
          and t.slot = s.slot
          and t.created_at = e.created_at
          and t.entry_id = e.id
        -- Kept from being merged into a join: a look-up for each counter, whose key begins with the slot.
        offset 0
      ) as t
    ) as n
    where e.kind <> 'transfer'
      and n.times <> 1
    union all
    select
      null,
      'total',
      format('counter %s came to %s, and stood at %s before', s.slot, t.total, coalesce(before.total, 0))
    from generate_series(0, 7) as s (slot)
    cross join lateral (
      select t.total
      from ledger.group_totals as t
      where t.group_id = e.group_id
        and t.slot = s.slot
        and t.created_at = e.created_at
        and t.entry_id = e.id
      offset 0
    ) as t
    left join lateral (
      select b.total
      from ledger.group_totals as b
      where b.group_id = e.group_id
        and b.slot = s.slot
        and (b.created_at, b.entry_id) < (e.created_at, e.id)
      order by b.created_at desc, b.entry_id desc
      limit 1
    ) as before on true
    where e.kind <> 'transfer'
      and t.total <> coalesce(before.total, 0) + case when e.kind = 'join' then e.amount else -e.amount end
  ) as f (participant_id, fault, detail)
$$;

alter function ledger.verify_entries owner to ledger_owner;
comment on function ledger.verify_entries is
  'What is wrong with a group''s entries whose ids are above after and, where it is given, not above upto. For the owner.';
revoke execute on function ledger.verify_entries from public;
-- <<< db/functions/verify_entries.sql

-- >>> db/functions/verify_keys.sql
-- Find what is wrong with a range of a group's idempotency keys.
create or replace function ledger.verify_keys(
  group_id bigint,
  after    text,
  upto     text
) returns setof ledger.fault
language sql stable
as $$
  select
    k.group_id,
    f.entry_id,
    null::bigint,
    'idempotency key',
    f.detail
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
  cross join lateral (
    select null::bigint, format('%s requests have the key %s', k.times, k.key)
    where k.times > 1
    union all
    select null, format('the key %s has no fingerprint', k.key)
    where octet_length(k.fingerprint) is distinct from 32
    union all
    select w.entry_id, format('the key %s names an entry that is not there', k.key)
    from (
      select case
        when k.operation in ('reverse_transfer', 'settle_exit')
        then k.answer ->> 'id'
        else k.answer ->> 'entry_id'
      end::bigint
      union all
      select (l.line ->> 'id')::bigint
      from json_array_elements(case when k.operation = 'transfer_all' then k.answer -> 'entries' end) as l (line)
    ) as w (entry_id)
    where w.entry_id is not null
      and not exists (
        select from ledger.entries as e
        where e.group_id = k.group_id
          and e.id = w.entry_id
      )
  ) as f (entry_id, detail)
$$;

alter function ledger.verify_keys owner to ledger_owner;
comment on function ledger.verify_keys is
  'What is wrong with a group''s idempotency keys that come after one and, where it is given, not after upto; of group 0, with those that created groups. For the owner.';
revoke execute on function ledger.verify_keys from public;
-- <<< db/functions/verify_keys.sql

-- >>> db/functions/verify_participants.sql
-- Find what is wrong with a range of a group's participants beside the record.
create or replace function ledger.verify_participants(
  group_id bigint,
  after    bigint,
  upto     bigint
) returns setof ledger.fault
language sql stable
as $$
  select
    p.group_id,
    null::bigint,
    p.id,
    f.fault,
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
  left join lateral ledger.last_leg(p.group_id, p.id, ('infinity', 9223372036854775807)::ledger.history_moment) as last
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
    union all
    select 'participant id', format('%s participants have it', p.times)
    where p.times > 1
  ) as f (fault, detail)
$$;

alter function ledger.verify_participants owner to ledger_owner;
comment on function ledger.verify_participants is
  'What is wrong with a group''s participants whose ids are above after and, where it is given, not above upto. For the owner.';
revoke execute on function ledger.verify_participants from public;
-- <<< db/functions/verify_participants.sql

-- >>> db/functions/verify_total.sql
-- Find what is wrong with a group's total.
create or replace function ledger.verify_total(
  group_id bigint
) returns setof ledger.fault
language sql stable
as $$
  select
    verify_total.group_id,
    f.entry_id,
    null::bigint,
    f.fault,
    f.detail
  from (
    select
      null::bigint,
      'total',
      format('counter %s stands at %s, and came to %s last', c.slot, c.total, coalesce(last.total, 0))
    from ledger.group_counters as c
    left join lateral (
      select t.total
      from ledger.group_totals as t
      where t.group_id = c.group_id
        and t.slot = c.slot
      order by t.created_at desc, t.entry_id desc
      limit 1
    ) as last on true
    where c.group_id = verify_total.group_id
      and c.total <> coalesce(last.total, 0)
    union all
    select null, 'total', format('the counters add up to %s, the balances to %s', c.total, p.total)
    from (
      select coalesce(sum(c.total), 0) as total from ledger.group_counters as c where c.group_id = verify_total.group_id
    ) as c
    cross join (
      select coalesce(sum(p.amount), 0) as total from ledger.participants as p where p.group_id = verify_total.group_id
    ) as p
    where c.total <> p.total
    union all
    select null, 'total', format('there are %s counters, from %s to %s', count(*), min(c.slot), max(c.slot))
    from ledger.group_counters as c
    where c.group_id = verify_total.group_id
    having count(*) <> 8
      or min(c.slot) <> 0
      or max(c.slot) <> 7
    union all
    select t.entry_id, 'total', format('counter %s came to %s with it, and it is no join or exit of that time', t.slot, t.total)
    from ledger.group_totals as t
    left join ledger.entries as e on e.group_id = t.group_id and e.id = t.entry_id
    where t.group_id = verify_total.group_id
      and (e.kind is null or e.kind = 'transfer' or e.created_at <> t.created_at or t.slot not between 0 and 7)
    union all
    select s.entry_id, 'settlement', 'it is settled, and is no exit'
    from ledger.settlements as s
    left join ledger.entries as e on e.group_id = s.group_id and e.id = s.entry_id
    where s.group_id = verify_total.group_id
      and e.kind is distinct from 'exit'
  ) as f (entry_id, fault, detail)
$$;

alter function ledger.verify_total owner to ledger_owner;
comment on function ledger.verify_total is
  'What is wrong with a group''s counters, their history and its settlements as a whole. For the owner.';
revoke execute on function ledger.verify_total from public;
-- <<< db/functions/verify_total.sql
