-- Find the balance of a participant at a moment.
create or replace function ledger_internal.balance_at(
  group_id       bigint,
  participant_id bigint,
  moment         ledger_internal.history_position
) returns numeric
language sql stable
as $$
  select coalesce(
    (select l.balance from ledger_internal.latest_leg_at(balance_at.group_id, balance_at.participant_id, moment) as l),
    0
  )
$$;

alter function ledger_internal.balance_at owner to ledger_owner;
comment on function ledger_internal.balance_at is
  'The balance of a participant at a moment; 0 before the join and after the exit.';
revoke execute on function ledger_internal.balance_at from public;
