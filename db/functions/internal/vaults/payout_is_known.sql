-- Check whether a payout was recorded before.
create or replace function ledger_internal.payout_is_known(
  payout ledger.payouts
) returns boolean
language plpgsql stable
as $$
declare
  known ledger.payouts;
begin
  select p.*
  into known
  from ledger.payouts as p
  where p.group_id = payout.group_id
    and p.kind = payout.kind
    and p.subject = payout.subject;
  if not found then
    return false;
  end if;
  if (known.participant_id, known.owner, known.amount) is distinct from (payout.participant_id, payout.owner, payout.amount)
    or (
      known.amount > 0
      and (known.transaction, known.block, known.log) is distinct from (payout.transaction, payout.block, payout.log)
    )
  then
    perform ledger_internal.refuse_mismatch(
      'transaction', format('the %s payout of %s in group %s is recorded with other values', payout.kind, payout.subject, payout.group_id)
    );
  end if;
  return true;
end
$$;

alter function ledger_internal.payout_is_known owner to ledger_owner;
comment on function ledger_internal.payout_is_known is
  'Whether the payout is recorded. Raises LG013 where it is with other values. A payout of 0 moves nothing, and may be sent to the vault by anybody after it was settled: its transaction is not compared.';
revoke execute on function ledger_internal.payout_is_known from public;
