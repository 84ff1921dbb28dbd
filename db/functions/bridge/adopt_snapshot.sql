-- Make a restored group agree with a snapshot of its last accepted checkpoint.
create or replace function ledger.adopt_snapshot(
  group_id bigint,
  snapshot jsonb,
  deposits jsonb default '[]',
  payouts  jsonb default '[]'
) returns ledger.bridge_result
language plpgsql volatile security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
begin
  perform refuse_mismatch('snapshot', 'x');
  return row(false)::bridge_result;
end
$$;

alter function ledger.adopt_snapshot owner to ledger_owner;
comment on function ledger.adopt_snapshot is
  'placeholder';
revoke execute on function ledger.adopt_snapshot from public;
grant execute on function ledger.adopt_snapshot to ledger_bridge;
