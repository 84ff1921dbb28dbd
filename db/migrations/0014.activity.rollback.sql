-- Undo: activity.

set local lock_timeout = '5s';
set local role ledger_owner;
-- Functions may call each other in any order.
set local check_function_bodies = off;

-- >>> db/functions/activity.sql
drop function if exists ledger.activity;
-- <<< db/functions/activity.sql
