-- Exits: deposits after joining, and addresses on the main network.
-- depends: 0001.baseline

set local lock_timeout = '5s';
set local role ledger_owner;

-- A domain, as a transfer does not check it again: a check constraint of participants would run with each update.
do $$
begin
  if to_regtype('ledger.ethereum_address') is null then
    create domain ledger.ethereum_address as bytea;
  end if;
end
$$;
comment on domain ledger.ethereum_address is 'An address on the main network: 20 bytes, not all zero.';

alter table ledger.participants
  add column if not exists address     ledger.ethereum_address,
  add column if not exists address_xid xid8;
comment on column ledger.participants.address is
  'The address on the main network: set once, and unique among the participants present in the group; null while none is bound.';
comment on column ledger.participants.address_xid is 'The transaction that bound the address.';

-- Only now: a column of a domain that has a constraint is added by a rewrite of the table. No row has an address yet.
do $$
begin
  if not exists (
    select from pg_catalog.pg_constraint as c
    where c.contypid = 'ledger.ethereum_address'::regtype and c.conname = 'ethereum_address_valid'
  ) then
    alter domain ledger.ethereum_address
      add constraint ethereum_address_valid
      check (octet_length(value) = 20 and value <> '\x0000000000000000000000000000000000000000');
  end if;
end
$$;

-- A transfer changes none of its columns, so that its updates stay HOT. No row is in it yet.
-- squawk-ignore require-concurrent-index-creation
create unique index if not exists participants_address_unique_while_present
  on ledger.participants (group_id, address)
  where exited_at is null and address is not null;

alter table ledger.settlements
  add column if not exists settled_xid xid8;
comment on column ledger.settlements.settled_xid is
  'The transaction that recorded the reference; null until then, and where that happened before this column was added.';

comment on table ledger.entries is
  'The permanent record: every movement with both its legs. Money enters a group by a join or a deposit and leaves it by an exit.';
comment on column ledger.entries.kind is 'join, deposit, transfer or exit.';
comment on column ledger.entries.from_id is
  'The participant whose balance decreased; null for a join or a deposit, whose money comes from the main network.';
comment on column ledger.record.kind is 'join, deposit, transfer or exit.';
comment on column ledger.record.from_id is 'The participant whose balance decreased; null for a join or a deposit.';
comment on table ledger.group_total_shards is
  'The total of a group''s balances in eight shards, so that joins, deposits and exits of different sessions do not wait for each other.';
comment on column ledger.group_total_shards.changed_at is
  'The time of the last join, deposit or exit counted in this shard, or a later one.';
comment on table ledger.group_total_history is
  'The total of each shard after each join, deposit and exit, to look up a group''s total at a past moment.';
comment on column ledger.group_total_history.entry_id is 'The join, deposit or exit.';

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
      settled_at = greatest(clock_timestamp(), settlement.exited_at),
      settled_xid = pg_current_xact_id()
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
      when kind in ('join', 'deposit')
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
