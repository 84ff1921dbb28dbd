-- Vaults: groups whose money is held by a contract, and the bridge that connects them.
-- depends: 0002.exits

-- squawk-ignore-file ban-drop-function, prefer-bigint-over-smallint, prefer-bigint-over-int

set local lock_timeout = '5s';

do $$
begin
  -- Roles belong to the cluster: another database in it may have created this one, perhaps at this moment.
  begin
    if to_regrole('ledger_bridge') is null then
      create role ledger_bridge nologin;
    end if;
  exception when duplicate_object or unique_violation then
    null;
  end;

  -- A role with more rights than the bridge needs would get them on what follows.
  if exists (
    select from pg_roles as r
    where r.rolname = 'ledger_bridge'
      and (r.rolsuper or r.rolcreaterole or r.rolcreatedb or r.rolreplication or r.rolbypassrls)
  ) then
    raise exception using
      errcode = 'object_not_in_prerequisite_state',
      message = 'the role ledger_bridge exists with attributes that it must not have',
      hint    = 'Run: alter role ledger_bridge nosuperuser nocreaterole nocreatedb noreplication nobypassrls.';
  end if;
exception when insufficient_privilege then
  raise exception using
    errcode = 'insufficient_privilege',
    message = format('%I may not create the role ledger_bridge: %s', current_user, sqlerrm),
    hint    = 'Give it CREATEROLE, or create the role first: create role ledger_bridge nologin.';
end
$$;

set local role ledger_owner;

grant usage on schema ledger to ledger_bridge;

alter table ledger.participants
  add column if not exists address_proved boolean,
  add column if not exists frozen_at timestamptz;
comment on column ledger.participants.address is
  'The address on the main network: set once, and unique among the participants present in the group, among those who proved it where the group has a vault; null while none is bound.';
comment on column ledger.participants.address_proved is
  'In a group with a vault: whether the participant proved the address, or the bridge joined them for it; null in any other group.';
comment on column ledger.participants.frozen_at is
  'When the group was frozen by an emergency of its vault; null before that, and if the participant had exited.';

-- An address that is only claimed does not keep its owner out. One look at each row, as for the first index of addresses,
-- under the lock that the new columns took.
-- squawk-ignore require-concurrent-index-deletion
drop index if exists ledger.participants_address_unique_while_present;
-- squawk-ignore require-concurrent-index-creation
create unique index participants_address_unique_while_present
  on ledger.participants (group_id, address)
  where exited_at is null and address is not null and address_proved is not false;

alter table ledger.checkpoints
  add column if not exists adopted_at timestamptz;
comment on column ledger.checkpoints.adopted_at is
  'When it was taken over from a snapshot after a restore, and its seal with it; null if it was made here.';
comment on column ledger.checkpoints.number is
  'Number of the checkpoint in its group, from 1; without gaps but before one that was adopted, and after a root of unknown_roots.';
comment on column ledger.checkpoints.previous is
  'The header of the checkpoint before it, of the last one that its vault accepted where the group has one; 0 for the first one.';
comment on column ledger.checkpoints.deposits is
  'How many joins and deposits it includes; deposits into the vault where the group has one.';

create table if not exists ledger.vaults (
  group_id              bigint not null,
  chain_id              numeric(78, 0) not null,
  vault                 ledger.ethereum_address not null,
  domain                bytea not null,
  linked_at             timestamptz not null default clock_timestamp(),
  followed_block        bigint,
  followed_hash         bytea,
  emergency_number      bigint,
  emergency_transaction bytea,
  emergency_block       bigint,
  frozen_at             timestamptz,
  closing_transaction   bytea,
  closing_block         bigint,
  closed_at             timestamptz,
  constraint vaults_pkey primary key (group_id),
  constraint vaults_of_a_group foreign key (group_id) references ledger.groups (id),
  constraint vaults_chain check (chain_id > 0),
  constraint vaults_lengths check (
    octet_length(domain) = 32 and octet_length(followed_hash) = 32 and octet_length(emergency_transaction) = 32
    and octet_length(closing_transaction) = 32
  ),
  constraint vaults_progress check ((followed_block is null) = (followed_hash is null)),
  constraint vaults_emergency check (
    (emergency_number is null) = (frozen_at is null)
    and (emergency_number is null) = (emergency_transaction is null)
    and (emergency_number is null) = (emergency_block is null)
  ),
  constraint vaults_closing check (
    (closed_at is null) = (closing_transaction is null) and (closed_at is null) = (closing_block is null)
  )
);
comment on table ledger.vaults is 'Groups whose money is in a vault: a contract on a chain, which pays their exits.';
comment on column ledger.vaults.group_id is 'The group, linked before its first entry and for good.';
comment on column ledger.vaults.chain_id is 'The chain that the vault is on.';
comment on column ledger.vaults.vault is 'The address of the vault.';
comment on column ledger.vaults.domain is 'SHA-256 of the chain, the vault and the group, as domain_hash makes it.';
comment on column ledger.vaults.linked_at is 'When the group was linked.';
comment on column ledger.vaults.followed_block is 'The final block up to which the bridge has followed the chain; null before it began.';
comment on column ledger.vaults.followed_hash is 'The hash of that block.';
comment on column ledger.vaults.emergency_number is 'The checkpoint that an emergency pays, 0 for none; null without an emergency.';
comment on column ledger.vaults.emergency_transaction is 'The transaction that declared it.';
comment on column ledger.vaults.emergency_block is 'The block of that transaction.';
comment on column ledger.vaults.frozen_at is 'When the group was frozen for it.';
comment on column ledger.vaults.closing_transaction is 'The transaction that closed the group at the vault.';
comment on column ledger.vaults.closing_block is 'The block of that transaction.';
comment on column ledger.vaults.closed_at is 'When the closing was recorded; null before that.';

create table if not exists ledger.vault_deposits (
  group_id       bigint not null,
  deposit_index  bigint not null,
  address        ledger.ethereum_address not null,
  amount         numeric(78, 0) not null,
  cumulative     numeric(78, 0) not null,
  transaction    bytea not null,
  block          bigint not null,
  participant_id bigint not null,
  entry_id       bigint not null,
  credited_at    timestamptz not null default clock_timestamp(),
  constraint vault_deposits_pkey primary key (group_id, deposit_index),
  constraint vault_deposits_of_a_vault foreign key (group_id) references ledger.vaults (group_id),
  constraint vault_deposits_of_an_entry foreign key (group_id, entry_id) references ledger.entries (group_id, id),
  constraint vault_deposits_credited_once unique (group_id, entry_id),
  constraint vault_deposits_valid check (
    deposit_index >= 0 and amount > 0 and cumulative >= amount and cumulative < 2::numeric ^ 256
    and octet_length(transaction) = 32 and block >= 0
  )
);
comment on table ledger.vault_deposits is 'Deposits into vaults that were credited, each by one entry.';
comment on column ledger.vault_deposits.group_id is 'The group.';
comment on column ledger.vault_deposits.deposit_index is 'Number of the deposit at the vault, from 0 without gaps.';
comment on column ledger.vault_deposits.address is 'The owner of the deposit.';
comment on column ledger.vault_deposits.amount is 'What was deposited.';
comment on column ledger.vault_deposits.cumulative is 'The sum of all deposits of the group up to this one.';
comment on column ledger.vault_deposits.transaction is 'The transaction that deposited it.';
comment on column ledger.vault_deposits.block is 'The block of that transaction.';
comment on column ledger.vault_deposits.participant_id is 'The participant to whom it was credited.';
comment on column ledger.vault_deposits.entry_id is 'The join or deposit that credited it.';
comment on column ledger.vault_deposits.credited_at is 'When it was credited.';

create table if not exists ledger.payouts (
  group_id       bigint not null,
  kind           text collate "C" not null,
  subject        bigint not null,
  participant_id bigint,
  owner          ledger.ethereum_address not null,
  amount         numeric(78, 0) not null,
  transaction    bytea,
  block          bigint,
  log            bigint,
  paid_at        timestamptz not null default clock_timestamp(),
  constraint payouts_pkey primary key (group_id, kind, subject),
  constraint payouts_of_a_vault foreign key (group_id) references ledger.vaults (group_id),
  constraint payouts_kind check (kind in ('exit', 'present', 'reclaim')),
  constraint payouts_participant check ((participant_id is null) = (kind = 'reclaim')),
  constraint payouts_valid check (
    amount >= 0 and amount < 2::numeric ^ 256 and octet_length(transaction) = 32 and block >= 0 and log >= 0
    and (amount = 0 or transaction is not null) and (transaction is null) = (block is null)
    and (log is null) = (kind = 'reclaim' or transaction is null)
  )
);
create unique index if not exists payouts_of_a_log
  on ledger.payouts (group_id, transaction, log)
  where log is not null;
comment on table ledger.payouts is 'What vaults paid: exits, and in an emergency participants who were present, and deposits that were returned.';
comment on column ledger.payouts.group_id is 'The group.';
comment on column ledger.payouts.kind is
  'exit; in an emergency also present, for a participant who was present in the checkpoint that it pays, and reclaim, for a deposit that this does not include.';
comment on column ledger.payouts.subject is 'The entry of the exit, the participant who was present, or the index of the deposit.';
comment on column ledger.payouts.participant_id is 'The participant; null for a deposit.';
comment on column ledger.payouts.owner is 'The address that was paid.';
comment on column ledger.payouts.amount is 'What was paid.';
comment on column ledger.payouts.transaction is 'The transaction that paid it; null for an exit of 0 that was settled without one.';
comment on column ledger.payouts.block is 'The block of that transaction.';
comment on column ledger.payouts.log is 'The log of that transaction.';
comment on column ledger.payouts.paid_at is 'When it was recorded.';

create table if not exists ledger.publications (
  group_id              bigint not null,
  number                bigint not null,
  state                 text collate "C" not null default 'prepared',
  prepared_at           timestamptz not null default clock_timestamp(),
  published_transaction bytea,
  published_block       bigint,
  ended_transaction     bytea,
  ended_block           bigint,
  changed_at            timestamptz not null default clock_timestamp(),
  constraint publications_pkey primary key (group_id, number),
  constraint publications_of_a_vault foreign key (group_id) references ledger.vaults (group_id),
  constraint publications_of_a_checkpoint foreign key (group_id, number) references ledger.checkpoints (group_id, number),
  constraint publications_state check (state in ('prepared', 'accepted', 'closed', 'vetoed', 'abandoned')),
  constraint publications_lengths check (
    octet_length(published_transaction) = 32 and octet_length(ended_transaction) = 32
  )
);
comment on table ledger.publications is 'Checkpoints of groups that have a vault, and what became of them there.';
comment on column ledger.publications.group_id is 'The group.';
comment on column ledger.publications.number is 'The checkpoint.';
comment on column ledger.publications.state is
  'prepared, to be published; accepted by the vault; closed, when its window is over; or vetoed, or abandoned.';
comment on column ledger.publications.prepared_at is 'When it was prepared.';
comment on column ledger.publications.published_transaction is 'The transaction that published it.';
comment on column ledger.publications.published_block is 'The block of that transaction.';
comment on column ledger.publications.ended_transaction is 'The transaction by which it was vetoed, closed or failed, if there is one.';
comment on column ledger.publications.ended_block is 'The block of that transaction.';
comment on column ledger.publications.changed_at is 'When its state was recorded.';

create table if not exists ledger.exit_requests (
  group_id       bigint not null,
  participant_id bigint not null,
  transaction    bytea not null,
  block          bigint not null,
  recorded_at    timestamptz not null default clock_timestamp(),
  constraint exit_requests_pkey primary key (group_id, participant_id),
  constraint exit_requests_of_a_vault foreign key (group_id) references ledger.vaults (group_id),
  constraint exit_requests_of_a_participant foreign key (group_id, participant_id)
    references ledger.participants (group_id, id),
  constraint exit_requests_valid check (octet_length(transaction) = 32 and block >= 0)
);
comment on table ledger.exit_requests is 'Exits that participants requested at the vault of their group.';
comment on column ledger.exit_requests.group_id is 'The group.';
comment on column ledger.exit_requests.participant_id is 'The participant, who has exited.';
comment on column ledger.exit_requests.transaction is 'The transaction that requested it first.';
comment on column ledger.exit_requests.block is 'The block of that transaction.';
comment on column ledger.exit_requests.recorded_at is 'When it was recorded.';

-- A nonce is a sender's on a chain, whatever the group.
create table if not exists ledger.bridge_transactions (
  chain_id     numeric(78, 0) not null,
  sender       ledger.ethereum_address not null,
  nonce        bigint not null,
  group_id     bigint not null,
  purpose      text collate "C" not null,
  number       bigint not null,
  raw          bytea not null,
  earlier      bytea[] not null default '{}',
  recorded_at  timestamptz not null default clock_timestamp(),
  transaction  bytea,
  block        bigint,
  succeeded    boolean,
  finished_at  timestamptz,
  constraint bridge_transactions_pkey primary key (chain_id, sender, nonce),
  constraint bridge_transactions_of_a_vault foreign key (group_id) references ledger.vaults (group_id),
  constraint bridge_transactions_purpose check (purpose in ('publish', 'withdraw')),
  constraint bridge_transactions_valid check (nonce >= 0 and octet_length(transaction) = 32 and block >= 0),
  constraint bridge_transactions_finished check (
    (finished_at is null) = (transaction is null) and (finished_at is null) = (block is null)
    and (finished_at is null) = (succeeded is null)
  )
);
create index if not exists bridge_transactions_open
  on ledger.bridge_transactions (chain_id, sender, nonce)
  where finished_at is null;
comment on table ledger.bridge_transactions is
  'Transactions that the bridge signed, written before they are sent: after a crash it sends the same ones.';
comment on column ledger.bridge_transactions.chain_id is 'The chain.';
comment on column ledger.bridge_transactions.sender is 'The address of the key that signed it.';
comment on column ledger.bridge_transactions.nonce is 'Its number among those of the sender.';
comment on column ledger.bridge_transactions.group_id is 'The group that it is for.';
comment on column ledger.bridge_transactions.purpose is 'publish or withdraw.';
comment on column ledger.bridge_transactions.number is 'The checkpoint that it publishes, or pays exits of.';
comment on column ledger.bridge_transactions.raw is 'The signed transaction, the newest one of this nonce.';
comment on column ledger.bridge_transactions.earlier is 'Those that it replaced, the oldest first: one of them may be mined all the same.';
comment on column ledger.bridge_transactions.recorded_at is 'When the first one was recorded.';
comment on column ledger.bridge_transactions.transaction is 'The hash of the one that was mined; null until that is final.';
comment on column ledger.bridge_transactions.block is 'The block of it.';
comment on column ledger.bridge_transactions.succeeded is 'Whether it did what it was for.';
comment on column ledger.bridge_transactions.finished_at is 'When that was recorded.';

create table if not exists ledger.adoptions (
  group_id   bigint not null,
  number     bigint not null,
  xid        xid8 not null default pg_current_xact_id(),
  adopted_at timestamptz not null default clock_timestamp(),
  constraint adoptions_pkey primary key (group_id, number),
  constraint adoptions_of_a_checkpoint foreign key (group_id, number) references ledger.checkpoints (group_id, number)
);
comment on table ledger.adoptions is
  'Checkpoints that groups were made to agree with after a restore. Exits that one made again have the ids that they had.';
comment on column ledger.adoptions.group_id is 'The group.';
comment on column ledger.adoptions.number is 'The checkpoint.';
comment on column ledger.adoptions.xid is 'The transaction that wrote the entries for it.';
comment on column ledger.adoptions.adopted_at is 'When.';

create table if not exists ledger.unknown_roots (
  group_id    bigint not null,
  number      bigint not null,
  header      bytea not null,
  transaction bytea not null,
  block       bigint not null,
  recorded_at timestamptz not null default clock_timestamp(),
  constraint unknown_roots_pkey primary key (group_id, number),
  constraint unknown_roots_of_a_vault foreign key (group_id) references ledger.vaults (group_id),
  constraint unknown_roots_valid check (
    number > 0 and octet_length(header) = 32 and octet_length(transaction) = 32 and block >= 0
  )
);
comment on table ledger.unknown_roots is
  'Roots that were published at vaults and taken back, and that this ledger did not make or has lost in a restore.';
comment on column ledger.unknown_roots.group_id is 'The group.';
comment on column ledger.unknown_roots.number is 'The number that it has used: no checkpoint of the vault can have it.';
comment on column ledger.unknown_roots.header is 'Its header.';
comment on column ledger.unknown_roots.transaction is 'The transaction that published it.';
comment on column ledger.unknown_roots.block is 'The block of that transaction.';
comment on column ledger.unknown_roots.recorded_at is 'When it was recorded.';

create or replace trigger vaults_are_kept
  before delete or truncate on ledger.vaults
  for each statement execute function ledger_internal.forbid_mutation();
-- Each condition alone: a dump writes comparisons of rows in other parentheses, and verify would find another definition.
create or replace trigger vaults_do_not_go_back
  before update on ledger.vaults
  for each row
  when (
    old.group_id <> new.group_id
    or old.chain_id <> new.chain_id
    or old.vault <> new.vault
    or old.domain <> new.domain
    or old.linked_at <> new.linked_at
    or (old.followed_block is not null and (new.followed_block >= old.followed_block) is not true)
    or (old.emergency_number is not null and old.emergency_number is distinct from new.emergency_number)
    or (old.emergency_number is not null and old.emergency_transaction is distinct from new.emergency_transaction)
    or (old.emergency_number is not null and old.emergency_block is distinct from new.emergency_block)
    or (old.emergency_number is not null and old.frozen_at is distinct from new.frozen_at)
    or (old.closed_at is not null and old.closing_transaction is distinct from new.closing_transaction)
    or (old.closed_at is not null and old.closing_block is distinct from new.closing_block)
    or (old.closed_at is not null and old.closed_at is distinct from new.closed_at)
  )
  execute function ledger_internal.forbid_mutation();
create or replace trigger vault_deposits_are_permanent
  before update or delete or truncate on ledger.vault_deposits
  for each statement execute function ledger_internal.forbid_mutation();
create or replace trigger payouts_are_permanent
  before update or delete or truncate on ledger.payouts
  for each statement execute function ledger_internal.forbid_mutation();
create or replace trigger exit_requests_are_permanent
  before update or delete or truncate on ledger.exit_requests
  for each statement execute function ledger_internal.forbid_mutation();
create or replace trigger adoptions_are_permanent
  before update or delete or truncate on ledger.adoptions
  for each statement execute function ledger_internal.forbid_mutation();
create or replace trigger unknown_roots_are_permanent
  before update or delete or truncate on ledger.unknown_roots
  for each statement execute function ledger_internal.forbid_mutation();
create or replace trigger publications_are_kept
  before delete or truncate on ledger.publications
  for each statement execute function ledger_internal.forbid_mutation();
create or replace trigger publications_do_not_go_back
  before update on ledger.publications
  for each row
  when (
    old.group_id <> new.group_id
    or old.number <> new.number
    or old.prepared_at <> new.prepared_at
    or (old.state = 'prepared' and new.state not in ('prepared', 'accepted', 'vetoed', 'abandoned'))
    or (old.state = 'accepted' and new.state not in ('accepted', 'closed', 'vetoed'))
    or (old.state in ('closed', 'vetoed', 'abandoned') and old.state <> new.state)
    or (old.published_transaction is not null and old.published_transaction is distinct from new.published_transaction)
    or (old.published_transaction is not null and old.published_block is distinct from new.published_block)
    or (
      old.state in ('closed', 'vetoed', 'abandoned') and old.ended_transaction is distinct from new.ended_transaction
    )
    or (old.state in ('closed', 'vetoed', 'abandoned') and old.ended_block is distinct from new.ended_block)
  )
  execute function ledger_internal.forbid_mutation();
create or replace trigger bridge_transactions_are_kept
  before delete or truncate on ledger.bridge_transactions
  for each statement execute function ledger_internal.forbid_mutation();
create or replace trigger bridge_transactions_do_not_change
  before update on ledger.bridge_transactions
  for each row
  when (
    old.finished_at is not null
    or old.chain_id <> new.chain_id
    or old.sender <> new.sender
    or old.nonce <> new.nonce
    or old.group_id <> new.group_id
    or old.purpose <> new.purpose
    or old.number <> new.number
    or old.recorded_at <> new.recorded_at
  )
  execute function ledger_internal.forbid_mutation();

create or replace view ledger.checkpoint_headers as
select
  c.group_id,
  c.number,
  c.chain_id,
  '0x' || encode(c.vault, 'hex') as vault,
  '0x' || encode(c.previous, 'hex') as previous,
  c.deposits,
  c.credited,
  c.settled,
  c.leaf_count,
  c.total,
  '0x' || encode(c.root, 'hex') as root,
  '0x' || encode(c.header, 'hex') as header,
  '0x' || encode(c.seal, 'hex') as seal,
  c.created_at,
  p.state
from ledger.checkpoints as c
left join ledger.publications as p on p.group_id = c.group_id and p.number = c.number;

do $$
begin
  if not exists (
    select from pg_catalog.pg_attribute as a
    where a.attrelid = 'ledger.checkpoint_result'::regclass and a.attname = 'state' and not a.attisdropped
  ) then
    alter type ledger.checkpoint_result add attribute state text;
  end if;
end
$$;

comment on column ledger.checkpoint_headers.number is
  'Number of the checkpoint in its group, from 1; without gaps but before one that was adopted after a restore, and after a root of unknown_roots.';
comment on column ledger.checkpoint_headers.previous is
  'The header of the checkpoint before it, of the last one that its vault accepted where the group has one; 0 for the first one.';
comment on column ledger.checkpoint_headers.deposits is
  'How many joins and deposits it includes; deposits into the vault where the group has one.';
comment on column ledger.checkpoint_headers.state is
  'What became of it at the vault: prepared, accepted, closed, vetoed or abandoned; null in a group without one.';

-- What the functions of this migration return: name, columns, comment.
do $$
declare
  shape text[];
begin
  foreach shape slice 1 in array array[
    ['ledger.vault_status', 'group_id bigint, chain_id numeric, vault text, domain text, deposits bigint, cumulative numeric, followed_block bigint, followed_hash text, emergency boolean, emergency_number bigint, closed boolean, settled numeric, next_number bigint, accepted_number bigint, accepted_header text, unknown_number bigint', 'The vault of a group, and what is recorded of it.'],
    ['ledger.link_result', 'group_id bigint, chain_id numeric, vault text, domain text, deposits bigint, cumulative numeric, followed_block bigint, followed_hash text, emergency boolean, emergency_number bigint, closed boolean, settled numeric, next_number bigint, accepted_number bigint, accepted_header text, unknown_number bigint, replayed boolean', 'The vault of a group, and whether the group was linked before.'],
    ['ledger.credit_result', 'participant_id bigint, entry_id bigint, replayed boolean', 'To whom a deposit was credited, by which entry, and whether it was credited before.'],
    ['ledger.payout_result', 'group_id bigint, kind text, subject bigint, participant_id bigint, exit_entry bigint, owner text, amount numeric, replayed boolean', 'A payout, and whether it was recorded before.'],
    ['ledger.publication', 'number bigint, state text, header text, transaction text, block bigint', 'A checkpoint that was prepared for a vault, and what became of it.'],
    ['ledger.publication_result', 'number bigint, state text, header text, transaction text, block bigint, replayed boolean', 'A publication, and whether this was recorded before.'],
    ['ledger.unpaid_exit', 'index bigint, participant_id bigint, exit_entry bigint, owner text, amount numeric, requested boolean', 'A leaf that is an exit and not settled, and whether it was requested at the vault.'],
    ['ledger.open_exit', 'exit_entry bigint, participant_id bigint, owner text, amount numeric, requested boolean', 'An exit that is not settled, and whether it was requested at the vault.'],
    ['ledger.open_transaction', 'nonce bigint, group_id bigint, purpose text, number bigint, raw text, replacements bigint, raws text[]', 'A signed transaction that is not finished; raws has those that it replaced, the oldest first, and itself.'],
    ['ledger.bridge_result', 'replayed boolean', 'Whether this was recorded before.'],
    ['ledger_internal.parsed_snapshot', 'checkpoint ledger.checkpoints, leaves ledger_internal.unpacked_leaf[], chunks ledger.checkpoint_chunks[]', 'A snapshot that was read: the checkpoint, its leaves, and its chunks.'],
    ['ledger_internal.adoption_target', 'participant_id bigint, exit_entry bigint, owner bytea, amount numeric', 'What a restored group is made to agree with: a participant who is present, or has left with an exit, the address and the amount.']
  ] loop
    if to_regtype(shape[1]) is null then
      execute format('create type %s as (%s)', shape[1], shape[2]);
    end if;
    execute format('comment on type %s is %L', shape[1], shape[3]);
  end loop;
end
$$;


-- Functions may call each other in any order.
set local check_function_bodies = off;

-- >>> db/functions/api/bind_address.sql
-- Bind a participant's address on the main network, once.
create or replace function ledger.bind_address(
  group_id        bigint,
  participant_id  bigint,
  address         text,
  idempotency_key text default null
) returns ledger.address_result
language plpgsql volatile security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  request text[];
  bound   address_result;
  proved  boolean;
begin
  perform refuse_invalid(
    array['group_id', 'participant_id', 'address', 'idempotency_key'],
    array[invalid_id(group_id), invalid_id(participant_id), invalid_address(address), invalid_idempotency_key(idempotency_key)]
  );
  bound.address := format_address(parse_address(address));

  request := array['bind_address', participant_id::text, bound.address];
  bound := claim_idempotency_key(group_id, idempotency_key, request, bound);
  if bound.replayed then
    return bound;
  end if;

  select
    p.id,
    p.group_id,
    p.address_proved
  into
    bound.id,
    bound.group_id,
    proved
  from participants as p
  where p.group_id = bind_address.group_id
    and p.id = bind_address.participant_id
    and p.exited_at is null
  for no key update;
  if not found then
    perform refuse_unknown_participants(group_id, array['participant_id'], array[participant_id]);
  end if;
  -- Every participant of a group with a vault has it, and no other one.
  if proved is not null then
    perform refuse_linked(group_id, 'address', 'Prove the address with a signature of its key.');
  end if;
  perform assign_address(group_id, participant_id, parse_address(address));

  bound.replayed := false;
  perform store_answer(group_id, idempotency_key, request, bound);
  return bound;
end
$$;

alter function ledger.bind_address owner to ledger_owner;
comment on function ledger.bind_address is
  'Bind an address, 0x and 40 hex digits, to a participant present in the group, for good; the same address again changes nothing. Refused in a group with a vault, where an address is proved. Raises LG001, LG002, LG006, LG010, LG012.';
revoke execute on function ledger.bind_address from public;
grant execute on function ledger.bind_address to ledger_api;
-- <<< db/functions/api/bind_address.sql

-- >>> db/functions/api/checkpoint.sql
-- Make a checkpoint of a group: commit to what each participant holds.
create or replace function ledger.checkpoint(
  group_id        bigint,
  idempotency_key text default null
) returns ledger.checkpoint_result
language plpgsql volatile security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  request text[] := array['checkpoint'];
  added   bigint;
  result  checkpoint_result;
begin
  perform refuse_invalid(
    array['group_id', 'idempotency_key'],
    array[invalid_id(group_id), invalid_idempotency_key(idempotency_key)]
  );
  -- What this transaction has written would be in the leaves, and not in the snapshot that is kept.
  if pg_current_xact_id_if_assigned() is not null then
    raise exception using
      errcode = 'active_sql_transaction',
      message = 'a checkpoint must be the first change of its transaction',
      hint    = 'Call ledger.checkpoint() in a transaction of its own.';
  end if;

  result := claim_idempotency_key(group_id, idempotency_key, request, result);
  if result.replayed then
    return result;
  end if;

  -- One checkpoint of the group at a time. No idempotency key is empty, so that this is the lock of none.
  perform pg_advisory_xact_lock(hashtextextended('', group_id));
  perform from groups as g where g.id = checkpoint.group_id;
  if not found then
    perform refuse_unknown_group(group_id);
  end if;
  if (find_vault(group_id)).group_id is not null then
    perform refuse_linked(group_id, 'group_id', 'The bridge makes the checkpoints of the group, and publishes them.');
  end if;
  -- The snapshot that is kept means something among the transactions of this server's feed only.
  perform current_feed('group_id');
  added := add_checkpoint(group_id);
  -- Above READ COMMITTED a snapshot from before the group got a vault ends in 40001 here.
  perform from groups as g
  where g.id = checkpoint.group_id
  for share;

  result := checkpoint_answer(group_id, added, false);
  perform store_answer(group_id, idempotency_key, request, result);
  return result;
end
$$;

alter function ledger.checkpoint owner to ledger_owner;
comment on function ledger.checkpoint is
  'Make a checkpoint of the group, also of one that was removed: the root of a tree with a leaf for each participant present and for each exit that is not settled, in one snapshot, chained to the checkpoint before it. No movement waits for it. It must be the first change of its transaction. Refused for a group with a vault. Raises LG001, LG002, LG006, LG009, LG011, LG012.';
revoke execute on function ledger.checkpoint from public;
grant execute on function ledger.checkpoint to ledger_api;
-- <<< db/functions/api/checkpoint.sql

-- >>> db/functions/api/deposit.sql
-- Add a deposit to the balance of a participant who has joined.
create or replace function ledger.deposit(
  group_id        bigint,
  participant_id  bigint,
  amount          numeric,
  idempotency_key text  default null,
  metadata        jsonb default null
) returns ledger.deposit_result
language plpgsql volatile security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  reasons     text[];
  request     text[];
  deposited   deposit_result;
  participant participants;
begin
  reasons := array[
    invalid_id(group_id), invalid_id(participant_id), invalid_amount(amount, 1), invalid_idempotency_key(idempotency_key),
    invalid_metadata(metadata)
  ];
  perform refuse_invalid(array['group_id', 'participant_id', 'amount', 'idempotency_key', 'metadata'], reasons);

  request := array['deposit', participant_id::text, trunc(amount)::text, metadata::text];
  deposited := claim_idempotency_key(group_id, idempotency_key, request, deposited);
  if deposited.replayed then
    return deposited;
  end if;

  -- A row that its transaction has written before is checked against its group again when it is written: with the group
  -- locked first, as by a join, this cannot deadlock with a removal.
  perform from groups as g
  where g.id = deposit.group_id
  for key share;

  select p.*
  into participant
  from participants as p
  where p.group_id = deposit.group_id
    and p.id = deposit.participant_id
    and p.exited_at is null
  for no key update;
  if not found then
    perform refuse_unknown_participants(group_id, array['participant_id'], array[participant_id]);
  end if;
  -- Every participant of a group with a vault has it, and no other one.
  if participant.address_proved is not null then
    perform refuse_linked(group_id, 'group_id', 'Deposit into the vault, for the participant''s address.');
  end if;
  if balance_violation(0, participant.amount + amount) is not null then
    perform refuse_invalid(array['amount'], array['would take the balance to 2^256 or more']);
  end if;

  deposited.username := participant.username;
  deposited.id := participant.id;
  deposited.group_id := participant.group_id;
  deposited.amount := participant.amount + trunc(amount);
  deposited.entry_id := post_deposit(participant, amount, metadata);
  deposited.replayed := false;
  perform store_answer(group_id, idempotency_key, request, deposited);
  return deposited;
end
$$;

alter function ledger.deposit owner to ledger_owner;
comment on function ledger.deposit is
  'Add a deposit of 1 or more to the balance of a participant who is present. entry_id is the entry written. Refused in a group with a vault. Raises LG001, LG002, LG006, LG012.';
revoke execute on function ledger.deposit from public;
grant execute on function ledger.deposit to ledger_api;
-- <<< db/functions/api/deposit.sql

-- >>> db/functions/api/exit_group.sql
-- Leave a group with the final amount, which returns to the main network.
create or replace function ledger.exit_group(
  group_id        bigint,
  participant_id  bigint,
  idempotency_key text  default null,
  metadata        jsonb default null,
  address         text  default null
) returns ledger.exit_result
language plpgsql volatile security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  request     text[];
  exited      exit_result;
  participant participants;
begin
  perform refuse_invalid(
    array['group_id', 'participant_id', 'idempotency_key', 'metadata', 'address'],
    array[
      invalid_id(group_id), invalid_id(participant_id), invalid_idempotency_key(idempotency_key), invalid_metadata(metadata),
      case when address is not null then invalid_address(address) end
    ]
  );

  request := array['exit_group', participant_id::text, metadata::text, format_address(parse_address(address))];
  exited := claim_idempotency_key(group_id, idempotency_key, request, exited);
  if exited.replayed then
    return exited;
  end if;

  -- A row that its transaction has written before is checked against its group again when it is written: with the group
  -- locked first, as by a join, this cannot deadlock with a removal.
  perform from groups as g
  where g.id = exit_group.group_id
  for key share;

  select p.*
  into participant
  from participants as p
  where p.group_id = exit_group.group_id
    and p.id = exit_group.participant_id
    and p.exited_at is null
    and p.frozen_at is null
  for no key update;
  if not found then
    perform refuse_frozen(group_id);
    perform refuse_unknown_participants(group_id, array['participant_id'], array[participant_id]);
  end if;
  -- Every participant of a group with a vault has one; without, an exit could never be paid.
  if participant.address_proved is not null and participant.address is null then
    perform refuse_linked(group_id, 'address', 'Bind an address first.');
  end if;
  if address is not null then
    perform assign_address(group_id, participant_id, parse_address(address));
  end if;

  exited.final_amount := participant.amount;
  exited.entry_id := post_exit(participant, metadata);
  exited.replayed := false;
  perform store_answer(group_id, idempotency_key, request, exited);
  return exited;
end
$$;

alter function ledger.exit_group owner to ledger_owner;
comment on function ledger.exit_group is
  'Leave the group with all that the participant holds, the final amount; an address is bound first, where none is. entry_id is the entry written. Raises LG001, LG002, LG006, LG010, LG012, LG014.';
revoke execute on function ledger.exit_group from public;
grant execute on function ledger.exit_group to ledger_api;
-- <<< db/functions/api/exit_group.sql

-- >>> db/functions/api/get_address.sql
-- Show a participant's address on the main network.
create or replace function ledger.get_address(
  group_id       bigint,
  participant_id bigint,
  out address    text
)
language plpgsql stable security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
begin
  select format_address(p.address)
  into address
  from participants as p
  where p.group_id = get_address.group_id
    and p.id = get_address.participant_id
    and p.exited_at is null;
  if not found then
    perform refuse_unknown_participants(group_id, array['participant_id'], array[participant_id]);
  end if;
end
$$;

alter function ledger.get_address owner to ledger_owner;
comment on function ledger.get_address is
  'The address of a participant present in the group, with the checksum of EIP-55; null while none is bound. Raises LG001, LG002.';
revoke execute on function ledger.get_address from public;
grant execute on function ledger.get_address to ledger_api;
grant execute on function ledger.get_address to ledger_bridge;
-- <<< db/functions/api/get_address.sql

-- >>> db/functions/api/get_checkpoint.sql
-- Show one checkpoint of a group.
create or replace function ledger.get_checkpoint(
  group_id bigint,
  number   bigint default null
) returns ledger.checkpoint_headers
language plpgsql stable security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  found_one checkpoints := find_checkpoint(group_id, number);
  header    checkpoint_headers;
begin
  select h.*
  into header
  from checkpoint_headers as h
  where h.group_id = get_checkpoint.group_id
    and h.number = found_one.number;
  return header;
end
$$;

alter function ledger.get_checkpoint owner to ledger_owner;
comment on function ledger.get_checkpoint is
  'A checkpoint of the group, the newest one for null. Raises LG001, LG002.';
revoke execute on function ledger.get_checkpoint from public;
grant execute on function ledger.get_checkpoint to ledger_api;
grant execute on function ledger.get_checkpoint to ledger_bridge;
-- <<< db/functions/api/get_checkpoint.sql

-- >>> db/functions/api/get_participant.sql
-- Show one participant with the balance, now or at a past moment.
create or replace function ledger.get_participant(
  group_id       bigint,
  participant_id bigint,
  at_time        timestamptz default null,
  at_entry       bigint      default null
) returns ledger.current_participants
language plpgsql stable security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  in_history  boolean := at_time is not null or at_entry is not null;
  participant current_participants;
begin
  if in_history then
    perform refuse_invalid(
      array['group_id', 'participant_id'],
      array[invalid_id(group_id), invalid_id(participant_id)]
    );
    participant := participant_at(group_id, participant_id, history_position(group_id, at_time, at_entry));
  else
    select p.*
    into participant
    from current_participants as p
    where p.group_id = get_participant.group_id
      and p.id = get_participant.participant_id;
  end if;

  if participant.id is null then
    perform refuse_unknown_participants(group_id, array['participant_id'], array[participant_id], in_history);
  end if;
  return participant;
end
$$;

alter function ledger.get_participant owner to ledger_owner;
comment on function ledger.get_participant is
  'One participant present in the group; with a time, or an entry of the group, one who was present then, with the balance of then. Raises LG001, LG002.';
revoke execute on function ledger.get_participant from public;
grant execute on function ledger.get_participant to ledger_api;
grant execute on function ledger.get_participant to ledger_bridge;
-- <<< db/functions/api/get_participant.sql

-- >>> db/functions/api/get_proof.sql
-- Prove what a participant held in a checkpoint.
create or replace function ledger.get_proof(
  group_id       bigint,
  participant_id bigint,
  number         bigint default null
) returns ledger.proof
language plpgsql stable security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  checkpoint checkpoints;
  chunk      checkpoint_chunks;
  holder     checkpoint_chunks;
  sums       numeric[] := array[]::numeric[];
  nodes      bytea[] := array[]::bytea[];
  leaf       leaf;
  lower_tree tree;
  upper_tree tree;
  proof      proof;
begin
  perform refuse_invalid(
    array['group_id', 'participant_id'],
    array[invalid_id(group_id), invalid_id(participant_id)]
  );
  if number is null and (find_vault(group_id)).group_id is not null then
    number := (accepted_checkpoint(group_id)).number;
    if number is null then
      perform refuse_unknown_checkpoint(group_id, null);
    end if;
  end if;
  checkpoint := find_checkpoint(group_id, number);

  for chunk in
    select k.* from chunks_of(checkpoint) as k order by k.chunk
  loop
    sums := sums || chunk.sum::numeric;
    nodes := nodes || (word(chunk.sum) || chunk.hash);
    if chunk.first_id <= participant_id then
      holder := chunk;
    end if;
  end loop;
  select l.*
  into leaf
  from unpack_leaves(holder) as l
  where l.participant_id = get_proof.participant_id;
  if not found then
    raise exception using
      errcode = 'LG002',
      column  = 'participant_id',
      message = format('participant %s of group %s has no leaf in checkpoint %s', participant_id, group_id, checkpoint.number),
      detail  = 'participant_id: has no leaf in the checkpoint',
      hint    = 'A checkpoint has a leaf for each participant present, and for each exit that is not settled.';
  end if;

  upper_tree := fold_tree(sums, nodes, holder.chunk);
  lower_tree := chunk_tree(holder, domain_hash(checkpoint.chain_id, checkpoint.vault, group_id), (leaf.index % 1024)::integer);
  if lower_tree.hash <> holder.hash or upper_tree.hash <> checkpoint.root then
    raise exception using
      errcode = 'data_corrupted',
      message = format('the leaves of checkpoint %s of group %s have another root', checkpoint.number, group_id),
      hint    = 'Run ledger verify: the leaves have changed since the checkpoint.';
  end if;

  proof.checkpoint := get_checkpoint(group_id, checkpoint.number);
  proof.leaf := leaf;
  proof.siblings := array(
    select (s.sum, hex(s.hash))::ledger.node
    from unnest(
      lower_tree.sibling_sums || upper_tree.sibling_sums, lower_tree.sibling_hashes || upper_tree.sibling_hashes
    ) with ordinality as s (sum, hash, level)
    order by s.level
  );
  return proof;
end
$$;

alter function ledger.get_proof owner to ledger_owner;
comment on function ledger.get_proof is
  'The proof of what the participant held in a checkpoint of the group, the newest one for null, that the vault accepted where the group has one, or of the exit that was not settled then: verify_proof and its copy in Python check it. Raises LG001, LG002.';
revoke execute on function ledger.get_proof from public;
grant execute on function ledger.get_proof to ledger_api;
grant execute on function ledger.get_proof to ledger_bridge;
-- <<< db/functions/api/get_proof.sql

-- >>> db/functions/api/health.sql
-- Answer a health check.
create or replace function ledger.health(
  out status text
)
language sql stable security definer parallel safe
set search_path = ledger, ledger_internal, pg_temp
as $$
  select 'ok'
$$;

alter function ledger.health owner to ledger_owner;
comment on function ledger.health is
  'Returns ok while the database answers.';
revoke execute on function ledger.health from public;
grant execute on function ledger.health to ledger_api;
grant execute on function ledger.health to ledger_bridge;
-- <<< db/functions/api/health.sql

-- >>> db/functions/api/join_group.sql
-- Join a group with a deposit from the main network.
create or replace function ledger.join_group(
  group_id        bigint,
  username        text,
  amount          numeric,
  idempotency_key text  default null,
  metadata        jsonb default null,
  address         text  default null
) returns ledger.join_result
language plpgsql volatile security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  reasons text[];
  request text[];
  joined  join_result;
  vault   vaults;
begin
  reasons := array[
    invalid_id(group_id), null, invalid_amount(amount, 0), invalid_idempotency_key(idempotency_key), invalid_metadata(metadata),
    case when address is not null then invalid_address(address) end
  ];
  -- Invalid values are not converted to text, which could be very long.
  if idempotency_key is not null and cardinality(array_remove(reasons, null)) = 0 then
    request := array['join_group', username, trunc(amount)::text, metadata::text, format_address(parse_address(address))];
  end if;
  reasons[2] := invalid_new_name(username, group_id, idempotency_key, request);
  perform refuse_invalid(array['group_id', 'username', 'amount', 'idempotency_key', 'metadata', 'address'], reasons);

  joined := claim_idempotency_key(group_id, idempotency_key, request, joined);
  if joined.replayed then
    return joined;
  end if;

  -- The group cannot be removed until this commits; joins do not block each other.
  perform from groups as g
  where g.id = join_group.group_id
    and g.closed_at is null
  for key share;
  if not found then
    perform refuse_unknown_group(group_id);
  end if;
  vault := find_vault(group_id);
  if vault.group_id is not null then
    perform refuse_frozen(group_id);
    if amount <> 0 or address is null then
      perform refuse_linked(
        group_id,
        case when amount <> 0 then 'amount' else 'address' end,
        'Join with an amount of 0 and an address; money comes from that address by a deposit into the vault.'
      );
    end if;
  end if;

  -- Usernames stored before NFC was enforced also count as taken; an ASCII username has only one spelling.
  -- One statement for both the username and the address: what waits for one of them holds neither.
  -- In a group with a vault an address counts as somebody's only once it is proved.
  insert into participants (group_id, username, amount, address, address_xid, address_proved)
  select
    join_group.group_id,
    normalize(join_group.username, NFC),
    join_group.amount,
    parse_address(join_group.address),
    case when join_group.address is not null then pg_current_xact_id() end,
    case when vault.group_id is not null then false end
  where octet_length(join_group.username) = char_length(join_group.username)
    or find_participant_id(
      join_group.group_id, array_remove(name_spellings(join_group.username), normalize(join_group.username, NFC))
    ) is null
  on conflict do nothing
  returning participants.username, participants.id, participants.group_id, participants.amount
  into joined.username, joined.id, joined.group_id, joined.amount;
  if not found then
    if vault.group_id is null then
      perform refuse_taken_address(group_id, joined.id, parse_address(address));
    end if;
    perform refuse_taken_name(
      'username', username, 'participant ' || find_participant_id(group_id, name_spellings(username))::text
    );
  end if;

  joined.entry_id := post_join(group_id, joined.id, amount, metadata);
  joined.replayed := false;
  perform store_answer(group_id, idempotency_key, request, joined);
  return joined;
end
$$;

alter function ledger.join_group owner to ledger_owner;
comment on function ledger.join_group is
  'Join a group under a username, composed (NFC), that no one present has, with a deposit of 0 or more, and bind an address if one is given. In a group with a vault the deposit is 0 and an address is given. entry_id is the entry written. Raises LG001, LG002, LG005, LG006, LG010, LG012, LG014.';
revoke execute on function ledger.join_group from public;
grant execute on function ledger.join_group to ledger_api;
-- <<< db/functions/api/join_group.sql

-- >>> db/functions/api/list_checkpoints.sql
-- List a group's checkpoints, a page at a time.
create or replace function ledger.list_checkpoints(
  group_id bigint,
  after    bigint  default 0,
  max_rows integer default 1000
) returns setof ledger.checkpoint_headers
language plpgsql stable security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
begin
  perform refuse_invalid(array['group_id'], array[invalid_id(group_id)]);
  perform from groups as g where g.id = list_checkpoints.group_id;
  if not found then
    perform refuse_unknown_group(group_id);
  end if;

  return query
  select h.*
  from checkpoint_headers as h
  where h.group_id = list_checkpoints.group_id
    and h.number > coalesce(list_checkpoints.after, 0)
  order by h.number
  limit greatest(coalesce(list_checkpoints.max_rows, 1000), 0);
end
$$;

alter function ledger.list_checkpoints owner to ledger_owner;
comment on function ledger.list_checkpoints is
  'The checkpoints of the group, also of one that was removed, with a number above after, at most max_rows of them, by ascending number. Raises LG001, LG002.';
revoke execute on function ledger.list_checkpoints from public;
grant execute on function ledger.list_checkpoints to ledger_api;
grant execute on function ledger.list_checkpoints to ledger_bridge;
-- <<< db/functions/api/list_checkpoints.sql

-- >>> db/functions/api/list_leaves.sql
-- List the leaves of a checkpoint, a page at a time.
create or replace function ledger.list_leaves(
  group_id bigint,
  number   bigint,
  after    bigint  default 0,
  max_rows integer default 1000
) returns setof ledger.leaf
language plpgsql stable security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  checkpoint checkpoints;
  chunk      checkpoint_chunks;
  rows       integer := greatest(coalesce(max_rows, 1000), 0);
  shown      integer;
begin
  perform refuse_invalid(array['group_id', 'number'], array[invalid_id(group_id), invalid_id(number)]);
  checkpoint := find_checkpoint(group_id, number);

  for chunk in
    with chunks as materialized (
      select k.* from chunks_of(checkpoint) as k
    )
    select k.*
    from chunks as k
    where k.chunk >= coalesce((select max(f.chunk) from chunks as f where f.first_id <= list_leaves.after), 0)
    order by k.chunk
  loop
    exit when rows = 0;
    return query
    select l.*
    from unpack_leaves(chunk) as l
    where l.participant_id > coalesce(list_leaves.after, 0)
    order by l.index
    limit rows;
    get diagnostics shown = row_count;
    rows := rows - shown;
  end loop;
end
$$;

alter function ledger.list_leaves owner to ledger_owner;
comment on function ledger.list_leaves is
  'The leaves of a checkpoint of the group, those of participants with an id above after, at most max_rows of them, by ascending participant. Where the leaves were deleted, all of them are computed for each call. Raises LG001, LG002.';
revoke execute on function ledger.list_leaves from public;
grant execute on function ledger.list_leaves to ledger_api;
grant execute on function ledger.list_leaves to ledger_bridge;
-- <<< db/functions/api/list_leaves.sql

-- >>> db/functions/api/list_newest_checkpoints.sql
-- List the newest checkpoint of each group, a page of groups at a time.
create or replace function ledger.list_newest_checkpoints(
  after    bigint  default 0,
  max_rows integer default 1000
) returns setof ledger.newest_checkpoint
language sql stable security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
  select
    g.id,
    coalesce(c.number, 0),
    coalesce(c.created_at, g.created_at),
    coalesce(checkpoint_is_current(c), false)
  from groups as g
  left join lateral (
    select n.*
    from checkpoints as n
    where n.group_id = g.id
    order by n.number desc
    limit 1
  ) as c on true
  where g.id > coalesce(list_newest_checkpoints.after, 0)
    -- Those of a group with a vault are the bridge's.
    and not exists (select from vaults as v where v.group_id = g.id)
    and (
      g.closed_at is null
      or exists (
        select from settlements as s
        where s.group_id = g.id
          and s.settled_at is null
      )
    )
  order by g.id
  limit greatest(coalesce(list_newest_checkpoints.max_rows, 1000), 0)
$$;

alter function ledger.list_newest_checkpoints owner to ledger_owner;
comment on function ledger.list_newest_checkpoints is
  'The newest checkpoint of each group without a vault that exists or has exits to settle, with an id above after, at most max_rows of them, by ascending id; number 0 and the time of the group where there is none. is_current is true where a checkpoint made now would be of the same entries, settlements and addresses.';
revoke execute on function ledger.list_newest_checkpoints from public;
grant execute on function ledger.list_newest_checkpoints to ledger_api;
-- <<< db/functions/api/list_newest_checkpoints.sql

-- >>> db/functions/api/remove_group.sql
-- Remove an empty group; its record stays.
create or replace function ledger.remove_group(
  group_id        bigint,
  idempotency_key text default null
) returns ledger.remove_result
language plpgsql volatile security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  request text[] := array['remove_group'];
  removed remove_result;
begin
  perform refuse_invalid(
    array['group_id', 'idempotency_key'],
    array[invalid_id(group_id), invalid_idempotency_key(idempotency_key)]
  );

  removed := claim_idempotency_key(group_id, idempotency_key, request, removed);
  if removed.replayed then
    return removed;
  end if;

  -- Joins lock this row in share mode: once it is locked here, no join is under way and none can begin.
  perform from groups as g
  where g.id = remove_group.group_id
    and g.closed_at is null
  for update;
  if not found then
    perform refuse_unknown_group(group_id);
  end if;

  -- Each join, deposit and exit updates a shard. Locking them waits for exits under way, and, above READ COMMITTED, fails
  -- with 40001 where a join has committed that this snapshot does not show.
  perform from group_total_shards as c
  where c.group_id = remove_group.group_id
  order by c.slot
  for update;

  if exists (
    select from current_participants as p
    where p.group_id = remove_group.group_id
  ) then
    raise exception using
      errcode = 'LG004',
      column  = 'group_id',
      message = format('group %s has participants', group_id),
      detail  = 'group_id: participants are present',
      hint    = 'Let every participant exit first, with ledger.exit_group.';
  end if;

  if (select v.closed_at is null from vaults as v where v.group_id = remove_group.group_id) then
    perform refuse_linked(group_id, 'group_id', 'Close the group at its vault first: ledger vault close.');
  end if;

  update groups as g
  set closed_at = greatest(
    clock_timestamp(),
    (select max(c.changed_at) from group_total_shards as c where c.group_id = remove_group.group_id)
  )
  where g.id = remove_group.group_id;

  removed.replayed := false;
  perform store_answer(group_id, idempotency_key, request, removed);
  return removed;
end
$$;

alter function ledger.remove_group owner to ledger_owner;
comment on function ledger.remove_group is
  'Remove a group without participants; its name is free again and its record stays. One with a vault is closed there first. Raises LG001, LG002, LG004, LG006, LG012.';
revoke execute on function ledger.remove_group from public;
grant execute on function ledger.remove_group to ledger_api;
-- <<< db/functions/api/remove_group.sql

-- >>> db/functions/api/reverse_transfer.sql
-- Transfer the amount of a transfer back, once.
create or replace function ledger.reverse_transfer(
  group_id        bigint,
  entry_id        bigint,
  idempotency_key text  default null,
  metadata        jsonb default null
) returns ledger.entry_result
language plpgsql volatile security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  request  text[];
  original entries;
  moved    transfer_result;
  reversal entry_result;
begin
  perform refuse_invalid(
    array['group_id', 'entry_id', 'idempotency_key', 'metadata'],
    array[invalid_id(group_id), invalid_id(entry_id), invalid_idempotency_key(idempotency_key), invalid_metadata(metadata)]
  );

  request := array['reverse_transfer', entry_id::text, metadata::text];
  reversal := claim_idempotency_key(group_id, idempotency_key, request, reversal);
  if reversal.replayed then
    return reversal;
  end if;

  select e.*
  into original
  from entries as e
  where e.group_id = reverse_transfer.group_id
    and e.id = reverse_transfer.entry_id;
  if not found then
    perform refuse_unknown_entry(group_id, 'entry_id', entry_id);
  end if;
  if original.kind <> 'transfer' then
    perform refuse_invalid(array['entry_id'], array[format('must be a transfer, not %s', original.kind)]);
  end if;

  -- Of two simultaneous reversals the second waits here, then finds the entry reversed.
  perform lock_pair(group_id, original.to_id, original.from_id, wait => true);

  -- A participant who exited is reported first, as in every function.
  perform get_participant(group_id, original.to_id);
  perform get_participant(group_id, original.from_id);
  if exists (
    select from entries as e
    where e.group_id = reverse_transfer.group_id
      and e.reverses = reverse_transfer.entry_id
  ) then
    raise exception using
      errcode = 'LG007',
      column  = 'entry_id',
      message = format('entry %s of group %s was reversed before', entry_id, group_id),
      detail  = 'entry_id: has already been reversed',
      hint    = 'Look at its reversed_by with ledger.get_entry().';
  end if;

  moved := execute_transfer(group_id, original.to_id, original.from_id, original.amount, metadata, entry_id);
  select
    r.*,
    false
  into reversal
  from ledger.record as r
  where r.group_id = reverse_transfer.group_id
    and r.id = moved.entry_id;
  perform store_answer(group_id, idempotency_key, request, reversal);
  return reversal;
end
$$;

alter function ledger.reverse_transfer owner to ledger_owner;
comment on function ledger.reverse_transfer is
  'Move the amount of a transfer back, at most once; returns the new entry, which names the one that it reverses. Raises LG001, LG002, LG003, LG006, LG007, LG014.';
revoke execute on function ledger.reverse_transfer from public;
grant execute on function ledger.reverse_transfer to ledger_api;
-- <<< db/functions/api/reverse_transfer.sql

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

  if (find_vault(group_id)).group_id is not null then
    perform refuse_linked(group_id, 'group_id', 'The bridge settles an exit when the vault has paid it.');
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
  'Record the transaction on the main network that paid an exit, once; the same reference again changes nothing, and replayed is true. Refused in a group with a vault. Raises LG001, LG002, LG006, LG008, LG012.';
revoke execute on function ledger.settle_exit from public;
grant execute on function ledger.settle_exit to ledger_api;
-- <<< db/functions/api/settle_exit.sql

-- >>> db/functions/api/transfer.sql
-- Move money between two participants of one group.
create or replace function ledger.transfer(
  group_id        bigint,
  from_id         bigint,
  to_id           bigint,
  amount          numeric,
  idempotency_key text  default null,
  metadata        jsonb default null
) returns ledger.transfer_result
language plpgsql volatile security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  request text[];
  result  transfer_result;
begin
  if not transfer_is_valid(group_id, from_id, to_id, amount, idempotency_key, metadata) then
    perform refuse_invalid(
      array['group_id', 'from_id', 'to_id', 'amount', 'idempotency_key', 'metadata'],
      array[
        invalid_id(group_id),
        invalid_id(from_id),
        case when to_id = from_id then 'must be another participant' else invalid_id(to_id) end,
        invalid_amount(amount, 1),
        invalid_idempotency_key(idempotency_key),
        invalid_metadata(metadata)
      ]
    );
  end if;

  if idempotency_key is null then
    return execute_transfer(group_id, from_id, to_id, amount, metadata, null);
  end if;

  request := transfer_request(from_id, to_id, amount, metadata);
  result := claim_idempotency_key(group_id, idempotency_key, request, result);
  if result.replayed then
    return result;
  end if;
  result := execute_transfer(group_id, from_id, to_id, amount, metadata, null);
  perform store_answer(group_id, idempotency_key, request, result);
  return result;
end
$$;

alter function ledger.transfer owner to ledger_owner;
comment on function ledger.transfer is
  'Move amount from one participant to another of the same group. entry_id is the entry written. Raises LG001, LG002, LG003, LG006, LG014.';
revoke execute on function ledger.transfer from public;
grant execute on function ledger.transfer to ledger_api;
-- <<< db/functions/api/transfer.sql

-- >>> db/functions/api/transfer_all.sql
-- Make many transfers of one group in one step: all of them in their order, or none.
create or replace function ledger.transfer_all(
  group_id        bigint,
  transfers       jsonb,
  idempotency_key text default null
) returns ledger.transfer_all_result
language plpgsql volatile security definer
set search_path = ledger, ledger_internal, pg_temp
-- One plan serves every list: planning takes longer than executing a short list.
set plan_cache_mode = force_generic_plan
as $$
declare
  lines     transfer_lines;
  legs      transfer_legs;
  decisions transfer_decisions;
  request   text[];
  result    transfer_all_result;
begin
  perform refuse_invalid(
    array['group_id', 'transfers', 'idempotency_key'],
    array[
      invalid_id(group_id),
      case
        when transfers is null
        then 'must be given'
        when jsonb_typeof(transfers) <> 'array'
        then 'must be a list'
        when jsonb_array_length(transfers) not between 1 and 10000
        then 'must have 1 to 10000 lines'
      end,
      invalid_idempotency_key(idempotency_key)
    ]
  );
  lines := parse_transfer_lines(group_id, transfers);

  if idempotency_key is not null then
    request := transfer_all_request(lines.from_ids, lines.to_ids, lines.amounts, lines.metadatas);
    result := claim_idempotency_key(group_id, idempotency_key, request, result);
    if result.replayed then
      return result;
    end if;
  end if;

  legs := lock_legs(lines, wait => true);
  if array_position(legs.numbers, null) is not null then
    perform refuse_unknown_legs(lines, legs);
  end if;
  decisions := decide_transfers(lines, legs, all_or_nothing => true);
  if decisions.violation is not null then
    perform refuse_transfer(
      decisions.violation,
      format('transfers[%s].amount', decisions.refused - 1),
      lines.from_ids[decisions.refused],
      decisions.balances[legs.numbers[decisions.refused]],
      lines.amounts[decisions.refused]
    );
  end if;
  perform post_transfers(lines, legs, decisions);

  result.entries := decisions.entries;
  select array_agg((l.username, l.id, l.group_id, l.balance)::current_participants)
  into result.participants
  from unnest(legs.usernames, legs.ids, legs.group_ids, decisions.balances) as l (username, id, group_id, balance);
  result.replayed := false;
  perform store_answer(group_id, idempotency_key, request, result);
  return result;
end
$$;

alter function ledger.transfer_all owner to ledger_owner;
comment on function ledger.transfer_all is
  'Make 1 to 10,000 transfers of a group, a JSON list of {"from", "to", "amount", "metadata"}, all or none, in order: a line may spend what an earlier line transferred. entries are the entries written, by line; participants are the participants of all lines, with their balances at the end. A field of a line is named as transfers[0].amount. Raises LG001, LG002, LG003, LG006, LG014.';
revoke execute on function ledger.transfer_all from public;
grant execute on function ledger.transfer_all to ledger_api;
-- <<< db/functions/api/transfer_all.sql

-- >>> db/functions/bridge/adopt_snapshot.sql
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
declare
  vault    vaults;
  adopted  parsed_snapshot;
  changes  boolean;
begin
  perform refuse_invalid(array['group_id'], array[invalid_id(group_id)]);
  -- No checkpoint is being made, and no join, deposit or exit is under way.
  perform pg_advisory_xact_lock(hashtextextended('', group_id));
  perform from groups as g
  where g.id = adopt_snapshot.group_id
  for update;
  vault := lock_vault(group_id);
  adopted := parse_snapshot(vault, snapshot);
  perform raise_sequence(
    'ledger.participants_id_seq', (select max(l.participant_id) from unnest(adopted.leaves) as l)
  );
  perform raise_sequence('ledger.entries_id_seq', (select max(l.exit_entry) from unnest(adopted.leaves) as l));

  changes := not checkpoint_is_known(adopted.checkpoint);
  if changes then
    perform refuse_frozen(group_id);
    perform restore_group(vault, adopted, parse_deposits(vault, deposits), parse_payouts(vault, payouts));
  end if;
  return row(not (accept_publication(adopted.checkpoint) or changes))::bridge_result;
end
$$;

alter function ledger.adopt_snapshot owner to ledger_owner;
comment on function ledger.adopt_snapshot is
  'Make a group agree, after a restore, with a snapshot of the last checkpoint that its vault accepted: JSON as ledger snapshot prints it. Where the restored ledger has this checkpoint, what became of it and of those before it is recorded, and replayed is true if that was known. Where it does not, all is made again that the restore lost: participants and exits under their ids, balances by transfers; deposits are the lost ones that the checkpoint includes, payouts those of checkpoints before it. Whatever does not fit is refused, and nothing changes. Ids of this snapshot are not given again. Raises LG001, LG002, LG009, LG013, LG014.';
revoke execute on function ledger.adopt_snapshot from public;
grant execute on function ledger.adopt_snapshot to ledger_bridge;
-- <<< db/functions/bridge/adopt_snapshot.sql

-- >>> db/functions/bridge/bind_proved_address.sql
-- Mark a participant's address as proved.
create or replace function ledger.bind_proved_address(
  group_id       bigint,
  participant_id bigint,
  address        text
) returns ledger.address_result
language plpgsql volatile security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  bound       address_result;
  participant participants;
begin
  perform refuse_invalid(
    array['group_id', 'participant_id', 'address'],
    array[invalid_id(group_id), invalid_id(participant_id), invalid_address(address)]
  );
  -- No credit of a deposit for the address is under way.
  perform lock_vault(group_id);
  select p.*
  into participant
  from participants as p
  where p.group_id = bind_proved_address.group_id
    and p.id = bind_proved_address.participant_id
    and p.exited_at is null
  for no key update;
  if not found then
    perform refuse_unknown_participants(group_id, array['participant_id'], array[participant_id]);
  end if;
  if not participant.address_proved or participant.address is distinct from parse_address(address) then
    perform refuse_frozen(group_id);
  end if;
  perform assign_address(group_id, participant_id, parse_address(address));
  bound.id := participant_id;
  bound.group_id := group_id;
  bound.address := format_address(parse_address(address));
  bound.replayed := participant.address_proved;
  if not participant.address_proved then
    perform refuse_taken_address(group_id, participant_id, parse_address(address));
    begin
      update participants as p
      set address_proved = true
      where p.group_id = bind_proved_address.group_id
        and p.id = bind_proved_address.participant_id;
    exception when unique_violation then
      -- Above READ COMMITTED: another one was credited or proved since the snapshot.
      perform refuse_bound_address(
        format('another participant has address %s', bound.address), 'is bound to another participant'
      );
    end;
  end if;
  return bound;
end
$$;

alter function ledger.bind_proved_address owner to ledger_owner;
comment on function ledger.bind_proved_address is
  'Mark the address of a participant present as proved, so that deposits for it are theirs: for a process that has checked a signature of its key over the group''s domain and the participant. The same again changes nothing, and replayed is true. Raises LG001, LG002, LG010, LG013, LG014.';
revoke execute on function ledger.bind_proved_address from public;
grant execute on function ledger.bind_proved_address to ledger_bridge;
-- <<< db/functions/bridge/bind_proved_address.sql

-- >>> db/functions/bridge/credit_deposit.sql
-- Credit a deposit into the vault of a group.
create or replace function ledger.credit_deposit(
  group_id      bigint,
  deposit_index bigint,
  address       text,
  amount        numeric,
  cumulative    numeric,
  transaction   text,
  block         bigint
) returns ledger.credit_result
language plpgsql volatile security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  vault    vaults;
  known    vault_deposits;
  reported vault_deposits;
  last     vault_deposits;
begin
  perform refuse_invalid(
    array['group_id', 'deposit_index', 'address', 'amount', 'cumulative', 'transaction', 'block'],
    array[
      invalid_id(group_id), invalid_number(deposit_index), invalid_address(address), invalid_amount(amount, 1),
      invalid_amount(cumulative, 1), invalid_chain_hash(transaction), invalid_number(block)
    ]
  );
  reported.group_id := group_id;
  reported.deposit_index := deposit_index;
  reported.address := parse_address(address);
  reported.amount := amount;
  reported.cumulative := cumulative;
  reported.transaction := parse_hex(transaction, 32);
  reported.block := block;

  vault := lock_vault(group_id);
  select d.*
  into known
  from vault_deposits as d
  where d.group_id = credit_deposit.group_id
    and d.deposit_index = credit_deposit.deposit_index;
  if found then
    if (known.address, known.amount, known.cumulative, known.transaction, known.block)
      is distinct from (reported.address, reported.amount, reported.cumulative, reported.transaction, reported.block)
    then
      perform refuse_mismatch('deposit_index', format('deposit %s of group %s was credited with other values', deposit_index, group_id));
    end if;
    return (known.participant_id, known.entry_id, true)::credit_result;
  end if;

  perform refuse_frozen(group_id);
  if vault.closed_at is not null then
    perform refuse_mismatch('group_id', format('the vault of group %s was closed, and takes no deposits', group_id));
  end if;
  select d.*
  into last
  from vault_deposits as d
  where d.group_id = credit_deposit.group_id
  order by d.deposit_index desc
  limit 1;
  if deposit_index <> coalesce(last.deposit_index + 1, 0) then
    perform refuse_mismatch('deposit_index', format('deposit %s of group %s comes after deposit %s', deposit_index, group_id, last.deposit_index));
  end if;
  if cumulative <> coalesce(last.cumulative, 0) + amount then
    perform refuse_mismatch(
      'cumulative',
      format('deposit %s of group %s makes %s, and not %s', deposit_index, group_id, coalesce(last.cumulative, 0) + amount, cumulative)
    );
  end if;
  reported := post_credit(group_id, null, reported);
  return (reported.participant_id, reported.entry_id, false)::credit_result;
end
$$;

alter function ledger.credit_deposit owner to ledger_owner;
comment on function ledger.credit_deposit is
  'Credit a deposit into the vault, the one after the last credited, counted from 0, to the participant present whose proved address it is, or to a new one. cumulative is the sum of all deposits up to it. The same again changes nothing, and replayed is true. Raises LG001, LG002, LG013, LG014.';
revoke execute on function ledger.credit_deposit from public;
grant execute on function ledger.credit_deposit to ledger_bridge;
-- <<< db/functions/bridge/credit_deposit.sql

-- >>> db/functions/bridge/exit_requested.sql
-- Answer a request for an exit that was made at the vault.
create or replace function ledger.exit_requested(
  group_id       bigint,
  participant_id bigint,
  owner          text,
  transaction    text,
  block          bigint,
  out entry_id   bigint
)
language plpgsql volatile security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  participant participants;
begin
  perform refuse_invalid(
    array['group_id', 'participant_id', 'owner', 'transaction', 'block'],
    array[
      invalid_id(group_id), invalid_id(participant_id), invalid_address(owner), invalid_chain_hash(transaction),
      invalid_number(block)
    ]
  );
  perform lock_vault(group_id);
  select p.*
  into participant
  from participants as p
  where p.group_id = exit_requested.group_id
    and p.id = exit_requested.participant_id
  for no key update;
  if participant.address is distinct from parse_address(owner) then
    perform refuse_mismatch(
      'participant_id', format('no participant %s of group %s has the address %s', participant_id, group_id, owner)
    );
  end if;

  if participant.exited_at is null then
    perform refuse_frozen(group_id);
    entry_id := post_exit(participant, jsonb_build_object('requested_by', transaction));
  end if;
  insert into exit_requests (group_id, participant_id, transaction, block)
  values (exit_requested.group_id, exit_requested.participant_id, parse_hex(transaction, 32), exit_requested.block)
  -- The first request counts.
  on conflict do nothing;
end
$$;

alter function ledger.exit_requested owner to ledger_owner;
comment on function ledger.exit_requested is
  'Let a participant leave who requested it at the vault, by the owner of their address, and return the entry; null if they have left before. Raises LG001, LG002, LG013, LG014.';
revoke execute on function ledger.exit_requested from public;
grant execute on function ledger.exit_requested to ledger_bridge;
-- <<< db/functions/bridge/exit_requested.sql

-- >>> db/functions/bridge/finish_transaction.sql
-- Record that a transaction was mined.
create or replace function ledger.finish_transaction(
  chain_id    numeric,
  sender      text,
  nonce       bigint,
  transaction text,
  block       bigint,
  succeeded   boolean
) returns ledger.bridge_result
language plpgsql volatile security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  known bridge_transactions;
begin
  perform refuse_invalid(
    array['chain_id', 'sender', 'nonce', 'transaction', 'block', 'succeeded'],
    array[
      invalid_amount(chain_id, 1), invalid_address(sender), invalid_number(nonce), invalid_chain_hash(transaction),
      invalid_number(block), case when succeeded is null then 'must be given' end
    ]
  );
  known := lock_transaction(chain_id, parse_address(sender), nonce);
  if known.finished_at is not null then
    if (known.transaction, known.block, known.succeeded) is distinct from (parse_hex(transaction, 32), block, succeeded) then
      perform refuse_mismatch('transaction', format('nonce %s of %s was finished by another transaction', nonce, sender));
    end if;
    return row(true)::bridge_result;
  end if;
  update bridge_transactions as t
  set
    transaction = parse_hex(finish_transaction.transaction, 32),
    block = finish_transaction.block,
    succeeded = finish_transaction.succeeded,
    -- The clock may have gone back.
    finished_at = greatest(clock_timestamp(), t.recorded_at)
  where t.chain_id = finish_transaction.chain_id
    and t.sender = known.sender
    and t.nonce = finish_transaction.nonce;
  return row(false)::bridge_result;
end
$$;

alter function ledger.finish_transaction owner to ledger_owner;
comment on function ledger.finish_transaction is
  'Record that a transaction of this nonce was mined and is final. The same again changes nothing, and replayed is true. Raises LG001, LG013.';
revoke execute on function ledger.finish_transaction from public;
grant execute on function ledger.finish_transaction to ledger_bridge;
-- <<< db/functions/bridge/finish_transaction.sql

-- >>> db/functions/bridge/get_vault.sql
-- Show what is recorded of a group's vault.
create or replace function ledger.get_vault(
  group_id bigint
) returns ledger.vault_status
language plpgsql stable security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
begin
  return describe_vault(require_vault(group_id));
end
$$;

alter function ledger.get_vault owner to ledger_owner;
comment on function ledger.get_vault is
  'The vault of a group, what was credited and paid, how far the chain was followed, whether it is frozen or closed, the number of the next checkpoint, and the last one that was accepted. Raises LG001, LG002, LG013.';
revoke execute on function ledger.get_vault from public;
grant execute on function ledger.get_vault to ledger_bridge;
-- <<< db/functions/bridge/get_vault.sql

-- >>> db/functions/bridge/last_nonce.sql
-- Find the last nonce that was recorded for a sender.
create or replace function ledger.last_nonce(
  chain_id  numeric,
  sender    text,
  out nonce bigint
)
language plpgsql stable security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
begin
  perform refuse_invalid(
    array['chain_id', 'sender'], array[invalid_amount(chain_id, 1), invalid_address(sender)]
  );
  nonce := (
    select max(t.nonce)
    from bridge_transactions as t
    where t.chain_id = last_nonce.chain_id
      and t.sender = parse_address(last_nonce.sender)
  );
end
$$;

alter function ledger.last_nonce owner to ledger_owner;
comment on function ledger.last_nonce is
  'The greatest nonce of a transaction that was recorded for the sender on a chain, null without one. Raises LG001.';
revoke execute on function ledger.last_nonce from public;
grant execute on function ledger.last_nonce to ledger_bridge;
-- <<< db/functions/bridge/last_nonce.sql

-- >>> db/functions/bridge/link_vault.sql
-- Link a group to a vault, once.
create or replace function ledger.link_vault(
  group_id bigint,
  chain_id numeric,
  vault    text
) returns ledger.link_result
language plpgsql volatile security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  linked vaults;
  known  vaults;
begin
  perform refuse_invalid(
    array['group_id', 'chain_id', 'vault'],
    array[invalid_id(group_id), invalid_amount(chain_id, 1), invalid_address(vault)]
  );
  -- A checkpoint that another transaction has made changes no row that this one could wait for.
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception using
      errcode = 'object_not_in_prerequisite_state',
      message = 'a group is linked to a vault at READ COMMITTED only',
      hint    = 'Begin the transaction at READ COMMITTED.';
  end if;
  linked.group_id := group_id;
  linked.chain_id := chain_id;
  linked.vault := parse_address(vault);
  linked.domain := domain_hash(chain_id, linked.vault, group_id);
  linked.linked_at := clock_timestamp();

  -- No checkpoint is being made, no join is under way, and none can begin: as in checkpoint() and remove_group().
  perform pg_advisory_xact_lock(hashtextextended('', group_id));
  perform from groups as g
  where g.id = link_vault.group_id
    and g.closed_at is null
  for update;
  if not found then
    perform refuse_unknown_group(group_id);
  end if;
  known := find_vault(group_id);
  if known.group_id is not null then
    if (known.chain_id, known.vault) is distinct from (linked.chain_id, linked.vault) then
      perform refuse_mismatch(
        'vault', format('group %s is linked to vault %s of chain %s', group_id, format_address(known.vault), known.chain_id)
      );
    end if;
    return link_of(known, true);
  end if;

  -- A snapshot from before this ends in 40001: of a join at its shard, of a checkpoint at its group.
  update group_total_shards as c
  set changed_at = c.changed_at
  where c.group_id = link_vault.group_id;
  update groups as g
  set name = g.name
  where g.id = link_vault.group_id;
  if exists (select from entries as e where e.group_id = link_vault.group_id)
    or exists (select from checkpoints as c where c.group_id = link_vault.group_id)
  then
    perform refuse_mismatch('group_id', format('group %s has entries or checkpoints, and only a new group is linked to a vault', group_id));
  end if;

  insert into vaults
  select linked.*;
  return link_of(linked, false);
end
$$;

alter function ledger.link_vault owner to ledger_owner;
comment on function ledger.link_vault is
  'Link a group without any entry and any checkpoint to its vault, for good: from then on its money comes in and goes out there alone. At READ COMMITTED only. The same again changes nothing, and replayed is true. Raises LG001, LG002, LG013.';
revoke execute on function ledger.link_vault from public;
grant execute on function ledger.link_vault to ledger_bridge;
-- <<< db/functions/bridge/link_vault.sql

-- >>> db/functions/bridge/list_open_exits.sql
-- List the exits of a group with a vault that are not settled.
create or replace function ledger.list_open_exits(
  group_id bigint
) returns setof ledger.open_exit
language plpgsql stable security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
begin
  perform require_vault(group_id);
  return query
  select
    e.id,
    e.from_id,
    format_address(p.address),
    e.amount::numeric,
    exists (
      select from exit_requests as r
      where r.group_id = list_open_exits.group_id
        and r.participant_id = e.from_id
    )
  from settlements as s
  join entries as e on e.group_id = s.group_id and e.id = s.entry_id
  join participants as p on p.group_id = s.group_id and p.id = e.from_id
  where s.group_id = list_open_exits.group_id
    and s.settled_at is null
  order by e.id;
end
$$;

alter function ledger.list_open_exits owner to ledger_owner;
comment on function ledger.list_open_exits is
  'The exits of the group that are not settled, in a checkpoint or not yet, by ascending entry, and whether each was requested at the vault. Raises LG001, LG002, LG013.';
revoke execute on function ledger.list_open_exits from public;
grant execute on function ledger.list_open_exits to ledger_bridge;
-- <<< db/functions/bridge/list_open_exits.sql

-- >>> db/functions/bridge/list_publications.sql
-- List what became of a group's checkpoints at its vault.
create or replace function ledger.list_publications(
  group_id bigint
) returns setof ledger.publication
language plpgsql stable security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
begin
  perform require_vault(group_id);
  return query
  select s.*
  from publications as p
  cross join lateral describe_publication(p) as s
  where p.group_id = list_publications.group_id
  order by p.number;
end
$$;

alter function ledger.list_publications owner to ledger_owner;
comment on function ledger.list_publications is
  'The checkpoints of the group that were prepared for its vault, with their states, and the transaction and the block that published each, or that ended it where it was vetoed or abandoned, by ascending number. Raises LG001, LG002, LG013.';
revoke execute on function ledger.list_publications from public;
grant execute on function ledger.list_publications to ledger_bridge;
-- <<< db/functions/bridge/list_publications.sql

-- >>> db/functions/bridge/list_transactions.sql
-- List the transactions of a sender that are not finished.
create or replace function ledger.list_transactions(
  chain_id numeric,
  sender   text
) returns setof ledger.open_transaction
language plpgsql stable security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
begin
  perform refuse_invalid(
    array['chain_id', 'sender'], array[invalid_amount(chain_id, 1), invalid_address(sender)]
  );
  return query
  select
    t.nonce,
    t.group_id,
    t.purpose,
    t.number,
    hex(t.raw),
    cardinality(t.earlier)::bigint,
    array(
      select hex(r.raw)
      from unnest(t.earlier || t.raw) with ordinality as r (raw, place)
      order by r.place
    )
  from bridge_transactions as t
  where t.chain_id = list_transactions.chain_id
    and t.sender = parse_address(list_transactions.sender)
    and t.finished_at is null
  order by t.nonce;
end
$$;

alter function ledger.list_transactions owner to ledger_owner;
comment on function ledger.list_transactions is
  'The signed transactions of a sender on a chain that are not finished, by ascending nonce, each in its newest form, and with those that it replaced. Raises LG001.';
revoke execute on function ledger.list_transactions from public;
grant execute on function ledger.list_transactions to ledger_bridge;
-- <<< db/functions/bridge/list_transactions.sql

-- >>> db/functions/bridge/list_unpaid_exits.sql
-- List the exits of a checkpoint that its vault has not paid.
create or replace function ledger.list_unpaid_exits(
  group_id bigint,
  number   bigint
) returns setof ledger.unpaid_exit
language plpgsql stable security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  checkpoint checkpoints;
begin
  perform refuse_invalid(array['group_id', 'number'], array[invalid_id(group_id), invalid_id(number)]);
  perform require_vault(group_id);
  checkpoint := find_checkpoint(group_id, number);

  return query
  with unpaid as materialized (
    select
      e.id,
      e.from_id
    from settlements as s
    join entries as e on e.group_id = s.group_id and e.id = s.entry_id
    where s.group_id = list_unpaid_exits.group_id
      and s.settled_at is null
  ), chunks as materialized (
    select
      k,
      k.first_id,
      lead(k.first_id, 1, 9223372036854775807) over (order by k.chunk) as next_id
    from chunks_of(checkpoint) as k
  )
  select
    l.index,
    l.participant_id,
    l.exit_entry,
    format_address(decode(substr(l.owner, 3), 'hex')),
    l.amount,
    exists (
      select from exit_requests as r
      where r.group_id = list_unpaid_exits.group_id
        and r.participant_id = l.participant_id
    )
  from chunks as c
  cross join lateral unpack_leaves(c.k) as l
  join unpaid as u on u.id = l.exit_entry
  -- Most chunks have no exit.
  where exists (select from unpaid as i where i.from_id >= c.first_id and i.from_id < c.next_id)
  order by l.index;
end
$$;

alter function ledger.list_unpaid_exits owner to ledger_owner;
comment on function ledger.list_unpaid_exits is
  'The leaves of a checkpoint of the group that are exits and not settled, by ascending participant, and whether each was requested at the vault. Raises LG001, LG002, LG013.';
revoke execute on function ledger.list_unpaid_exits from public;
grant execute on function ledger.list_unpaid_exits to ledger_bridge;
-- <<< db/functions/bridge/list_unpaid_exits.sql

-- >>> db/functions/bridge/list_vaults.sql
-- List the vaults of all groups.
create or replace function ledger.list_vaults()
returns setof ledger.vault_status
language sql stable security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
  select s.*
  from vaults as v
  cross join lateral describe_vault(v) as s
  order by v.group_id
$$;

alter function ledger.list_vaults owner to ledger_owner;
comment on function ledger.list_vaults is
  'What get_vault shows, of each group that is linked to a vault, removed ones included, by ascending group.';
revoke execute on function ledger.list_vaults from public;
grant execute on function ledger.list_vaults to ledger_bridge;
-- <<< db/functions/bridge/list_vaults.sql

-- >>> db/functions/bridge/prepare_publication.sql
-- Make a group's next checkpoint for its vault.
create or replace function ledger.prepare_publication(
  group_id bigint
) returns ledger.checkpoint_result
language plpgsql volatile security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  vault vaults;
  last  publications;
begin
  perform refuse_invalid(array['group_id'], array[invalid_id(group_id)]);
  -- As in checkpoint().
  if pg_current_xact_id_if_assigned() is not null then
    raise exception using
      errcode = 'active_sql_transaction',
      message = 'a checkpoint must be the first change of its transaction',
      hint    = 'Call ledger.prepare_publication() in a transaction of its own.';
  end if;
  perform pg_advisory_xact_lock(hashtextextended('', group_id));
  vault := require_vault(group_id);
  perform refuse_frozen(group_id);

  select p.*
  into last
  from publications as p
  where p.group_id = prepare_publication.group_id
  order by p.number desc
  limit 1;
  if last.state = 'accepted' then
    perform refuse_mismatch('group_id', format('checkpoint %s of group %s was accepted, and is not closed', last.number, group_id));
  end if;
  if last.state is distinct from 'prepared' then
    if vault.closed_at is not null then
      perform refuse_mismatch('group_id', format('the vault of group %s was closed, and takes no checkpoint', group_id));
    end if;
    perform current_feed('group_id');
    last.number := add_checkpoint(group_id);
    insert into publications (group_id, number)
    values (prepare_publication.group_id, last.number);
    -- An emergency waits for this, or was declared since.
    perform lock_vault(group_id);
    perform refuse_frozen(group_id);
    return checkpoint_answer(group_id, last.number, false);
  end if;
  return checkpoint_answer(group_id, last.number, true);
end
$$;

alter function ledger.prepare_publication owner to ledger_owner;
comment on function ledger.prepare_publication is
  'Make the next checkpoint of the group for its vault, chained to the last one that was accepted; the one that is prepared already, with replayed true, until it is accepted, vetoed or abandoned. Refused until the one before it is closed. It must be the first change of its transaction. Raises LG001, LG002, LG009, LG011, LG013, LG014.';
revoke execute on function ledger.prepare_publication from public;
grant execute on function ledger.prepare_publication to ledger_bridge;
-- <<< db/functions/bridge/prepare_publication.sql

-- >>> db/functions/bridge/raise_ids.sql
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
-- <<< db/functions/bridge/raise_ids.sql

-- >>> db/functions/bridge/reclaim_deposit.sql
-- Record a deposit that the vault returned in an emergency.
create or replace function ledger.reclaim_deposit(
  group_id      bigint,
  deposit_index bigint,
  owner         text,
  amount        numeric,
  transaction   text,
  block         bigint
) returns ledger.payout_result
language plpgsql volatile security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  vault    vaults;
  payout   payouts;
  credited vault_deposits;
  included bigint;
begin
  perform refuse_invalid(
    array['group_id', 'deposit_index', 'owner', 'amount', 'transaction', 'block'],
    array[
      invalid_id(group_id), invalid_number(deposit_index), invalid_address(owner), invalid_amount(amount, 1),
      invalid_chain_hash(transaction), invalid_number(block)
    ]
  );
  vault := lock_vault(group_id);
  payout.group_id := group_id;
  payout.kind := 'reclaim';
  payout.subject := deposit_index;
  payout.owner := parse_address(owner);
  payout.amount := amount;
  payout.transaction := parse_hex(transaction, 32);
  payout.block := block;
  if payout_is_known(payout) then
    return (group_id, 'reclaim', deposit_index, null, null, format_address(payout.owner), amount, true)::payout_result;
  end if;

  if vault.emergency_number is null then
    perform refuse_mismatch('group_id', format('group %s is not frozen: its deposits are not returned', group_id));
  end if;
  included := coalesce(
    (
      select c.deposits
      from checkpoints as c
      where c.group_id = reclaim_deposit.group_id
        and c.number = vault.emergency_number
    ),
    0
  );
  if deposit_index < included then
    perform refuse_mismatch('deposit_index', format('checkpoint %s of group %s includes deposit %s', vault.emergency_number, group_id, deposit_index));
  end if;
  select d.*
  into credited
  from vault_deposits as d
  where d.group_id = reclaim_deposit.group_id
    and d.deposit_index = reclaim_deposit.deposit_index;
  if found and (credited.address, credited.amount) is distinct from (payout.owner, payout.amount) then
    perform refuse_mismatch('amount', format('deposit %s of group %s was credited with other values', deposit_index, group_id));
  end if;
  perform add_payout(payout);
  return (group_id, 'reclaim', deposit_index, null, null, format_address(payout.owner), amount, false)::payout_result;
end
$$;

alter function ledger.reclaim_deposit owner to ledger_owner;
comment on function ledger.reclaim_deposit is
  'Record that the vault returned a deposit in an emergency, one that the last ripe checkpoint does not include. The same again changes nothing, and replayed is true. Raises LG001, LG002, LG013.';
revoke execute on function ledger.reclaim_deposit from public;
grant execute on function ledger.reclaim_deposit to ledger_bridge;
-- <<< db/functions/bridge/reclaim_deposit.sql

-- >>> db/functions/bridge/record_closing.sql
-- Record that a group was closed at its vault.
create or replace function ledger.record_closing(
  group_id    bigint,
  transaction text,
  block       bigint
) returns ledger.bridge_result
language plpgsql volatile security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  vault  vaults;
  status vault_status;
begin
  perform refuse_invalid(
    array['group_id', 'transaction', 'block'],
    array[invalid_id(group_id), invalid_chain_hash(transaction), invalid_number(block)]
  );
  vault := lock_vault(group_id);
  if vault.closed_at is not null then
    if (vault.closing_transaction, vault.closing_block) is distinct from (parse_hex(transaction, 32), block) then
      perform refuse_mismatch('transaction', format('the vault of group %s was closed by another transaction', group_id));
    end if;
    return row(true)::bridge_result;
  end if;
  status := describe_vault(vault);
  -- In an emergency deposits that were not credited are returned.
  if vault.emergency_number is null and status.cumulative <> status.settled then
    perform refuse_mismatch('group_id', format('the vault of group %s took %s and paid %s', group_id, status.cumulative, status.settled));
  end if;
  update vaults as v
  set
    closing_transaction = parse_hex(record_closing.transaction, 32),
    closing_block = record_closing.block,
    closed_at = clock_timestamp()
  where v.group_id = record_closing.group_id;
  return row(false)::bridge_result;
end
$$;

alter function ledger.record_closing owner to ledger_owner;
comment on function ledger.record_closing is
  'Record that the group was closed at its vault, which holds nothing for it: it may be removed then. The same again changes nothing, and replayed is true. Raises LG001, LG002, LG013.';
revoke execute on function ledger.record_closing from public;
grant execute on function ledger.record_closing to ledger_bridge;
-- <<< db/functions/bridge/record_closing.sql

-- >>> db/functions/bridge/record_emergency.sql
-- Freeze a group in an emergency of its vault.
create or replace function ledger.record_emergency(
  group_id    bigint,
  number      bigint,
  transaction text,
  block       bigint
) returns ledger.bridge_result
language plpgsql volatile security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  vault  vaults;
  moment timestamptz;
begin
  perform refuse_invalid(
    array['group_id', 'number', 'transaction', 'block'],
    array[invalid_id(group_id), invalid_number(number), invalid_chain_hash(transaction), invalid_number(block)]
  );
  -- No join, deposit or exit is under way, and none can begin.
  perform from groups as g
  where g.id = record_emergency.group_id
  for update;
  vault := lock_vault(group_id);
  if vault.emergency_number is not null then
    if (vault.emergency_number, vault.emergency_transaction, vault.emergency_block)
      is distinct from (number, parse_hex(transaction, 32), block)
    then
      perform refuse_mismatch('number', format('group %s is frozen by another emergency, at checkpoint %s', group_id, vault.emergency_number));
    end if;
    return row(true)::bridge_result;
  end if;
  if number > 0 and not exists (
    select from publications as p
    where p.group_id = record_emergency.group_id
      and p.number = record_emergency.number
      and p.state in ('accepted', 'closed')
  ) then
    perform refuse_mismatch('number', format('checkpoint %s of group %s was not accepted', number, group_id));
  end if;

  -- In ascending id, as transfers lock them: each is made before this, or finds its participants frozen.
  perform from participants as p
  where p.group_id = record_emergency.group_id
    and p.exited_at is null
  order by p.id
  for no key update;
  -- Not before the last movement, even if the clock goes back.
  moment := greatest(
    clock_timestamp(),
    (select max(p.moved_at) from participants as p where p.group_id = record_emergency.group_id)
  );
  update participants as p
  set frozen_at = moment
  where p.group_id = record_emergency.group_id
    and p.exited_at is null;
  -- A join with a snapshot from before this ends in 40001 at its shard.
  update group_total_shards as c
  set changed_at = c.changed_at
  where c.group_id = record_emergency.group_id;
  update vaults as v
  set
    emergency_number = record_emergency.number,
    emergency_transaction = parse_hex(record_emergency.transaction, 32),
    emergency_block = record_emergency.block,
    frozen_at = moment
  where v.group_id = record_emergency.group_id;
  -- Younger checkpoints than the one that is paid do not count, and are not known to the vault any more.
  update publications as p
  set
    state = case p.state when 'accepted' then 'vetoed' else 'abandoned' end,
    ended_transaction = parse_hex(record_emergency.transaction, 32),
    ended_block = record_emergency.block,
    changed_at = greatest(clock_timestamp(), p.changed_at)
  where p.group_id = record_emergency.group_id
    and p.number > record_emergency.number
    and p.state in ('prepared', 'accepted');
  return row(false)::bridge_result;
end
$$;

alter function ledger.record_emergency owner to ledger_owner;
comment on function ledger.record_emergency is
  'Freeze the group for good, as an emergency was declared at its vault that pays a checkpoint, 0 for none: nothing moves in it any more. A later checkpoint that was accepted is vetoed by it, one that was prepared is abandoned. Waits for transfers under way. The same again changes nothing, and replayed is true. Raises LG001, LG002, LG013.';
revoke execute on function ledger.record_emergency from public;
grant execute on function ledger.record_emergency to ledger_bridge;
-- <<< db/functions/bridge/record_emergency.sql

-- >>> db/functions/bridge/record_progress.sql
-- Record how far the chain was followed.
create or replace function ledger.record_progress(
  group_id bigint,
  block    bigint,
  hash     text
) returns ledger.bridge_result
language plpgsql volatile security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  vault vaults;
begin
  perform refuse_invalid(
    array['group_id', 'block', 'hash'], array[invalid_id(group_id), invalid_number(block), invalid_chain_hash(hash)]
  );
  vault := lock_vault(group_id);
  if block = vault.followed_block and parse_hex(hash, 32) = vault.followed_hash then
    return row(true)::bridge_result;
  end if;
  if block <= vault.followed_block then
    perform refuse_mismatch(
      'block',
      format('group %s was followed to block %s, %s', group_id, vault.followed_block, hex(vault.followed_hash))
    );
  end if;
  update vaults as v
  set
    followed_block = record_progress.block,
    followed_hash = parse_hex(record_progress.hash, 32)
  where v.group_id = record_progress.group_id;
  return row(false)::bridge_result;
end
$$;

alter function ledger.record_progress owner to ledger_owner;
comment on function ledger.record_progress is
  'Record that the chain was followed up to a final block. The same again changes nothing, and replayed is true; it never goes back. Raises LG001, LG002, LG013.';
revoke execute on function ledger.record_progress from public;
grant execute on function ledger.record_progress to ledger_bridge;
-- <<< db/functions/bridge/record_progress.sql

-- >>> db/functions/bridge/record_publication.sql
-- Record what became of a checkpoint at the vault.
create or replace function ledger.record_publication(
  group_id    bigint,
  number      bigint,
  state       text,
  transaction text,
  block       bigint
) returns ledger.publication_result
language plpgsql volatile security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  publication publications;
  changed     publications;
  result      publication_result;
begin
  perform refuse_invalid(
    array['group_id', 'number', 'state', 'transaction', 'block'],
    array[
      invalid_id(group_id),
      invalid_id(number),
      case when (state in ('accepted', 'closed', 'vetoed', 'abandoned')) is not true
        then 'must be accepted, closed, vetoed or abandoned'
      end,
      case when transaction is not null or state in ('accepted', 'vetoed') then invalid_chain_hash(transaction) end,
      case when block is not null or state in ('accepted', 'vetoed') then invalid_number(block) end
    ]
  );
  perform lock_vault(group_id);
  select p.*
  into publication
  from publications as p
  where p.group_id = record_publication.group_id
    and p.number = record_publication.number
  for no key update;
  if not found and exists (
    select from adoptions as a
    where a.group_id = record_publication.group_id
      and a.number > record_publication.number
  ) then
    -- A restore lost it, and a later one was adopted.
    return (number, null, null, null, null, true)::publication_result;
  elsif publication.number is null then
    perform refuse_mismatch('number', format('checkpoint %s of group %s was not prepared for its vault', number, group_id));
  end if;

  changed := change_publication(publication, state, parse_hex(transaction, 32), block);
  select
    s.*,
    changed is not distinct from publication
  into result
  from describe_publication(changed) as s;
  return result;
end
$$;

alter function ledger.record_publication owner to ledger_owner;
comment on function ledger.record_publication is
  'Record what became of a checkpoint at the vault: accepted, when its publication is final; then closed, when its window is over and its payments are settled; or vetoed, or abandoned without having been accepted. The same again, also of an earlier state, and anything of one before an adopted one, changes nothing, and replayed is true. Raises LG001, LG002, LG013.';
revoke execute on function ledger.record_publication from public;
grant execute on function ledger.record_publication to ledger_bridge;
-- <<< db/functions/bridge/record_publication.sql

-- >>> db/functions/bridge/record_transaction.sql
-- Record a signed transaction before it is sent.
create or replace function ledger.record_transaction(
  chain_id numeric,
  sender   text,
  nonce    bigint,
  group_id bigint,
  purpose  text,
  number   bigint,
  raw      text
) returns ledger.bridge_result
language plpgsql volatile security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  vault vaults;
  known bridge_transactions;
begin
  perform refuse_invalid(
    array['chain_id', 'sender', 'nonce', 'group_id', 'purpose', 'number', 'raw'],
    array[
      invalid_amount(chain_id, 1), invalid_address(sender), invalid_number(nonce), invalid_id(group_id),
      case when (purpose in ('publish', 'withdraw')) is not true then 'must be publish or withdraw' end,
      invalid_id(number),
      case when (raw collate "C" ~ '^0x([0-9a-fA-F]{2})+$') is not true then 'must be 0x and pairs of hex digits' end
    ]
  );
  vault := require_vault(group_id);
  if vault.chain_id <> chain_id then
    perform refuse_mismatch('chain_id', format('the vault of group %s is on chain %s', group_id, vault.chain_id));
  end if;

  insert into bridge_transactions (chain_id, sender, nonce, group_id, purpose, number, raw)
  values (
    record_transaction.chain_id, parse_address(record_transaction.sender), record_transaction.nonce,
    record_transaction.group_id, record_transaction.purpose, record_transaction.number,
    decode(substr(record_transaction.raw, 3), 'hex')
  )
  on conflict do nothing;
  if found then
    return row(false)::bridge_result;
  end if;
  known := lock_transaction(chain_id, parse_address(sender), nonce);
  if (known.group_id, known.purpose, known.number) is distinct from (group_id, purpose, number) then
    perform refuse_mismatch('nonce', format('nonce %s of %s is that of another purpose', nonce, sender));
  end if;
  if known.raw = decode(substr(raw, 3), 'hex') then
    return row(true)::bridge_result;
  end if;
  if known.finished_at is not null then
    perform refuse_mismatch('nonce', format('the transaction with nonce %s of %s is finished', nonce, sender));
  end if;
  update bridge_transactions as t
  set
    raw = decode(substr(record_transaction.raw, 3), 'hex'),
    earlier = t.earlier || t.raw
  where t.chain_id = record_transaction.chain_id
    and t.sender = known.sender
    and t.nonce = record_transaction.nonce;
  return row(false)::bridge_result;
end
$$;

alter function ledger.record_transaction owner to ledger_owner;
comment on function ledger.record_transaction is
  'Record a signed transaction, 0x and hex digits, before it is sent, under its nonce; another one with the same nonce, group, purpose and number is its replacement. purpose is publish or withdraw, number the checkpoint. The same again changes nothing, and replayed is true. Raises LG001, LG002, LG013.';
revoke execute on function ledger.record_transaction from public;
grant execute on function ledger.record_transaction to ledger_bridge;
-- <<< db/functions/bridge/record_transaction.sql

-- >>> db/functions/bridge/record_unknown_root.sql
-- Record a root of a vault that the ledger did not make, and that was taken back.
create or replace function ledger.record_unknown_root(
  group_id    bigint,
  number      bigint,
  header      text,
  transaction text,
  block       bigint
) returns ledger.bridge_result
language plpgsql volatile security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  root  unknown_roots;
  known unknown_roots;
begin
  perform refuse_invalid(
    array['group_id', 'number', 'header', 'transaction', 'block'],
    array[
      invalid_id(group_id),
      case when number < 1 then 'must be at least 1' else invalid_id(number) end,
      invalid_chain_hash(header),
      invalid_chain_hash(transaction),
      invalid_number(block)
    ]
  );
  perform lock_vault(group_id);
  root := row(
    group_id, number, parse_hex(header, 32), parse_hex(transaction, 32), block, clock_timestamp()
  );
  if exists (
    select from publications as p
    join checkpoints as c on c.group_id = p.group_id and c.number = p.number
    where p.group_id = root.group_id
      and p.number = root.number
      and c.header = root.header
  ) then
    perform refuse_mismatch('header', format('checkpoint %s of group %s was made here', number, group_id));
  end if;
  select u.*
  into known
  from unknown_roots as u
  where u.group_id = root.group_id
    and u.number = root.number;
  if not found then
    insert into unknown_roots
    select root.*;
    return row(false)::bridge_result;
  end if;
  if (known.header, known.transaction, known.block) <> (root.header, root.transaction, root.block) then
    perform refuse_mismatch('number', format('the vault of group %s had another root %s', group_id, number));
  end if;
  return row(true)::bridge_result;
end
$$;

alter function ledger.record_unknown_root owner to ledger_owner;
comment on function ledger.record_unknown_root is
  'Record a root that was published at the vault of the group and taken back, by a veto or an emergency, and that the ledger did not make or has lost in a restore: later checkpoints get numbers above it. The same again changes nothing, and replayed is true. Raises LG001, LG002, LG013.';
revoke execute on function ledger.record_unknown_root from public;
grant execute on function ledger.record_unknown_root to ledger_bridge;
-- <<< db/functions/bridge/record_unknown_root.sql

-- >>> db/functions/bridge/settle_payout.sql
-- Settle an exit that the vault has paid.
create or replace function ledger.settle_payout(
  group_id       bigint,
  participant_id bigint,
  exit_entry     bigint,
  owner          text,
  amount         numeric,
  transaction    text,
  block          bigint,
  log            bigint
) returns ledger.payout_result
language plpgsql volatile security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  without boolean := amount = 0 and transaction is null;
  vault   vaults;
  payout  payouts;
begin
  perform refuse_invalid(
    array['group_id', 'participant_id', 'owner', 'amount', 'transaction', 'block', 'log'],
    array[
      invalid_id(group_id), invalid_id(participant_id), invalid_address(owner), invalid_amount(amount, 0),
      case when not without then invalid_chain_hash(transaction) end, case when not without then invalid_number(block) end,
      case when not without then invalid_number(log) end
    ]
  );
  vault := lock_vault(group_id);
  payout.group_id := group_id;
  payout.kind := case when exit_entry is null then 'present' else 'exit' end;
  payout.subject := coalesce(exit_entry, participant_id);
  payout.participant_id := participant_id;
  payout.owner := parse_address(owner);
  payout.amount := amount;
  payout.transaction := parse_hex(transaction, 32);
  payout.block := block;
  payout.log := log;
  if payout_is_known(payout) then
    return (group_id, payout.kind, payout.subject, participant_id, exit_entry, format_address(payout.owner), amount, true)::payout_result;
  end if;

  if exit_entry is null then
    perform check_emergency_leaf(vault, payout);
  else
    perform settle_paid_exit(vault, payout);
  end if;
  perform add_payout(payout);
  return (group_id, payout.kind, payout.subject, participant_id, exit_entry, format_address(payout.owner), amount, false)::payout_result;
end
$$;

alter function ledger.settle_payout owner to ledger_owner;
comment on function ledger.settle_payout is
  'Record that the vault paid a leaf: settle the exit, of which every value must agree; in an emergency also that of a participant who was present in the last ripe checkpoint, with a null exit_entry. An exit of 0 needs no transaction. The same again changes nothing, and replayed is true. Raises LG001, LG002, LG013.';
revoke execute on function ledger.settle_payout from public;
grant execute on function ledger.settle_payout to ledger_bridge;
-- <<< db/functions/bridge/settle_payout.sql

-- >>> db/functions/internal/adoption/accept_publication.sql
-- Record that a vault accepted a checkpoint that was adopted.
create or replace function ledger_internal.accept_publication(
  checkpoint ledger.checkpoints
) returns boolean
language plpgsql volatile
as $$
declare
  changed integer;
  steps   integer := 0;
begin
  insert into ledger.publications (group_id, number)
  values (checkpoint.group_id, checkpoint.number)
  on conflict do nothing;
  get diagnostics changed = row_count;
  steps := steps + changed;
  if exists (
    select from ledger.publications as p
    where p.group_id = checkpoint.group_id
      and p.number = checkpoint.number
      and p.state in ('vetoed', 'abandoned')
  ) then
    perform ledger_internal.refuse_mismatch(
      'snapshot', format('checkpoint %s of group %s was vetoed or abandoned', checkpoint.number, checkpoint.group_id)
    );
  end if;

  update ledger.publications as p
  set
    state = case when p.number = checkpoint.number or c.header = checkpoint.previous then 'accepted' else 'vetoed' end,
    changed_at = greatest(clock_timestamp(), p.changed_at)
  from ledger.checkpoints as c
  where p.group_id = checkpoint.group_id
    and p.number <= checkpoint.number
    and p.state = 'prepared'
    and c.group_id = p.group_id
    and c.number = p.number;
  get diagnostics changed = row_count;
  steps := steps + changed;
  update ledger.publications as p
  set
    state = case when c.header = checkpoint.previous then 'closed' else 'vetoed' end,
    changed_at = greatest(clock_timestamp(), p.changed_at)
  from ledger.checkpoints as c
  where p.group_id = checkpoint.group_id
    and p.number < checkpoint.number
    and p.state = 'accepted'
    and c.group_id = p.group_id
    and c.number = p.number;
  get diagnostics changed = row_count;
  steps := steps + changed;

  if steps > 0 then
    insert into ledger.adoptions (group_id, number)
    values (checkpoint.group_id, checkpoint.number)
    on conflict do nothing;
  end if;
  return steps > 0;
end
$$;

alter function ledger_internal.accept_publication owner to ledger_owner;
comment on function ledger_internal.accept_publication is
  'Record that the vault accepted a checkpoint of the group last, and that those before it are closed, where it names them, or vetoed; return whether anything changed. Which transactions did it is not known. Raises LG013 where this one was vetoed.';
revoke execute on function ledger_internal.accept_publication from public;
-- <<< db/functions/internal/adoption/accept_publication.sql

-- >>> db/functions/internal/adoption/check_restored.sql
-- Check that a restored group agrees with a checkpoint.
create or replace function ledger_internal.check_restored(
  vault      ledger.vaults,
  checkpoint ledger.checkpoints
) returns void
language plpgsql stable
as $$
declare
  status ledger.vault_status := ledger_internal.describe_vault(vault);
begin
  if (status.deposits, status.cumulative, status.settled)
    is distinct from (checkpoint.deposits, checkpoint.credited, checkpoint.settled)
  then
    perform ledger_internal.refuse_mismatch(
      'payouts',
      format('group %s was paid %s with those that were given, and checkpoint %s says %s', vault.group_id, status.settled, checkpoint.number, checkpoint.settled)
    );
  end if;
end
$$;

alter function ledger_internal.check_restored owner to ledger_owner;
comment on function ledger_internal.check_restored is
  'Check that what a restored group holds and was paid is what the checkpoint says that it agrees with now. Raises LG013.';
revoke execute on function ledger_internal.check_restored from public;
-- <<< db/functions/internal/adoption/check_restored.sql

-- >>> db/functions/internal/adoption/check_targets.sql
-- Check that a restored group can be made to agree with a snapshot.
create or replace function ledger_internal.check_targets(
  vault   ledger.vaults,
  targets ledger_internal.adoption_target[]
) returns void
language plpgsql stable
as $$
declare
  reason text;
begin
  select r.reason
  into reason
  from (
    select format('participant %s is named twice', t.participant_id)
    from unnest(targets) as t
    group by t.participant_id
    having count(*) > 1
    union all
    select format('exit %s is named twice', t.exit_entry)
    from unnest(targets) as t
    where t.exit_entry is not null
    group by t.exit_entry
    having count(*) > 1
    union all
    select format('participant %s has no address', t.participant_id)
    from unnest(targets) as t
    where t.owner = '\x0000000000000000000000000000000000000000'
    union all
    select format('participant %s has another address, or has left otherwise', t.participant_id)
    from unnest(targets) as t
    join ledger.participants as p on p.group_id = vault.group_id and p.id = t.participant_id
    left join ledger.entries as e on e.group_id = p.group_id and e.from_id = p.id and e.kind = 'exit'
    left join ledger.settlements as s on s.group_id = e.group_id and s.entry_id = e.id
    where p.address <> t.owner
      or (
        p.exited_at is not null
        and (e.id is distinct from t.exit_entry or e.amount <> t.amount or s.settled_at is not null)
      )
    union all
    select format('exit %s is in neither the snapshot nor the payouts', s.entry_id)
    from ledger.settlements as s
    join ledger.entries as e on e.group_id = s.group_id and e.id = s.entry_id
    where s.group_id = vault.group_id
      and s.settled_at is null
      -- One of nothing may have been settled without a payment.
      and e.amount > 0
      and s.entry_id <> all (coalesce(array(select t.exit_entry from unnest(targets) as t where t.exit_entry is not null), '{}'))
    union all
    select format('participant %s is one of group %s', p.id, p.group_id)
    from ledger.groups as g
    join ledger.participants as p on p.group_id = g.id
    where g.id <> vault.group_id
      and p.id = any (array(select t.participant_id from unnest(targets) as t))
    union all
    select format('entry %s is one of group %s, or is no exit of participant %s', e.id, e.group_id, t.participant_id)
    from unnest(targets) as t
    cross join ledger.groups as g
    join ledger.entries as e on e.group_id = g.id and e.id = t.exit_entry
    where g.id <> vault.group_id
      or e.kind <> 'exit'
      or e.from_id <> t.participant_id
  ) as r (reason)
  limit 1;
  if reason is not null then
    perform ledger_internal.refuse_mismatch('snapshot', format('group %s cannot be made to agree: %s', vault.group_id, reason));
  end if;
end
$$;

alter function ledger_internal.check_targets owner to ledger_owner;
comment on function ledger_internal.check_targets is
  'Check that a restored group can be made to agree with the leaves of a snapshot and with payouts that it lacks. Raises LG013 where a participant is named twice, or is somebody else, or has left otherwise, or an exit is in neither, or an id is that of another group''s.';
revoke execute on function ledger_internal.check_targets from public;
-- <<< db/functions/internal/adoption/check_targets.sql

-- >>> db/functions/internal/adoption/checkpoint_is_known.sql
-- Check whether a restored group has a checkpoint.
create or replace function ledger_internal.checkpoint_is_known(
  checkpoint ledger.checkpoints
) returns boolean
language plpgsql stable
as $$
declare
  accepted ledger.checkpoints := ledger_internal.accepted_checkpoint(checkpoint.group_id);
  known    ledger.checkpoints;
begin
  select c.*
  into known
  from ledger.checkpoints as c
  where c.group_id = checkpoint.group_id
    and c.number >= checkpoint.number
  order by c.number
  limit 1;
  if accepted.number > checkpoint.number or known.number > checkpoint.number or known.header <> checkpoint.header then
    perform ledger_internal.refuse_mismatch(
      'snapshot', format('group %s has checkpoint %s with header %s', checkpoint.group_id, known.number, ledger_internal.hex(known.header))
    );
  end if;
  return known.number is not null;
end
$$;

alter function ledger_internal.checkpoint_is_known owner to ledger_owner;
comment on function ledger_internal.checkpoint_is_known is
  'Whether the group has this checkpoint, and it is the newest that can be adopted. Raises LG013 where it has another one of this number, or later ones that its vault cannot have.';
revoke execute on function ledger_internal.checkpoint_is_known from public;
-- <<< db/functions/internal/adoption/checkpoint_is_known.sql

-- >>> db/functions/internal/adoption/pack_leaves.sql
-- Make the chunks of a checkpoint from its leaves.
create or replace function ledger_internal.pack_leaves(
  checkpoint ledger.checkpoints,
  domain     bytea,
  leaves     ledger_internal.unpacked_leaf[]
) returns ledger.checkpoint_chunks[]
language sql immutable
as $$
  select array_agg(k order by k.chunk)
  from (
    select
      (l.place - 1) / 1024 as chunk,
      array_agg(l.amount order by l.place) as amounts,
      array_agg(ledger_internal.pack_leaf(l.participant_id, l.exit_entry, l.owner, l.amount) order by l.place) as leaves
    from unnest(pack_leaves.leaves) with ordinality as l (participant_id, exit_entry, owner, amount, place)
    group by (l.place - 1) / 1024
  ) as p
  cross join lateral ledger_internal.pack_chunk(
    checkpoint.group_id, checkpoint.number, p.chunk::integer, pack_leaves.domain, p.amounts, p.leaves
  ) as k
$$;

alter function ledger_internal.pack_leaves owner to ledger_owner;
comment on function ledger_internal.pack_leaves is
  'The chunks of a checkpoint with these leaves, of 1,024 each.';
revoke execute on function ledger_internal.pack_leaves from public;
-- <<< db/functions/internal/adoption/pack_leaves.sql

-- >>> db/functions/internal/adoption/parse_checkpoint.sql
-- Read a checkpoint of a group with a vault.
create or replace function ledger_internal.parse_checkpoint(
  vault ledger.vaults,
  value jsonb
) returns ledger.checkpoints
language plpgsql stable
as $$
declare
  checkpoint ledger.checkpoints;
begin
  checkpoint.group_id := ledger_internal.parse_id(ledger_internal.json_digits(value -> 'group_id'));
  checkpoint.number := ledger_internal.parse_id(ledger_internal.json_digits(value -> 'number'));
  checkpoint.chain_id := ledger_internal.parse_amount(ledger_internal.json_digits(value -> 'chain_id'));
  checkpoint.vault := ledger_internal.json_hex(value -> 'vault', 20);
  checkpoint.previous := ledger_internal.json_hex(value -> 'previous', 32);
  checkpoint.deposits := coalesce(
    ledger_internal.parse_id(ledger_internal.json_digits(value -> 'deposits')),
    case when ledger_internal.json_digits(value -> 'deposits')::numeric = 0 then 0 end
  );
  checkpoint.credited := ledger_internal.parse_amount(ledger_internal.json_digits(value -> 'credited'));
  checkpoint.settled := ledger_internal.parse_amount(ledger_internal.json_digits(value -> 'settled'));
  checkpoint.leaf_count := coalesce(
    ledger_internal.parse_id(ledger_internal.json_digits(value -> 'leaf_count')),
    case when ledger_internal.json_digits(value -> 'leaf_count')::numeric = 0 then 0 end
  );
  checkpoint.total := ledger_internal.parse_amount(ledger_internal.json_digits(value -> 'total'));
  checkpoint.root := ledger_internal.json_hex(value -> 'root', 32);
  checkpoint.header := ledger_internal.json_hex(value -> 'header', 32);
  checkpoint.seal := ledger_internal.json_hex(value -> 'seal', 32);
  if num_nulls(
    checkpoint.group_id, checkpoint.number, checkpoint.chain_id, checkpoint.vault, checkpoint.previous,
    checkpoint.deposits, checkpoint.credited, checkpoint.settled, checkpoint.leaf_count, checkpoint.total,
    checkpoint.root, checkpoint.header, checkpoint.seal
  ) > 0 then
    perform ledger_internal.refuse_invalid(array['snapshot'], array['must have a checkpoint with all its members']);
  end if;

  if (checkpoint.group_id, checkpoint.chain_id, checkpoint.vault) is distinct from (vault.group_id, vault.chain_id, vault.vault::bytea)
  then
    perform ledger_internal.refuse_mismatch('snapshot', format('the snapshot is of another vault or group than %s', vault.group_id));
  end if;
  if checkpoint.total <> checkpoint.credited - checkpoint.settled
    or checkpoint.header <> ledger_internal.header_hash(
      vault.domain, checkpoint.number, checkpoint.previous, checkpoint.deposits, checkpoint.credited, checkpoint.settled,
      checkpoint.leaf_count, checkpoint.total, checkpoint.root
    )
  then
    perform ledger_internal.refuse_mismatch('snapshot', 'the header of the snapshot is not that of its figures');
  end if;
  return checkpoint;
end
$$;

alter function ledger_internal.parse_checkpoint owner to ledger_owner;
comment on function ledger_internal.parse_checkpoint is
  'A checkpoint of the group that is linked to the vault. Raises LG001 for what cannot be read, LG013 where the header is not that of the figures, or the checkpoint is of another vault.';
revoke execute on function ledger_internal.parse_checkpoint from public;
-- <<< db/functions/internal/adoption/parse_checkpoint.sql

-- >>> db/functions/internal/adoption/parse_deposits.sql
-- Read the deposits into a vault that a restore lost.
create or replace function ledger_internal.parse_deposits(
  vault    ledger.vaults,
  deposits jsonb
) returns ledger.vault_deposits[]
language plpgsql stable
as $$
declare
  item   jsonb;
  parsed ledger.vault_deposits;
  list   ledger.vault_deposits[] := array[]::ledger.vault_deposits[];
begin
  if jsonb_typeof(deposits) is distinct from 'array' then
    perform ledger_internal.refuse_invalid(array['deposits'], array['must be a list']);
  end if;
  for item in select d.value from jsonb_array_elements(deposits) as d loop
    parsed.group_id := vault.group_id;
    parsed.deposit_index := ledger_internal.parse_amount(ledger_internal.json_digits(item -> 'index'));
    parsed.address := ledger_internal.parse_address(item ->> 'owner');
    parsed.amount := ledger_internal.parse_amount(ledger_internal.json_digits(item -> 'amount'));
    parsed.cumulative := ledger_internal.parse_amount(ledger_internal.json_digits(item -> 'cumulative'));
    parsed.transaction := ledger_internal.json_hex(item -> 'transaction', 32);
    parsed.block := ledger_internal.parse_amount(ledger_internal.json_digits(item -> 'block'));
    if num_nulls(parsed.deposit_index, parsed.address, parsed.amount, parsed.cumulative, parsed.transaction, parsed.block) > 0 then
      perform ledger_internal.refuse_invalid(
        array['deposits'], array['must each have index, owner, amount, cumulative, transaction and block']
      );
    end if;
    list := list || parsed;
  end loop;
  return list;
end
$$;

alter function ledger_internal.parse_deposits owner to ledger_owner;
comment on function ledger_internal.parse_deposits is
  'Deposits that the chain shows, in their order. Raises LG001.';
revoke execute on function ledger_internal.parse_deposits from public;
-- <<< db/functions/internal/adoption/parse_deposits.sql

-- >>> db/functions/internal/adoption/parse_payouts.sql
-- Read the payouts of a vault that a restore may have lost, and leave out those that are known.
create or replace function ledger_internal.parse_payouts(
  vault   ledger.vaults,
  payouts jsonb
) returns ledger.payouts[]
language plpgsql stable
as $$
declare
  item   jsonb;
  parsed ledger.payouts;
  list   ledger.payouts[] := array[]::ledger.payouts[];
begin
  if jsonb_typeof(payouts) is distinct from 'array' then
    perform ledger_internal.refuse_invalid(array['payouts'], array['must be a list']);
  end if;
  for item in select p.value from jsonb_array_elements(payouts) as p loop
    parsed.group_id := vault.group_id;
    parsed.kind := 'exit';
    parsed.participant_id := ledger_internal.parse_id(ledger_internal.json_digits(item -> 'participant_id'));
    parsed.subject := ledger_internal.parse_id(ledger_internal.json_digits(item -> 'exit_entry'));
    parsed.owner := ledger_internal.parse_address(item ->> 'owner');
    parsed.amount := ledger_internal.parse_amount(ledger_internal.json_digits(item -> 'amount'));
    parsed.transaction := ledger_internal.json_hex(item -> 'transaction', 32);
    parsed.block := ledger_internal.parse_amount(ledger_internal.json_digits(item -> 'block'));
    parsed.log := ledger_internal.parse_amount(ledger_internal.json_digits(item -> 'log'));
    if num_nulls(
      parsed.participant_id, parsed.subject, parsed.owner, parsed.amount, parsed.transaction, parsed.block, parsed.log
    ) > 0 then
      perform ledger_internal.refuse_invalid(
        array['payouts'], array['must each have participant_id, exit_entry, owner, amount, transaction, block and log']
      );
    end if;
    if not ledger_internal.payout_is_known(parsed) then
      list := list || parsed;
    end if;
  end loop;
  return list;
end
$$;

alter function ledger_internal.parse_payouts owner to ledger_owner;
comment on function ledger_internal.parse_payouts is
  'Payouts of exits that the chain shows and that are not recorded. Raises LG001, LG013.';
revoke execute on function ledger_internal.parse_payouts from public;
-- <<< db/functions/internal/adoption/parse_payouts.sql

-- >>> db/functions/internal/adoption/parse_snapshot.sql
-- Read a snapshot of a group with a vault, and check it as its vault and its participants do.
create or replace function ledger_internal.parse_snapshot(
  vault    ledger.vaults,
  snapshot jsonb
) returns ledger_internal.parsed_snapshot
language plpgsql stable
as $$
declare
  checkpoint ledger.checkpoints := ledger_internal.parse_checkpoint(vault, snapshot -> 'checkpoint');
  parsed     ledger_internal.parsed_snapshot;
  chunks     ledger.checkpoint_chunks[];
  tree       ledger_internal.tree;
begin
  if jsonb_typeof(snapshot -> 'leaves') is distinct from 'array' then
    perform ledger_internal.refuse_invalid(array['snapshot'], array['must have leaves']);
  end if;
  select array_agg(
    (
      ledger_internal.parse_id(ledger_internal.json_digits(l.leaf -> 'participant_id')),
      ledger_internal.parse_id(ledger_internal.json_digits(l.leaf -> 'exit_entry')),
      ledger_internal.json_hex(l.leaf -> 'owner', 20),
      ledger_internal.parse_amount(ledger_internal.json_digits(l.leaf -> 'amount'))
    )::ledger_internal.unpacked_leaf
    order by l.place
  )
  into parsed.leaves
  from jsonb_array_elements(snapshot -> 'leaves') with ordinality as l (leaf, place);

  if exists (
    select from (
      select
        l.*,
        lag(l.participant_id, 1, 0::bigint) over (order by l.place) as before
      from unnest(parsed.leaves) with ordinality as l (participant_id, exit_entry, owner, amount, place)
    ) as l
    where (l.participant_id > l.before and l.owner is not null and l.amount < 2::numeric ^ 256) is not true
  ) or coalesce(cardinality(parsed.leaves), 0) <> checkpoint.leaf_count then
    perform ledger_internal.refuse_mismatch('snapshot', 'the leaves of the snapshot are not as many as it says, or not of ascending participants');
  end if;
  chunks := ledger_internal.pack_leaves(checkpoint, vault.domain, parsed.leaves);
  select t.*
  into tree
  from (
    select
      array_agg(k.sum order by k.chunk) as sums,
      array_agg(ledger_internal.word(k.sum) || k.hash order by k.chunk) as nodes
    from unnest(chunks) as k
  ) as n
  cross join ledger_internal.fold_tree(n.sums, n.nodes) as t;
  if tree.hash <> checkpoint.root or tree.sum <> checkpoint.total then
    perform ledger_internal.refuse_mismatch('snapshot', 'the leaves of the snapshot have another root');
  end if;
  parsed.checkpoint := checkpoint;
  parsed.chunks := chunks;
  return parsed;
exception when numeric_value_out_of_range then
  perform ledger_internal.refuse_mismatch('snapshot', 'the amounts of the snapshot come to 2^256 or more');
end
$$;

alter function ledger_internal.parse_snapshot owner to ledger_owner;
comment on function ledger_internal.parse_snapshot is
  'The checkpoint of a snapshot, with its group, vault and header, and its leaves, of which the root is computed. Raises LG001 for what cannot be read, LG013 where the parts of it do not belong together or to this vault.';
revoke execute on function ledger_internal.parse_snapshot from public;
-- <<< db/functions/internal/adoption/parse_snapshot.sql

-- >>> db/functions/internal/adoption/restore_balances.sql
-- Bring the balances of a restored group to those of a snapshot.
create or replace function ledger_internal.restore_balances(
  checkpoint ledger.checkpoints,
  targets    ledger_internal.adoption_target[]
) returns void
language plpgsql volatile
as $$
declare
  metadata  jsonb := jsonb_build_object('adopted', format('balance of checkpoint %s', checkpoint.number));
  step      record;
  sender    ledger.participants;
  recipient ledger.participants;
begin
  for step in
    with differences as (
      select
        p.id,
        p.amount - coalesce(t.amount, 0) as surplus
      from ledger.participants as p
      left join unnest(targets) as t on t.participant_id = p.id
      where p.group_id = checkpoint.group_id
        and p.exited_at is null
        and p.amount <> coalesce(t.amount, 0)
    ), sides as (
      -- The surplus of each sender, and the deficit of each recipient, as a stretch of the sum of all.
      select
        d.id,
        d.surplus > 0 as sends,
        sum(abs(d.surplus)) over w - abs(d.surplus) as low,
        sum(abs(d.surplus)) over w as high
      from differences as d
      window w as (partition by d.surplus > 0 order by d.id)
    )
    select
      s.id as from_id,
      r.id as to_id,
      least(s.high, r.high) - greatest(s.low, r.low) as amount
    from sides as s
    join sides as r on not r.sends and r.low < s.high and s.low < r.high
    where s.sends
    order by s.low, r.low
  loop
    select p.* into sender from ledger.participants as p where p.group_id = checkpoint.group_id and p.id = step.from_id;
    select p.* into recipient from ledger.participants as p where p.group_id = checkpoint.group_id and p.id = step.to_id;
    perform ledger_internal.post_transfer(sender, recipient, step.amount, metadata, null);
  end loop;

  if exists (
    select from ledger.participants as p
    left join unnest(targets) as t on t.participant_id = p.id
    where p.group_id = checkpoint.group_id
      and p.exited_at is null
      and p.amount <> coalesce(t.amount, 0)
  ) then
    perform ledger_internal.refuse_mismatch(
      'snapshot',
      format('the balances of group %s do not add up to those of checkpoint %s: payouts are missing, or too many', checkpoint.group_id, checkpoint.number)
    );
  end if;
end
$$;

alter function ledger_internal.restore_balances owner to ledger_owner;
comment on function ledger_internal.restore_balances is
  'Move money by transfers until each participant of a restored group has what targets say, and any other one nothing. Raises LG013 where the sums differ.';
revoke execute on function ledger_internal.restore_balances from public;
-- <<< db/functions/internal/adoption/restore_balances.sql

-- >>> db/functions/internal/adoption/restore_deposits.sql
-- Credit the deposits again that a restore lost.
create or replace function ledger_internal.restore_deposits(
  vault      ledger.vaults,
  checkpoint ledger.checkpoints,
  targets    ledger_internal.adoption_target[],
  deposits   ledger.vault_deposits[]
) returns void
language plpgsql volatile
as $$
declare
  status  ledger.vault_status := ledger_internal.describe_vault(vault);
  deposit ledger.vault_deposits;
begin
  for deposit in
    select d.*
    from unnest(deposits) as d
    where d.deposit_index >= status.deposits
      and d.deposit_index < checkpoint.deposits
    order by d.deposit_index
  loop
    exit when deposit.deposit_index <> status.deposits or deposit.cumulative <> status.cumulative + deposit.amount;
    perform ledger_internal.post_credit(
      vault.group_id,
      (
        select min(t.participant_id)
        from unnest(targets) as t
        join ledger.participants as p on p.group_id = vault.group_id and p.id = t.participant_id
        where t.owner = deposit.address
          and p.exited_at is null
      ),
      deposit
    );
    status.deposits := status.deposits + 1;
    status.cumulative := deposit.cumulative;
  end loop;
  if (status.deposits, status.cumulative) is distinct from (checkpoint.deposits, checkpoint.credited) then
    perform ledger_internal.refuse_mismatch(
      'deposits',
      format(
        'group %s has %s deposits of %s with those that were given, and checkpoint %s includes %s of %s',
        vault.group_id, status.deposits, status.cumulative, checkpoint.number, checkpoint.deposits, checkpoint.credited
      )
    );
  end if;
end
$$;

alter function ledger_internal.restore_deposits owner to ledger_owner;
comment on function ledger_internal.restore_deposits is
  'Credit the deposits that a checkpoint includes and a restored group lacks, to participants of their addresses; their balances are those of the snapshot afterwards. Raises LG013 where they are not all there.';
revoke execute on function ledger_internal.restore_deposits from public;
-- <<< db/functions/internal/adoption/restore_deposits.sql

-- >>> db/functions/internal/adoption/restore_exits.sql
-- Make the exits again that a restore lost.
create or replace function ledger_internal.restore_exits(
  checkpoint ledger.checkpoints,
  targets    ledger_internal.adoption_target[]
) returns void
language plpgsql volatile
as $$
declare
  target      ledger_internal.adoption_target;
  participant ledger.participants;
  settled     record;
  payout      ledger.payouts;
begin
  foreach target in array coalesce(targets, '{}') loop
    continue when target.exit_entry is null;
    select p.*
    into participant
    from ledger.participants as p
    where p.group_id = checkpoint.group_id
      and p.id = target.participant_id
      and p.exited_at is null;
    continue when not found;
    -- Later than the entries before it, whose ids may be higher.
    participant.moved_at := participant.moved_at + interval '1 microsecond';
    perform ledger_internal.post_exit(
      participant, '{"adopted": "left before a restore"}', target.exit_entry
    );
  end loop;

  for settled in
    select
      e.id,
      e.from_id,
      p.address
    from ledger.settlements as s
    join ledger.entries as e on e.group_id = s.group_id and e.id = s.entry_id
    join ledger.participants as p on p.group_id = e.group_id and p.id = e.from_id
    where s.group_id = checkpoint.group_id
      and s.settled_at is null
      and e.amount = 0
      and not exists (select from unnest(targets) as t where t.exit_entry = e.id)
  loop
    payout.group_id := checkpoint.group_id;
    payout.kind := 'exit';
    payout.subject := settled.id;
    payout.participant_id := settled.from_id;
    payout.owner := settled.address;
    payout.amount := 0;
    perform ledger_internal.settle_paid_exit(ledger_internal.find_vault(checkpoint.group_id), payout);
    perform ledger_internal.add_payout(payout);
  end loop;
end
$$;

alter function ledger_internal.restore_exits owner to ledger_owner;
comment on function ledger_internal.restore_exits is
  'Let the participants leave again whose exit a restored group lacks, under the entry that it had, and settle exits of nothing that the checkpoint no longer has.';
revoke execute on function ledger_internal.restore_exits from public;
-- <<< db/functions/internal/adoption/restore_exits.sql

-- >>> db/functions/internal/adoption/restore_group.sql
-- Make a restored group agree with a snapshot of a checkpoint that it lacks.
create or replace function ledger_internal.restore_group(
  vault    ledger.vaults,
  adopted  ledger_internal.parsed_snapshot,
  deposits ledger.vault_deposits[],
  payouts  ledger.payouts[]
) returns void
language plpgsql volatile
as $$
declare
  checkpoint ledger.checkpoints := adopted.checkpoint;
  feed       ledger.feeds := ledger_internal.current_feed('group_id');
  targets    ledger_internal.adoption_target[];
  payout     ledger.payouts;
begin
  perform from ledger.participants as p
  where p.group_id = vault.group_id
  order by p.id
  for no key update;
  select array_agg((t.participant_id, t.exit_entry, t.owner, t.amount)::ledger_internal.adoption_target order by t.participant_id)
  into targets
  from (
    select l.participant_id, l.exit_entry, l.owner, l.amount from unnest(adopted.leaves) as l
    union all
    select p.participant_id, p.subject, p.owner, p.amount from unnest(payouts) as p
  ) as t;
  perform ledger_internal.raise_sequence('ledger.participants_id_seq', (select max(t.participant_id) from unnest(targets) as t));
  perform ledger_internal.raise_sequence('ledger.entries_id_seq', (select max(t.exit_entry) from unnest(targets) as t));
  perform ledger_internal.check_targets(vault, targets);

  perform ledger_internal.restore_participants(vault, targets);
  perform ledger_internal.restore_deposits(vault, checkpoint, targets, deposits);
  perform ledger_internal.restore_balances(checkpoint, targets);
  perform ledger_internal.restore_exits(checkpoint, targets);
  foreach payout in array payouts loop
    perform ledger_internal.settle_paid_exit(vault, payout);
    perform ledger_internal.add_payout(payout);
  end loop;

  -- Its own entries are of after this snapshot: the next checkpoint seals them.
  checkpoint.snapshot := pg_current_snapshot();
  checkpoint.generation := feed.generation;
  checkpoint.created_at := clock_timestamp();
  checkpoint.adopted_at := checkpoint.created_at;
  insert into ledger.checkpoint_chunks
  select k.*
  from unnest(adopted.chunks) as k;
  insert into ledger.checkpoints
  select checkpoint.*;
  perform ledger_internal.check_restored(vault, checkpoint);
end
$$;

alter function ledger_internal.restore_group owner to ledger_owner;
comment on function ledger_internal.restore_group is
  'Make again what a restore lost of a group up to a checkpoint, and write the checkpoint; this transaction has locked the group. Raises LG009, LG013.';
revoke execute on function ledger_internal.restore_group from public;
-- <<< db/functions/internal/adoption/restore_group.sql

-- >>> db/functions/internal/adoption/restore_participants.sql
-- Join the participants again that a restore lost.
create or replace function ledger_internal.restore_participants(
  vault   ledger.vaults,
  targets ledger_internal.adoption_target[]
) returns void
language plpgsql volatile
as $$
declare
  target ledger_internal.adoption_target;
begin
  for target in
    select t.*
    from unnest(targets) as t
    where not exists (
      select from ledger.participants as p
      where p.group_id = vault.group_id
        and p.id = t.participant_id
    )
    order by t.participant_id
  loop
    perform ledger_internal.add_participant(vault.group_id, target.owner, false, target.participant_id);
    perform ledger_internal.post_join(vault.group_id, target.participant_id, 0, '{"adopted": "joined before a restore"}');
  end loop;
end
$$;

alter function ledger_internal.restore_participants owner to ledger_owner;
comment on function ledger_internal.restore_participants is
  'Join the participants of targets whom a restored group lacks again, under their ids, with nothing. Their addresses count as claimed: whether they were proved is lost.';
revoke execute on function ledger_internal.restore_participants from public;
-- <<< db/functions/internal/adoption/restore_participants.sql

-- >>> db/functions/internal/checkpoints/add_checkpoint.sql
-- Write a group's next checkpoint, with its leaves.
create or replace function ledger_internal.add_checkpoint(
  group_id bigint
) returns bigint
language plpgsql volatile
as $$
declare
  vault    ledger.vaults := ledger_internal.find_vault(group_id);
  previous ledger.checkpoints;
  made     ledger.checkpoints;
  figures  ledger_internal.figures;
  domain   bytea;
begin
  select c.*
  into previous
  from ledger.checkpoints as c
  where c.group_id = add_checkpoint.group_id
  order by c.number desc
  limit 1;

  made.group_id := group_id;
  made.number := ledger_internal.next_checkpoint_number(group_id);
  made.chain_id := coalesce(vault.chain_id, 0);
  made.vault := coalesce(vault.vault, decode(repeat('00', 20), 'hex'));
  -- A vault knows the headers that it accepted.
  made.previous := coalesce(
    case
      when vault.group_id is null
      then previous.header
      else (ledger_internal.accepted_checkpoint(group_id)).header
    end,
    decode(repeat('00', 32), 'hex')
  );
  domain := ledger_internal.domain_hash(made.chain_id, made.vault, group_id);

  figures := ledger_internal.write_chunks(made, previous, domain);
  if figures.total <> figures.credited - figures.settled then
    raise exception using
      errcode = 'data_corrupted',
      message = format('the leaves of group %s add up to %s, and %s was credited, %s settled', group_id, figures.total, figures.credited, figures.settled),
      hint    = 'Run ledger verify: the books are wrong.';
  end if;
  made.deposits := figures.deposits;
  made.credited := figures.credited;
  made.settled := figures.settled;
  made.leaf_count := figures.leaf_count;
  made.total := figures.total;
  made.root := figures.root;
  made.header := ledger_internal.header_hash(
    domain, made.number, made.previous, made.deposits, made.credited, made.settled, made.leaf_count, made.total, made.root
  );
  made.snapshot := figures.snapshot;
  made.generation := figures.generation;
  made.seal := figures.seal;
  made.created_at := clock_timestamp();
  insert into ledger.checkpoints
  select made.*
  -- As in write_chunks, for a group without leaves.
  on conflict do nothing;
  if not found then
    raise exception using
      errcode = 'serialization_failure',
      message = format('another transaction made checkpoint %s of group %s', made.number, group_id);
  end if;
  return made.number;
end
$$;

alter function ledger_internal.add_checkpoint owner to ledger_owner;
comment on function ledger_internal.add_checkpoint is
  'Write the next checkpoint of a group, chained to the one before it, or to the last one that its vault accepted, and return its number. Call it where no other transaction makes a checkpoint of the group, and before this one has written anything. Raises LG011, 40001 where another transaction made it, XX001 where the leaves are not what was credited less what was settled.';
revoke execute on function ledger_internal.add_checkpoint from public;
-- <<< db/functions/internal/checkpoints/add_checkpoint.sql

-- >>> db/functions/internal/checkpoints/checkpoint_answer.sql
-- Make the answer to a call that made a checkpoint.
create or replace function ledger_internal.checkpoint_answer(
  group_id bigint,
  number   bigint,
  replayed boolean
) returns ledger.checkpoint_result
language sql stable
as $$
  select
    h.group_id,
    h.number,
    h.chain_id,
    h.vault,
    h.previous,
    h.deposits,
    h.credited,
    h.settled,
    h.leaf_count,
    h.total,
    h.root,
    h.header,
    h.seal,
    h.created_at,
    checkpoint_answer.replayed,
    h.state
  from ledger.checkpoint_headers as h
  where h.group_id = checkpoint_answer.group_id
    and h.number = checkpoint_answer.number
$$;

alter function ledger_internal.checkpoint_answer owner to ledger_owner;
comment on function ledger_internal.checkpoint_answer is
  'A checkpoint of the group as its maker returns it.';
revoke execute on function ledger_internal.checkpoint_answer from public;
-- <<< db/functions/internal/checkpoints/checkpoint_answer.sql

-- >>> db/functions/internal/checkpoints/checkpoint_books.sql
-- Count what was credited to a group and settled, in the snapshot of the statement.
create or replace function ledger_internal.checkpoint_books(
  group_id bigint
) returns ledger_internal.figures
language sql stable
as $$
  select
    pg_current_snapshot(),
    (select max(f.generation) from ledger.feeds as f),
    credited.deposits,
    credited.amount,
    settled.amount,
    null::bigint,
    null::numeric,
    null::bytea,
    null::bytea
  from (
    select
      -- A vault counts what it was sent; joins of nothing are none of that.
      case
        when exists (select from ledger.vaults as v where v.group_id = checkpoint_books.group_id)
        then (select count(*) from ledger.vault_deposits as d where d.group_id = checkpoint_books.group_id)
        else count(*)
      end as deposits,
      coalesce(sum(e.amount), 0) as amount
    from ledger.entries as e
    where e.group_id = checkpoint_books.group_id
      and e.kind in ('join', 'deposit')
  ) as credited
  cross join (
    select coalesce(sum(e.amount), 0) as amount
    from ledger.settlements as s
    join ledger.entries as e on e.group_id = s.group_id and e.id = s.entry_id
    where s.group_id = checkpoint_books.group_id
      and s.settled_at is not null
  ) as settled
$$;

alter function ledger_internal.checkpoint_books owner to ledger_owner;
comment on function ledger_internal.checkpoint_books is
  'The deposits, what they credited, what was settled, the snapshot and the feed of a checkpoint that the statement makes; its other figures are null.';
revoke execute on function ledger_internal.checkpoint_books from public;
-- <<< db/functions/internal/checkpoints/checkpoint_books.sql

-- >>> db/functions/internal/checkpoints/write_chunks.sql
-- Write the leaves of a new checkpoint, and return what it finds.
create or replace function ledger_internal.write_chunks(
  checkpoint ledger.checkpoints,
  previous   ledger.checkpoints,
  domain     bytea
) returns ledger_internal.figures
language plpgsql volatile
as $$
declare
  figures ledger_internal.figures;
  piece   record;
  chunk   ledger.checkpoint_chunks;
  chunks  ledger.checkpoint_chunks[] := array[]::ledger.checkpoint_chunks[];
  sums    numeric[] := array[]::numeric[];
  nodes   bytea[] := array[]::bytea[];
  tree    ledger_internal.tree;
  resumed timestamptz := clock_timestamp();
  -- A statement with a time-out has no time for pauses.
  pauses  boolean := current_setting('statement_timeout') = '0';
begin
  -- One statement and so one snapshot for all figures and leaves; a volatile function in it would see newer rows.
  for piece in
    -- The first row has the figures, each of the others the leaves of a chunk.
    select
      -1 as chunk,
      null::numeric[] as amounts,
      null::bytea[] as leaves,
      b as books
    from ledger_internal.checkpoint_books(checkpoint.group_id) as b
    union all
    select
      (l.place / 1024)::integer,
      array_agg(l.amount order by l.place),
      array_agg(ledger_internal.pack_leaf(l.participant_id, l.exit_entry, l.owner, l.amount) order by l.place),
      null
    from (
      select
        u.*,
        row_number() over (order by u.participant_id) - 1 as place
      from ledger_internal.current_leaves(checkpoint.group_id) as u
    ) as l
    group by l.place / 1024
    order by chunk
  loop
    if piece.chunk = -1 then
      figures := piece.books;
      figures.leaf_count := 0;
      perform ledger_internal.refuse_large_group(checkpoint.group_id, figures.credited);
      checkpoint.snapshot := figures.snapshot;
      checkpoint.generation := figures.generation;
      figures.seal := ledger_internal.seal_entries(checkpoint, previous);
      continue;
    end if;

    chunk := ledger_internal.pack_chunk(
      checkpoint.group_id, checkpoint.number, piece.chunk, domain, piece.amounts, piece.leaves
    );
    chunks := chunks || chunk;
    sums := sums || chunk.sum::numeric;
    nodes := nodes || (ledger_internal.word(chunk.sum) || chunk.hash);
    figures.leaf_count := figures.leaf_count + cardinality(piece.leaves);
    -- Four fifths of the time the core is free for transfers.
    if pauses and cardinality(piece.leaves) = 1024 then
      perform pg_sleep(least(4 * extract(epoch from clock_timestamp() - resumed), 1));
      resumed := clock_timestamp();
    end if;
  end loop;
  tree := ledger_internal.fold_tree(sums, nodes);
  figures.total := tree.sum;
  figures.root := tree.hash;

  -- The first change of the transaction, and so what the feed of all groups waits for: only when all is computed. One
  -- at a time: a list of them would be copied.
  for place in 1 .. cardinality(chunks) loop
    chunk := chunks[place];
    insert into ledger.checkpoint_chunks
    select chunk.*
    -- Above READ COMMITTED another checkpoint since the snapshot ends in 40001 here.
    on conflict do nothing;
  end loop;
  return figures;
end
$$;

alter function ledger_internal.write_chunks owner to ledger_owner;
comment on function ledger_internal.write_chunks is
  'Write the chunks of a checkpoint of this group and number in one snapshot, and return the snapshot, the figures, the seal and the root of it. In a session without a statement time-out it pauses four times as long as it works. Call it where no other transaction makes a checkpoint of the group. Raises LG011.';
revoke execute on function ledger_internal.write_chunks from public;
-- <<< db/functions/internal/checkpoints/write_chunks.sql

-- >>> db/functions/internal/constraints/forbid_mutation.sql
-- Refuse to change or delete a row of a permanent table.
create or replace function ledger_internal.forbid_mutation()
returns trigger
language plpgsql
as $$
begin
  raise exception using
    errcode = 'restrict_violation',
    message = format('%s on %I.%I is refused: the record is permanent', lower(tg_op), tg_table_schema, tg_table_name),
    hint    = case
      when tg_table_name in (
        'vaults', 'vault_deposits', 'payouts', 'publications', 'exit_requests', 'bridge_transactions', 'adoptions',
        'unknown_roots'
      )
      then 'What a chain has shown is recorded once, by the functions that the bridge calls.'
      when tg_table_name = 'api_keys'
      then 'Make an API key useless with ledger.revoke_api_key.'
      when tg_table_name = 'name_changes'
      then 'Correct a name by another one: ledger.rename_group or ledger.rename_participant.'
      else 'Correct a mistake by a new movement: ledger.transfer, ledger.join_group or ledger.exit_group.'
    end;
end
$$;

alter function ledger_internal.forbid_mutation owner to ledger_owner;
comment on function ledger_internal.forbid_mutation is
  'Trigger that refuses UPDATE, DELETE and TRUNCATE on permanent tables, to their owner as well. Raises 23001.';
revoke execute on function ledger_internal.forbid_mutation from public;
-- <<< db/functions/internal/constraints/forbid_mutation.sql

-- >>> db/functions/internal/errors/refuse_frozen.sql
-- Raise LG014 if a group is frozen.
create or replace function ledger_internal.refuse_frozen(
  group_id bigint
) returns void
language plpgsql stable
as $$
begin
  if exists (
    select from ledger.vaults as v
    where v.group_id = refuse_frozen.group_id
      and v.emergency_number is not null
  ) then
    raise exception using
      errcode = 'LG014',
      column  = 'group_id',
      message = format('group %s is frozen', group_id),
      detail  = 'group_id: is frozen by an emergency of its vault',
      hint    = 'Get the proof of the last ripe checkpoint and withdraw from the vault with it; nothing moves in the group any more.';
  end if;
end
$$;

alter function ledger_internal.refuse_frozen owner to ledger_owner;
comment on function ledger_internal.refuse_frozen is
  'Raises LG014 if an emergency was declared at the vault of the group; nothing for any other group.';
revoke execute on function ledger_internal.refuse_frozen from public;
-- <<< db/functions/internal/errors/refuse_frozen.sql

-- >>> db/functions/internal/errors/refuse_linked.sql
-- Raise LG012 for what is not done by hand in a group with a vault.
create or replace function ledger_internal.refuse_linked(
  group_id bigint,
  field    text,
  hint     text
) returns void
language plpgsql immutable
as $$
begin
  raise exception using
    errcode = 'LG012',
    column  = refuse_linked.field,
    message = format('group %s is linked to a vault', group_id),
    detail  = format('%s: is not accepted in a group that is linked to a vault', field),
    hint    = refuse_linked.hint;
end
$$;

alter function ledger_internal.refuse_linked owner to ledger_owner;
comment on function ledger_internal.refuse_linked is
  'Raises LG012 that blames the field: the group is linked to a vault, and the chain decides this.';
revoke execute on function ledger_internal.refuse_linked from public;
-- <<< db/functions/internal/errors/refuse_linked.sql

-- >>> db/functions/internal/errors/refuse_mismatch.sql
-- Raise LG013 for a report of the bridge that does not fit the record.
create or replace function ledger_internal.refuse_mismatch(
  field   text,
  message text
) returns void
language plpgsql immutable
as $$
begin
  raise exception using
    errcode = 'LG013',
    column  = refuse_mismatch.field,
    message = refuse_mismatch.message,
    detail  = format('%s: does not fit the record', field),
    hint    = 'Stop the bridge and compare the chain with the record. After a restore run: ledger bridge adopt.';
end
$$;

alter function ledger_internal.refuse_mismatch owner to ledger_owner;
comment on function ledger_internal.refuse_mismatch is
  'Raises LG013 that blames the field: the chain, as the bridge reports it, and the record do not agree.';
revoke execute on function ledger_internal.refuse_mismatch from public;
-- <<< db/functions/internal/errors/refuse_mismatch.sql

-- >>> db/functions/internal/errors/refuse_taken_address.sql
-- Raise LG010 if another participant present in a group has an address.
create or replace function ledger_internal.refuse_taken_address(
  group_id       bigint,
  participant_id bigint,
  address        bytea
) returns void
language plpgsql stable
as $$
begin
  if exists (
    select from ledger.participants as p
    where p.group_id = refuse_taken_address.group_id
      and p.address = refuse_taken_address.address
      and p.exited_at is null
      and p.address_proved is not false
      and p.id is distinct from refuse_taken_address.participant_id
  ) then
    perform ledger_internal.refuse_bound_address(
      format('another participant has address %s', ledger_internal.format_address(address)),
      'is bound to another participant'
    );
  end if;
end
$$;

alter function ledger_internal.refuse_taken_address owner to ledger_owner;
comment on function ledger_internal.refuse_taken_address is
  'Raises LG010 if another participant than this one, who may be null, is present in the group and has the address, proved where the group has a vault; nothing for a null address.';
revoke execute on function ledger_internal.refuse_taken_address from public;
-- <<< db/functions/internal/errors/refuse_taken_address.sql

-- >>> db/functions/internal/errors/refuse_unknown_legs.sql
-- Raise LG002 for the legs of a multi-party transfer that are not present.
create or replace function ledger_internal.refuse_unknown_legs(
  lines ledger_internal.transfer_lines,
  legs  ledger_internal.transfer_legs
) returns void
language plpgsql stable
as $$
declare
  fields  text[];
  missing bigint[];
begin
  select
    array_agg(m.field),
    array_agg(m.id)
  into
    fields,
    missing
  from (
    select
      format('transfers[%s].%s', l.line - 1, s.member) as field,
      s.id
    from unnest(lines.from_ids, lines.to_ids) with ordinality as l (from_id, to_id, line)
    cross join lateral (values ('from', l.from_id), ('to', l.to_id)) as s (member, id)
    where s.id <> all (coalesce(legs.ids, '{}'))
    order by l.line
    limit 100
  ) as m;
  perform ledger_internal.refuse_frozen(lines.group_ids[1]);
  perform ledger_internal.refuse_unknown_participants(lines.group_ids[1], fields, missing);
end
$$;

alter function ledger_internal.refuse_unknown_legs owner to ledger_owner;
comment on function ledger_internal.refuse_unknown_legs is
  'Raise LG002 for the first 100 legs of a multi-party transfer that were not locked, as transfers[0].from, or for its group; LG014 where the group is frozen.';
revoke execute on function ledger_internal.refuse_unknown_legs from public;
-- <<< db/functions/internal/errors/refuse_unknown_legs.sql

-- >>> db/functions/internal/movements/post_deposit.sql
-- Write a deposit of a participant whose row is locked.
create or replace function ledger_internal.post_deposit(
  participant ledger.participants,
  amount      numeric,
  metadata    jsonb
) returns bigint
language plpgsql volatile
as $$
declare
  shard     ledger.group_total_shards := ledger_internal.add_to_group_total(
    participant.group_id, amount, participant.moved_at
  );
  new_entry bigint;
begin
  participant.amount := participant.amount + trunc(amount);
  update ledger.participants as p
  set
    amount = participant.amount,
    moved_at = shard.changed_at
  where p.group_id = participant.group_id
    and p.id = participant.id;

  insert into ledger.entries (group_id, kind, to_id, amount, to_amount, created_at, metadata)
  values (
    participant.group_id, 'deposit', participant.id, post_deposit.amount, participant.amount, shard.changed_at,
    post_deposit.metadata
  )
  returning entries.id into new_entry;
  perform ledger_internal.record_group_total(shard, new_entry, participant.id);
  return new_entry;
end
$$;

alter function ledger_internal.post_deposit owner to ledger_owner;
comment on function ledger_internal.post_deposit is
  'Add a valid deposit to the balance of a participant, write the entry and return it; this transaction has locked the row participant.';
revoke execute on function ledger_internal.post_deposit from public;
-- <<< db/functions/internal/movements/post_deposit.sql

-- >>> db/functions/internal/movements/post_exit.sql
-- Write the exit of a participant whose row is locked.
create or replace function ledger_internal.post_exit(
  participant ledger.participants,
  metadata    jsonb,
  id          bigint default null
) returns bigint
language plpgsql volatile
as $$
declare
  shard     ledger.group_total_shards := ledger_internal.add_to_group_total(
    participant.group_id, -participant.amount, participant.moved_at
  );
  new_entry bigint;
begin
  update ledger.participants as p
  set
    amount = 0,
    moved_at = shard.changed_at,
    exited_at = shard.changed_at
  where p.group_id = participant.group_id
    and p.id = participant.id;

  insert into ledger.entries (group_id, id, kind, from_id, amount, from_amount, created_at, metadata)
  overriding system value
  values (
    participant.group_id, coalesce(post_exit.id, nextval('ledger.entries_id_seq')), 'exit', participant.id, participant.amount, 0, shard.changed_at, post_exit.metadata
  )
  returning entries.id into new_entry;
  perform ledger_internal.record_group_total(shard, new_entry);

  insert into ledger.settlements (group_id, entry_id, exited_at)
  values (participant.group_id, new_entry, shard.changed_at);
  return new_entry;
end
$$;

alter function ledger_internal.post_exit owner to ledger_owner;
comment on function ledger_internal.post_exit is
  'Let a participant leave with all that they hold, write the entry, with this id if one is given, and return it; this transaction has locked the row participant.';
revoke execute on function ledger_internal.post_exit from public;
-- <<< db/functions/internal/movements/post_exit.sql

-- >>> db/functions/internal/movements/post_join.sql
-- Write the join of a participant who was just inserted.
create or replace function ledger_internal.post_join(
  group_id       bigint,
  participant_id bigint,
  amount         numeric,
  metadata       jsonb
) returns bigint
language plpgsql volatile
as $$
declare
  -- A join that waits for a username or an address holds no shard, so the time is known only now.
  shard     ledger.group_total_shards := ledger_internal.add_to_group_total(group_id, amount, null);
  new_entry bigint;
begin
  update ledger.participants as p
  set
    joined_at = shard.changed_at,
    moved_at = shard.changed_at
  where p.group_id = post_join.group_id
    and p.id = post_join.participant_id;

  insert into ledger.entries (group_id, kind, to_id, amount, to_amount, created_at, metadata)
  values (
    post_join.group_id, 'join', post_join.participant_id, post_join.amount, post_join.amount, shard.changed_at,
    post_join.metadata
  )
  returning entries.id into new_entry;
  perform ledger_internal.record_group_total(shard, new_entry);
  return new_entry;
end
$$;

alter function ledger_internal.post_join owner to ledger_owner;
comment on function ledger_internal.post_join is
  'Write the entry of a join and its amount in the group''s total, and return the entry; this transaction has inserted the participant, with this amount.';
revoke execute on function ledger_internal.post_join from public;
-- <<< db/functions/internal/movements/post_join.sql

-- >>> db/functions/internal/totals/add_to_group_total.sql
-- Add a join or a deposit to a group's total, or subtract an exit.
create or replace function ledger_internal.add_to_group_total(
  group_id   bigint,
  amount     numeric,
  not_before timestamptz
) returns ledger.group_total_shards
language plpgsql volatile
as $$
declare
  shard ledger.group_total_shards;
begin
  -- trunc() removes the decimal places of a deposit written as 100.0; otherwise every later total would show them.
  -- A session always takes the same shard of the eight, so a transaction of many joins, deposits and exits locks only one of
  -- a group's shards. One that locks several groups' shards, or a shard and then participants, can deadlock with another one
  -- and is repeated. A shard's times ascend even if the clock goes back.
  update ledger.group_total_shards as c
  set
    total = c.total + trunc(add_to_group_total.amount),
    changed_at = greatest(clock_timestamp(), c.changed_at, add_to_group_total.not_before)
  where c.group_id = add_to_group_total.group_id
    and c.slot = pg_backend_pid() % 8
  returning c.* into shard;
  if not found then
    raise exception 'group % has lost a shard', group_id;
  end if;
  return shard;
end
$$;

alter function ledger_internal.add_to_group_total owner to ledger_owner;
comment on function ledger_internal.add_to_group_total is
  'Add an amount, negative for an exit, to one of the shards that make up the group''s total; its changed_at, not below not_before, is the time of the movement.';
revoke execute on function ledger_internal.add_to_group_total from public;
-- <<< db/functions/internal/totals/add_to_group_total.sql

-- >>> db/functions/internal/transfers/execute_transfer.sql
-- Make one transfer: lock, decide, write.
create or replace function ledger_internal.execute_transfer(
  group_id bigint,
  from_id  bigint,
  to_id    bigint,
  amount   numeric,
  metadata jsonb,
  reverses bigint
) returns ledger.transfer_result
language plpgsql volatile
as $$
declare
  pair      ledger.participants[] := ledger_internal.lock_pair(group_id, from_id, to_id, wait => true);
  sender    ledger.participants := pair[1];
  recipient ledger.participants := pair[2];
  violation text;
begin
  if sender.id is null or recipient.id is null then
    perform ledger_internal.refuse_frozen(group_id);
    perform ledger_internal.refuse_unknown_participants(
      group_id,
      array_remove(array[case when sender.id is null then 'from_id' end, case when recipient.id is null then 'to_id' end], null),
      array_remove(array[case when sender.id is null then from_id end, case when recipient.id is null then to_id end], null)
    );
  end if;

  violation := ledger_internal.balance_violation(sender.amount - amount, recipient.amount + amount);
  if violation is not null then
    perform ledger_internal.refuse_transfer(violation, 'amount', sender.id, sender.amount, amount);
  end if;

  return ledger_internal.post_transfer(sender, recipient, amount, metadata, reverses);
end
$$;

alter function ledger_internal.execute_transfer owner to ledger_owner;
comment on function ledger_internal.execute_transfer is
  'Transfer a valid amount between two different participants of a group; reverses is the entry that it reverses, if any. Raises LG001, LG002, LG003, LG014.';
revoke execute on function ledger_internal.execute_transfer from public;
-- <<< db/functions/internal/transfers/execute_transfer.sql

-- >>> db/functions/internal/transfers/lock_legs.sql
-- Lock the participants of a list of transfers.
create or replace function ledger_internal.lock_legs(
  lines ledger_internal.transfer_lines,
  wait  boolean
) returns ledger_internal.transfer_legs
language plpgsql volatile
as $$
declare
  legs ledger_internal.transfer_legs;
begin
  -- In ascending id within each group, as lock_pair() does. SQL has no parameter for `skip locked`; a function that
  -- returned the rows would cost every list 2 %.
  if wait then
    select
      array_agg(p.group_id),
      array_agg(p.id),
      array_agg(p.place),
      array_agg(p.username),
      array_agg(p.amount),
      array_agg(p.moved_at)
    into
      legs.group_ids,
      legs.ids,
      legs.places,
      legs.usernames,
      legs.balances,
      legs.moved_at
    from (
      select l.group_id, array_agg(l.id) as ids
      from unnest(
        lines.group_ids || lines.group_ids, lines.from_ids || lines.to_ids, lines.possible || lines.possible
      ) as l (group_id, id, possible)
      where l.possible is not false
      group by l.group_id
      order by l.group_id
    ) as l
    cross join lateral (
      select p.*, p.ctid as place
      from ledger.participants as p
      where p.group_id = l.group_id
        and p.id = any (l.ids)
        and p.exited_at is null
        and p.frozen_at is null
      order by p.id
      for no key update
    ) as p;
  else
    select
      array_agg(p.group_id),
      array_agg(p.id),
      array_agg(p.place),
      array_agg(p.username),
      array_agg(p.amount),
      array_agg(p.moved_at)
    into
      legs.group_ids,
      legs.ids,
      legs.places,
      legs.usernames,
      legs.balances,
      legs.moved_at
    from (
      select l.group_id, array_agg(l.id) as ids
      from unnest(
        lines.group_ids || lines.group_ids, lines.from_ids || lines.to_ids, lines.possible || lines.possible
      ) as l (group_id, id, possible)
      where l.possible is not false
      group by l.group_id
      order by l.group_id
    ) as l
    cross join lateral (
      select p.*, p.ctid as place
      from ledger.participants as p
      where p.group_id = l.group_id
        and p.id = any (l.ids)
        and p.exited_at is null
        and p.frozen_at is null
      order by p.id
      for no key update skip locked
    ) as p;
  end if;

  legs.numbers := ledger_internal.number_legs(lines, legs);
  return legs;
end
$$;

alter function ledger_internal.lock_legs owner to ledger_owner;
comment on function ledger_internal.lock_legs is
  'Lock the present participants, none who is frozen, of the lines that are possible until the transaction ends, by ascending group and id. Without wait, all but those that another session has locked.';
revoke execute on function ledger_internal.lock_legs from public;
-- <<< db/functions/internal/transfers/lock_legs.sql

-- >>> db/functions/internal/transfers/lock_pair.sql
-- Lock the sender and the recipient of one transfer.
create or replace function ledger_internal.lock_pair(
  group_id bigint,
  from_id  bigint,
  to_id    bigint,
  wait     boolean
) returns ledger.participants[]
language plpgsql volatile
as $$
declare
  pair ledger.participants[];
begin
  -- In ascending id, so that no two transfers wait for each other. Both stay present until this transaction ends, so the
  -- group cannot be removed. SQL has no parameter for `skip locked`.
  if wait then
    pair := array(
      select p
      from ledger.participants as p
      where p.group_id = lock_pair.group_id
        and p.id in (lock_pair.from_id, lock_pair.to_id)
        and p.exited_at is null
        and p.frozen_at is null
      order by p.id
      for no key update
    );
  else
    pair := array(
      select p
      from ledger.participants as p
      where p.group_id = lock_pair.group_id
        and p.id in (lock_pair.from_id, lock_pair.to_id)
        and p.exited_at is null
        and p.frozen_at is null
      order by p.id
      for no key update skip locked
    );
  end if;
  if pair[1].id = from_id then
    return pair;
  end if;
  return array[pair[2], pair[1]];
end
$$;

alter function ledger_internal.lock_pair owner to ledger_owner;
comment on function ledger_internal.lock_pair is
  'Lock two different participants of a group until the transaction ends, and return the sender and then the recipient; null for one who is not present or is frozen, or, without wait, whom another session has locked.';
revoke execute on function ledger_internal.lock_pair from public;
-- <<< db/functions/internal/transfers/lock_pair.sql

-- >>> db/functions/internal/transfers/unmade_outcome.sql
-- Return the outcome of a line of transfer_batch whose legs are not both locked.
create or replace function ledger_internal.unmade_outcome(
  group_id bigint,
  from_id  bigint,
  to_id    bigint
) returns text
language sql stable
as $$
  select case when count(*) = 2 then 'locked' else 'deferred' end
  from ledger.participants as p
  where p.group_id = unmade_outcome.group_id
    and p.id in (unmade_outcome.from_id, unmade_outcome.to_id)
    and p.exited_at is null
    and p.frozen_at is null
$$;

alter function ledger_internal.unmade_outcome owner to ledger_owner;
comment on function ledger_internal.unmade_outcome is
  'locked if both legs of a transfer are present and not frozen, so that another session has locked one of them; deferred if not.';
revoke execute on function ledger_internal.unmade_outcome from public;
-- <<< db/functions/internal/transfers/unmade_outcome.sql

-- >>> db/functions/internal/validation/invalid_chain_hash.sql
-- Return why a hash is invalid that the bridge reports; null if it is valid.
create or replace function ledger_internal.invalid_chain_hash(
  hash text
) returns text
language sql immutable parallel safe
as $$
  select case
    when invalid_chain_hash.hash is null
    then 'must be given'
    when ledger_internal.parse_hex(invalid_chain_hash.hash, 32) is null
    then 'must be 0x and 64 hex digits'
  end
$$;

alter function ledger_internal.invalid_chain_hash owner to ledger_owner;
comment on function ledger_internal.invalid_chain_hash is
  'Why the hash of a block or a transaction is not 0x and 64 hex digits; null if it is valid.';
revoke execute on function ledger_internal.invalid_chain_hash from public;
-- <<< db/functions/internal/validation/invalid_chain_hash.sql

-- >>> db/functions/internal/validation/invalid_number.sql
-- Return why a number of the chain is invalid; null if it is valid.
create or replace function ledger_internal.invalid_number(
  number bigint
) returns text
language sql immutable parallel safe
as $$
  select case
    when invalid_number.number is null
    then 'must be given'
    when invalid_number.number < 0
    then 'must be at least 0'
  end
$$;

alter function ledger_internal.invalid_number owner to ledger_owner;
comment on function ledger_internal.invalid_number is
  'Why the number of a block, a deposit, a log or a transaction is not 0 or more; null if it is valid.';
revoke execute on function ledger_internal.invalid_number from public;
-- <<< db/functions/internal/validation/invalid_number.sql

-- >>> db/functions/internal/vaults/accepted_checkpoint.sql
-- Find the last checkpoint of a group that its vault accepted.
create or replace function ledger_internal.accepted_checkpoint(
  group_id bigint,
  before   bigint default null
) returns ledger.checkpoints
language sql stable
as $$
  select c.*
  from ledger.publications as p
  join ledger.checkpoints as c on c.group_id = p.group_id and c.number = p.number
  where p.group_id = accepted_checkpoint.group_id
    and p.state in ('accepted', 'closed')
    and p.number < coalesce(accepted_checkpoint.before, 9223372036854775807)
  order by p.number desc
  limit 1
$$;

alter function ledger_internal.accepted_checkpoint owner to ledger_owner;
comment on function ledger_internal.accepted_checkpoint is
  'The checkpoint of the group that its vault accepted last and that was not vetoed, of those with a number below before, if it is given; nulls where there is none.';
revoke execute on function ledger_internal.accepted_checkpoint from public;
-- <<< db/functions/internal/vaults/accepted_checkpoint.sql

-- >>> db/functions/internal/vaults/add_participant.sql
-- Insert a participant under the first free form of a username.
create or replace function ledger_internal.add_participant(
  group_id bigint,
  address  bytea,
  proved   boolean,
  id       bigint default null
) returns ledger.participants
language plpgsql volatile
as $$
declare
  username    text := ledger_internal.format_address(address);
  number      bigint;
  participant ledger.participants;
begin
  -- Until there is one that nobody has: a credit does not fail for a name. Others can take names with the next few ids,
  -- and each attempt has another id.
  for attempt in 1 .. 1000000 loop
    number := nextval('ledger.participants_id_seq');
    insert into ledger.participants (group_id, id, username, amount, address, address_xid, address_proved)
    overriding system value
    values (
      add_participant.group_id,
      coalesce(add_participant.id, number),
      username || case when attempt > 1 then ' ' || number else '' end,
      0,
      add_participant.address,
      pg_current_xact_id(),
      add_participant.proved
    )
    on conflict do nothing
    returning participants.* into participant;
    exit when found;
  end loop;
  return participant;
end
$$;

alter function ledger_internal.add_participant owner to ledger_owner;
comment on function ledger_internal.add_participant is
  'Insert a participant of a group with a vault, with nothing, and return the row. The username is the address, with an id where it is taken. The caller has made sure that nobody present has the proved address, and writes the join. Give an id only if it is new to the group.';
revoke execute on function ledger_internal.add_participant from public;
-- <<< db/functions/internal/vaults/add_participant.sql

-- >>> db/functions/internal/vaults/add_payout.sql
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
-- <<< db/functions/internal/vaults/add_payout.sql

-- >>> db/functions/internal/vaults/change_publication.sql
-- Take a publication to its next state.
create or replace function ledger_internal.change_publication(
  publication ledger.publications,
  state       text,
  transaction bytea,
  block       bigint
) returns ledger.publications
language plpgsql volatile
as $$
declare
  changed ledger.publications := publication;
begin
  if state = 'accepted' then
    changed.published_transaction := transaction;
    changed.published_block := block;
  else
    changed.ended_transaction := transaction;
    changed.ended_block := block;
  end if;

  -- What an adoption has ended stays so, and what it accepted has no transaction until the chain is followed to it.
  if exists (
    select from ledger.adoptions as a
    where a.group_id = publication.group_id
      and a.number > publication.number
  ) then
    return publication;
  end if;
  if publication.state = state or (state = 'accepted' and publication.state <> 'prepared') then
    if publication = changed then
      return publication;
    end if;
    if not (
      state = 'accepted'
      and publication.published_transaction is null
      and exists (
        select from ledger.adoptions as a
        where a.group_id = publication.group_id
          and a.number = publication.number
      )
    ) then
      perform ledger_internal.refuse_mismatch(
        'transaction', format('checkpoint %s of group %s was %s by another transaction', publication.number, publication.group_id, state)
      );
    end if;
  elsif (publication.state, state) in (('prepared', 'accepted'), ('prepared', 'vetoed'), ('prepared', 'abandoned'),
    ('accepted', 'closed'), ('accepted', 'vetoed'))
  then
    changed.state := state;
  else
    perform ledger_internal.refuse_mismatch(
      'state', format('checkpoint %s of group %s is %s, and cannot be %s', publication.number, publication.group_id, publication.state, state)
    );
  end if;
  changed.changed_at := greatest(clock_timestamp(), publication.changed_at);

  update ledger.publications as p
  set
    state = changed.state,
    published_transaction = changed.published_transaction,
    published_block = changed.published_block,
    ended_transaction = changed.ended_transaction,
    ended_block = changed.ended_block,
    changed_at = changed.changed_at
  where p.group_id = publication.group_id
    and p.number = publication.number;
  return changed;
end
$$;

alter function ledger_internal.change_publication owner to ledger_owner;
comment on function ledger_internal.change_publication is
  'Take a publication, whose row is locked, to a state, and return it; unchanged where it has been in it with this transaction and block. Raises LG013 where the state does not follow, or where it was another transaction.';
revoke execute on function ledger_internal.change_publication from public;
-- <<< db/functions/internal/vaults/change_publication.sql

-- >>> db/functions/internal/vaults/check_emergency_leaf.sql
-- Check a payout in an emergency against the checkpoint that it pays.
create or replace function ledger_internal.check_emergency_leaf(
  vault  ledger.vaults,
  payout ledger.payouts
) returns void
language plpgsql stable
as $$
declare
  leaf ledger.leaf;
begin
  if vault.emergency_number is null then
    perform ledger_internal.refuse_mismatch('exit_entry', format('group %s is not frozen: a payout needs an exit', vault.group_id));
  end if;
  if vault.emergency_number > 0 then
    leaf := ledger_internal.find_leaf(
      ledger_internal.find_checkpoint(vault.group_id, vault.emergency_number), payout.participant_id
    );
  end if;
  if (
    leaf.exit_entry is not distinct from case when payout.kind = 'exit' then payout.subject end
    and leaf.owner = ledger_internal.hex(payout.owner)
    and leaf.amount = payout.amount
  ) is not true then
    perform ledger_internal.refuse_mismatch(
      'participant_id',
      format(
        'checkpoint %s of group %s has no such leaf of participant %s with %s to %s',
        vault.emergency_number, vault.group_id, payout.participant_id, payout.amount,
        ledger_internal.format_address(payout.owner)
      )
    );
  end if;
end
$$;

alter function ledger_internal.check_emergency_leaf owner to ledger_owner;
comment on function ledger_internal.check_emergency_leaf is
  'Check that what the vault paid in an emergency is a leaf of the checkpoint that this pays. Raises LG013.';
revoke execute on function ledger_internal.check_emergency_leaf from public;
-- <<< db/functions/internal/vaults/check_emergency_leaf.sql

-- >>> db/functions/internal/vaults/describe_publication.sql
-- Describe a publication.
create or replace function ledger_internal.describe_publication(
  publication ledger.publications
) returns ledger.publication
language sql stable
as $$
  select
    publication.number,
    publication.state,
    ledger_internal.hex(c.header),
    ledger_internal.hex(case
      when publication.state in ('vetoed', 'abandoned') then publication.ended_transaction
      else publication.published_transaction
    end),
    case when publication.state in ('vetoed', 'abandoned') then publication.ended_block else publication.published_block end
  from ledger.checkpoints as c
  where c.group_id = publication.group_id
    and c.number = publication.number
$$;

alter function ledger_internal.describe_publication owner to ledger_owner;
comment on function ledger_internal.describe_publication is
  'What list_publications shows of a publication: its state, and the transaction and the block that published it, or that ended it where it was vetoed or abandoned.';
revoke execute on function ledger_internal.describe_publication from public;
-- <<< db/functions/internal/vaults/describe_publication.sql

-- >>> db/functions/internal/vaults/describe_vault.sql
-- Describe what is recorded of a group's vault.
create or replace function ledger_internal.describe_vault(
  vault ledger.vaults
) returns ledger.vault_status
language sql stable
as $$
  select
    vault.group_id,
    vault.chain_id,
    ledger_internal.format_address(vault.vault),
    ledger_internal.hex(vault.domain),
    coalesce(d.deposit_index + 1, 0),
    coalesce(d.cumulative, 0),
    vault.followed_block,
    ledger_internal.hex(vault.followed_hash),
    vault.emergency_number is not null,
    vault.emergency_number,
    vault.closed_at is not null,
    (
      select coalesce(sum(p.amount), 0)
      from ledger.payouts as p
      where p.group_id = vault.group_id
        and p.kind <> 'reclaim'
    ),
    ledger_internal.next_checkpoint_number(vault.group_id),
    a.number,
    ledger_internal.hex(a.header),
    (
      select max(u.number)
      from ledger.unknown_roots as u
      where u.group_id = vault.group_id
    )
  from (values (true)) as one (row)
  left join lateral (
    select l.*
    from ledger.vault_deposits as l
    where l.group_id = vault.group_id
    order by l.deposit_index desc
    limit 1
  ) as d on true
  left join lateral ledger_internal.accepted_checkpoint(vault.group_id) as a on true
$$;

alter function ledger_internal.describe_vault owner to ledger_owner;
comment on function ledger_internal.describe_vault is
  'What get_vault shows of a vault: what was credited and paid, how far the chain was followed, the last checkpoint that the vault accepted, and the last root that it had and the ledger did not make.';
revoke execute on function ledger_internal.describe_vault from public;
-- <<< db/functions/internal/vaults/describe_vault.sql

-- >>> db/functions/internal/vaults/find_leaf.sql
-- Find a participant's leaf in a checkpoint.
create or replace function ledger_internal.find_leaf(
  checkpoint     ledger.checkpoints,
  participant_id bigint
) returns ledger.leaf
language plpgsql stable
as $$
declare
  chunk ledger.checkpoint_chunks;
  leaf  ledger.leaf;
begin
  select k.*
  into chunk
  from ledger_internal.chunks_of(checkpoint) as k
  where k.first_id <= find_leaf.participant_id
  order by k.chunk desc
  limit 1;
  select l.*
  into leaf
  from ledger_internal.unpack_leaves(chunk) as l
  where l.participant_id = find_leaf.participant_id;
  return leaf;
end
$$;

alter function ledger_internal.find_leaf owner to ledger_owner;
comment on function ledger_internal.find_leaf is
  'The leaf of a participant in a checkpoint; nulls where there is none. Raises LG002 where the leaves were deleted and cannot be computed.';
revoke execute on function ledger_internal.find_leaf from public;
-- <<< db/functions/internal/vaults/find_leaf.sql

-- >>> db/functions/internal/vaults/find_vault.sql
-- Find the vault of a group.
create or replace function ledger_internal.find_vault(
  group_id bigint
) returns ledger.vaults
language sql stable
as $$
  select v.*
  from ledger.vaults as v
  where v.group_id = find_vault.group_id
$$;

alter function ledger_internal.find_vault owner to ledger_owner;
comment on function ledger_internal.find_vault is
  'The row of the vault that a group is linked to, nulls without one.';
revoke execute on function ledger_internal.find_vault from public;
-- <<< db/functions/internal/vaults/find_vault.sql

-- >>> db/functions/internal/vaults/link_of.sql
-- Make the answer to link_vault.
create or replace function ledger_internal.link_of(
  vault    ledger.vaults,
  replayed boolean
) returns ledger.link_result
language sql stable
as $$
  select
    s.*,
    link_of.replayed
  from ledger_internal.describe_vault(vault) as s
$$;

alter function ledger_internal.link_of owner to ledger_owner;
comment on function ledger_internal.link_of is
  'What link_vault returns: what get_vault shows, and whether the group was linked before.';
revoke execute on function ledger_internal.link_of from public;
-- <<< db/functions/internal/vaults/link_of.sql

-- >>> db/functions/internal/vaults/lock_transaction.sql
-- Lock a transaction that was recorded.
create or replace function ledger_internal.lock_transaction(
  chain_id numeric,
  sender   bytea,
  nonce    bigint
) returns ledger.bridge_transactions
language plpgsql volatile
as $$
declare
  known ledger.bridge_transactions;
begin
  select t.*
  into known
  from ledger.bridge_transactions as t
  where t.chain_id = lock_transaction.chain_id
    and t.sender = lock_transaction.sender
    and t.nonce = lock_transaction.nonce
  for no key update;
  if not found then
    perform ledger_internal.refuse_mismatch(
      'nonce', format('no transaction with nonce %s of %s was recorded', nonce, ledger_internal.format_address(sender))
    );
  end if;
  return known;
end
$$;

alter function ledger_internal.lock_transaction owner to ledger_owner;
comment on function ledger_internal.lock_transaction is
  'Lock the row of a signed transaction until this one ends, and return it. Raises LG013 where there is none.';
revoke execute on function ledger_internal.lock_transaction from public;
-- <<< db/functions/internal/vaults/lock_transaction.sql

-- >>> db/functions/internal/vaults/lock_vault.sql
-- Lock the vault of a group, so that one change by the bridge follows the other.
create or replace function ledger_internal.lock_vault(
  group_id bigint
) returns ledger.vaults
language plpgsql volatile
as $$
declare
  vault ledger.vaults;
begin
  -- The group before its vault, as a removal does.
  perform from ledger.groups as g
  where g.id = lock_vault.group_id
  for key share;
  if not found then
    perform ledger_internal.refuse_unknown_group(group_id);
  end if;

  select v.*
  into vault
  from ledger.vaults as v
  where v.group_id = lock_vault.group_id
  for no key update;
  if not found then
    perform ledger_internal.refuse_mismatch('group_id', format('group %s is linked to no vault', group_id));
  end if;
  return vault;
end
$$;

alter function ledger_internal.lock_vault owner to ledger_owner;
comment on function ledger_internal.lock_vault is
  'Lock the group and its vault until the transaction ends, and return the vault. Raises LG001, LG002, LG013.';
revoke execute on function ledger_internal.lock_vault from public;
-- <<< db/functions/internal/vaults/lock_vault.sql

-- >>> db/functions/internal/vaults/next_checkpoint_number.sql
-- Find the number of a group's next checkpoint.
create or replace function ledger_internal.next_checkpoint_number(
  group_id bigint
) returns bigint
language sql stable
as $$
  select 1 + greatest(
    0,
    (
      select max(c.number)
      from ledger.checkpoints as c
      where c.group_id = next_checkpoint_number.group_id
    ),
    (
      select max(u.number)
      from ledger.unknown_roots as u
      where u.group_id = next_checkpoint_number.group_id
    )
  )
$$;

alter function ledger_internal.next_checkpoint_number owner to ledger_owner;
comment on function ledger_internal.next_checkpoint_number is
  'The number after those of the group''s checkpoints, and of the roots that its vault had and the ledger did not make.';
revoke execute on function ledger_internal.next_checkpoint_number from public;
-- <<< db/functions/internal/vaults/next_checkpoint_number.sql

-- >>> db/functions/internal/vaults/payout_is_known.sql
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
-- <<< db/functions/internal/vaults/payout_is_known.sql

-- >>> db/functions/internal/vaults/post_credit.sql
-- Credit a deposit into the vault to a participant with its address.
create or replace function ledger_internal.post_credit(
  group_id  bigint,
  recipient bigint,
  deposit   ledger.vault_deposits
) returns ledger.vault_deposits
language plpgsql volatile
as $$
declare
  participant ledger.participants;
  metadata    jsonb := jsonb_build_object(
    'vault_deposit', deposit.deposit_index, 'transaction', ledger_internal.hex(deposit.transaction)
  );
begin
  select p.*
  into participant
  from ledger.participants as p
  where p.group_id = post_credit.group_id
    and p.exited_at is null
    and case
      when recipient is not null
      then p.id = post_credit.recipient
      else p.address = post_credit.deposit.address and p.address_proved
    end
  for no key update;
  if found then
    deposit.entry_id := ledger_internal.post_deposit(participant, deposit.amount, metadata);
  else
    participant := ledger_internal.add_participant(group_id, deposit.address, true);
    update ledger.participants as p
    set amount = post_credit.deposit.amount
    where p.group_id = post_credit.group_id
      and p.id = participant.id;
    deposit.entry_id := ledger_internal.post_join(group_id, participant.id, deposit.amount, metadata);
  end if;

  deposit.group_id := group_id;
  deposit.participant_id := participant.id;
  deposit.credited_at := clock_timestamp();
  insert into ledger.vault_deposits
  select deposit.*
  -- Above READ COMMITTED a credit since the snapshot ends in 40001 here.
  on conflict do nothing;
  return deposit;
end
$$;

alter function ledger_internal.post_credit owner to ledger_owner;
comment on function ledger_internal.post_credit is
  'Write a deposit of the vault, which follows the last one, as a deposit of the recipient, of the participant present whose address it is and is proved where recipient is null, or as the join of a new participant; return its row.';
revoke execute on function ledger_internal.post_credit from public;
-- <<< db/functions/internal/vaults/post_credit.sql

-- >>> db/functions/internal/vaults/raise_sequence.sql
-- Raise a sequence above an id.
create or replace function ledger_internal.raise_sequence(
  sequence regclass,
  id       bigint
) returns boolean
language plpgsql volatile
as $$
declare
  given  bigint := coalesce(pg_sequence_last_value(sequence), 0);
  raised boolean := given < id;
begin
  if id - given > 1000000000 then
    perform ledger_internal.refuse_invalid(array['ids'], array['must be at most 1000000000 above those that were given']);
  end if;
  -- A null id is below every other.
  while given < id loop
    select max(nextval(sequence))
    into given
    from generate_series(1, least(id - given, 1000000));
  end loop;
  return raised;
end
$$;

alter function ledger_internal.raise_sequence owner to ledger_owner;
comment on function ledger_internal.raise_sequence is
  'Take ids from a sequence until it has given this one, and return whether it had not. Unlike setval, it cannot take the sequence back beside others that use it. Raises LG001 for one that is a thousand million away.';
revoke execute on function ledger_internal.raise_sequence from public;
-- <<< db/functions/internal/vaults/raise_sequence.sql

-- >>> db/functions/internal/vaults/require_vault.sql
-- Find the vault of a group that must have one.
create or replace function ledger_internal.require_vault(
  group_id bigint
) returns ledger.vaults
language plpgsql stable
as $$
declare
  vault ledger.vaults := ledger_internal.find_vault(group_id);
begin
  if vault.group_id is null then
    perform from ledger.groups as g where g.id = require_vault.group_id;
    if not found then
      perform ledger_internal.refuse_unknown_group(group_id);
    end if;
    perform ledger_internal.refuse_mismatch('group_id', format('group %s is linked to no vault', group_id));
  end if;
  return vault;
end
$$;

alter function ledger_internal.require_vault owner to ledger_owner;
comment on function ledger_internal.require_vault is
  'The row of the vault that a group is linked to. Raises LG001, LG002, LG013.';
revoke execute on function ledger_internal.require_vault from public;
-- <<< db/functions/internal/vaults/require_vault.sql

-- >>> db/functions/internal/vaults/settle_paid_exit.sql
-- Settle the exit that a vault has paid, where all values agree.
create or replace function ledger_internal.settle_paid_exit(
  vault  ledger.vaults,
  payout ledger.payouts
) returns void
language plpgsql volatile
as $$
declare
  settlement ledger.settlements;
begin
  select s.*
  into settlement
  from ledger.settlements as s
  join ledger.entries as e on e.group_id = s.group_id and e.id = s.entry_id
  join ledger.participants as p on p.group_id = e.group_id and p.id = e.from_id
  where s.group_id = payout.group_id
    and s.entry_id = payout.subject
    and e.from_id = payout.participant_id
    and e.amount = payout.amount
    and p.address = payout.owner
  for no key update of s;
  if not found then
    perform ledger_internal.refuse_mismatch(
      'exit_entry',
      format(
        'entry %s of group %s is no exit of participant %s with %s to %s',
        payout.subject, payout.group_id, payout.participant_id, payout.amount, ledger_internal.format_address(payout.owner)
      )
    );
  end if;
  if settlement.settled_at is not null then
    perform ledger_internal.refuse_mismatch('exit_entry', format('exit %s of group %s is settled, and no payout of it is recorded', payout.subject, payout.group_id));
  end if;

  if payout.block > vault.emergency_block then
    perform ledger_internal.check_emergency_leaf(vault, payout);
  end if;

  update ledger.settlements as s
  set
    reference = coalesce(ledger_internal.hex(payout.transaction), 'nothing to pay'),
    settled_at = greatest(clock_timestamp(), settlement.exited_at),
    settled_xid = pg_current_xact_id()
  where s.group_id = payout.group_id
    and s.entry_id = payout.subject;
end
$$;

alter function ledger_internal.settle_paid_exit owner to ledger_owner;
comment on function ledger_internal.settle_paid_exit is
  'Settle the exit that a payout is of. Raises LG013 where no exit has its values, or it is settled.';
revoke execute on function ledger_internal.settle_paid_exit from public;
-- <<< db/functions/internal/vaults/settle_paid_exit.sql

-- >>> db/functions/internal/verify/answer_agrees.sql
-- Whether a stored answer agrees with the record.
create or replace function ledger_internal.answer_agrees(
  kept   ledger.idempotency_keys,
  answer jsonb,
  named  bigint,
  entry  ledger.entries
) returns boolean
language plpgsql stable
as $$
declare
  -- The entry in the form in which a reversal or a settlement returns it.
  written jsonb;
begin
  if kept.operation in ('reverse_transfer', 'settle_exit') then
    written := jsonb_build_object(
      'group_id', entry.group_id, 'id', entry.id, 'kind', entry.kind, 'from_id', entry.from_id, 'to_id', entry.to_id,
      'amount', entry.amount, 'from_amount', entry.from_amount, 'to_amount', entry.to_amount,
      'created_at', entry.created_at, 'metadata', entry.metadata, 'reverses', entry.reverses
    );
  end if;

  case kept.operation
    when 'transfer' then
      return entry.reverses is null and answer @> jsonb_build_object(
        'to_participant', jsonb_build_object('id', entry.to_id, 'group_id', entry.group_id, 'amount', entry.to_amount),
        'from_participant', jsonb_build_object('id', entry.from_id, 'group_id', entry.group_id, 'amount', entry.from_amount)
      );
    when 'join_group' then
      return entry.kind = 'join'
        and answer @> jsonb_build_object('id', entry.to_id, 'group_id', entry.group_id, 'amount', entry.amount);
    when 'deposit' then
      return entry.kind = 'deposit'
        and answer @> jsonb_build_object('id', entry.to_id, 'group_id', entry.group_id, 'amount', entry.to_amount);
    when 'exit_group' then
      return entry.kind = 'exit' and answer @> jsonb_build_object('final_amount', entry.amount);
    when 'reverse_transfer' then
      return entry.reverses is not null and answer @> written;
    when 'settle_exit' then
      return answer @> written and exists (
        select from ledger.settlements as s
        where s.group_id = entry.group_id
          and s.entry_id = entry.id
          and s.reference is not null
          and answer @> jsonb_build_object('reference', s.reference, 'settled_at', s.settled_at)
      );
    when 'create_group' then
      return kept.group_id = 0 and exists (select from ledger.groups as g where g.id = named);
    when 'rename_group' then
      return named = kept.group_id;
    when 'rename_participant' then
      return answer @> jsonb_build_object('group_id', kept.group_id) and exists (
        select from ledger.participants as p
        where p.group_id = kept.group_id
          and p.id = named
      );
    when 'bind_address' then
      return answer @> jsonb_build_object('group_id', kept.group_id) and exists (
        select from ledger.participants as p
        where p.group_id = kept.group_id
          and p.id = named
          and p.address = ledger_internal.parse_address(answer ->> 'address')
      );
    when 'checkpoint' then
      return exists (
        select from ledger.checkpoint_headers as h
        where h.group_id = kept.group_id
          and h.number = ledger_internal.parse_id(answer ->> 'number')
          and answer @> (to_jsonb(h) - 'state')
      );
    when 'remove_group' then
      return exists (select from ledger.groups as g where g.id = kept.group_id and g.closed_at is not null);
    else
      return false;
  end case;
end
$$;

alter function ledger_internal.answer_agrees owner to ledger_owner;
comment on function ledger_internal.answer_agrees is
  'Whether the answer stored under an idempotency key agrees with the record: with the entry that it names, or with the group, the participant or the checkpoint that it names; null or false where it does not. Names are not compared. For answer_discrepancies.';
revoke execute on function ledger_internal.answer_agrees from public;
-- <<< db/functions/internal/verify/answer_agrees.sql

-- >>> db/functions/internal/verify/bridge_record_discrepancies.sql
-- Compare what the bridge recorded of a group besides its money with the group's vault.
create or replace function ledger_internal.bridge_record_discrepancies(
  group_id bigint
) returns setof ledger.discrepancy
language sql stable
as $$
  select
    v.group_id,
    null::bigint,
    null::bigint,
    'vault',
    f.detail
  from ledger.vaults as v
  cross join ledger_internal.verify_bounds() as b
  cross join lateral (
    select format('nonce %s of %s is of another chain, of no checkpoint, or half finished', t.nonce, ledger_internal.hex(t.sender))
    from ledger.bridge_transactions as t
    where t.group_id = v.group_id
      and (
        t.chain_id is distinct from v.chain_id
        or (t.finished_at is null) <> (t.transaction is null)
        or (t.finished_at is null) <> (t.block is null)
        or (t.finished_at is null) <> (t.succeeded is null)
        or t.finished_at < t.recorded_at
        or not exists (
          select from ledger.publications as p
          where p.group_id = v.group_id
            and p.number = t.number
        )
      )
    union all
    select format('root %s is unknown, and is a checkpoint or recorded at %s', u.number, u.recorded_at)
    from ledger.unknown_roots as u
    where u.group_id = v.group_id
      and (
        u.recorded_at > b.latest
        or u.recorded_at = '-infinity'
        or exists (
          select from ledger.checkpoints as c
          where c.group_id = u.group_id
            and c.number = u.number
            and c.header = u.header
        )
      )
  ) as f (detail)
  where v.group_id = bridge_record_discrepancies.group_id
$$;

alter function ledger_internal.bridge_record_discrepancies owner to ledger_owner;
comment on function ledger_internal.bridge_record_discrepancies is
  'The discrepancies of the transactions that the bridge signed for a group''s vault, and of the roots that it found there and the ledger did not make. For verify_total.';
revoke execute on function ledger_internal.bridge_record_discrepancies from public;
-- <<< db/functions/internal/verify/bridge_record_discrepancies.sql

-- >>> db/functions/internal/verify/checkpoint_record_discrepancies.sql
-- Compare a checkpoint's figures with what its snapshot shows of the record.
create or replace function ledger_internal.checkpoint_record_discrepancies(
  checkpoint ledger.checkpoints,
  feed       ledger.feeds
) returns setof ledger.discrepancy
language sql stable
as $$
  select
    checkpoint.group_id,
    null::bigint,
    null::bigint,
    'checkpoint',
    f.detail
  from (
    select format('says %s joins and deposits of %s, and the record %s of %s', checkpoint.deposits, checkpoint.credited, r.deposits, r.credited)
    from (
      select
        -- A vault counts what it was sent.
        count(*) filter (
          where checkpoint.chain_id = 0
            or exists (
              select from ledger.vault_deposits as d
              where d.group_id = e.group_id
                and d.entry_id = e.id
            )
        ) as deposits,
        coalesce(sum(e.amount), 0) as credited
      from ledger.entries as e
      where e.group_id = checkpoint.group_id
        and e.kind in ('join', 'deposit')
        and (e.id <= feed.last_restored or pg_visible_in_snapshot(e.xid, checkpoint.snapshot))
    ) as r
    where checkpoint.deposits <> r.deposits
      or checkpoint.credited <> r.credited
    union all
    select format('says %s settled, and the record %s', checkpoint.settled, r.settled)
    from (
      select coalesce(sum(e.amount), 0) as settled
      from ledger.settlements as s
      join ledger.entries as e on e.group_id = s.group_id and e.id = s.entry_id
      where s.group_id = checkpoint.group_id
        and s.settled_at is not null
        and (s.settled_xid is null or pg_visible_in_snapshot(s.settled_xid, checkpoint.snapshot))
    ) as r
    where checkpoint.settled <> r.settled
  ) as f (detail)
$$;

alter function ledger_internal.checkpoint_record_discrepancies owner to ledger_owner;
comment on function ledger_internal.checkpoint_record_discrepancies is
  'The discrepancies between a checkpoint and the record of its feed, which must be one of this server: what was credited, and what was settled. For verify_checkpoints.';
revoke execute on function ledger_internal.checkpoint_record_discrepancies from public;
-- <<< db/functions/internal/verify/checkpoint_record_discrepancies.sql

-- >>> db/functions/internal/verify/emergency_payout_discrepancies.sql
-- Compare what a group's vault paid in an emergency with the checkpoint that it pays.
create or replace function ledger_internal.emergency_payout_discrepancies(
  group_id bigint
) returns setof ledger.discrepancy
language sql stable
as $$
  with leaves as materialized (
    select l.*
    from ledger.vaults as v
    join ledger.checkpoint_chunks as k on k.group_id = v.group_id and k.number = v.emergency_number
    cross join lateral ledger_internal.unpack_leaves(k) as l
    where v.group_id = emergency_payout_discrepancies.group_id
  )
  select
    emergency_payout_discrepancies.group_id,
    null::bigint,
    f.participant_id,
    'payout',
    f.detail
  from (
    select o.participant_id, format('%s was paid to %s, and is no leaf of the checkpoint that the emergency pays', o.amount, ledger_internal.hex(o.owner))
    from ledger.payouts as o
    join ledger.vaults as v on v.group_id = o.group_id
    left join leaves as l
      on l.participant_id = o.participant_id
        and l.exit_entry is not distinct from case when o.kind = 'exit' then o.subject end
        and l.owner = ledger_internal.hex(o.owner)
        and l.amount = o.amount
    where o.group_id = emergency_payout_discrepancies.group_id
      and (o.kind = 'present' or (o.kind = 'exit' and o.block > v.emergency_block))
      and l.index is null
      and (exists (select from leaves) or v.emergency_number = 0)
    union all
    select null, format('deposit %s was returned, and was included or is another one', o.subject)
    from ledger.payouts as o
    join ledger.vaults as v on v.group_id = o.group_id
    left join ledger.checkpoints as c on c.group_id = v.group_id and c.number = v.emergency_number
    left join ledger.vault_deposits as d on d.group_id = o.group_id and d.deposit_index = o.subject
    where o.group_id = emergency_payout_discrepancies.group_id
      and o.kind = 'reclaim'
      and (o.subject < coalesce(c.deposits, 0) or d.address <> o.owner or d.amount <> o.amount)
  ) as f (participant_id, detail)
$$;

alter function ledger_internal.emergency_payout_discrepancies owner to ledger_owner;
comment on function ledger_internal.emergency_payout_discrepancies is
  'The discrepancies of what a frozen group''s vault paid: leaves that are not of the checkpoint that the emergency pays, where its leaves are kept, and deposits that it includes. For verify_total.';
revoke execute on function ledger_internal.emergency_payout_discrepancies from public;
-- <<< db/functions/internal/verify/emergency_payout_discrepancies.sql

-- >>> db/functions/internal/verify/entry_leg_discrepancies.sql
-- Compare both legs of an entry with the previous entries of their participants.
create or replace function ledger_internal.entry_leg_discrepancies(
  entry     ledger.entries,
  sender    ledger_internal.leg,
  recipient ledger_internal.leg
) returns setof ledger.discrepancy
language sql stable
as $$
  select
    entry.group_id,
    entry.id,
    f.participant_id,
    f.kind,
    f.detail
  from (
    select
      entry.from_id,
      'running balance',
      format('the sender has %s after it, and had %s before it', entry.from_amount, sender.balance)
    where sender.id is not null
      and entry.from_amount is distinct from sender.balance - entry.amount
    union all
    select entry.from_id, 'running balance', format('the participant left with %s and kept %s', entry.amount, entry.from_amount)
    where entry.kind = 'exit'
      and entry.from_amount <> 0
    union all
    select
      entry.to_id,
      'running balance',
      format('the recipient has %s after it, and had %s before it', entry.to_amount, coalesce(recipient.balance, 0))
    where (entry.kind = 'join' or recipient.id is not null)
      and entry.to_amount is distinct from coalesce(recipient.balance, 0) + entry.amount
    union all
    select s.participant_id, 'presence', 'the participant has not joined before it'
    from (values (entry.from_id, sender.id), (entry.to_id, recipient.id)) as s (participant_id, earlier)
    where entry.kind <> 'join'
      and s.participant_id is not null
      and s.earlier is null
    union all
    select entry.to_id, 'presence', 'the participant was there before joining'
    where entry.kind = 'join'
      and recipient.id is not null
    union all
    select s.participant_id, 'presence', 'the participant had left before it'
    from (values (entry.from_id, sender.kind), (entry.to_id, recipient.kind)) as s (participant_id, earlier)
    where entry.kind <> 'join'
      and s.earlier = 'exit'
    union all
    select s.participant_id, 'time', format('entry %s is earlier and has a higher id', s.earlier)
    from (values (entry.from_id, sender.id), (entry.to_id, recipient.id)) as s (participant_id, earlier)
    where s.earlier > entry.id
      -- An exit that was made again after a restore has the id that it had.
      and not exists (
        select from ledger.adoptions as a
        where a.group_id = entry.group_id
          and a.xid = entry.xid
          and entry.kind = 'exit'
      )
    union all
    select s.participant_id, 'participant', 'there never was such a participant'
    from (values (entry.from_id, sender.id), (entry.to_id, recipient.id)) as s (participant_id, earlier)
    -- What comes later leads back to the participant's first entry.
    where s.participant_id is not null
      and s.earlier is null
      and not exists (
        select from ledger.participants as p
        where p.group_id = entry.group_id
          and p.id = s.participant_id
      )
  ) as f (participant_id, kind, detail)
$$;

alter function ledger_internal.entry_leg_discrepancies owner to ledger_owner;
comment on function ledger_internal.entry_leg_discrepancies is
  'The discrepancies between an entry and the latest entries of its sender and its recipient before it, nulls where there is none: balances, presence, and the order of times. If every step is right, so is every balance. For verify_entries.';
revoke execute on function ledger_internal.entry_leg_discrepancies from public;
-- <<< db/functions/internal/verify/entry_leg_discrepancies.sql

-- >>> db/functions/internal/verify/frozen_discrepancies.sql
-- Compare a participant with the vault of the group.
create or replace function ledger_internal.frozen_discrepancies(
  participant ledger.participants,
  vault       ledger.vaults
) returns setof ledger.discrepancy
language sql stable
as $$
  select
    participant.group_id,
    null::bigint,
    participant.id,
    'vault',
    f.detail
  from (
    select 'the participant is present in a frozen group and not frozen, or frozen in another one'
    where case
        when vault.frozen_at is not null and participant.exited_at is null
        then participant.frozen_at is null
        else participant.frozen_at is not null
      end
    union all
    select 'the address is not marked as that of a group with a vault, is so in another group, or is missing'
    where (participant.address_proved is null) <> (vault.group_id is null)
      or (vault.group_id is not null and participant.address is null)
  ) as f (detail)
$$;

alter function ledger_internal.frozen_discrepancies owner to ledger_owner;
comment on function ledger_internal.frozen_discrepancies is
  'The discrepancies between a participant and the vault of the group, nulls without one: whether they are frozen, and whether their address is marked. For verify_participants.';
revoke execute on function ledger_internal.frozen_discrepancies from public;
-- <<< db/functions/internal/verify/frozen_discrepancies.sql

-- >>> db/functions/internal/verify/header_discrepancies.sql
-- Compare a checkpoint's header with its figures and with the header before it.
create or replace function ledger_internal.header_discrepancies(
  checkpoint ledger.checkpoints,
  previous   ledger.checkpoints,
  domain     bytea
) returns setof ledger.discrepancy
language sql stable
as $$
  select
    checkpoint.group_id,
    null::bigint,
    null::bigint,
    'checkpoint',
    f.detail
  from (
    select 'has none before it'
    where checkpoint.number < 1
      or (
        checkpoint.number <> coalesce(previous.number, 0) + 1
        and checkpoint.adopted_at is null
        and not exists (
          select from ledger.unknown_roots as u
          where u.group_id = checkpoint.group_id
            and u.number = checkpoint.number - 1
        )
      )
    union all
    select 'has another header before it than it names'
    -- What an adopted one names may be lost.
    where checkpoint.adopted_at is null
      and checkpoint.previous <> coalesce(
        case
          when checkpoint.chain_id = 0
          then previous.header
          else (ledger_internal.accepted_checkpoint(checkpoint.group_id, checkpoint.number)).header
        end,
        decode(repeat('00', 32), 'hex')
      )
    union all
    select 'has another header than its figures make'
    where checkpoint.header <> ledger_internal.header_hash(
        header_discrepancies.domain, checkpoint.number, checkpoint.previous, checkpoint.deposits, checkpoint.credited,
        checkpoint.settled, checkpoint.leaf_count, checkpoint.total, checkpoint.root
      )
    union all
    select format('has a total of %s, of %s credited and %s settled', checkpoint.total, checkpoint.credited, checkpoint.settled)
    where checkpoint.total <> checkpoint.credited - checkpoint.settled
  ) as f (detail)
$$;

alter function ledger_internal.header_discrepancies owner to ledger_owner;
comment on function ledger_internal.header_discrepancies is
  'The discrepancies of the chain of headers at a checkpoint: the previous one, nulls where there is none, or the last one that the vault accepted, the hash of its figures, and their sum. For verify_checkpoints.';
revoke execute on function ledger_internal.header_discrepancies from public;
-- <<< db/functions/internal/verify/header_discrepancies.sql

-- >>> db/functions/internal/verify/orphan_discrepancies.sql
-- Find rows whose group is missing.
create or replace function ledger_internal.orphan_discrepancies(
  after bigint,
  upto  bigint
) returns setof ledger.discrepancy
language sql stable
as $$
  select
    o.group_id,
    null::bigint,
    null::bigint,
    'group',
    format('there is no such group, and it has %s', string_agg(format('%s: %s', o.name, o.rows), ', ' order by o.name))
  from (
    select
      r.group_id,
      r.name,
      count(*)
    from (
      select p.group_id, 'participants' from ledger.participants as p
      union all
      select e.group_id, 'entries' from ledger.entries as e
      union all
      select s.group_id, 'settlements' from ledger.settlements as s
      union all
      select c.group_id, 'shards' from ledger.group_total_shards as c
      union all
      select t.group_id, 'totals' from ledger.group_total_history as t
      union all
      select c.group_id, 'changes of names' from ledger.name_changes as c
      union all
      select v.group_id, 'vaults' from ledger.vaults as v
      union all
      select d.group_id, 'vault deposits' from ledger.vault_deposits as d
      union all
      select p.group_id, 'payouts' from ledger.payouts as p
      union all
      select p.group_id, 'publications' from ledger.publications as p
      union all
      -- Those of requests that created a group have group 0.
      select k.group_id, 'idempotency keys' from ledger.idempotency_keys as k where k.group_id <> 0
    ) as r (group_id, name)
    where r.group_id > orphan_discrepancies.after
      and r.group_id <= orphan_discrepancies.upto
    group by r.group_id, r.name
  ) as o (group_id, name, rows)
  group by o.group_id
$$;

alter function ledger_internal.orphan_discrepancies owner to ledger_owner;
comment on function ledger_internal.orphan_discrepancies is
  'The rows of groups whose ids are above after and not above upto, where no group has such an id. For verify_groups.';
revoke execute on function ledger_internal.orphan_discrepancies from public;
-- <<< db/functions/internal/verify/orphan_discrepancies.sql

-- >>> db/functions/internal/verify/payout_discrepancies.sql
-- Compare what a group's vault paid with the settlements of its exits.
create or replace function ledger_internal.payout_discrepancies(
  group_id bigint
) returns setof ledger.discrepancy
language sql stable
as $$
  select
    payout_discrepancies.group_id,
    f.entry_id,
    f.participant_id,
    'payout',
    f.detail
  from (
    select o.subject, o.participant_id, format('%s was paid to %s, and the exit or its settlement is another one', o.amount, ledger_internal.hex(o.owner))
    from ledger.payouts as o
    left join ledger.entries as e on e.group_id = o.group_id and e.id = o.subject
    left join ledger.settlements as s on s.group_id = o.group_id and s.entry_id = o.subject
    left join ledger.participants as p on p.group_id = o.group_id and p.id = o.participant_id
    where o.group_id = payout_discrepancies.group_id
      and o.kind = 'exit'
      and (
        e.kind = 'exit'
        and e.from_id = o.participant_id
        and e.amount = o.amount
        and p.address = o.owner
        and s.settled_at is not null
        and s.reference = coalesce(ledger_internal.hex(o.transaction), 'nothing to pay')
      ) is not true
    union all
    select s.entry_id, null, 'the exit is settled, and the vault did not pay it'
    from ledger.vaults as v
    join ledger.settlements as s on s.group_id = v.group_id
    where v.group_id = payout_discrepancies.group_id
      and s.settled_at is not null
      and not exists (
        select from ledger.payouts as o
        where o.group_id = s.group_id
          and o.kind = 'exit'
          and o.subject = s.entry_id
      )
    union all
    select null, o.participant_id, format('%s of %s was paid without an emergency, or to another participant', o.kind, o.subject)
    from ledger.payouts as o
    left join ledger.vaults as v on v.group_id = o.group_id
    where o.group_id = payout_discrepancies.group_id
      and (
        v.group_id is null
        or (o.kind <> 'exit' and v.emergency_number is null)
        or (o.kind = 'present' and o.participant_id is distinct from o.subject)
        or (o.kind = 'reclaim') <> (o.participant_id is null)
        or o.kind not in ('exit', 'present', 'reclaim')
      )
    union all
    select null, o.participant_id, format('it has an amount of %s, no transaction, or the log of another payout', o.amount)
    from (
      select
        o.*,
        count(*) over (partition by o.transaction, o.log) as times
      from ledger.payouts as o
      where o.group_id = payout_discrepancies.group_id
    ) as o
    where (o.amount >= 0 and o.amount < 2::numeric ^ 256) is not true
      or (o.amount > 0 and o.transaction is null)
      or (o.transaction is null) <> (o.block is null)
      or (o.log is null) <> (o.kind = 'reclaim' or o.transaction is null)
      or (o.log is not null and o.times > 1)
  ) as f (entry_id, participant_id, detail)
$$;

alter function ledger_internal.payout_discrepancies owner to ledger_owner;
comment on function ledger_internal.payout_discrepancies is
  'The discrepancies of what a group''s vault paid: exits with their settlements, and the form of each payout. For verify_total.';
revoke execute on function ledger_internal.payout_discrepancies from public;
-- <<< db/functions/internal/verify/payout_discrepancies.sql

-- >>> db/functions/internal/verify/publication_discrepancies.sql
-- Compare a checkpoint with the vault of its group, and with what became of it there.
create or replace function ledger_internal.publication_discrepancies(
  checkpoint ledger.checkpoints,
  latest     timestamptz
) returns setof ledger.discrepancy
language sql stable
as $$
  select
    checkpoint.group_id,
    null::bigint,
    null::bigint,
    'checkpoint',
    f.detail
  from (values (checkpoint.group_id, checkpoint.number)) as c (group_id, number)
  left join ledger.vaults as v on v.group_id = c.group_id
  left join ledger.publications as p on p.group_id = c.group_id and p.number = c.number
  cross join lateral (
    select 'is of another vault than the group'
    where (checkpoint.chain_id, checkpoint.vault)
      is distinct from (coalesce(v.chain_id, 0), coalesce(v.vault, decode(repeat('00', 20), 'hex')))
    union all
    select 'was not prepared for the vault of the group'
    where v.group_id is not null
      and p.number is null
    union all
    select 'was prepared for a vault, and the group has none'
    where v.group_id is null
      and p.number is not null
    union all
    select format('is %s, and a later one was made', p.state)
    where p.state in ('prepared', 'accepted')
      and exists (
        select from ledger.checkpoints as l
        where l.group_id = c.group_id
          and l.number > c.number
      )
    union all
    select format('is %s without the transaction that made it so, or with one that did not', p.state)
    where (p.published_transaction is null) <> (p.published_block is null)
      or (
        -- What an adoption records is not known with its transaction.
        case when p.state in ('accepted', 'closed') then p.published_transaction is null
          else p.state = 'vetoed' and p.ended_transaction is null
        end
        and not exists (
          select from ledger.adoptions as a
          where a.group_id = c.group_id
            and a.number >= c.number
        )
      )
      or (p.state in ('prepared', 'abandoned') and p.published_transaction is not null)
      or (p.state in ('prepared', 'accepted') and (p.ended_transaction is not null or p.ended_block is not null))
      or p.state not in ('prepared', 'accepted', 'closed', 'vetoed', 'abandoned')
    union all
    select format('was prepared at %s and changed at %s', p.prepared_at, p.changed_at)
    where p.prepared_at > p.changed_at
      or p.changed_at > publication_discrepancies.latest
      or p.prepared_at = '-infinity'
    union all
    select 'was adopted, and no adoption is recorded'
    where checkpoint.adopted_at is not null
      and not exists (
        select from ledger.adoptions as a
        where a.group_id = c.group_id
          and a.number = c.number
      )
  ) as f (detail)
$$;

alter function ledger_internal.publication_discrepancies owner to ledger_owner;
comment on function ledger_internal.publication_discrepancies is
  'The discrepancies between a checkpoint and the vault of its group: whether it is of that vault, and what became of it there. For verify_checkpoints.';
revoke execute on function ledger_internal.publication_discrepancies from public;
-- <<< db/functions/internal/verify/publication_discrepancies.sql

-- >>> db/functions/internal/verify/shared_identity_discrepancies.sql
-- Find usernames and addresses that two participants of a group have.
create or replace function ledger_internal.shared_identity_discrepancies(
  group_id bigint
) returns setof ledger.discrepancy
language sql stable
as $$
  select
    shared_identity_discrepancies.group_id,
    f.entry_id,
    f.participant_id,
    f.kind,
    f.detail
  from (
    select null::bigint, null::bigint, 'username', format('%s who are present have the username %s', count(*), p.username)
    from ledger.participants as p
    where p.group_id = shared_identity_discrepancies.group_id
      and p.exited_at is null
    group by p.username
    having count(*) > 1
    union all
    select null, null, 'address', format('%s who are present have the address %s', count(*), p.address)
    from ledger.participants as p
    where p.group_id = shared_identity_discrepancies.group_id
      and p.exited_at is null
      and p.address is not null
      -- One that is only claimed counts for nobody.
      and p.address_proved is not false
    group by p.address
    having count(*) > 1
  ) as f (entry_id, participant_id, kind, detail)
$$;

alter function ledger_internal.shared_identity_discrepancies owner to ledger_owner;
comment on function ledger_internal.shared_identity_discrepancies is
  'The usernames and the addresses that several participants have who are present in a group. For verify_total.';
revoke execute on function ledger_internal.shared_identity_discrepancies from public;
-- <<< db/functions/internal/verify/shared_identity_discrepancies.sql

-- >>> db/functions/internal/verify/trigger_discrepancies.sql
-- Find triggers that are not in force.
create or replace function ledger_internal.trigger_discrepancies()
returns setof ledger.discrepancy
language sql stable
as $$
  select
    null::bigint,
    null::bigint,
    null::bigint,
    'schema',
    f.detail
  from (
    select format('trigger %s of %s is disabled', coalesce(k.conname, t.tgname), t.tgrelid::regclass)
    from pg_trigger as t
    join pg_class as c on c.oid = t.tgrelid
    left join pg_constraint as k on k.oid = t.tgconstraint
    where c.relnamespace = 'ledger'::regnamespace
      and t.tgenabled not in ('O', 'A')
    union all
    select format('table %s can be rewritten: no trigger refuses it', p.name)
    from unnest(
      array[
        'entries', 'group_total_history', 'idempotency_keys', 'feeds', 'name_changes', 'vault_deposits', 'payouts',
        'exit_requests', 'adoptions', 'unknown_roots', 'settlements', 'api_keys', 'groups', 'participants', 'vaults',
        'publications', 'bridge_transactions'
      ],
      array[true, true, true, true, true, true, true, true, true, true, false, false, false, false, false, false, false]
    ) as p (name, is_permanent)
    where not exists (
      select from pg_trigger as t
      where t.tgrelid = to_regclass('ledger.' || p.name)
        and t.tgfoid = to_regproc('ledger_internal.forbid_mutation')
        -- Before DELETE and TRUNCATE, a statement; for what is permanent before each UPDATE as well.
        and t.tgtype & 43 = 42
        and (not p.is_permanent or t.tgtype & 16 = 16)
        and t.tgqual is null
        and cardinality(t.tgattr::smallint[]) = 0
    )
  ) as f (detail)
$$;

alter function ledger_internal.trigger_discrepancies owner to ledger_owner;
comment on function ledger_internal.trigger_discrepancies is
  'Triggers of the schema that are disabled, and tables that no trigger keeps from being rewritten. For verify_schema.';
revoke execute on function ledger_internal.trigger_discrepancies from public;
-- <<< db/functions/internal/verify/trigger_discrepancies.sql

-- >>> db/functions/internal/verify/vault_deposit_discrepancies.sql
-- Compare the deposits into a group's vault with the entries that credited them.
create or replace function ledger_internal.vault_deposit_discrepancies(
  group_id bigint
) returns setof ledger.discrepancy
language sql stable
as $$
  select
    vault_deposit_discrepancies.group_id,
    f.entry_id,
    f.participant_id,
    'vault deposit',
    f.detail
  from (
    select d.entry_id, d.participant_id, format('deposit %s comes after deposit %s', d.deposit_index, d.before)
    from (
      select
        d.*,
        lag(d.deposit_index, 1, -1::bigint) over (order by d.deposit_index) as before
      from ledger.vault_deposits as d
      where d.group_id = vault_deposit_discrepancies.group_id
    ) as d
    where d.deposit_index <> d.before + 1
    union all
    select d.entry_id, d.participant_id, format('deposit %s makes %s, and they add up to %s', d.deposit_index, d.cumulative, d.sum)
    from (
      select
        d.*,
        sum(d.amount) over (order by d.deposit_index) as sum
      from ledger.vault_deposits as d
      where d.group_id = vault_deposit_discrepancies.group_id
    ) as d
    where d.cumulative <> d.sum
    union all
    select d.entry_id, d.participant_id, format('deposit %s is of %s, and its entry or its participant is another one', d.deposit_index, d.amount)
    from ledger.vault_deposits as d
    left join ledger.entries as e on e.group_id = d.group_id and e.id = d.entry_id
    left join ledger.participants as p on p.group_id = d.group_id and p.id = d.participant_id
    where d.group_id = vault_deposit_discrepancies.group_id
      and (
        e.kind in ('join', 'deposit')
        and e.to_id = d.participant_id
        and e.amount = d.amount
        and p.address = d.address
      ) is not true
    union all
    select d.entry_id, null, format('%s deposits name the entry', count(*))
    from ledger.vault_deposits as d
    where d.group_id = vault_deposit_discrepancies.group_id
    group by d.entry_id
    having count(*) > 1
    union all
    select e.id, e.to_id, 'the entry brought money, and no deposit into the vault did'
    from ledger.vaults as v
    join ledger.entries as e on e.group_id = v.group_id and e.kind in ('join', 'deposit') and e.amount > 0
    where v.group_id = vault_deposit_discrepancies.group_id
      and not exists (
        select from ledger.vault_deposits as d
        where d.group_id = e.group_id
          and d.entry_id = e.id
      )
    union all
    select d.entry_id, d.participant_id, format('deposit %s is of a group without a vault', d.deposit_index)
    from ledger.vault_deposits as d
    where d.group_id = vault_deposit_discrepancies.group_id
      and not exists (select from ledger.vaults as v where v.group_id = d.group_id)
  ) as f (entry_id, participant_id, detail)
$$;

alter function ledger_internal.vault_deposit_discrepancies owner to ledger_owner;
comment on function ledger_internal.vault_deposit_discrepancies is
  'The discrepancies of the deposits into a group''s vault: their order and sums, the entries that credited them, and entries that brought money without one. For verify_total.';
revoke execute on function ledger_internal.vault_deposit_discrepancies from public;
-- <<< db/functions/internal/verify/vault_deposit_discrepancies.sql

-- >>> db/functions/internal/verify/vault_discrepancies.sql
-- Compare a group's vault with its participants and checkpoints.
create or replace function ledger_internal.vault_discrepancies(
  group_id bigint
) returns setof ledger.discrepancy
language sql stable
as $$
  select
    vault_discrepancies.group_id,
    f.entry_id,
    f.participant_id,
    'vault',
    f.detail
  from (values (vault_discrepancies.group_id)) as g (id)
  cross join ledger_internal.verify_bounds() as b
  left join ledger.vaults as v on v.group_id = g.id
  cross join lateral (
    select null::bigint, null::bigint, 'has another domain than its chain and address make'
    where v.domain <> ledger_internal.domain_hash(v.chain_id, v.vault, v.group_id)
    union all
    select null, null, format('was linked at %s, frozen at %s and closed at %s', v.linked_at, v.frozen_at, v.closed_at)
    where greatest(v.linked_at, v.frozen_at, v.closed_at) > b.latest
      or v.linked_at = '-infinity'
    union all
    select null, null, format('has followed block %s with hash %s', v.followed_block, ledger_internal.hex(v.followed_hash))
    where (v.followed_block is null) <> (v.followed_hash is null)
      or octet_length(v.followed_hash) <> 32
      or v.followed_block < 0
    union all
    select null, null, format('is frozen at checkpoint %s, which was not accepted', v.emergency_number)
    where v.emergency_number <> 0
      and not exists (
        select from ledger.publications as p
        where p.group_id = g.id
          and p.number = v.emergency_number
          and p.state in ('accepted', 'closed')
      )
    union all
    select null, null, 'has an emergency without its transaction, or a closing without one'
    where (v.emergency_number is null) <> (v.frozen_at is null)
      or (v.emergency_number is null) <> (v.emergency_transaction is null)
      or (v.emergency_number is null) <> (v.emergency_block is null)
      or (v.closed_at is null) <> (v.closing_transaction is null)
      or (v.closed_at is null) <> (v.closing_block is null)
    union all
    select e.id, coalesce(e.from_id, e.to_id), 'the entry is of after the emergency'
    -- A range of an index for each kind, and not all entries of a group.
    from unnest(array['join', 'deposit', 'transfer', 'exit']) as k (kind)
    join ledger.entries as e on e.group_id = g.id and e.kind = k.kind and e.created_at > v.frozen_at
    union all
    select null, r.participant_id, 'the participant requested an exit and is present, or there is no vault'
    from ledger.exit_requests as r
    left join ledger.participants as p on p.group_id = r.group_id and p.id = r.participant_id
    where r.group_id = g.id
      and (p.exited_at is null or v.group_id is null)
    union all
    select null, null, format('was closed, took %s and paid %s', d.amount, o.amount)
    from (
      select coalesce(sum(d.amount), 0) as amount from ledger.vault_deposits as d where d.group_id = g.id
    ) as d
    cross join (
      select coalesce(sum(o.amount), 0) as amount
      from ledger.payouts as o
      where o.group_id = g.id
        and o.kind <> 'reclaim'
    ) as o
    where v.closed_at is not null
      and v.emergency_number is null
      and d.amount <> o.amount
    union all
    select null, null, 'is not closed, and the group was removed'
    where v.group_id is not null
      and v.closed_at is null
      and exists (select from ledger.groups as o where o.id = g.id and o.closed_at is not null)
  ) as f (entry_id, participant_id, detail)
$$;

alter function ledger_internal.vault_discrepancies owner to ledger_owner;
comment on function ledger_internal.vault_discrepancies is
  'The discrepancies of a group''s vault: its domain, an emergency and what moved after it, a closing, and exits that were requested. For verify_total.';
revoke execute on function ledger_internal.vault_discrepancies from public;
-- <<< db/functions/internal/verify/vault_discrepancies.sql

-- >>> db/functions/internal/verify/verify_checkpoints.sql
-- Find the discrepancies of a range of a group's checkpoints.
create or replace function ledger_internal.verify_checkpoints(
  group_id bigint,
  after    bigint,
  upto     bigint
) returns setof ledger.discrepancy
language sql stable
as $$
  select
    c.group_id,
    null::bigint,
    null::bigint,
    'checkpoint',
    format('checkpoint %s %s', c.number, f.detail)
  from ledger.checkpoints as c
  cross join lateral (
    select ledger_internal.domain_hash(c.chain_id, c.vault, c.group_id) as domain
  ) as d
  cross join ledger_internal.verify_bounds() as b
  left join lateral (
    select l.*
    from ledger.checkpoints as l
    where l.group_id = c.group_id
      and l.number < c.number
    order by l.number desc
    limit 1
  ) as p on true
  -- In another server than the checkpoint's its snapshot means nothing.
  left join ledger.feeds as w
    on b.next_xid is not null
      and w.generation = c.generation
      and w.generation = (select max(n.generation) from ledger.feeds as n)
  cross join lateral (
    select h.detail from ledger_internal.header_discrepancies(c, p, d.domain) as h
    union all
    select 'has another seal than the entries up to it make'
    where c.adopted_at is null
      and c.seal <> ledger_internal.seal_entries(c, p)
    union all
    select format('was made at %s', c.created_at)
    where c.created_at > b.latest
      or c.created_at = '-infinity'
    union all
    select r.detail
    from ledger_internal.checkpoint_record_discrepancies(c, w) as r
    where w.generation is not null
      and c.adopted_at is null
    union all
    select l.detail from ledger_internal.leaf_discrepancies(c, d.domain) as l
    union all
    select u.detail from ledger_internal.publication_discrepancies(c, b.latest) as u
  ) as f (detail)
  where c.group_id = verify_checkpoints.group_id
    and c.number > verify_checkpoints.after
    and c.number <= coalesce(verify_checkpoints.upto, 9223372036854775807)
$$;

alter function ledger_internal.verify_checkpoints owner to ledger_owner;
comment on function ledger_internal.verify_checkpoints is
  'The discrepancies of a group''s checkpoints whose numbers are above after and, where it is given, not above upto: the chain of their headers, the seals of the entries, the leaves that are kept, what was credited and settled in the record, and what became of them at a vault. For the owner.';
revoke execute on function ledger_internal.verify_checkpoints from public;
-- <<< db/functions/internal/verify/verify_checkpoints.sql

-- >>> db/functions/internal/verify/verify_kept.sql
-- Find the discrepancies between a checkpoint and what was kept of it elsewhere.
create or replace function ledger_internal.verify_kept(
  group_id bigint,
  number   bigint,
  header   bytea,
  seal     bytea
) returns setof ledger.discrepancy
language plpgsql stable
as $$
declare
  checkpoint  ledger.checkpoints;
  discrepancy ledger.discrepancy := row(group_id, null, null, 'kept checkpoint', null);
begin
  select c.*
  into checkpoint
  from ledger.checkpoints as c
  where c.group_id = verify_kept.group_id
    and c.number = verify_kept.number;
  if not found then
    discrepancy.detail := format('checkpoint %s is not there', number);
    return next discrepancy;
    return;
  end if;

  if checkpoint.header <> header then
    discrepancy.detail := format('checkpoint %s has another header than was kept: %s', number, ledger_internal.hex(checkpoint.header));
    return next discrepancy;
  end if;
  if checkpoint.seal <> seal then
    discrepancy.detail := format('checkpoint %s has another seal than was kept: %s', number, ledger_internal.hex(checkpoint.seal));
    return next discrepancy;
  end if;

  -- The record of an adopted one is that of after the restore.
  if checkpoint.adopted_at is not null then
    return;
  end if;
  begin
    perform from ledger_internal.recompute_chunks(checkpoint);
  exception
    when data_corrupted or numeric_value_out_of_range then
      discrepancy.detail := format('checkpoint %s has other leaves in the record: %s', number, sqlerrm);
      return next discrepancy;
    when sqlstate 'LG002' then
      -- The ledger was restored since, and only leaves that are stored can be compared with the root.
      null;
  end;
end
$$;

alter function ledger_internal.verify_kept owner to ledger_owner;
comment on function ledger_internal.verify_kept is
  'The discrepancies of a checkpoint with the header and the seal that it had when they were kept elsewhere, and with the leaves that the record gives. Whether the entries give its seal, verify_checkpoints shows, from the first checkpoint on. For the owner.';
revoke execute on function ledger_internal.verify_kept from public;
-- <<< db/functions/internal/verify/verify_kept.sql

-- >>> db/functions/internal/verify/verify_participants.sql
-- Find the discrepancies of a range of a group's participants.
create or replace function ledger_internal.verify_participants(
  group_id bigint,
  after    bigint,
  upto     bigint
) returns setof ledger.discrepancy
language sql stable
as $$
  select
    p.group_id,
    null::bigint,
    p.id,
    f.kind,
    f.detail
  from (
    select
      p.*,
      count(*) over (partition by p.id) as times
    from ledger.participants as p
    where p.group_id = verify_participants.group_id
      and p.id > verify_participants.after
      and p.id <= coalesce(verify_participants.upto, 9223372036854775807)
  ) as p
  cross join ledger_internal.verify_bounds() as b
  left join ledger.vaults as w on w.group_id = p.group_id
  left join lateral ledger_internal.latest_leg_at(p.group_id, p.id, ('infinity', 9223372036854775807)::ledger_internal.history_position) as last
    on true
  cross join lateral (
    select
      r.kind,
      r.detail
    from ledger_internal.participant_record_discrepancies(
      (
        p.group_id, p.id, p.username, p.amount, p.joined_at, p.exited_at, p.moved_at, p.address, p.address_xid, p.address_proved,
        p.frozen_at
      )::ledger.participants,
      (last.id, last.kind, last.created_at, last.balance)::ledger_internal.leg,
      b.latest
    ) as r
    union all
    select
      v.kind,
      v.detail
    from ledger_internal.frozen_discrepancies(
      (
        p.group_id, p.id, p.username, p.amount, p.joined_at, p.exited_at, p.moved_at, p.address, p.address_xid, p.address_proved,
        p.frozen_at
      )::ledger.participants,
      w
    ) as v
    union all
    select 'username', 'is empty'
    where p.username = ''
    union all
    select 'address', 'is not of 20 bytes, is zero, or has no transaction'
    where (p.address is null) <> (p.address_xid is null)
      or octet_length(p.address) <> 20
      or p.address = '\x0000000000000000000000000000000000000000'
    union all
    select 'participant id', format('%s participants have it', p.times)
    where p.times > 1
    union all
    select 'participant id', 'it is below 1'
    where p.id < 1
  ) as f (kind, detail)
$$;

alter function ledger_internal.verify_participants owner to ledger_owner;
comment on function ledger_internal.verify_participants is
  'The discrepancies of a group''s participants whose ids are above after and, where it is given, not above upto. For the owner.';
revoke execute on function ledger_internal.verify_participants from public;
-- <<< db/functions/internal/verify/verify_participants.sql

-- >>> db/functions/internal/verify/verify_total.sql
-- Find the discrepancies of a group as a whole.
create or replace function ledger_internal.verify_total(
  group_id bigint
) returns setof ledger.discrepancy
language sql stable
as $$
  select
    verify_total.group_id,
    f.entry_id,
    f.participant_id,
    f.kind,
    f.detail
  from (
    select t.entry_id, t.participant_id, t.kind, t.detail
    from ledger_internal.total_discrepancies(verify_total.group_id) as t
    union all
    select s.entry_id, null, 'settlement', 'it is settled, and is no exit'
    from ledger.settlements as s
    left join ledger.entries as e on e.group_id = s.group_id and e.id = s.entry_id
    where s.group_id = verify_total.group_id
      and e.kind is distinct from 'exit'
    union all
    select
      null,
      null,
      'total time',
      format('shard %s changed at %s, and with its last join, deposit or exit at %s', c.slot, c.changed_at, last.created_at)
    from ledger.group_total_shards as c
    cross join ledger_internal.verify_bounds() as b
    left join lateral (
      select t.created_at
      from ledger.group_total_history as t
      where t.group_id = c.group_id
        and t.slot = c.slot
      order by t.created_at desc, t.entry_id desc
      limit 1
    ) as last on true
    where c.group_id = verify_total.group_id
      and (c.changed_at > b.latest or c.changed_at = '-infinity' or c.changed_at < last.created_at)
    union all
    select s.entry_id, s.participant_id, s.kind, s.detail
    from ledger_internal.shared_identity_discrepancies(verify_total.group_id) as s
    union all
    select r.entry_id, r.participant_id, r.kind, r.detail
    from ledger_internal.rename_discrepancies(verify_total.group_id) as r
    union all
    select v.entry_id, v.participant_id, v.kind, v.detail
    from ledger_internal.vault_discrepancies(verify_total.group_id) as v
    union all
    select b.entry_id, b.participant_id, b.kind, b.detail
    from ledger_internal.bridge_record_discrepancies(verify_total.group_id) as b
    union all
    select d.entry_id, d.participant_id, d.kind, d.detail
    from ledger_internal.vault_deposit_discrepancies(verify_total.group_id) as d
    union all
    select p.entry_id, p.participant_id, p.kind, p.detail
    from ledger_internal.payout_discrepancies(verify_total.group_id) as p
    union all
    select m.entry_id, m.participant_id, m.kind, m.detail
    from ledger_internal.emergency_payout_discrepancies(verify_total.group_id) as m
    union all
    select l.entry_id, l.participant_id, 'sequence', 'it will give ids again that are in use'
    from (
      select
        (select max(e.id) from ledger.entries as e where e.group_id = verify_total.group_id),
        null,
        (select s.last_value - (not s.is_called)::integer from ledger.entries_id_seq as s)
      union all
      select
        null,
        (select max(p.id) from ledger.participants as p where p.group_id = verify_total.group_id),
        (select s.last_value - (not s.is_called)::integer from ledger.participants_id_seq as s)
    ) as l (entry_id, participant_id, given)
    where coalesce(l.entry_id, l.participant_id) > l.given
    union all
    select null, null, 'idempotency key', 'there is an empty key'
    from ledger.idempotency_keys as k
    where k.group_id = verify_total.group_id
      and k.key = ''
  ) as f (entry_id, participant_id, kind, detail)
$$;

alter function ledger_internal.verify_total owner to ledger_owner;
comment on function ledger_internal.verify_total is
  'The discrepancies of a group as a whole: its shards and their history, its settlements, changes of names, usernames and addresses that two have, its vault with its deposits and payouts, and ids above those that were given. For the owner.';
revoke execute on function ledger_internal.verify_total from public;
-- <<< db/functions/internal/verify/verify_total.sql

-- >>> db/functions/owner/drop_checkpoint_chunks.sql
-- Delete the leaves of a group's old checkpoints that can be computed again.
create or replace function ledger.drop_checkpoint_chunks(
  group_id bigint,
  keep     bigint
) returns bigint
language plpgsql volatile
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  newest     checkpoints;
  checkpoint checkpoints;
  dropped    bigint := 0;
begin
  perform refuse_invalid(
    array['group_id', 'keep'],
    array[invalid_id(group_id), case when (keep >= 1) is not true then 'must be 1 or more' end]
  );
  newest := find_checkpoint(group_id);

  for checkpoint in
    select c.*
    from checkpoints as c
    where c.group_id = drop_checkpoint_chunks.group_id
      and c.number <= newest.number - keep
      -- What a vault pays: the last one that it accepted, or the one before that in an emergency.
      and c.number < coalesce((
        select min(a.number)
        from (
          select p.number
          from publications as p
          where p.group_id = drop_checkpoint_chunks.group_id
            and p.state in ('accepted', 'closed')
          order by p.number desc
          limit 2
        ) as a
      ), 9223372036854775807)
      and c.generation = (select max(f.generation) from feeds as f)
      and c.adopted_at is null
      and exists (
        select from checkpoint_chunks as k
        where k.group_id = c.group_id
          and k.number = c.number
      )
    order by c.number
  loop
    -- Raises where the record gives another root.
    perform from recompute_chunks(checkpoint);
    delete from checkpoint_chunks as k
    where k.group_id = checkpoint.group_id
      and k.number = checkpoint.number;
    dropped := dropped + 1;
  end loop;
  return dropped;
end
$$;

alter function ledger.drop_checkpoint_chunks owner to ledger_owner;
comment on function ledger.drop_checkpoint_chunks is
  'Delete the leaves of all checkpoints of the group but the newest ones, keep of them, after each was computed from the record once; return how many checkpoints lost theirs. Those from before a restore keep them, and the last two that a vault accepted. list_leaves and get_proof compute the leaves from then on. Raises LG001, LG002. For the owner.';
revoke execute on function ledger.drop_checkpoint_chunks from public;
-- <<< db/functions/owner/drop_checkpoint_chunks.sql
