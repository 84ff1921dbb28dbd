-- Metadata by group.
-- depends: 0019.look-before-writing-out

-- A transaction cannot build an index concurrently; docs/operations.md says how to build it beforehand.
-- squawk-ignore-file require-concurrent-index-creation

set local lock_timeout = '5s';
set local role ledger_owner;

-- Writes wait while the index is built, which reads all entries once. Where it was built beforehand and that failed, an
-- index is left that is not valid.
do $$
begin
  if exists (
    select from pg_catalog.pg_index as i
    where i.indexrelid = to_regclass('ledger.entries_by_group_and_metadata') and not i.indisvalid
  ) then
    drop index ledger.entries_by_group_and_metadata;
  end if;
end
$$;
-- Without a list of what is pending, which every search of every group would read.
create index if not exists entries_by_group_and_metadata
  on ledger.entries using gin (
    jsonb_set(('{"group": ' || group_id::text || '}')::jsonb, array[group_id::text], metadata) jsonb_path_ops
  )
  with (fastupdate = off)
  where metadata is not null;

-- Functions may call each other in any order.
set local check_function_bodies = off;

-- >>> db/functions/entries_noted.sql
-- Find the entries of one group whose metadata contain a JSON object.
create or replace function ledger.entries_noted(
  group_id bigint,
  metadata jsonb
) returns setof ledger.entries
language sql stable
-- Without statistics, or with many entries to find, a planner would read those of all groups.
set enable_seqscan = off
as $$
  -- As the index entries_by_group_and_metadata has it: every key of it names the group, so that no entry of another group
  -- is looked at, and the member "group" is there to be found where the metadata asked for have no values.
  select e.*
  from ledger.entries as e
  where e.metadata is not null
    and jsonb_set(('{"group": ' || e.group_id::text || '}')::jsonb, array[e.group_id::text], e.metadata)
      @> jsonb_set(
        ('{"group": ' || entries_noted.group_id::text || '}')::jsonb,
        array[entries_noted.group_id::text],
        entries_noted.metadata
      )
$$;

alter function ledger.entries_noted owner to ledger_owner;
comment on function ledger.entries_noted is
  'The entries of a group whose metadata contain metadata, in no order, without a look at any other group''s.';
revoke execute on function ledger.entries_noted from public;
-- <<< db/functions/entries_noted.sql

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
    -- Found through the index on groups and metadata alone, then sorted: meant for values that few entries have.
    source := $source$
      entries_noted($1, $9) as e
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
      entries_noted($1, $9) as e
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
