-- Undo: the ledger. Refused while there is anything in it; the roles belong to the cluster and stay.

set local lock_timeout = '5s';

do $$
begin
  -- A snapshot from before the lock would not show what was committed while we waited for it.
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception using
      errcode = 'object_not_in_prerequisite_state',
      message = 'the ledger is rolled back at READ COMMITTED only',
      hint    = 'Set default_transaction_isolation of the database or the login to read committed.';
  end if;
  if to_regclass('ledger.groups') is not null then
    lock table ledger.groups in access exclusive mode;
    if exists (select from ledger.groups) then
      raise exception using
        errcode = 'object_not_in_prerequisite_state',
        message = 'the ledger is not empty: rolling it back would lose its record',
        hint    = 'Keep the record, or back it up and drop it on purpose with: ledger reset.';
    end if;
  end if;
end
$$;

set local role ledger_owner;

drop trigger if exists entries_are_permanent on ledger.entries;
drop trigger if exists participants_are_kept on ledger.participants;
drop trigger if exists groups_are_kept on ledger.groups;

drop function if exists ledger.amount_fault;
drop function if exists ledger.count_in_total;
drop function if exists ledger.create_group;
drop function if exists ledger.exit_group;
drop function if exists ledger.get_group;
drop function if exists ledger.get_participant;
drop function if exists ledger.group_total;
drop function if exists ledger.health;
drop function if exists ledger.id_fault;
drop function if exists ledger.join_group;
drop function if exists ledger.list_groups;
drop function if exists ledger.list_participants;
drop function if exists ledger.name_fault;
drop function if exists ledger.refuse_invalid;
drop function if exists ledger.refuse_rewriting;
drop function if exists ledger.refuse_taken;
drop function if exists ledger.refuse_unknown_group;
drop function if exists ledger.refuse_unknown_participants;
drop function if exists ledger.remove_group;
drop function if exists ledger.rename_group;
drop function if exists ledger.rename_participant;
drop function if exists ledger.transfer;

drop type if exists ledger.transfer_result;
drop type if exists ledger.exit_result;
drop type if exists ledger.join_result;
drop view if exists ledger.record;
drop view if exists ledger.current_participants;
drop view if exists ledger.current_groups;
drop table if exists ledger.entries;
drop table if exists ledger.participants;
drop table if exists ledger.group_counters;
drop table if exists ledger.groups;

reset role;
drop schema if exists ledger;
