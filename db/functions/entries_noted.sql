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
