-- Undo: metadata by group.

set local lock_timeout = '5s';
set local role ledger_owner;
-- Functions may call each other in any order.
set local check_function_bodies = off;

-- >>> db/functions/entries_noted.sql
drop function if exists ledger.entries_noted;
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

drop index if exists ledger.entries_by_group_and_metadata;
