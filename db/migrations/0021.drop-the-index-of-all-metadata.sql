-- Drop the index of all metadata.
-- depends: 0020.metadata-by-group

-- A transaction cannot drop an index concurrently, and dropping one takes no time once the lock is there.
-- squawk-ignore-file require-concurrent-index-deletion

set local lock_timeout = '5s';
set local role ledger_owner;

-- In a transaction of its own: readers do not wait while the index that takes its place is built.
drop index if exists ledger.entries_by_metadata;
