-- Growth.
-- depends: 0010.lone-lines

set local lock_timeout = '5s';
set local role ledger_owner;

-- Versions of balances that their own pages had no room for are taken away before they are many.
alter table ledger.participants set (
  autovacuum_vacuum_scale_factor = 0.02,
  autovacuum_vacuum_threshold = 1000
);

-- Rows that are never changed are frozen when they are first looked at, some hundred thousand at a time: no later vacuum,
-- and none against the wraparound of transaction ids, has to read them again.
alter table ledger.entries set (
  autovacuum_vacuum_insert_scale_factor = 0.05,
  autovacuum_vacuum_insert_threshold = 100000,
  autovacuum_freeze_min_age = 0
);
alter table ledger.idempotency_keys set (
  autovacuum_vacuum_insert_scale_factor = 0.05,
  autovacuum_vacuum_insert_threshold = 100000,
  autovacuum_freeze_min_age = 0
);
alter table ledger.group_totals set (autovacuum_freeze_min_age = 0);
