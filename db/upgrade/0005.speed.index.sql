-- The indexes of entries that migration 0005 needs, built while transfers go on. `ledger migrate` runs this before it.
create index concurrently if not exists entries_transfers_by_time
  on ledger.entries (group_id, created_at, id)
  where from_id is not null
    and to_id is not null;
create index concurrently if not exists entries_others_by_kind
  on ledger.entries (group_id, kind, created_at, id)
  where kind <> 'transfer';
