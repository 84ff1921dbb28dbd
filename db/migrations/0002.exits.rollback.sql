-- Undo: exits. Refused while a deposit, an address or the transaction of a settlement is recorded.

set local lock_timeout = '5s';
set local role ledger_owner;

do $$
declare
  kept text;
begin
  -- A snapshot from before the lock would not show what was committed during the wait.
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception using
      errcode = 'object_not_in_prerequisite_state',
      message = 'the ledger is rolled back at READ COMMITTED only',
      hint    = 'Set default_transaction_isolation of the database or the login to read committed.';
  end if;
  lock table ledger.participants, ledger.entries, ledger.settlements in access exclusive mode;

  if exists (select from ledger.entries as e where e.kind = 'deposit') then
    kept := 'deposits';
  -- A roll-back that was killed before its mark has dropped the columns.
  elsif to_regtype('ledger.ethereum_address') is null then
    return;
  elsif exists (select from ledger.participants as p where p.address is not null) then
    kept := 'addresses';
  elsif exists (select from ledger.settlements as s where s.settled_xid is not null) then
    kept := 'the transactions of settlements';
  end if;
  if kept is not null then
    raise exception using
      errcode = 'object_not_in_prerequisite_state',
      message = format('the ledger has %s: rolling the migration back would lose them', kept),
      hint    = 'Keep the migration, and correct what is wrong by a later one.';
  end if;
end
$$;

drop index if exists ledger.participants_address_unique_while_present;
alter table ledger.participants
  drop column if exists address,
  drop column if exists address_xid;
alter table ledger.settlements
  drop column if exists settled_xid;
drop domain if exists ledger.ethereum_address;

comment on table ledger.entries is
  'The permanent record: every movement with both its legs. Money enters a group by a join and leaves it by an exit.';
comment on column ledger.entries.kind is 'join, transfer or exit.';
comment on column ledger.entries.from_id is 'The participant whose balance decreased; null for a join, whose money comes from the main network.';
comment on column ledger.record.kind is 'join, transfer or exit.';
comment on column ledger.record.from_id is 'The participant whose balance decreased; null for a join.';
comment on table ledger.group_total_shards is
  'The total of a group''s balances in eight shards, so that joins and exits of different sessions do not wait for each other.';
comment on column ledger.group_total_shards.changed_at is 'The time of the last join or exit counted in this shard, or a later one.';
comment on table ledger.group_total_history is
  'The total of each shard after each join and exit, to look up a group''s total at a past moment.';
comment on column ledger.group_total_history.entry_id is 'The join or exit.';

-- Functions may call each other in any order.
set local check_function_bodies = off;

-- >>> db/functions/api/settle_exit.sql
-- Record the transaction on the main network that paid an exit, once.
create or replace function ledger.settle_exit(
  group_id        bigint,
  entry_id        bigint,
  reference       text,
  idempotency_key text default null
) returns ledger.entry_result
language plpgsql volatile security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  request    text[] := array['settle_exit', entry_id::text, reference];
  settlement settlements;
  settled    entry_result;
begin
  perform refuse_invalid(
    array['group_id', 'entry_id', 'reference', 'idempotency_key'],
    array[invalid_id(group_id), invalid_id(entry_id), invalid_reference(reference), invalid_idempotency_key(idempotency_key)]
  );

  settled := claim_idempotency_key(group_id, idempotency_key, request, settled);
  if settled.replayed then
    return settled;
  end if;

  select s.*
  into settlement
  from settlements as s
  where s.group_id = settle_exit.group_id
    and s.entry_id = settle_exit.entry_id
  for no key update;
  if not found then
    perform get_entry(group_id, entry_id);
    perform refuse_invalid(array['entry_id'], array['must be an exit']);
  end if;
  if settlement.reference <> reference then
    raise exception using
      errcode = 'LG008',
      column  = 'reference',
      message = format('exit %s of group %s was settled with another reference', entry_id, group_id),
      detail  = format('reference: is %s already', settlement.reference),
      hint    = 'Look at the exit with ledger.get_entry(); a settlement is final.';
  end if;

  if settlement.settled_at is null then
    update settlements as s
    set
      reference = settle_exit.reference,
      settled_at = greatest(clock_timestamp(), settlement.exited_at)
    where s.group_id = settle_exit.group_id
      and s.entry_id = settle_exit.entry_id;
  end if;

  -- The same reference again is a repeated request, also without a key.
  select
    r.*,
    settlement.settled_at is not null
  into settled
  from ledger.record as r
  where r.group_id = settle_exit.group_id
    and r.id = settle_exit.entry_id;
  perform store_answer(group_id, idempotency_key, request, settled);
  return settled;
end
$$;

alter function ledger.settle_exit owner to ledger_owner;
comment on function ledger.settle_exit is
  'Record the transaction on the main network that paid an exit, once; the same reference again changes nothing, and replayed is true. Raises LG001, LG002, LG006, LG008.';
revoke execute on function ledger.settle_exit from public;
grant execute on function ledger.settle_exit to ledger_api;
-- <<< db/functions/api/settle_exit.sql

-- >>> db/functions/internal/constraints/entry_is_valid.sql
-- Check a row of the record, whatever function wrote it.
create or replace function ledger_internal.entry_is_valid(
  id          bigint,
  kind        text,
  from_id     bigint,
  to_id       bigint,
  amount      numeric,
  from_amount numeric,
  to_amount   numeric,
  metadata    jsonb,
  reverses    bigint
) returns boolean
language plpgsql immutable parallel safe
as $$
begin
  return (
    case
      when kind = 'transfer'
      then from_id <> to_id
        and from_amount >= 0 and from_amount < 2::numeric ^ 256
        and to_amount >= 0 and to_amount < 2::numeric ^ 256
      when kind = 'join'
      then from_id is null and from_amount is null
        and to_id is not null and to_amount >= 0 and to_amount < 2::numeric ^ 256
      when kind = 'exit'
      then to_id is null and to_amount is null
        and from_id is not null and from_amount >= 0 and from_amount < 2::numeric ^ 256
    end
    and amount >= 0 and amount < 2::numeric ^ 256
    and (metadata is null or jsonb_typeof(metadata) = 'object')
    and (reverses is null or kind = 'transfer' and reverses < id)
  ) is true;
end
$$;

alter function ledger_internal.entry_is_valid owner to ledger_owner;
comment on function ledger_internal.entry_is_valid is
  'Whether an entry has the legs that fit its kind, a balance for each of them, amounts from 0 to 2^256 - 1, metadata that are an object, and reverses an earlier entry if any. A function, because PostgreSQL reads the text of a check constraint for each statement: as expressions these took half of the time of a transfer.';
revoke execute on function ledger_internal.entry_is_valid from public;
-- <<< db/functions/internal/constraints/entry_is_valid.sql
