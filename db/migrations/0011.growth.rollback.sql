-- Undo: growth.

set local lock_timeout = '5s';
set local role ledger_owner;

alter table ledger.participants reset (autovacuum_vacuum_scale_factor, autovacuum_vacuum_threshold);
alter table ledger.entries reset (
  autovacuum_vacuum_insert_scale_factor,
  autovacuum_vacuum_insert_threshold,
  autovacuum_freeze_min_age
);
alter table ledger.idempotency_keys reset (
  autovacuum_vacuum_insert_scale_factor,
  autovacuum_vacuum_insert_threshold,
  autovacuum_freeze_min_age
);
alter table ledger.group_totals reset (autovacuum_freeze_min_age);
