-- Undo: drop the index of all metadata.

set local lock_timeout = '5s';
set local role ledger_owner;

create index if not exists entries_by_metadata
  on ledger.entries using gin (metadata jsonb_path_ops)
  where metadata is not null;
