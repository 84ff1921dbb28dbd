-- Validate checks.
-- depends: 0008.checks-by-function

set local lock_timeout = '5s';
set local role ledger_owner;

-- Reads the tables through, while transfers go on.
alter table ledger.entries validate constraint entries_are_sound;
alter table ledger.participants validate constraint participants_are_sound;
