-- Record a payout of a vault.
create or replace function ledger_internal.add_payout(
  payout ledger.payouts
) returns void
language plpgsql volatile
as $$
begin
  if exists (
    select from ledger.payouts as p
    where p.group_id = payout.group_id
      and p.transaction = payout.transaction
      and p.log = payout.log
  ) then
    perform ledger_internal.refuse_mismatch(
      'log', format('log %s of transaction %s is another payout of group %s', payout.log, ledger_internal.hex(payout.transaction), payout.group_id)
    );
  end if;
  payout.paid_at := clock_timestamp();
  insert into ledger.payouts
  select payout.*
  -- Above READ COMMITTED a payout since the snapshot ends in 40001 here.
  on conflict do nothing;
end
$$;

alter function ledger_internal.add_payout owner to ledger_owner;
comment on function ledger_internal.add_payout is
  'Record a payout that is not known. Raises LG013 where its log is that of another one.';
revoke execute on function ledger_internal.add_payout from public;
