-- Say whether a participant's row can be one, whatever function wrote it: the check constraint of the balances.
create or replace function ledger.participant_is_sound(
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

alter function ledger.participant_is_sound owner to ledger_owner;
comment on function ledger.participant_is_sound is
  'Whether a participant has a username, an amount from 0 to 2^256 - 1, and nothing after an exit. A function for the reason that entry_is_sound gives.';
revoke execute on function ledger.participant_is_sound from public;
