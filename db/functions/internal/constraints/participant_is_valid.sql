-- Check a participant's row, whatever function wrote it.
create or replace function ledger_internal.participant_is_valid(
  username  text,
  amount    numeric,
  exited_at timestamptz
) returns boolean
language plpgsql immutable parallel safe
as $$
begin
  return username <> '' and amount >= 0 and amount < 2::numeric ^ 256 and (exited_at is null or amount = 0);
end
$$;

alter function ledger_internal.participant_is_valid owner to ledger_owner;
comment on function ledger_internal.participant_is_valid is
  'Whether a participant has a username, an amount from 0 to 2^256 - 1, and nothing after an exit. A function for the reason that entry_is_valid gives.';
revoke execute on function ledger_internal.participant_is_valid from public;
