-- Raise the sequences of ids.
create or replace function ledger.raise_ids(
  participant_id bigint,
  entry_id       bigint
) returns ledger.bridge_result
language plpgsql volatile security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  raised boolean;
begin
  perform refuse_invalid(
    array['participant_id', 'entry_id'], array[invalid_number(participant_id), invalid_number(entry_id)]
  );
  raised := raise_sequence('ledger.participants_id_seq', participant_id);
  raised := raise_sequence('ledger.entries_id_seq', entry_id) or raised;
  return row(not raised)::bridge_result;
end
$$;

alter function ledger.raise_ids owner to ledger_owner;
comment on function ledger.raise_ids is
  'Make the ids of all later participants and entries higher than these, for snapshots and logs that are newer than a restored ledger. Raises LG001.';
revoke execute on function ledger.raise_ids from public;
grant execute on function ledger.raise_ids to ledger_bridge;
