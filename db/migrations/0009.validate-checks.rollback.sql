-- Undo: validate checks.

set local lock_timeout = '5s';
set local role ledger_owner;

-- As the migration before left them.
alter table ledger.entries
  drop constraint if exists entries_are_sound,
  add constraint entries_are_sound check (
    ledger.entry_is_sound(id, kind, from_id, to_id, amount, from_amount, to_amount, metadata, reverses)
  ) not valid;
alter table ledger.participants
  drop constraint if exists participants_are_sound,
  add constraint participants_are_sound check (ledger.participant_is_sound(username, amount, exited_at)) not valid;
