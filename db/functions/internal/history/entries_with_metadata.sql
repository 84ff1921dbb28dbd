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
