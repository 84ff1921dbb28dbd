-- The baseline's index of metadata, built while transfers go on.
create index concurrently if not exists entries_by_group_and_metadata
  on ledger.entries using gin (
    jsonb_set(('{"group": ' || group_id::text || '}')::jsonb, array[group_id::text], metadata) jsonb_path_ops
  )
  with (fastupdate = off)
  where metadata is not null;
