-- Turn the schema of release 0.1 into one that db/migrations/0001.baseline.sql completes.

-- `ledger migrate` builds 0.1.index.sql, locks all tables and views at once, runs both files in one transaction, and then
-- notes the baseline instead of the 18 migrations of 0.1. Rows are not rewritten. Published functions that keep their signature stay, with the rights that they were given.

set local lock_timeout = '5s';

create schema ledger_internal authorization ledger_owner;
set local role ledger_owner;

alter table ledger.group_counters rename to group_total_shards;
alter table ledger.group_total_shards rename constraint group_counters_pkey to group_total_shards_pkey;
alter table ledger.group_total_shards rename constraint group_counters_of_a_group to group_total_shards_of_a_group;
alter table ledger.group_total_shards rename constraint group_counters_whole to group_total_shards_whole;

alter table ledger.group_totals rename to group_total_history;
alter table ledger.group_total_history rename constraint group_totals_pkey to group_total_history_pkey;
alter table ledger.group_total_history rename constraint group_totals_of_an_entry to group_total_history_of_an_entry;
alter trigger group_totals_are_permanent on ledger.group_total_history rename to group_total_history_is_permanent;

-- Columns that are not null are constraints from PostgreSQL 18 on, named after their table.
do $$
declare
  statement text;
begin
  for statement in
    select format(
      'alter table %s rename constraint %I to %I',
      k.conrelid::regclass,
      k.conname,
      replace(replace(k.conname, 'group_counters_', 'group_total_shards_'), 'group_totals_', 'group_total_history_')
    )
    from pg_constraint as k
    where k.conrelid in ('ledger.group_total_shards'::regclass, 'ledger.group_total_history'::regclass)
      and k.contype = 'n'
  loop
    execute statement;
  end loop;
end
$$;

alter table ledger.entries rename constraint entries_are_sound to entries_are_valid;
alter table ledger.participants rename constraint participants_are_sound to participants_are_valid;
-- The baseline has an index of metadata by group in its place.
drop index if exists ledger.entries_by_metadata;

alter type ledger.fault rename to discrepancy;
alter type ledger.discrepancy rename attribute fault to kind;
alter type ledger.feed_place rename to feed_position;
alter type ledger.history_bounds rename to history_range;
alter type ledger.history_moment rename to history_position;
alter type ledger.leg set schema ledger_internal;
alter type ledger.feed_position set schema ledger_internal;
alter type ledger.history_range set schema ledger_internal;
alter type ledger.history_position set schema ledger_internal;

-- Constraints and triggers call these.
alter function ledger.entry_is_sound rename to entry_is_valid;
alter function ledger.entry_is_valid set schema ledger_internal;
alter function ledger.participant_is_sound rename to participant_is_valid;
alter function ledger.participant_is_valid set schema ledger_internal;
alter function ledger.refuse_rewriting rename to forbid_mutation;
alter function ledger.forbid_mutation set schema ledger_internal;

alter function ledger.transfer_each rename to transfer_batch;
alter function ledger.get_participant_each rename to get_participants;

-- These have other parameters now.
drop function ledger.list_groups;
drop function ledger.list_participants;

-- These are in schema ledger_internal now.
drop function ledger.amount_fault;
drop function ledger.balance_fault;
drop function ledger.count_in_total;
drop function ledger.feed_place;
drop function ledger.fingerprint;
drop function ledger.history_bounds;
drop function ledger.history_moment;
drop function ledger.history_page;
drop function ledger.id_fault;
drop function ledger.key_fault;
drop function ledger.keys_free;
drop function ledger.kind_fault;
drop function ledger.last_leg;
drop function ledger.lock_sides;
drop function ledger.metadata_fault;
drop function ledger.move;
drop function ledger.move_all;
drop function ledger.name_fault;
drop function ledger.past_participant;
drop function ledger.past_total;
drop function ledger.refuse_invalid;
drop function ledger.refuse_taken;
drop function ledger.refuse_transfer;
drop function ledger.refuse_unknown_entry;
drop function ledger.refuse_unknown_group;
drop function ledger.refuse_unknown_participants;
drop function ledger.remember;
drop function ledger.remember_total;
drop function ledger.replay;
drop function ledger.spelled_amount;
drop function ledger.spelled_id;
drop function ledger.transfer_is_valid;
drop function ledger.transfer_line_faults;
drop function ledger.transfer_lines;
drop function ledger.transfer_request;
drop function ledger.try_transfer;
drop function ledger.verify_entries;
drop function ledger.verify_keys;
drop function ledger.verify_participants;
drop function ledger.verify_total;
drop function ledger.write_transfer;

-- The baseline has others, with other columns.
drop type ledger.transfer_lines;
drop type ledger.transfer_sides;

reset role;
