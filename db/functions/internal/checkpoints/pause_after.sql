-- Leave the processor to others, after some work.
create or replace function ledger_internal.pause_after(
  began timestamptz
) returns timestamptz
language plpgsql stable
as $$
begin
  -- Five sixths of the time the core is free for transfers.
  perform pg_sleep(least(5 * extract(epoch from clock_timestamp() - began), 1));
  return clock_timestamp();
end
$$;

alter function ledger_internal.pause_after owner to ledger_owner;
comment on function ledger_internal.pause_after is
  'Pause five times as long as the work that began at this time took, for a second at most; return the time afterwards.';
revoke execute on function ledger_internal.pause_after from public;
