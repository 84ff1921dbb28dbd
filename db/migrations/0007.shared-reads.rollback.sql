-- Undo: shared reads.

set local lock_timeout = '5s';
set local role ledger_owner;
-- Functions may call each other in any order.
set local check_function_bodies = off;

-- >>> db/functions/get_participant_each.sql
drop function if exists ledger.get_participant_each;
-- <<< db/functions/get_participant_each.sql

drop type if exists ledger.participant_outcome;
