-- Undo: checks by function.

set local lock_timeout = '5s';
set local role ledger_owner;
-- Functions may call each other in any order.
set local check_function_bodies = off;

do $$
begin
  if not exists (
    select from pg_catalog.pg_constraint as c
    where c.conrelid = 'ledger.entries'::regclass and c.conname = 'entries_sides_fit_kind'
  ) then
    alter table ledger.entries
      add constraint entries_sides_fit_kind check (
        case
          when kind = 'join' then from_id is null and to_id is not null
          when kind = 'transfer' then from_id is not null and to_id is not null and from_id <> to_id
          when kind = 'exit' then from_id is not null and to_id is null
          else false
        end
      ),
      add constraint entries_balance_for_each_side check (
        (from_id is null) = (from_amount is null) and (to_id is null) = (to_amount is null)
      ),
      add constraint entries_amounts_not_negative check (amount >= 0 and from_amount >= 0 and to_amount >= 0),
      add constraint entries_amounts_below_2_256 check (
        amount < 2::numeric ^ 256 and from_amount < 2::numeric ^ 256 and to_amount < 2::numeric ^ 256
      ),
      add constraint entries_reverse_an_earlier_transfer check (reverses is null or (kind = 'transfer' and reverses < id)),
      add constraint entries_metadata_is_an_object check (jsonb_typeof(metadata) = 'object');
    alter table ledger.participants
      add constraint participants_username_not_empty check (username <> ''),
      add constraint participants_amount_not_negative check (amount >= 0),
      add constraint participants_amount_below_2_256 check (amount < 2::numeric ^ 256),
      add constraint participants_hold_nothing_after_exit check (exited_at is null or amount = 0);
  end if;
end
$$;

alter table ledger.entries drop constraint if exists entries_are_sound;
alter table ledger.participants drop constraint if exists participants_are_sound;

-- >>> db/functions/entry_is_sound.sql
drop function if exists ledger.entry_is_sound;
-- <<< db/functions/entry_is_sound.sql

-- >>> db/functions/participant_is_sound.sql
drop function if exists ledger.participant_is_sound;
-- <<< db/functions/participant_is_sound.sql
