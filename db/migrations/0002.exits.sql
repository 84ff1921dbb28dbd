-- Exits: deposits after joining, and addresses on the main network.
-- depends: 0001.baseline

-- A feed's number grows by restores only; a chunk has 1,024 leaves, whose amounts have 32 bytes.
-- squawk-ignore-file prefer-bigint-over-smallint, prefer-bigint-over-int

-- join_group and exit_group get a parameter with a default: calls of before work as they did.
-- squawk-ignore-file ban-drop-function

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
comment on column ledger.participants.address_xid is 'The transaction that bound the address, 3 for one before the last restore.';

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
-- A group's newest addresses, for list_newest_checkpoints.
-- squawk-ignore require-concurrent-index-creation
create index if not exists participants_as_addressed
  on ledger.participants (group_id, address_xid)
  where address_xid is not null;

-- A participant's deposits are found here, among many transfers: an index of entries would cost each transfer something.
alter table ledger.group_total_history
  add column if not exists participant_id bigint;
comment on column ledger.group_total_history.participant_id is
  'The participant of a deposit, to find it by; null for a join or an exit.';
-- squawk-ignore require-concurrent-index-creation
create index if not exists group_total_history_of_deposits
  on ledger.group_total_history (group_id, participant_id, created_at, entry_id)
  where participant_id is not null;

alter table ledger.settlements
  add column if not exists settled_xid xid8;
comment on column ledger.settlements.settled_xid is
  'The transaction that recorded the reference, 3 for one before the last restore; null until then, and where that happened before this column was added.';
-- A group's newest settlements, for list_newest_checkpoints.
-- squawk-ignore require-concurrent-index-creation
create index if not exists settlements_as_committed
  on ledger.settlements (group_id, settled_xid)
  where settled_xid is not null;
-- A settlement stays final, but its transaction means nothing in another server: restart_feed replaces it.
create or replace trigger settlements_are_final
  before update on ledger.settlements
  for each row
  when (
    (
      old.settled_at is not null
      and (
        old.settled_at is distinct from new.settled_at
        or old.reference is distinct from new.reference
        or new.settled_xid is distinct from '3'
      )
    )
    or (old.group_id <> new.group_id or old.entry_id <> new.entry_id or old.exited_at <> new.exited_at)
  )
  execute function ledger_internal.forbid_mutation();

-- What the functions of this migration return: name, columns, comment.
do $$
declare
  shape text[];
begin
  foreach shape slice 1 in array array[
    ['ledger.deposit_result', 'username text, id bigint, group_id bigint, amount numeric, entry_id bigint, replayed boolean', 'The participant after the deposit, and the entry that it wrote.'],
    ['ledger.address_result', 'id bigint, group_id bigint, address text, replayed boolean', 'The participant and the address, and whether an earlier request with the same idempotency key did it.']
  ] loop
    if to_regtype(shape[1]) is null then
      execute format('create type %s as (%s)', shape[1], shape[2]);
    end if;
    execute format('comment on type %s is %L', shape[1], shape[3]);
  end loop;
end
$$;

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

create table if not exists ledger.checkpoints (
  group_id   bigint not null,
  number     bigint not null,
  chain_id   numeric(78, 0) not null,
  vault      bytea not null,
  previous   bytea not null,
  deposits   bigint not null,
  credited   numeric(78, 0) not null,
  settled    numeric(78, 0) not null,
  leaf_count bigint not null,
  total      numeric(78, 0) not null,
  root       bytea not null,
  header     bytea not null,
  snapshot   pg_snapshot not null,
  generation integer not null,
  seal       bytea not null,
  created_at timestamptz not null default clock_timestamp(),
  constraint checkpoints_pkey primary key (group_id, number),
  constraint checkpoints_of_a_group foreign key (group_id) references ledger.groups (id),
  constraint checkpoints_lengths check (
    octet_length(vault) = 20 and octet_length(previous) = 32 and octet_length(root) = 32 and octet_length(header) = 32
    and octet_length(seal) = 32
  ),
  constraint checkpoints_total check (total = credited - settled)
);
comment on table ledger.checkpoints is
  'Checkpoints of groups: the root of a Merkle-sum tree of what each participant holds and of each exit that is not settled.';
comment on column ledger.checkpoints.group_id is 'The group.';
comment on column ledger.checkpoints.number is 'Number of the checkpoint in its group, from 1 without gaps.';
comment on column ledger.checkpoints.chain_id is 'The chain of the group''s vault; 0 without one.';
comment on column ledger.checkpoints.vault is 'The address of the group''s vault; 0 without one.';
comment on column ledger.checkpoints.previous is 'The header of the checkpoint before it; 0 for the first one.';
comment on column ledger.checkpoints.deposits is 'How many joins and deposits it includes.';
comment on column ledger.checkpoints.credited is 'What the joins and deposits brought.';
comment on column ledger.checkpoints.settled is 'What was paid for exits.';
comment on column ledger.checkpoints.leaf_count is 'How many leaves the tree has.';
comment on column ledger.checkpoints.total is 'What the leaves hold together: what was credited less what was settled.';
comment on column ledger.checkpoints.root is 'The root of the tree; 0 without a leaf.';
comment on column ledger.checkpoints.header is 'SHA-256 of all these, as header_hash makes it.';
comment on column ledger.checkpoints.snapshot is 'The transactions that it includes.';
comment on column ledger.checkpoints.generation is 'The feed at that time: another server counts transactions differently.';
comment on column ledger.checkpoints.seal is 'SHA-256 of the group''s entries up to it, as seal_entries makes it.';
comment on column ledger.checkpoints.created_at is 'When it was made.';

create table if not exists ledger.checkpoint_chunks (
  group_id bigint not null,
  number   bigint not null,
  chunk    integer not null,
  first_id bigint not null,
  width    smallint not null,
  leaves   bytea not null,
  sum      numeric(78, 0) not null,
  hash     bytea not null,
  constraint checkpoint_chunks_pkey primary key (group_id, number, chunk),
  -- The chunks are written before the header.
  constraint checkpoint_chunks_of_a_checkpoint foreign key (group_id, number)
    references ledger.checkpoints (group_id, number) deferrable initially deferred,
  constraint checkpoint_chunks_lengths check (
    -- Without `between`: a dump writes it in other parentheses, and verify would find another definition.
    width >= 0 and width <= 32 and octet_length(leaves) % (36 + width) = 0
    and octet_length(leaves) / (36 + width) >= 1 and octet_length(leaves) / (36 + width) <= 1024
    and octet_length(hash) = 32
  )
);
-- Addresses do not compress, and the attempt takes twice as long as all the rest.
alter table ledger.checkpoint_chunks alter column leaves set storage external;
comment on table ledger.checkpoint_chunks is
  'The leaves of checkpoints, 1,024 in a row. Those of old checkpoints may be deleted, and are computed from the record then.';
comment on column ledger.checkpoint_chunks.group_id is 'The group.';
comment on column ledger.checkpoint_chunks.number is 'The checkpoint.';
comment on column ledger.checkpoint_chunks.chunk is 'Number of the chunk, from 0.';
comment on column ledger.checkpoint_chunks.first_id is 'The participant of the first leaf.';
comment on column ledger.checkpoint_chunks.width is 'How many bytes the largest amount has.';
comment on column ledger.checkpoint_chunks.leaves is
  'The leaves by ascending participant, each as pack_leaf makes it, without the first bytes of its amount, which are 0: 36 + width bytes are left.';
comment on column ledger.checkpoint_chunks.sum is 'What the leaves hold together.';
comment on column ledger.checkpoint_chunks.hash is 'The hash of the node above these leaves.';

create or replace trigger checkpoints_are_permanent
  before update or delete or truncate on ledger.checkpoints
  for each statement execute function ledger_internal.forbid_mutation();
create or replace trigger checkpoint_chunks_do_not_change
  before update on ledger.checkpoint_chunks
  for each statement execute function ledger_internal.forbid_mutation();

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
  c.created_at
from ledger.checkpoints as c;

comment on view ledger.checkpoint_headers is 'All checkpoints of groups, without their leaves.';
comment on column ledger.checkpoint_headers.group_id is 'The group.';
comment on column ledger.checkpoint_headers.number is 'Number of the checkpoint in its group, from 1 without gaps.';
comment on column ledger.checkpoint_headers.chain_id is 'The chain of the group''s vault; 0 without one.';
comment on column ledger.checkpoint_headers.vault is 'The address of the group''s vault; 0 without one.';
comment on column ledger.checkpoint_headers.previous is 'The header of the checkpoint before it; 0 for the first one.';
comment on column ledger.checkpoint_headers.deposits is 'How many joins and deposits it includes.';
comment on column ledger.checkpoint_headers.credited is 'What the joins and deposits brought.';
comment on column ledger.checkpoint_headers.settled is 'What was paid for exits.';
comment on column ledger.checkpoint_headers.leaf_count is 'How many leaves the tree has.';
comment on column ledger.checkpoint_headers.total is 'What the leaves hold together.';
comment on column ledger.checkpoint_headers.root is 'The root of the tree; 0 without a leaf.';
comment on column ledger.checkpoint_headers.header is 'SHA-256 that commits to all these.';
comment on column ledger.checkpoint_headers.seal is 'SHA-256 of the group''s entries up to it.';
comment on column ledger.checkpoint_headers.created_at is 'When it was made.';
grant select on ledger.checkpoint_headers to ledger_reader;

do $$
declare
  shape text[];
begin
  foreach shape slice 1 in array array[
    ['ledger.checkpoint_result', 'group_id bigint, number bigint, chain_id numeric, vault text, previous text, deposits bigint, credited numeric, settled numeric, leaf_count bigint, total numeric, root text, header text, seal text, created_at timestamptz, replayed boolean', 'The checkpoint, and whether an earlier request with the same idempotency key made it.'],
    ['ledger.newest_checkpoint', 'group_id bigint, number bigint, created_at timestamptz, is_current boolean', 'The newest checkpoint of a group, and whether nothing has moved since; number 0 and the time of the group where there is none.'],
    ['ledger.leaf', 'index bigint, participant_id bigint, exit_entry bigint, owner text, amount numeric', 'A leaf of a checkpoint: its index, from 0, the participant, the exit that is not settled, null while present, the address on the main network, 0 without one, and the amount.'],
    ['ledger.node', 'sum numeric, hash text', 'A node of a checkpoint''s tree: the sum of the leaves below it, and its hash.'],
    ['ledger.proof', 'checkpoint ledger.checkpoint_headers, leaf ledger.leaf, siblings ledger.node[]', 'A leaf of a checkpoint, and the siblings on its way to the root, from the leaf up.'],
    ['ledger_internal.figures', 'snapshot pg_snapshot, generation integer, deposits bigint, credited numeric, settled numeric, leaf_count bigint, total numeric, root bytea, seal bytea', 'What a checkpoint finds in its snapshot.'],
    ['ledger_internal.unpacked_leaf', 'participant_id bigint, exit_entry bigint, owner bytea, amount numeric', 'A leaf before it is packed.'],
    ['ledger_internal.tree', 'sum numeric, hash bytea, sibling_sums numeric[], sibling_hashes bytea[]', 'The root of a tree, and the siblings of one of its leaves, from the leaf up.']
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
    p.group_id
  into
    bound.id,
    bound.group_id
  from participants as p
  where p.group_id = bind_address.group_id
    and p.id = bind_address.participant_id
    and p.exited_at is null
  for no key update;
  if not found then
    perform refuse_unknown_participants(group_id, array['participant_id'], array[participant_id]);
  end if;
  perform assign_address(group_id, participant_id, parse_address(address));

  bound.replayed := false;
  perform store_answer(group_id, idempotency_key, request, bound);
  return bound;
end
$$;

alter function ledger.bind_address owner to ledger_owner;
comment on function ledger.bind_address is
  'Bind an address, 0x and 40 hex digits, to a participant present in the group, for good; the same address again changes nothing. Raises LG001, LG002, LG006, LG010.';
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
  -- The snapshot that is kept means something among the transactions of this server's feed only.
  perform current_feed('group_id');
  added := add_checkpoint(group_id);

  select
    h.*,
    false
  into result
  from checkpoint_headers as h
  where h.group_id = checkpoint.group_id
    and h.number = added;
  perform store_answer(group_id, idempotency_key, request, result);
  return result;
end
$$;

alter function ledger.checkpoint owner to ledger_owner;
comment on function ledger.checkpoint is
  'Make a checkpoint of the group, also of one that was removed: the root of a tree with a leaf for each participant present and for each exit that is not settled, in one snapshot, chained to the checkpoint before it. No movement waits for it. It must be the first change of its transaction. Raises LG001, LG002, LG006, LG009, LG011.';
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
  reasons    text[];
  request    text[];
  last_moved timestamptz;
  deposited  deposit_result;
  shard      group_total_shards;
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

  select
    p.username,
    p.id,
    p.group_id,
    p.amount + trunc(deposit.amount),
    p.moved_at
  into
    deposited.username,
    deposited.id,
    deposited.group_id,
    deposited.amount,
    last_moved
  from participants as p
  where p.group_id = deposit.group_id
    and p.id = deposit.participant_id
    and p.exited_at is null
  for no key update;
  if not found then
    perform refuse_unknown_participants(group_id, array['participant_id'], array[participant_id]);
  end if;
  if balance_violation(0, deposited.amount) is not null then
    perform refuse_invalid(array['amount'], array['would take the balance to 2^256 or more']);
  end if;

  shard := add_to_group_total(group_id, amount, last_moved);

  update participants as p
  set
    amount = deposited.amount,
    moved_at = shard.changed_at
  where p.group_id = deposit.group_id
    and p.id = deposit.participant_id;

  insert into entries (group_id, kind, to_id, amount, to_amount, created_at, metadata)
  values (
    deposit.group_id, 'deposit', deposit.participant_id, deposit.amount, deposited.amount, shard.changed_at, deposit.metadata
  )
  returning entries.id into deposited.entry_id;
  perform record_group_total(shard, deposited.entry_id, participant_id);

  deposited.replayed := false;
  perform store_answer(group_id, idempotency_key, request, deposited);
  return deposited;
end
$$;

alter function ledger.deposit owner to ledger_owner;
comment on function ledger.deposit is
  'Add a deposit of 1 or more to the balance of a participant who is present. entry_id is the entry written. Raises LG001, LG002, LG006.';
revoke execute on function ledger.deposit from public;
grant execute on function ledger.deposit to ledger_api;
-- <<< db/functions/api/deposit.sql

-- >>> db/functions/api/exit_group.sql
drop function if exists ledger.exit_group;
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
  request    text[];
  exited     exit_result;
  last_moved timestamptz;
  shard      group_total_shards;
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

  select
    p.amount,
    p.moved_at
  into
    exited.final_amount,
    last_moved
  from participants as p
  where p.group_id = exit_group.group_id
    and p.id = exit_group.participant_id
    and p.exited_at is null
  for no key update;
  if not found then
    perform refuse_unknown_participants(group_id, array['participant_id'], array[participant_id]);
  end if;
  if address is not null then
    perform assign_address(group_id, participant_id, parse_address(address));
  end if;

  shard := add_to_group_total(group_id, -exited.final_amount, last_moved);

  update participants as p
  set
    amount = 0,
    moved_at = shard.changed_at,
    exited_at = shard.changed_at
  where p.group_id = exit_group.group_id
    and p.id = exit_group.participant_id;

  insert into entries (group_id, kind, from_id, amount, from_amount, created_at, metadata)
  values (
    exit_group.group_id, 'exit', exit_group.participant_id, exited.final_amount, 0, shard.changed_at,
    exit_group.metadata
  )
  returning entries.id into exited.entry_id;
  perform record_group_total(shard, exited.entry_id);

  insert into settlements (group_id, entry_id, exited_at)
  values (exit_group.group_id, exited.entry_id, shard.changed_at);

  exited.replayed := false;
  perform store_answer(group_id, idempotency_key, request, exited);
  return exited;
end
$$;

alter function ledger.exit_group owner to ledger_owner;
comment on function ledger.exit_group is
  'Leave the group with all that the participant holds, the final amount; an address is bound first, where none is. entry_id is the entry written. Raises LG001, LG002, LG006, LG010.';
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
-- <<< db/functions/api/get_checkpoint.sql

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
  'The proof of what the participant held in a checkpoint of the group, the newest one for null, or of the exit that was not settled then: verify_proof and its copy in Python check it. Raises LG001, LG002.';
revoke execute on function ledger.get_proof from public;
grant execute on function ledger.get_proof to ledger_api;
-- <<< db/functions/api/get_proof.sql

-- >>> db/functions/api/group_total.sql
-- Return what a group's participants hold together, now or at a past moment.
create or replace function ledger.group_total(
  group_id bigint,
  at_time  timestamptz default null,
  at_entry bigint      default null
) returns numeric
language plpgsql stable security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  total numeric;
begin
  -- A transfer does not change the total, so joins, deposits and exits maintain it in eight shards, and no balances are added up.
  if at_time is null and at_entry is null then
    select sum(c.total)
    into total
    from groups as g
    join group_total_shards as c on c.group_id = g.id
    where g.id = group_total.group_id
      and g.closed_at is null;
  else
    total := group_total_at(group_id, history_position(group_id, at_time, at_entry));
  end if;

  if total is null then
    perform refuse_unknown_group(group_id);
  end if;
  return total;
end
$$;

alter function ledger.group_total owner to ledger_owner;
comment on function ledger.group_total is
  'What the participants present in the group hold together; 0 when it is empty. With a time, or an entry of the group, what they held then. Raises LG001, LG002.';
revoke execute on function ledger.group_total from public;
grant execute on function ledger.group_total to ledger_api;
-- <<< db/functions/api/group_total.sql

-- >>> db/functions/api/join_group.sql
drop function if exists ledger.join_group;
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
  shard   group_total_shards;
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

  -- Usernames stored before NFC was enforced also count as taken; an ASCII username has only one spelling.
  -- One statement for both the username and the address: what waits for one of them holds neither.
  insert into participants (group_id, username, amount, address, address_xid)
  select
    join_group.group_id,
    normalize(join_group.username, NFC),
    join_group.amount,
    parse_address(join_group.address),
    case when join_group.address is not null then pg_current_xact_id() end
  where octet_length(join_group.username) = char_length(join_group.username)
    or find_participant_id(
      join_group.group_id, array_remove(name_spellings(join_group.username), normalize(join_group.username, NFC))
    ) is null
  on conflict do nothing
  returning participants.username, participants.id, participants.group_id, participants.amount
  into joined.username, joined.id, joined.group_id, joined.amount;
  if not found then
    perform refuse_taken_address(group_id, joined.id, parse_address(address));
    perform refuse_taken_name(
      'username', username, 'participant ' || find_participant_id(group_id, name_spellings(username))::text
    );
  end if;

  -- A join that waits for a username or an address holds no shard, so the time is known only now.
  shard := add_to_group_total(group_id, amount, null);
  update participants as p
  set
    joined_at = shard.changed_at,
    moved_at = shard.changed_at
  where p.group_id = join_group.group_id
    and p.id = joined.id;

  insert into entries (group_id, kind, to_id, amount, to_amount, created_at, metadata)
  values (
    join_group.group_id, 'join', joined.id, join_group.amount, join_group.amount, shard.changed_at, join_group.metadata
  )
  returning entries.id into joined.entry_id;
  perform record_group_total(shard, joined.entry_id);

  joined.replayed := false;
  perform store_answer(group_id, idempotency_key, request, joined);
  return joined;
end
$$;

alter function ledger.join_group owner to ledger_owner;
comment on function ledger.join_group is
  'Join a group under a username, composed (NFC), that no one present has, with a deposit of 0 or more, and bind an address if one is given. entry_id is the entry written. Raises LG001, LG002, LG005, LG006, LG010.';
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
-- <<< db/functions/api/list_checkpoints.sql

-- >>> db/functions/api/list_entries.sql
-- List a group's entries, a page at a time, in the order of their time.
create or replace function ledger.list_entries(
  group_id     bigint,
  kind         text        default null,
  settled      boolean     default null,
  metadata     jsonb       default null,
  since        timestamptz default null,
  until        timestamptz default null,
  after        bigint      default null,
  before       bigint      default null,
  newest_first boolean     default false,
  max_rows     integer     default 1000
) returns setof ledger.record
language plpgsql stable security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  kinds  text[] := case when kind is null then array['join', 'deposit', 'transfer', 'exit'] else array[kind] end;
  bounds ledger_internal.history_range;
begin
  perform refuse_invalid(
    array['group_id', 'kind', 'settled', 'metadata'],
    array[
      invalid_id(group_id),
      invalid_kind(kind),
      case when settled is not null and kind <> 'exit' then 'goes with the kind exit' end,
      invalid_metadata(metadata)
    ]
  );
  bounds := history_range(group_id, since, until, after, before);

  -- Planned at each call, for its filter and its direction: a range of one index, whatever is stored.
  return query execute history_query(entries_source(metadata is not null, settled), newest_first)
  using
    group_id, kinds, bounds.low_at, bounds.low_id, bounds.high_at, bounds.high_id,
    greatest(coalesce(max_rows, 1000), 0), settled, metadata;
end
$$;

alter function ledger.list_entries owner to ledger_owner;
comment on function ledger.list_entries is
  'The entries of a group, also of one that was removed, by time and then id: those of a kind, exits that are settled or not, those whose metadata contain a JSON object, since a time and until before another, after and before another entry; at most max_rows of them. Raises LG001, LG002.';
revoke execute on function ledger.list_entries from public;
grant execute on function ledger.list_entries to ledger_api;
-- <<< db/functions/api/list_entries.sql

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
  'The newest checkpoint of each group that exists or has exits to settle, with an id above after, at most max_rows of them, by ascending id; number 0 and the time of the group where there is none. is_current is true where a checkpoint made now would be of the same entries, settlements and addresses.';
revoke execute on function ledger.list_newest_checkpoints from public;
grant execute on function ledger.list_newest_checkpoints to ledger_api;
-- <<< db/functions/api/list_newest_checkpoints.sql

-- >>> db/functions/api/list_participant_entries.sql
-- List the entries of one participant, a page at a time, in the order of their time.
create or replace function ledger.list_participant_entries(
  group_id       bigint,
  participant_id bigint,
  kind           text        default null,
  metadata       jsonb       default null,
  since          timestamptz default null,
  until          timestamptz default null,
  after          bigint      default null,
  before         bigint      default null,
  newest_first   boolean     default false,
  max_rows       integer     default 1000
) returns setof ledger.record
language plpgsql stable security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  kinds  text[] := case when kind is null then array['join', 'deposit', 'transfer', 'exit'] else array[kind] end;
  bounds ledger_internal.history_range;
begin
  perform refuse_invalid(
    array['group_id', 'participant_id', 'kind', 'metadata'],
    array[invalid_id(group_id), invalid_id(participant_id), invalid_kind(kind), invalid_metadata(metadata)]
  );
  bounds := history_range(group_id, since, until, after, before);
  if not exists (
    select from participants as p
    where p.group_id = list_participant_entries.group_id
      and p.id = list_participant_entries.participant_id
  ) then
    perform refuse_unknown_participants(group_id, array['participant_id'], array[participant_id], in_history => true);
  end if;

  -- Planned at each call, for its filter and its direction: a range of each leg's index.
  return query execute history_query(participant_entries_source(metadata is not null), newest_first)
  using
    group_id, kinds, bounds.low_at, bounds.low_id, bounds.high_at, bounds.high_id,
    greatest(coalesce(max_rows, 1000), 0), participant_id, metadata;
end
$$;

alter function ledger.list_participant_entries owner to ledger_owner;
comment on function ledger.list_participant_entries is
  'The entries of a present or former participant, by time and then id, chosen as with list_entries. Raises LG001, LG002.';
revoke execute on function ledger.list_participant_entries from public;
grant execute on function ledger.list_participant_entries to ledger_api;
-- <<< db/functions/api/list_participant_entries.sql

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
  'Remove a group without participants; its name is free again and its record stays. Raises LG001, LG002, LG004, LG006.';
revoke execute on function ledger.remove_group from public;
grant execute on function ledger.remove_group to ledger_api;
-- <<< db/functions/api/remove_group.sql

-- >>> db/functions/api/rename_group.sql
-- Rename a group.
create or replace function ledger.rename_group(
  group_id        bigint,
  name            text,
  idempotency_key text default null
) returns ledger.group_result
language plpgsql volatile security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  request       text[] := array['rename_group', name];
  new_name      text;
  old_name      text;
  taken_by      bigint;
  renamed_group group_result;
begin
  perform refuse_invalid(
    array['group_id', 'name', 'idempotency_key'],
    array[
      invalid_id(group_id),
      invalid_new_name(name, group_id, idempotency_key, request),
      invalid_idempotency_key(idempotency_key)
    ]
  );

  renamed_group := claim_idempotency_key(group_id, idempotency_key, request, renamed_group);
  if renamed_group.replayed then
    return renamed_group;
  end if;

  select g.name
  into old_name
  from groups as g
  where g.id = rename_group.group_id
    and g.closed_at is null
  for no key update;
  if not found then
    perform refuse_unknown_group(group_id);
  end if;

  -- Do not wait for a taken name: two groups that are renamed to each other's names would wait for each other.
  taken_by := find_group_id(name_spellings(name), group_id);
  if taken_by is not null then
    perform refuse_taken_name('name', name, 'group ' || taken_by::text);
  end if;
  new_name := normalize(name, NFC);
  begin
    update groups as g
    set name = new_name
    where g.id = rename_group.group_id
    returning g.name, g.id into renamed_group.name, renamed_group.id;
  exception when unique_violation then
    perform refuse_taken_name('name', name, 'group ' || find_group_id(name_spellings(name), group_id)::text);
  end;

  perform record_name_change(group_id, null, old_name, new_name);
  renamed_group.replayed := false;
  perform store_answer(group_id, idempotency_key, request, renamed_group);
  return renamed_group;
end
$$;

alter function ledger.rename_group owner to ledger_owner;
comment on function ledger.rename_group is
  'Give an existing group a name, composed (NFC), that no other existing group has; the change is kept in ledger.renames. Raises LG001, LG002, LG005, LG006.';
revoke execute on function ledger.rename_group from public;
grant execute on function ledger.rename_group to ledger_api;
-- <<< db/functions/api/rename_group.sql

-- >>> db/functions/api/rename_participant.sql
-- Rename a participant.
create or replace function ledger.rename_participant(
  group_id        bigint,
  participant_id  bigint,
  username        text,
  idempotency_key text default null
) returns ledger.participant_result
language plpgsql volatile security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  request     text[] := array['rename_participant', participant_id::text, username];
  new_name    text;
  old_name    text;
  taken_by    bigint;
  participant participant_result;
begin
  perform refuse_invalid(
    array['group_id', 'participant_id', 'username', 'idempotency_key'],
    array[
      invalid_id(group_id),
      invalid_id(participant_id),
      invalid_new_name(username, group_id, idempotency_key, request),
      invalid_idempotency_key(idempotency_key)
    ]
  );

  participant := claim_idempotency_key(group_id, idempotency_key, request, participant);
  if participant.replayed then
    return participant;
  end if;

  select p.username
  into old_name
  from participants as p
  where p.group_id = rename_participant.group_id
    and p.id = rename_participant.participant_id
    and p.exited_at is null
  for no key update;
  if not found then
    perform refuse_unknown_participants(group_id, array['participant_id'], array[participant_id]);
  end if;

  -- Do not wait for a taken name: two participants that are renamed to each other's names would wait for each other.
  taken_by := find_participant_id(group_id, name_spellings(username), participant_id);
  if taken_by is not null then
    perform refuse_taken_name('username', username, 'participant ' || taken_by::text);
  end if;
  new_name := normalize(username, NFC);
  begin
    update participants as p
    set username = new_name
    where p.group_id = rename_participant.group_id
      and p.id = rename_participant.participant_id
    returning p.username, p.id, p.group_id, p.amount
    into participant.username, participant.id, participant.group_id, participant.amount;
  exception when unique_violation then
    perform refuse_taken_name(
      'username', username, 'participant ' || find_participant_id(group_id, name_spellings(username), participant_id)::text
    );
  end;

  perform record_name_change(group_id, participant_id, old_name, new_name);
  participant.replayed := false;
  perform store_answer(group_id, idempotency_key, request, participant);
  return participant;
end
$$;

alter function ledger.rename_participant owner to ledger_owner;
comment on function ledger.rename_participant is
  'Give a present participant a username, composed (NFC), that no other present participant has; ledger.renames records the change. Raises LG001, LG002, LG005, LG006.';
revoke execute on function ledger.rename_participant from public;
grant execute on function ledger.rename_participant to ledger_api;
-- <<< db/functions/api/rename_participant.sql

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
  'Make 1 to 10,000 transfers of a group, a JSON list of {"from", "to", "amount", "metadata"}, all or none, in order: a line may spend what an earlier line transferred. entries are the entries written, by line; participants are the participants of all lines, with their balances at the end. A field of a line is named as transfers[0].amount. Raises LG001, LG002, LG003, LG006.';
revoke execute on function ledger.transfer_all from public;
grant execute on function ledger.transfer_all to ledger_api;
-- <<< db/functions/api/transfer_all.sql

-- >>> db/functions/api/verify_proof.sql
-- Check a proof of what a participant holds, without the ledger's tables.
create or replace function ledger.verify_proof(
  proof  jsonb,
  header text default null,
  root   text default null
) returns boolean
language plpgsql immutable security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  checkpoint jsonb := proof -> 'checkpoint';
  leaf       jsonb := proof -> 'leaf';
  siblings   jsonb := proof -> 'siblings';
  -- Null stands for what is missing or malformed.
  group_id   bigint := parse_id(json_digits(checkpoint -> 'group_id'));
  number     bigint := parse_id(json_digits(checkpoint -> 'number'));
  chain_id   numeric := parse_amount(json_digits(checkpoint -> 'chain_id'));
  vault      bytea := json_hex(checkpoint -> 'vault', 20);
  previous   bytea := json_hex(checkpoint -> 'previous', 32);
  deposits   numeric := parse_amount(json_digits(checkpoint -> 'deposits'));
  credited   numeric := parse_amount(json_digits(checkpoint -> 'credited'));
  settled    numeric := parse_amount(json_digits(checkpoint -> 'settled'));
  leaf_count numeric := parse_amount(json_digits(checkpoint -> 'leaf_count'));
  total      numeric := parse_amount(json_digits(checkpoint -> 'total'));
  tree_root  bytea := json_hex(checkpoint -> 'root', 32);
  shown      bytea := json_hex(checkpoint -> 'header', 32);
  leaf_index numeric := parse_amount(json_digits(leaf -> 'index'));
  leaf_of    bigint := parse_id(json_digits(leaf -> 'participant_id'));
  exit_entry numeric := case when leaf -> 'exit_entry' = 'null' then 0 else parse_amount(json_digits(leaf -> 'exit_entry')) end;
  owner      bytea := json_hex(leaf -> 'owner', 20);
  amount     numeric := parse_amount(json_digits(leaf -> 'amount'));
  sums       numeric[];
  hashes     bytea[];
  domain     bytea;
begin
  perform refuse_invalid(
    array['header', 'root'],
    array[
      case when header is not null then invalid_hash(header) end,
      case when root is not null then invalid_hash(root) end
    ]
  );

  if num_nulls(
      group_id, number, chain_id, vault, previous, deposits, credited, settled, leaf_count, total, tree_root, shown,
      leaf_index, leaf_of, exit_entry, owner, amount
    ) > 0
    or greatest(chain_id, credited, amount) >= 2::numeric ^ 256
    or greatest(deposits, leaf_count, exit_entry) >= 9223372036854775808
    or total <> credited - settled
  then
    return false;
  end if;

  -- Siblings that cannot be right are not read.
  if (case jsonb_typeof(siblings) when 'array' then jsonb_array_length(siblings) end = sibling_count(leaf_count, leaf_index))
    is not true
  then
    return false;
  end if;
  select
    coalesce(array_agg(parse_amount(json_digits(s.sibling -> 'sum')) order by s.level), '{}'),
    coalesce(array_agg(json_hex(s.sibling -> 'hash', 32) order by s.level), '{}')
  into sums, hashes
  from jsonb_array_elements(siblings) with ordinality as s (sibling, level);

  domain := domain_hash(chain_id, vault, group_id);
  return
    shown = header_hash(
      domain, number, previous, deposits::bigint, credited, settled, leaf_count::bigint, total, tree_root
    )
    and (header is null or shown = parse_hex(header, 32))
    and (root is null or tree_root = parse_hex(root, 32))
    and proof_is_valid(
      tree_root, total, leaf_count, leaf_index,
      leaf_hash(domain, pack_leaf(leaf_of, exit_entry::bigint, owner, amount)), amount, sums, hashes
    );
end
$$;

alter function ledger.verify_proof owner to ledger_owner;
comment on function ledger.verify_proof is
  'Whether a proof, as get_proof returns it, shows a leaf of its checkpoint; with a header or a root that was published, 0x and 64 hex digits, whether it is one of that checkpoint. Without either it shows only that the proof is consistent. Reads no table. A malformed proof is false. Raises LG001.';
revoke execute on function ledger.verify_proof from public;
grant execute on function ledger.verify_proof to ledger_api;
-- <<< db/functions/api/verify_proof.sql

-- >>> db/functions/internal/addresses/assign_address.sql
-- Set the address of a participant whose row this transaction has locked, unless the participant has it already.
create or replace function ledger_internal.assign_address(
  group_id       bigint,
  participant_id bigint,
  address        bytea
) returns void
language plpgsql volatile
as $$
declare
  bound bytea;
begin
  select p.address
  into bound
  from ledger.participants as p
  where p.group_id = assign_address.group_id
    and p.id = assign_address.participant_id;
  if bound <> address then
    perform ledger_internal.refuse_bound_address(
      format('participant %s has another address', participant_id),
      format('is %s already', ledger_internal.format_address(bound))
    );
  end if;

  if bound is null then
    -- Do not wait for a participant who has the address: a renaming of theirs may wait for this transaction.
    perform ledger_internal.refuse_taken_address(group_id, participant_id, address);
    begin
      -- Waits for another session that binds the same address.
      update ledger.participants as p
      set
        address = assign_address.address,
        address_xid = pg_current_xact_id()
      where p.group_id = assign_address.group_id
        and p.id = assign_address.participant_id;
    exception when unique_violation then
      perform ledger_internal.refuse_bound_address(
        format('another participant has address %s', ledger_internal.format_address(address)),
        'is bound to another participant'
      );
    end;
  end if;
end
$$;

alter function ledger_internal.assign_address owner to ledger_owner;
comment on function ledger_internal.assign_address is
  'Set the address of a locked participant for good, if it has none. Raises LG010 where it has another one, or another participant present in the group has this one.';
revoke execute on function ledger_internal.assign_address from public;
-- <<< db/functions/internal/addresses/assign_address.sql

-- >>> db/functions/internal/addresses/format_address.sql
-- Spell an address on the main network with its checksum (EIP-55).
create or replace function ledger_internal.format_address(
  address bytea
) returns text
language plpgsql immutable strict parallel safe
as $$
declare
  digits   text := encode(address, 'hex');
  -- Of the digits, not of the bytes.
  checksum text := encode(ledger_internal.keccak_256(convert_to(digits, 'UTF8')), 'hex');
begin
  return '0x' || (
    select string_agg(
      case when substr(checksum, d.place, 1) collate "C" >= '8' then upper(d.digit collate "C") else d.digit end,
      ''
      order by d.place
    )
    from string_to_table(digits, null) with ordinality as s (digit, place)
    cross join lateral (select s.digit, s.place::integer) as d (digit, place)
  );
end
$$;

alter function ledger_internal.format_address owner to ledger_owner;
comment on function ledger_internal.format_address is
  'An address as 0x and 40 hex digits, whose case is the checksum of EIP-55; null for null.';
revoke execute on function ledger_internal.format_address from public;
-- <<< db/functions/internal/addresses/format_address.sql

-- >>> db/functions/internal/addresses/keccak_256.sql
-- Hash a message of one block with Keccak-256, as Ethereum does.
create or replace function ledger_internal.keccak_256(
  message bytea
) returns bytea
language plpgsql immutable strict parallel safe
as $$
declare
  block bytea;
  lanes bigint[];
begin
  if octet_length(message) > 135 then
    raise exception using
      errcode = 'program_limit_exceeded',
      message = format('a message of one block has at most 135 bytes, not %s', octet_length(message));
  end if;

  -- A 1 behind the message and another at the end of the block; where they meet, they share a byte.
  block := message || '\x01' || decode(repeat('00', 135 - octet_length(message)), 'hex');
  block := set_byte(block, 135, get_byte(block, 135) | 128);
  select array_agg(l.lane order by l.number)
  into lanes
  from (
    select
      n.number,
      bit_or(get_byte(block, 8 * n.number + b.place)::bigint << 8 * b.place)
    from generate_series(0, 16) as n (number)
    cross join generate_series(0, 7) as b (place)
    group by n.number
  ) as l (number, lane);
  -- The block is xored into lanes that are all 0.
  lanes := ledger_internal.permute_lanes(lanes || array_fill(0::bigint, array[8]));

  return (
    select string_agg(substr(int8send(l.lane), 9 - b.place, 1), '' order by l.number, b.place)
    from unnest(lanes[1:4]) with ordinality as l (lane, number)
    cross join generate_series(1, 8) as b (place)
  );
end
$$;

alter function ledger_internal.keccak_256 owner to ledger_owner;
comment on function ledger_internal.keccak_256 is
  'Keccak-256, with the padding from before SHA-3, of a message of at most 135 bytes; null for null.';
revoke execute on function ledger_internal.keccak_256 from public;
-- <<< db/functions/internal/addresses/keccak_256.sql

-- >>> db/functions/internal/addresses/permute_lanes.sql
-- Apply Keccak's permutation to its lanes.
create or replace function ledger_internal.permute_lanes(
  lanes bigint[]
) returns bigint[]
language plpgsql immutable strict parallel safe
as $$
-- Keccak-f[1600] of the specification, lane x + 5 y at a. Unrolled, and so long, since variables are several times faster
-- than the elements of an array. >> keeps the sign, so what it fills in is masked.
declare
  round_constants constant bigint[] := array[
    1, 32898, -9223372036854742902, -9223372034707259392,
    32907, 2147483649, -9223372034707259263, -9223372036854743031,
    138, 136, 2147516425, 2147483658,
    2147516555, -9223372036854775669, -9223372036854742903, -9223372036854743037,
    -9223372036854743038, -9223372036854775680, 32778, -9223372034707292150,
    -9223372034707259263, -9223372036854742912, 2147483649, -9223372034707259384
  ];
  round_constant bigint;
  a0 bigint; a1 bigint; a2 bigint; a3 bigint; a4 bigint;
  a5 bigint; a6 bigint; a7 bigint; a8 bigint; a9 bigint;
  a10 bigint; a11 bigint; a12 bigint; a13 bigint; a14 bigint;
  a15 bigint; a16 bigint; a17 bigint; a18 bigint; a19 bigint;
  a20 bigint; a21 bigint; a22 bigint; a23 bigint; a24 bigint;
  b0 bigint; b1 bigint; b2 bigint; b3 bigint; b4 bigint;
  b5 bigint; b6 bigint; b7 bigint; b8 bigint; b9 bigint;
  b10 bigint; b11 bigint; b12 bigint; b13 bigint; b14 bigint;
  b15 bigint; b16 bigint; b17 bigint; b18 bigint; b19 bigint;
  b20 bigint; b21 bigint; b22 bigint; b23 bigint; b24 bigint;
  c0 bigint; c1 bigint; c2 bigint; c3 bigint; c4 bigint;
  d0 bigint; d1 bigint; d2 bigint; d3 bigint; d4 bigint;
begin
  a0 := lanes[1]; a1 := lanes[2]; a2 := lanes[3]; a3 := lanes[4]; a4 := lanes[5];
  a5 := lanes[6]; a6 := lanes[7]; a7 := lanes[8]; a8 := lanes[9]; a9 := lanes[10];
  a10 := lanes[11]; a11 := lanes[12]; a12 := lanes[13]; a13 := lanes[14]; a14 := lanes[15];
  a15 := lanes[16]; a16 := lanes[17]; a17 := lanes[18]; a18 := lanes[19]; a19 := lanes[20];
  a20 := lanes[21]; a21 := lanes[22]; a22 := lanes[23]; a23 := lanes[24]; a24 := lanes[25];

  foreach round_constant in array round_constants loop
    c0 := a0 # a5 # a10 # a15 # a20;
    c1 := a1 # a6 # a11 # a16 # a21;
    c2 := a2 # a7 # a12 # a17 # a22;
    c3 := a3 # a8 # a13 # a18 # a23;
    c4 := a4 # a9 # a14 # a19 # a24;
    d0 := c4 # ((c1 << 1) | ((c1 >> 63) & 1));
    d1 := c0 # ((c2 << 1) | ((c2 >> 63) & 1));
    d2 := c1 # ((c3 << 1) | ((c3 >> 63) & 1));
    d3 := c2 # ((c4 << 1) | ((c4 >> 63) & 1));
    d4 := c3 # ((c0 << 1) | ((c0 >> 63) & 1));

    b0 := a0 # d0;
    b1 := ((a6 # d1) << 44) | (((a6 # d1) >> 20) & 17592186044415);
    b2 := ((a12 # d2) << 43) | (((a12 # d2) >> 21) & 8796093022207);
    b3 := ((a18 # d3) << 21) | (((a18 # d3) >> 43) & 2097151);
    b4 := ((a24 # d4) << 14) | (((a24 # d4) >> 50) & 16383);
    b5 := ((a3 # d3) << 28) | (((a3 # d3) >> 36) & 268435455);
    b6 := ((a9 # d4) << 20) | (((a9 # d4) >> 44) & 1048575);
    b7 := ((a10 # d0) << 3) | (((a10 # d0) >> 61) & 7);
    b8 := ((a16 # d1) << 45) | (((a16 # d1) >> 19) & 35184372088831);
    b9 := ((a22 # d2) << 61) | (((a22 # d2) >> 3) & 2305843009213693951);
    b10 := ((a1 # d1) << 1) | (((a1 # d1) >> 63) & 1);
    b11 := ((a7 # d2) << 6) | (((a7 # d2) >> 58) & 63);
    b12 := ((a13 # d3) << 25) | (((a13 # d3) >> 39) & 33554431);
    b13 := ((a19 # d4) << 8) | (((a19 # d4) >> 56) & 255);
    b14 := ((a20 # d0) << 18) | (((a20 # d0) >> 46) & 262143);
    b15 := ((a4 # d4) << 27) | (((a4 # d4) >> 37) & 134217727);
    b16 := ((a5 # d0) << 36) | (((a5 # d0) >> 28) & 68719476735);
    b17 := ((a11 # d1) << 10) | (((a11 # d1) >> 54) & 1023);
    b18 := ((a17 # d2) << 15) | (((a17 # d2) >> 49) & 32767);
    b19 := ((a23 # d3) << 56) | (((a23 # d3) >> 8) & 72057594037927935);
    b20 := ((a2 # d2) << 62) | (((a2 # d2) >> 2) & 4611686018427387903);
    b21 := ((a8 # d3) << 55) | (((a8 # d3) >> 9) & 36028797018963967);
    b22 := ((a14 # d4) << 39) | (((a14 # d4) >> 25) & 549755813887);
    b23 := ((a15 # d0) << 41) | (((a15 # d0) >> 23) & 2199023255551);
    b24 := ((a21 # d1) << 2) | (((a21 # d1) >> 62) & 3);

    a0 := b0 # (~b1 & b2) # round_constant;
    a1 := b1 # (~b2 & b3);
    a2 := b2 # (~b3 & b4);
    a3 := b3 # (~b4 & b0);
    a4 := b4 # (~b0 & b1);
    a5 := b5 # (~b6 & b7);
    a6 := b6 # (~b7 & b8);
    a7 := b7 # (~b8 & b9);
    a8 := b8 # (~b9 & b5);
    a9 := b9 # (~b5 & b6);
    a10 := b10 # (~b11 & b12);
    a11 := b11 # (~b12 & b13);
    a12 := b12 # (~b13 & b14);
    a13 := b13 # (~b14 & b10);
    a14 := b14 # (~b10 & b11);
    a15 := b15 # (~b16 & b17);
    a16 := b16 # (~b17 & b18);
    a17 := b17 # (~b18 & b19);
    a18 := b18 # (~b19 & b15);
    a19 := b19 # (~b15 & b16);
    a20 := b20 # (~b21 & b22);
    a21 := b21 # (~b22 & b23);
    a22 := b22 # (~b23 & b24);
    a23 := b23 # (~b24 & b20);
    a24 := b24 # (~b20 & b21);
  end loop;

  return array[
    a0, a1, a2, a3, a4,
    a5, a6, a7, a8, a9,
    a10, a11, a12, a13, a14,
    a15, a16, a17, a18, a19,
    a20, a21, a22, a23, a24
  ];
end
$$;

alter function ledger_internal.permute_lanes owner to ledger_owner;
comment on function ledger_internal.permute_lanes is
  'The 25 lanes of 64 bits that Keccak-f[1600] makes of 25; null for null. For keccak_256.';
revoke execute on function ledger_internal.permute_lanes from public;
-- <<< db/functions/internal/addresses/permute_lanes.sql

-- >>> db/functions/internal/checkpoints/add_checkpoint.sql
-- Write a group's next checkpoint, with its leaves.
create or replace function ledger_internal.add_checkpoint(
  group_id bigint
) returns bigint
language plpgsql volatile
as $$
declare
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
  made.number := coalesce(previous.number, 0) + 1;
  -- The group has no vault.
  made.chain_id := 0;
  made.vault := decode(repeat('00', 20), 'hex');
  made.previous := coalesce(previous.header, decode(repeat('00', 32), 'hex'));
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
  'Write the next checkpoint of a group, chained to the one before it, and return its number. Call it where no other transaction makes a checkpoint of the group, and before this one has written anything. Raises LG011, 40001 where another transaction made it, XX001 where the leaves are not what was credited less what was settled.';
revoke execute on function ledger_internal.add_checkpoint from public;
-- <<< db/functions/internal/checkpoints/add_checkpoint.sql

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
      count(*) as deposits,
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

-- >>> db/functions/internal/checkpoints/checkpoint_is_current.sql
-- Check that nothing of a group has moved since its newest checkpoint.
create or replace function ledger_internal.checkpoint_is_current(
  checkpoint ledger.checkpoints
) returns boolean
language plpgsql stable
as $$
declare
  feed         ledger.feeds;
  newest_entry ledger.entries;
begin
  select f.*
  into feed
  from ledger.feeds as f
  order by f.generation desc
  limit 1;
  -- A snapshot means something among the transactions of its own feed only.
  if checkpoint.number is null or checkpoint.generation <> feed.generation then
    return false;
  end if;

  -- A transaction gets its number before its entries get their ids. So an entry of one that began after the snapshot has
  -- a higher id than all that the snapshot shows, and would be the newest.
  select e.*
  into newest_entry
  from ledger.entries as e
  where e.group_id = checkpoint.group_id
  order by e.id desc
  limit 1;
  if newest_entry.id > feed.last_restored and not pg_visible_in_snapshot(newest_entry.xid, checkpoint.snapshot) then
    return false;
  end if;

  return not exists (
    -- Those that were in progress at the snapshot.
    select from pg_snapshot_xip(checkpoint.snapshot) as x (xid)
    join ledger.entries as e on e.xid = x.xid
    where e.group_id = checkpoint.group_id
      and e.id > feed.last_restored
  ) and not exists (
    select from ledger.settlements as s
    where s.group_id = checkpoint.group_id
      and s.settled_xid >= pg_snapshot_xmin(checkpoint.snapshot)
      and not pg_visible_in_snapshot(s.settled_xid, checkpoint.snapshot)
      and s.settled_at >= feed.began_at
  ) and not exists (
    select from ledger.participants as p
    where p.group_id = checkpoint.group_id
      and p.address_xid >= pg_snapshot_xmin(checkpoint.snapshot)
      and not pg_visible_in_snapshot(p.address_xid, checkpoint.snapshot)
  );
end
$$;

alter function ledger_internal.checkpoint_is_current owner to ledger_owner;
comment on function ledger_internal.checkpoint_is_current is
  'Whether the newest checkpoint of a group includes every entry, settlement and address of it that is committed: some look-ups of indexes, however large the group. After a restore from a dump it is false for a group with an address, until the new server has counted as many transactions as the old one.';
revoke execute on function ledger_internal.checkpoint_is_current from public;
-- <<< db/functions/internal/checkpoints/checkpoint_is_current.sql

-- >>> db/functions/internal/checkpoints/chunk_tree.sql
-- Fold the leaves of a chunk.
create or replace function ledger_internal.chunk_tree(
  chunk  ledger.checkpoint_chunks,
  domain bytea,
  place  integer default null
) returns ledger_internal.tree
language sql immutable
as $$
  select t.*
  from (
    select
      array_agg(ledger_internal.word_amount(substr(l.leaf, 37)) order by l.place) as sums,
      array_agg(substr(l.leaf, 37) || ledger_internal.leaf_hash(chunk_tree.domain, l.leaf) order by l.place) as nodes
    from ledger_internal.unpack_chunk(chunk) with ordinality as l (leaf, place)
  ) as n
  cross join ledger_internal.fold_tree(n.sums, n.nodes, chunk_tree.place) as t
$$;

alter function ledger_internal.chunk_tree owner to ledger_owner;
comment on function ledger_internal.chunk_tree is
  'The root of the tree of a chunk''s leaves, and the siblings of the one at a place, from 0.';
revoke execute on function ledger_internal.chunk_tree from public;
-- <<< db/functions/internal/checkpoints/chunk_tree.sql

-- >>> db/functions/internal/checkpoints/chunks_of.sql
-- Find the chunks of a checkpoint, or compute them again.
create or replace function ledger_internal.chunks_of(
  checkpoint ledger.checkpoints
) returns setof ledger.checkpoint_chunks
language plpgsql stable
as $$
begin
  return query
  select k.*
  from ledger.checkpoint_chunks as k
  where k.group_id = checkpoint.group_id
    and k.number = checkpoint.number
  order by k.chunk;
  if not found and checkpoint.leaf_count > 0 then
    return query select k.* from ledger_internal.recompute_chunks(checkpoint) as k;
  end if;
end
$$;

alter function ledger_internal.chunks_of owner to ledger_owner;
comment on function ledger_internal.chunks_of is
  'The chunks of a checkpoint in their order, computed from the record where they were deleted. Raises LG002 where they can no longer be computed.';
revoke execute on function ledger_internal.chunks_of from public;
-- <<< db/functions/internal/checkpoints/chunks_of.sql

-- >>> db/functions/internal/checkpoints/current_leaves.sql
-- Find the leaves of a group in the snapshot of the statement.
create or replace function ledger_internal.current_leaves(
  group_id bigint
) returns setof ledger_internal.unpacked_leaf
language sql stable
as $$
  select
    p.id,
    null::bigint,
    p.address::bytea,
    p.amount
  from ledger.participants as p
  where p.group_id = current_leaves.group_id
    and p.exited_at is null
  union all
  select
    p.id,
    e.id,
    p.address::bytea,
    e.amount
  from ledger.settlements as s
  join ledger.entries as e on e.group_id = s.group_id and e.id = s.entry_id
  join ledger.participants as p on p.group_id = e.group_id and p.id = e.from_id
  where s.group_id = current_leaves.group_id
    and s.settled_at is null
$$;

alter function ledger_internal.current_leaves owner to ledger_owner;
comment on function ledger_internal.current_leaves is
  'The leaves of a group: participants who are present, and exits that are not settled, in no order.';
revoke execute on function ledger_internal.current_leaves from public;
-- <<< db/functions/internal/checkpoints/current_leaves.sql

-- >>> db/functions/internal/checkpoints/find_checkpoint.sql
-- Find a checkpoint of a group, or its newest one.
create or replace function ledger_internal.find_checkpoint(
  group_id bigint,
  number   bigint default null
) returns ledger.checkpoints
language plpgsql stable
as $$
declare
  checkpoint ledger.checkpoints;
begin
  select c.*
  into checkpoint
  from ledger.checkpoints as c
  where c.group_id = find_checkpoint.group_id
    and c.number = coalesce(
      find_checkpoint.number,
      (select max(n.number) from ledger.checkpoints as n where n.group_id = find_checkpoint.group_id)
    );
  if not found then
    perform ledger_internal.refuse_unknown_checkpoint(group_id, number);
  end if;
  return checkpoint;
end
$$;

alter function ledger_internal.find_checkpoint owner to ledger_owner;
comment on function ledger_internal.find_checkpoint is
  'The row of a checkpoint, the newest of the group for null. Raises LG001, LG002.';
revoke execute on function ledger_internal.find_checkpoint from public;
-- <<< db/functions/internal/checkpoints/find_checkpoint.sql

-- >>> db/functions/internal/checkpoints/leaves_at.sql
-- Find the leaves of a group in a past snapshot.
create or replace function ledger_internal.leaves_at(
  group_id bigint,
  snapshot pg_snapshot,
  feed     ledger.feeds
) returns setof ledger_internal.unpacked_leaf
language sql stable
as $$
  select
    p.id,
    case when last.kind = 'exit' then last.id end,
    case when pg_visible_in_snapshot(p.address_xid, leaves_at.snapshot) then p.address end,
    case when last.kind = 'exit' then last.amount else last.balance end
  from ledger.participants as p
  cross join lateral (
    select l.*
    from (
      (
        select
          e.id,
          e.kind,
          e.created_at,
          e.amount,
          e.from_amount as balance
        from ledger.entries as e
        where e.group_id = p.group_id
          and e.from_id = p.id
          and (e.id <= (feed).last_restored or pg_visible_in_snapshot(e.xid, leaves_at.snapshot))
        order by e.created_at desc, e.id desc
        limit 1
      )
      union all
      (
        select
          e.id,
          e.kind,
          e.created_at,
          e.amount,
          e.to_amount
        from ledger.entries as e
        where e.group_id = p.group_id
          and e.to_id = p.id
          and (e.id <= (feed).last_restored or pg_visible_in_snapshot(e.xid, leaves_at.snapshot))
        order by e.created_at desc, e.id desc
        limit 1
      )
    ) as l
    order by l.created_at desc, l.id desc
    limit 1
  ) as last
  left join ledger.settlements as s on s.group_id = p.group_id and s.entry_id = last.id
  where p.group_id = leaves_at.group_id
    -- Without a transaction it was settled before there were checkpoints.
    and (s.settled_at is null or not coalesce(pg_visible_in_snapshot(s.settled_xid, leaves_at.snapshot), true))
$$;

alter function ledger_internal.leaves_at owner to ledger_owner;
comment on function ledger_internal.leaves_at is
  'The leaves of a group in a snapshot of the feed: participants who were present, and exits that were not settled. Two index look-ups for each participant, and as many more entries as each has moved since.';
revoke execute on function ledger_internal.leaves_at from public;
-- <<< db/functions/internal/checkpoints/leaves_at.sql

-- >>> db/functions/internal/checkpoints/pack_chunk.sql
-- Make a chunk of a checkpoint from its leaves.
create or replace function ledger_internal.pack_chunk(
  group_id bigint,
  number   bigint,
  chunk    integer,
  domain   bytea,
  amounts  numeric[],
  leaves   bytea[]
) returns ledger.checkpoint_chunks
language plpgsql immutable
as $$
declare
  packed ledger.checkpoint_chunks;
  nodes  bytea[];
  tree   ledger_internal.tree;
begin
  packed.width := octet_length(ltrim(ledger_internal.word((select max(a.amount) from unnest(amounts) as a (amount))), '\x00'));
  select
    array_agg(substr(l.leaf, 37) || ledger_internal.leaf_hash(domain, l.leaf) order by l.place),
    string_agg(substr(l.leaf, 1, 36) || substr(l.leaf, 69 - packed.width), '' order by l.place)
  into nodes, packed.leaves
  from unnest(leaves) with ordinality as l (leaf, place);
  tree := ledger_internal.fold_tree(amounts, nodes);

  packed.group_id := group_id;
  packed.number := number;
  packed.chunk := chunk;
  packed.first_id := ('x' || encode(substr(leaves[1], 1, 8), 'hex'))::bit(64)::bigint;
  packed.sum := tree.sum;
  packed.hash := tree.hash;
  return packed;
end
$$;

alter function ledger_internal.pack_chunk owner to ledger_owner;
comment on function ledger_internal.pack_chunk is
  'The row of a chunk: its leaves, at most 1,024 by ascending participant, each as pack_leaf makes it, and the node above them.';
revoke execute on function ledger_internal.pack_chunk from public;
-- <<< db/functions/internal/checkpoints/pack_chunk.sql

-- >>> db/functions/internal/checkpoints/recompute_chunks.sql
-- Compute the chunks of a checkpoint from the record.
create or replace function ledger_internal.recompute_chunks(
  checkpoint ledger.checkpoints
) returns setof ledger.checkpoint_chunks
language plpgsql stable
as $$
declare
  domain bytea := ledger_internal.domain_hash(checkpoint.chain_id, checkpoint.vault, checkpoint.group_id);
  feed   ledger.feeds;
  chunk  ledger.checkpoint_chunks;
  sums   numeric[] := array[]::numeric[];
  nodes  bytea[] := array[]::bytea[];
  tree   ledger_internal.tree;
begin
  select f.*
  into feed
  from ledger.feeds as f
  join pg_control_system() as c on c.system_identifier = f.system_identifier
  where f.generation = (select max(n.generation) from ledger.feeds as n);
  if feed.generation is distinct from checkpoint.generation then
    raise exception using
      errcode = 'LG002',
      column  = 'number',
      message = format('the leaves of checkpoint %s of group %s were deleted before a restore', checkpoint.number, checkpoint.group_id),
      detail  = 'number: its leaves were deleted, and cannot be computed since the ledger was restored from a backup',
      hint    = 'Use a checkpoint whose leaves are kept: a new one, for example.';
  end if;

  for chunk in
    select k.*
    from (
      select
        l.place / 1024 as chunk,
        array_agg(l.amount order by l.place) as amounts,
        array_agg(ledger_internal.pack_leaf(l.participant_id, l.exit_entry, l.owner, l.amount) order by l.place) as leaves
      from (
        select
          u.*,
          row_number() over (order by u.participant_id) - 1 as place
        from ledger_internal.leaves_at(checkpoint.group_id, checkpoint.snapshot, feed) as u
      ) as l
      group by l.place / 1024
    ) as p
    cross join lateral ledger_internal.pack_chunk(
      checkpoint.group_id, checkpoint.number, p.chunk::integer, domain, p.amounts, p.leaves
    ) as k
    order by p.chunk
  loop
    sums := sums || chunk.sum::numeric;
    nodes := nodes || (ledger_internal.word(chunk.sum) || chunk.hash);
    return next chunk;
  end loop;

  tree := ledger_internal.fold_tree(sums, nodes);
  if tree.hash <> checkpoint.root or tree.sum <> checkpoint.total then
    raise exception using
      errcode = 'data_corrupted',
      message = format('the record gives another root for checkpoint %s of group %s', checkpoint.number, checkpoint.group_id),
      hint    = 'Run ledger verify: the books have changed since the checkpoint.';
  end if;
end
$$;

alter function ledger_internal.recompute_chunks owner to ledger_owner;
comment on function ledger_internal.recompute_chunks is
  'The chunks of a checkpoint in their order, from the entries, settlements and addresses that its snapshot shows. Raises LG002 where the ledger was restored since, XX001 where they have another root than the checkpoint.';
revoke execute on function ledger_internal.recompute_chunks from public;
-- <<< db/functions/internal/checkpoints/recompute_chunks.sql

-- >>> db/functions/internal/checkpoints/seal_entries.sql
-- Hash a group's entries from one checkpoint to the next.
create or replace function ledger_internal.seal_entries(
  checkpoint ledger.checkpoints,
  previous   ledger.checkpoints
) returns bytea
language plpgsql stable
as $$
declare
  seal  bytea := coalesce(previous.seal, decode(repeat('00', 32), 'hex'));
  feed  record;
  entry bytea;
begin
  -- The entries of each feed, in its order: a snapshot means something among the transactions of its own only.
  for feed in
    select
      f.generation,
      f.last_restored as after,
      lead(f.last_restored, 1, 9223372036854775807) over (order by f.generation) as upto
    from ledger.feeds as f
    order by f.generation
  loop
    continue when feed.generation < previous.generation;
    exit when feed.generation > checkpoint.generation;

    -- Planned at each call: from the previous checkpoint on is little of the record, or all of it.
    for entry in execute
      $query$
        select convert_to(
          concat_ws(
            '|',
            e.group_id,
            e.id,
            e.kind,
            coalesce(e.from_id::text, ''),
            coalesce(e.to_id::text, ''),
            e.amount,
            coalesce(e.from_amount::text, ''),
            coalesce(e.to_amount::text, ''),
            trunc(extract(epoch from e.created_at) * 1000000),
            coalesce(e.reverses::text, ''),
            coalesce(e.metadata::text, '')
          ),
          'UTF8'
        )
        from ledger.entries as e
        where e.group_id = $1
          and e.id > $2
          and e.id <= $3
          and e.xid >= $4
          and ($5 is null or not pg_visible_in_snapshot(e.xid, $5))
          and ($6 is null or pg_visible_in_snapshot(e.xid, $6))
        order by e.xid, e.id
      $query$
    using
      checkpoint.group_id,
      feed.after,
      feed.upto,
      case when feed.generation = previous.generation then pg_snapshot_xmin(previous.snapshot) else '0' end,
      case when feed.generation = previous.generation then previous.snapshot end,
      case when feed.generation = checkpoint.generation then checkpoint.snapshot end
    loop
      seal := sha256('\x05'::bytea || seal || entry);
    end loop;
  end loop;
  return seal;
end
$$;

alter function ledger_internal.seal_entries owner to ledger_owner;
comment on function ledger_internal.seal_entries is
  'The seal of a checkpoint. It begins as the seal of the previous one, 32 zero bytes for the first, and for each entry that the checkpoint includes and the previous one does not, in the feed''s order, it becomes SHA-256 of 0x05 | seal 32 | entry. An entry is the text, in UTF-8, of group_id|id|kind|from_id|to_id|amount|from_amount|to_amount|created_at|reverses|metadata: created_at in microseconds since 1970, empty what is null. So the seal of a checkpoint that is kept elsewhere shows whether any entry before it was changed, removed or added.';
revoke execute on function ledger_internal.seal_entries from public;
-- <<< db/functions/internal/checkpoints/seal_entries.sql

-- >>> db/functions/internal/checkpoints/unpack_chunk.sql
-- Read the leaves of a chunk as they were packed.
create or replace function ledger_internal.unpack_chunk(
  chunk ledger.checkpoint_chunks
) returns setof bytea
language sql immutable
as $$
  select
    substr(c.leaves, i.start, 36)
      || substr('\x0000000000000000000000000000000000000000000000000000000000000000'::bytea, 1, 32 - c.width)
      || substr(c.leaves, i.start + 36, c.width)
  -- Read from the disk once, and not for each leaf.
  from (select (chunk).leaves || ''::bytea as leaves, (chunk).width::integer as width offset 0) as c
  cross join lateral generate_series(1, octet_length(c.leaves), 36 + c.width) as i (start)
  order by i.start
$$;

alter function ledger_internal.unpack_chunk owner to ledger_owner;
comment on function ledger_internal.unpack_chunk is
  'The leaves of a chunk in their order, 68 bytes each, as pack_leaf makes them.';
revoke execute on function ledger_internal.unpack_chunk from public;
-- <<< db/functions/internal/checkpoints/unpack_chunk.sql

-- >>> db/functions/internal/checkpoints/unpack_leaves.sql
-- Read the leaves of a chunk.
create or replace function ledger_internal.unpack_leaves(
  chunk ledger.checkpoint_chunks
) returns setof ledger.leaf
language sql immutable
as $$
  select
    1024 * (chunk).chunk::bigint + l.place - 1,
    ('x' || encode(substr(l.leaf, 1, 8), 'hex'))::bit(64)::bigint,
    nullif(('x' || encode(substr(l.leaf, 9, 8), 'hex'))::bit(64)::bigint, 0),
    ledger_internal.hex(substr(l.leaf, 17, 20)),
    ledger_internal.word_amount(substr(l.leaf, 37))
  from ledger_internal.unpack_chunk(chunk) with ordinality as l (leaf, place)
$$;

alter function ledger_internal.unpack_leaves owner to ledger_owner;
comment on function ledger_internal.unpack_leaves is
  'The leaves of a chunk, by ascending participant.';
revoke execute on function ledger_internal.unpack_leaves from public;
-- <<< db/functions/internal/checkpoints/unpack_leaves.sql

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
    -- Two thirds of the time the core is free for transfers.
    if pauses and cardinality(piece.leaves) = 1024 then
      perform pg_sleep(least(2 * extract(epoch from clock_timestamp() - resumed), 1));
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
  'Write the chunks of a checkpoint of this group and number in one snapshot, and return the snapshot, the figures, the seal and the root of it. In a session without a statement time-out it pauses twice as long as it works. Call it where no other transaction makes a checkpoint of the group. Raises LG011.';
revoke execute on function ledger_internal.write_chunks from public;
-- <<< db/functions/internal/checkpoints/write_chunks.sql

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

-- >>> db/functions/internal/errors/refuse_bound_address.sql
-- Raise LG010 for an address that cannot be bound.
create or replace function ledger_internal.refuse_bound_address(
  message text,
  reason  text
) returns void
language plpgsql immutable
as $$
begin
  raise exception using
    errcode = 'LG010',
    column  = 'address',
    message = refuse_bound_address.message,
    detail  = 'address: ' || reason,
    hint    = 'Look at the participant''s address with ledger.get_address(); it is bound for good, and to one participant of a group.';
end
$$;

alter function ledger_internal.refuse_bound_address owner to ledger_owner;
comment on function ledger_internal.refuse_bound_address is
  'Raises LG010: another address is bound to the participant, or the address to another participant.';
revoke execute on function ledger_internal.refuse_bound_address from public;
-- <<< db/functions/internal/errors/refuse_bound_address.sql

-- >>> db/functions/internal/errors/refuse_large_group.sql
-- Raise LG011 if no checkpoint can hold what was credited to a group.
create or replace function ledger_internal.refuse_large_group(
  group_id bigint,
  credited numeric
) returns void
language plpgsql immutable
as $$
begin
  if credited >= 2::numeric ^ 256 then
    raise exception using
      errcode = 'LG011',
      column  = 'group_id',
      message = format('group %s was credited %s in all, and a checkpoint holds less than 2^256', group_id, credited),
      detail  = 'group_id: was credited 2^256 or more in all',
      hint    = 'Go on in a new group.';
  end if;
end
$$;

alter function ledger_internal.refuse_large_group owner to ledger_owner;
comment on function ledger_internal.refuse_large_group is
  'Raises LG011 if all deposits of a group come to 2^256 or more.';
revoke execute on function ledger_internal.refuse_large_group from public;
-- <<< db/functions/internal/errors/refuse_large_group.sql

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
  'Raises LG010 if another participant than this one, who may be null, is present in the group and has the address; nothing for a null address.';
revoke execute on function ledger_internal.refuse_taken_address from public;
-- <<< db/functions/internal/errors/refuse_taken_address.sql

-- >>> db/functions/internal/errors/refuse_unknown_checkpoint.sql
-- Raise LG002 for a checkpoint that a group does not have, or for the group itself.
create or replace function ledger_internal.refuse_unknown_checkpoint(
  group_id bigint,
  number   bigint
) returns void
language plpgsql stable
as $$
begin
  perform ledger_internal.refuse_invalid(array['group_id'], array[ledger_internal.invalid_id(group_id)]);
  if not exists (select from ledger.groups as g where g.id = refuse_unknown_checkpoint.group_id) then
    perform ledger_internal.refuse_unknown_group(group_id);
  end if;
  raise exception using
    errcode = 'LG002',
    column  = 'number',
    message = concat('no checkpoint ', number || ' ', 'of group ', group_id),
    detail  = 'number: no such checkpoint of the group',
    hint    = 'List the group''s checkpoints with ledger.list_checkpoints(), or make one with ledger.checkpoint().';
end
$$;

alter function ledger_internal.refuse_unknown_checkpoint owner to ledger_owner;
comment on function ledger_internal.refuse_unknown_checkpoint is
  'Raise LG002 that blames number for a checkpoint that the group does not have, for null one at all, or the group when there never was one; LG001 for a null group.';
revoke execute on function ledger_internal.refuse_unknown_checkpoint from public;
-- <<< db/functions/internal/errors/refuse_unknown_checkpoint.sql

-- >>> db/functions/internal/feed/current_feed.sql
-- Find the feed in use, unless it is another server's.
create or replace function ledger_internal.current_feed(
  blamed text
) returns ledger.feeds
language plpgsql stable
as $$
declare
  feed ledger.feeds;
begin
  select f.*
  into feed
  from ledger.feeds as f
  order by f.generation desc
  limit 1;
  if feed.system_identifier <> (select c.system_identifier from pg_control_system() as c) then
    raise exception using
      errcode = 'LG009',
      column  = blamed,
      message = 'the ledger was restored into another server, so the feed has ended',
      detail  = format('%s: belongs to the feed of another server', blamed),
      hint    = 'As the owner call ledger.restart_feed(). Readers of the feed then begin again, without a cursor.';
  end if;
  return feed;
end
$$;

alter function ledger_internal.current_feed owner to ledger_owner;
comment on function ledger_internal.current_feed is
  'The newest feed. Raises LG009 that blames this parameter where it began in another server and was not restarted in this one.';
revoke execute on function ledger_internal.current_feed from public;
-- <<< db/functions/internal/feed/current_feed.sql

-- >>> db/functions/internal/feed/parse_feed_cursor.sql
-- Parse a cursor of the feed.
create or replace function ledger_internal.parse_feed_cursor(
  after text
) returns ledger_internal.feed_position
language plpgsql stable
as $$
declare
  feed  ledger.feeds := ledger_internal.current_feed('after');
  part  text[];
  place ledger_internal.feed_position;
begin
  place.generation := feed.generation;
  place.last_restored := feed.last_restored;
  place.xid := feed.first_xid;
  place.id := 0;
  if after is null then
    if feed.last_restored > 0 then
      place.restored_xid := '0';
      place.restored_id := 0;
    end if;
    return place;
  end if;

  -- The type xid8 reads digits after a zero in base 8.
  part := regexp_match(after collate "C", '^([0-9]+)-(0|[1-9][0-9]*)-([0-9]+)$');
  if part is null or length(part[1]) > 9 or length(part[2]) > 19 or ledger_internal.parse_id(part[3]) is null then
    perform ledger_internal.refuse_invalid(array['after'], array['must be a cursor of the feed']);
  end if;
  if part[1]::integer <> feed.generation
    or (
      part[3]::bigint > feed.last_restored
      and (part[2]::xid8 < feed.first_xid or part[2]::xid8 >= pg_snapshot_xmax(pg_current_snapshot()))
    )
  then
    raise exception using
      errcode = 'LG009',
      column  = 'after',
      message = 'the cursor belongs to a feed that has ended',
      detail  = 'after: belongs to a feed that has ended',
      hint    = 'The ledger was reset, or restored from a backup. Read the feed from its beginning, without a cursor.';
  end if;
  if part[3]::bigint <= feed.last_restored then
    place.restored_xid := part[2]::xid8;
    place.restored_id := part[3]::bigint;
  else
    place.xid := part[2]::xid8;
    place.id := part[3]::bigint;
  end if;
  return place;
end
$$;

alter function ledger_internal.parse_feed_cursor owner to ledger_owner;
comment on function ledger_internal.parse_feed_cursor is
  'The position of a cursor in the feed; its beginning for null. Raises LG001 for an invalid cursor, LG009 for one of a feed that a reset or a restored backup ended.';
revoke execute on function ledger_internal.parse_feed_cursor from public;
-- <<< db/functions/internal/feed/parse_feed_cursor.sql

-- >>> db/functions/internal/history/entries_source.sql
-- Build the source of a page of a group's history.
create or replace function ledger_internal.entries_source(
  with_metadata boolean,
  settled       boolean
) returns text
language sql stable
as $$
  select case
    -- Found through the index on groups and metadata alone, then sorted: meant for values that few entries have.
    when with_metadata then $source$
      entries_with_metadata($1, $9) as e
      where e.kind = any ($2) and ($8 is null or exists (
        select from settlements as s
        where s.group_id = $1 and s.entry_id = e.id and (s.settled_at is not null) = $8
      ))
    $source$
    when settled is not null then replace(
      $source$
        (select s.exited_at as created_at, s.entry_id as id from settlements as s
        where s.group_id = $1 and s.settled_at {state}
          and (s.exited_at, s.entry_id) > ($3, $4) and (s.exited_at, s.entry_id) < ($5, $6)
        order by s.exited_at {direction}, s.entry_id {direction} limit $7) as e
        where true
      $source$,
      '{state}',
      -- Spelled as the condition of an index.
      case when settled then 'is not null' else 'is null' end
    )
    else $source$
      unnest($2) as k (kind) cross join lateral (
        select f.created_at, f.id from entries as f
        where f.group_id = $1 and f.kind = k.kind
          and (f.created_at, f.id) > ($3, $4) and (f.created_at, f.id) < ($5, $6)
        order by f.created_at {direction}, f.id {direction} limit $7
      ) as e
      where true
    $source$
  end
$$;

alter function ledger_internal.entries_source owner to ledger_owner;
comment on function ledger_internal.entries_source is
  'The source for history_query of the entries of group $1: those of the kinds $2, exits that are settled or not ($8), or those whose metadata contain $9. For list_entries.';
revoke execute on function ledger_internal.entries_source from public;
-- <<< db/functions/internal/history/entries_source.sql

-- >>> db/functions/internal/history/participant_entries_source.sql
-- Build the source of a page of a participant's history.
create or replace function ledger_internal.participant_entries_source(
  with_metadata boolean
) returns text
language sql stable
as $$
  select case
    when with_metadata then $source$
      entries_with_metadata($1, $9) as e
      where $8 in (e.from_id, e.to_id) and e.kind = any ($2)
    $source$
    -- A participant's first entry is the join, and the last one may be the exit: neither is looked for further.
    else $source$
      (
        (select f.created_at, f.id from entries as f
        where 'transfer' = any ($2) and f.group_id = $1 and f.from_id = $8 and f.kind = 'transfer'
          and (f.created_at, f.id) > ($3, $4) and (f.created_at, f.id) < ($5, $6)
        order by f.created_at {direction}, f.id {direction} limit $7)
        union all
        (select f.created_at, f.id from entries as f
        where 'transfer' = any ($2) and f.group_id = $1 and f.to_id = $8 and f.kind = any ($2) and f.kind <> 'join'
          and (f.created_at, f.id) > ($3, $4) and (f.created_at, f.id) < ($5, $6)
        order by f.created_at {direction}, f.id {direction} limit $7)
        union all
        -- Deposits alone: the participant may have received many more transfers, which this does not read.
        (select t.created_at, t.entry_id from group_total_history as t
        where $2 = '{deposit}' and t.group_id = $1 and t.participant_id = $8
          and (t.created_at, t.entry_id) > ($3, $4) and (t.created_at, t.entry_id) < ($5, $6)
        order by t.created_at {direction}, t.entry_id {direction} limit $7)
        union all
        select f.created_at, f.id from (
          select * from entries as f
          where 'join' = any ($2) and f.group_id = $1 and f.to_id = $8
          order by f.created_at, f.id limit 1
        ) as f
        where f.kind = 'join'
        union all
        select f.created_at, f.id from (
          select * from entries as f
          where 'exit' = any ($2) and f.group_id = $1 and f.from_id = $8
          order by f.created_at desc, f.id desc limit 1
        ) as f
        where f.kind = 'exit'
      ) as e
      where true
    $source$
  end
$$;

alter function ledger_internal.participant_entries_source owner to ledger_owner;
comment on function ledger_internal.participant_entries_source is
  'The source for history_query of the entries of participant $8 of group $1: those of the kinds $2, or those of them whose metadata contain $9. For list_participant_entries.';
revoke execute on function ledger_internal.participant_entries_source from public;
-- <<< db/functions/internal/history/participant_entries_source.sql

-- >>> db/functions/internal/history/record_name_change.sql
-- Record the change of a name.
create or replace function ledger_internal.record_name_change(
  group_id       bigint,
  participant_id bigint,
  old_name       text,
  new_name       text
) returns void
language sql volatile
as $$
  insert into ledger.name_changes (group_id, participant_id, old_name, new_name)
  select
    record_name_change.group_id,
    record_name_change.participant_id,
    record_name_change.old_name,
    record_name_change.new_name
  where record_name_change.old_name <> record_name_change.new_name
$$;

alter function ledger_internal.record_name_change owner to ledger_owner;
comment on function ledger_internal.record_name_change is
  'Record that a participant was renamed, or the group where the participant is null; nothing where the name stayed the same.';
revoke execute on function ledger_internal.record_name_change from public;
-- <<< db/functions/internal/history/record_name_change.sql

-- >>> db/functions/internal/idempotency/transfer_all_request.sql
-- List the values that identify a multi-party transfer among requests with the same idempotency key.
create or replace function ledger_internal.transfer_all_request(
  from_ids  bigint[],
  to_ids    bigint[],
  amounts   numeric[],
  metadatas jsonb[]
) returns text[]
language sql immutable parallel safe
as $$
  select array[
    'transfer_all',
    transfer_all_request.from_ids::text,
    transfer_all_request.to_ids::text,
    transfer_all_request.amounts::text,
    transfer_all_request.metadatas::text
  ]
$$;

alter function ledger_internal.transfer_all_request owner to ledger_owner;
comment on function ledger_internal.transfer_all_request is
  'The operation and the values of a multi-party transfer, by columns, for its fingerprint; metadatas is null where no line has any.';
revoke execute on function ledger_internal.transfer_all_request from public;
-- <<< db/functions/internal/idempotency/transfer_all_request.sql

-- >>> db/functions/internal/proofs/domain_hash.sql
-- Hash what a group's leaves and headers belong to.
create or replace function ledger_internal.domain_hash(
  chain_id numeric,
  vault    bytea,
  group_id bigint
) returns bytea
language sql immutable parallel safe
as $$
  select sha256(
    '\x03'::bytea
    || 'ledger/vault/1'::bytea
    || ledger_internal.word(domain_hash.chain_id)
    || domain_hash.vault
    || int8send(domain_hash.group_id)
  )
$$;

alter function ledger_internal.domain_hash owner to ledger_owner;
comment on function ledger_internal.domain_hash is
  'SHA-256 of 0x03 | "ledger/vault/1" 14 | chain_id 32 | vault 20 | group_id 8: no leaf or header of another group, vault or chain has it. A group without a vault has chain 0 and vault 0. Raises 22003.';
revoke execute on function ledger_internal.domain_hash from public;
-- <<< db/functions/internal/proofs/domain_hash.sql

-- >>> db/functions/internal/proofs/fold_tree.sql
-- Fold nodes into the root of their tree.
create or replace function ledger_internal.fold_tree(
  sums  numeric[],
  nodes bytea[],
  place integer default null
) returns ledger_internal.tree
language plpgsql immutable parallel safe
as $$
declare
  width integer := cardinality(sums);
  tree  ledger_internal.tree;
begin
  tree.sibling_sums := '{}';
  tree.sibling_hashes := '{}';

  -- In place, level by level: a node is the word of its sum and its hash.
  while width > 1 loop
    if place is not null then
      if place # 1 < width then
        tree.sibling_sums := tree.sibling_sums || sums[(place # 1) + 1];
        tree.sibling_hashes := tree.sibling_hashes || substr(nodes[(place # 1) + 1], 33);
      end if;
      place := place / 2;
    end if;

    for i in 1 .. width / 2 loop
      sums[i] := sums[2 * i - 1] + sums[2 * i];
      nodes[i] := ledger_internal.word(sums[i]) || sha256('\x01'::bytea || nodes[2 * i - 1] || nodes[2 * i]);
    end loop;
    -- The last node of an odd number moves up as it is.
    if width % 2 = 1 then
      sums[width / 2 + 1] := sums[width];
      nodes[width / 2 + 1] := nodes[width];
    end if;
    width := (width + 1) / 2;
  end loop;

  tree.sum := coalesce(sums[1], 0);
  tree.hash := coalesce(substr(nodes[1], 33), '\x0000000000000000000000000000000000000000000000000000000000000000');
  return tree;
end
$$;

alter function ledger_internal.fold_tree owner to ledger_owner;
comment on function ledger_internal.fold_tree is
  'The root of the tree of these nodes, each the word of its sum and then its hash, and the siblings of the one at a place, from 0; 0 and 32 zero bytes without a node. A tree folds to the same root in chunks of 1,024 and then the chunks. Raises 22003 where a sum comes to 2^256.';
revoke execute on function ledger_internal.fold_tree from public;
-- <<< db/functions/internal/proofs/fold_tree.sql

-- >>> db/functions/internal/proofs/header_hash.sql
-- Hash a checkpoint.
create or replace function ledger_internal.header_hash(
  domain     bytea,
  number     bigint,
  previous   bytea,
  deposits   bigint,
  credited   numeric,
  settled    numeric,
  leaf_count bigint,
  total      numeric,
  root       bytea
) returns bytea
language sql immutable parallel safe
as $$
  select sha256(
    '\x02'::bytea
    || header_hash.domain
    || int8send(header_hash.number)
    || header_hash.previous
    || int8send(header_hash.deposits)
    || ledger_internal.word(header_hash.credited)
    || ledger_internal.word(header_hash.settled)
    || int8send(header_hash.leaf_count)
    || ledger_internal.word(header_hash.total)
    || header_hash.root
  )
$$;

alter function ledger_internal.header_hash owner to ledger_owner;
comment on function ledger_internal.header_hash is
  'SHA-256 of 0x02 | domain 32 | number 8 | previous header 32, 0 for the first one | deposits 8 | credited 32 | settled 32 | leaf_count 8 | total 32 | root 32. Raises 22003.';
revoke execute on function ledger_internal.header_hash from public;
-- <<< db/functions/internal/proofs/header_hash.sql

-- >>> db/functions/internal/proofs/hex.sql
-- Spell bytes in hex digits.
create or replace function ledger_internal.hex(
  bytes bytea
) returns text
language sql immutable parallel safe
as $$
  select '0x' || encode(hex.bytes, 'hex')
$$;

alter function ledger_internal.hex owner to ledger_owner;
comment on function ledger_internal.hex is
  '0x and two hex digits for each byte.';
revoke execute on function ledger_internal.hex from public;
-- <<< db/functions/internal/proofs/hex.sql

-- >>> db/functions/internal/proofs/invalid_hash.sql
-- Return why the text of a hash is invalid; null if it is valid.
create or replace function ledger_internal.invalid_hash(
  hash text
) returns text
language sql immutable parallel safe
as $$
  select case
    when ledger_internal.parse_hex(invalid_hash.hash, 32) is null then 'must be 0x and 64 hex digits'
  end
$$;

alter function ledger_internal.invalid_hash owner to ledger_owner;
comment on function ledger_internal.invalid_hash is
  'Why the text of a SHA-256 is invalid: it must be 0x and 64 hex digits; null if it is valid.';
revoke execute on function ledger_internal.invalid_hash from public;
-- <<< db/functions/internal/proofs/invalid_hash.sql

-- >>> db/functions/internal/proofs/json_digits.sql
-- Read the digits of a whole number in a proof.
create or replace function ledger_internal.json_digits(
  value jsonb
) returns text
language sql immutable parallel safe
as $$
  select case
    when octet_length(j.digits) between 1 and 78 and ltrim(j.digits, '0123456789') = ''
    then j.digits
  end
  from (select ledger_internal.json_scalar_text(json_digits.value) as digits) as j
$$;

alter function ledger_internal.json_digits owner to ledger_owner;
comment on function ledger_internal.json_digits is
  'The 1 to 78 digits of a whole number in JSON, a string or a number; null for anything else.';
revoke execute on function ledger_internal.json_digits from public;
-- <<< db/functions/internal/proofs/json_digits.sql

-- >>> db/functions/internal/proofs/json_hex.sql
-- Read bytes from the hex digits of a JSON string.
create or replace function ledger_internal.json_hex(
  value jsonb,
  bytes integer
) returns bytea
language sql immutable parallel safe
as $$
  -- Nothing else is written out: an array of a few bytes can have gigabytes of digits.
  select case jsonb_typeof(json_hex.value)
    when 'string'
    then ledger_internal.parse_hex(json_hex.value #>> '{}', json_hex.bytes)
  end
$$;

alter function ledger_internal.json_hex owner to ledger_owner;
comment on function ledger_internal.json_hex is
  'So many bytes as a JSON string spells by 0x and two hex digits each; null for anything else.';
revoke execute on function ledger_internal.json_hex from public;
-- <<< db/functions/internal/proofs/json_hex.sql

-- >>> db/functions/internal/proofs/leaf_hash.sql
-- Hash a leaf.
create or replace function ledger_internal.leaf_hash(
  domain bytea,
  leaf   bytea
) returns bytea
language sql immutable parallel safe
as $$
  select sha256('\x00'::bytea || leaf_hash.domain || leaf_hash.leaf)
$$;

alter function ledger_internal.leaf_hash owner to ledger_owner;
comment on function ledger_internal.leaf_hash is
  'SHA-256 of 0x00 | domain 32 | leaf 68, as pack_leaf writes it.';
revoke execute on function ledger_internal.leaf_hash from public;
-- <<< db/functions/internal/proofs/leaf_hash.sql

-- >>> db/functions/internal/proofs/node_hash.sql
-- Hash two neighbours in a tree.
create or replace function ledger_internal.node_hash(
  left_sum   numeric,
  left_hash  bytea,
  right_sum  numeric,
  right_hash bytea
) returns bytea
language sql immutable parallel safe
as $$
  -- With both sums: a tree that hashes only their total proves too little (IACR ePrint 2018/1139).
  select sha256(
    '\x01'::bytea
    || ledger_internal.word(node_hash.left_sum) || node_hash.left_hash
    || ledger_internal.word(node_hash.right_sum) || node_hash.right_hash
  )
$$;

alter function ledger_internal.node_hash owner to ledger_owner;
comment on function ledger_internal.node_hash is
  'SHA-256 of 0x01 | left sum 32 | left hash 32 | right sum 32 | right hash 32. Raises 22003.';
revoke execute on function ledger_internal.node_hash from public;
-- <<< db/functions/internal/proofs/node_hash.sql

-- >>> db/functions/internal/proofs/pack_leaf.sql
-- Write a leaf as the 68 bytes that are kept and hashed.
create or replace function ledger_internal.pack_leaf(
  participant_id bigint,
  exit_entry     bigint,
  owner          bytea,
  amount         numeric
) returns bytea
language sql immutable parallel safe
as $$
  select int8send(pack_leaf.participant_id)
    || int8send(coalesce(pack_leaf.exit_entry, 0))
    || coalesce(pack_leaf.owner, '\x0000000000000000000000000000000000000000'::bytea)
    || ledger_internal.word(pack_leaf.amount)
$$;

alter function ledger_internal.pack_leaf owner to ledger_owner;
comment on function ledger_internal.pack_leaf is
  'participant_id 8 | exit_entry 8, 0 while present | owner 20, 0 without an address | amount 32: the bytes of a leaf, integers big-endian. Raises 22003.';
revoke execute on function ledger_internal.pack_leaf from public;
-- <<< db/functions/internal/proofs/pack_leaf.sql

-- >>> db/functions/internal/proofs/parse_hex.sql
-- Read bytes from their hex digits.
create or replace function ledger_internal.parse_hex(
  value text,
  bytes integer
) returns bytea
language sql immutable parallel safe
as $$
  select case
    when octet_length(parse_hex.value) = 2 + 2 * parse_hex.bytes and parse_hex.value collate "C" ~ '^0x[0-9a-fA-F]*$'
    then decode(substr(parse_hex.value, 3), 'hex')
  end
$$;

alter function ledger_internal.parse_hex owner to ledger_owner;
comment on function ledger_internal.parse_hex is
  'So many bytes as are spelled by 0x and two hex digits each; null for anything else.';
revoke execute on function ledger_internal.parse_hex from public;
-- <<< db/functions/internal/proofs/parse_hex.sql

-- >>> db/functions/internal/proofs/proof_is_valid.sql
-- Check that a leaf is in a tree.
create or replace function ledger_internal.proof_is_valid(
  root           bytea,
  total          numeric,
  leaf_count     numeric,
  leaf_index     numeric,
  leaf_hash      bytea,
  amount         numeric,
  sibling_sums   numeric[],
  sibling_hashes bytea[]
) returns boolean
language plpgsql immutable parallel safe
as $$
declare
  highest constant numeric := 115792089237316195423570985008687907853269984665640564039457584007913129639935;
  node    bytea := leaf_hash;
  sum     numeric := amount;
  place   numeric := leaf_index;
  width   numeric := leaf_count;
  used    integer := 0;
  sibling numeric;
begin
  if (place >= 0 and place < width and width < 9223372036854775808 and sum between 0 and highest) is not true then
    return false;
  end if;

  while width > 1 loop
    -- The last node of an odd number moves up as it is.
    if place % 2 = 1 or place + 1 < width then
      used := used + 1;
      sibling := sibling_sums[used];
      if (sibling >= 0 and sum + sibling <= highest and octet_length(sibling_hashes[used]) = 32) is not true then
        return false;
      end if;
      if place % 2 = 1 then
        node := ledger_internal.node_hash(sibling, sibling_hashes[used], sum, node);
      else
        node := ledger_internal.node_hash(sum, node, sibling, sibling_hashes[used]);
      end if;
      sum := sum + sibling;
    end if;
    place := div(place, 2);
    width := div(width + 1, 2);
  end loop;

  return (
    used = cardinality(sibling_sums)
    and sum = total
    and node = root
  ) is true;
end
$$;

alter function ledger_internal.proof_is_valid owner to ledger_owner;
comment on function ledger_internal.proof_is_valid is
  'Whether the leaf is at this index, from 0, in the tree of leaf_count leaves that has this root and total; the siblings go from the leaf up. The root does not bind the leaf count: compare the header as well.';
revoke execute on function ledger_internal.proof_is_valid from public;
-- <<< db/functions/internal/proofs/proof_is_valid.sql

-- >>> db/functions/internal/proofs/sibling_count.sql
-- Count the siblings on the way from a leaf to the root.
create or replace function ledger_internal.sibling_count(
  leaf_count numeric,
  leaf_index numeric
) returns integer
language plpgsql immutable parallel safe
as $$
declare
  place    numeric := leaf_index;
  width    numeric := leaf_count;
  siblings integer := 0;
begin
  if (place >= 0 and place < width and width < 9223372036854775808) is not true then
    return null;
  end if;
  while width > 1 loop
    -- The last node of an odd number moves up as it is.
    if place % 2 = 1 or place + 1 < width then
      siblings := siblings + 1;
    end if;
    place := div(place, 2);
    width := div(width + 1, 2);
  end loop;
  return siblings;
end
$$;

alter function ledger_internal.sibling_count owner to ledger_owner;
comment on function ledger_internal.sibling_count is
  'How many siblings the proof of the leaf at this index, from 0, of a tree of leaf_count leaves has; null where there is no such leaf.';
revoke execute on function ledger_internal.sibling_count from public;
-- <<< db/functions/internal/proofs/sibling_count.sql

-- >>> db/functions/internal/proofs/word.sql
-- Write an amount as the 32 bytes that hashes are made of.
create or replace function ledger_internal.word(
  amount numeric
) returns bytea
language plpgsql immutable strict parallel safe
as $$
declare
  quotient numeric;
begin
  if amount >= 0 and amount < 9223372036854775808 and amount = trunc(amount) then
    return '\x000000000000000000000000000000000000000000000000'::bytea || int8send(amount::bigint);
  end if;
  if (
    amount >= 0
    and amount <= 115792089237316195423570985008687907853269984665640564039457584007913129639935
    and amount = trunc(amount)
  ) is not true then
    raise exception using
      errcode = 'numeric_value_out_of_range',
      message = format('%s is not a whole number from 0 to 2^256 - 1', amount);
  end if;

  if amount >= 340282366920938463463374607431768211456 then
    quotient := div(amount, 340282366920938463463374607431768211456);
    return substr(ledger_internal.word(quotient), 17)
      || substr(ledger_internal.word(amount - quotient * 340282366920938463463374607431768211456), 17);
  end if;
  -- A bigint has 64 bits with its sign.
  quotient := div(amount, 18446744073709551616);
  amount := amount - quotient * 18446744073709551616;
  return '\x00000000000000000000000000000000'::bytea
    || int8send((case when quotient < 9223372036854775808 then quotient else quotient - 18446744073709551616 end)::bigint)
    || int8send((case when amount < 9223372036854775808 then amount else amount - 18446744073709551616 end)::bigint);
end
$$;

alter function ledger_internal.word owner to ledger_owner;
comment on function ledger_internal.word is
  'The 32 bytes, big-endian, of a whole number from 0 to 2^256 - 1. Raises 22003 for any other number: a wrapped one would stand for another amount.';
revoke execute on function ledger_internal.word from public;
-- <<< db/functions/internal/proofs/word.sql

-- >>> db/functions/internal/proofs/word_amount.sql
-- Read an amount from its 32 bytes.
create or replace function ledger_internal.word_amount(
  word bytea
) returns numeric
language plpgsql immutable strict parallel safe
as $$
declare
  digits text := encode(word, 'hex');
  amount numeric := 0;
begin
  if digits < '0000000000000000000000000000000000000000000000008' collate "C" then
    return ('x' || substr(digits, 49))::bit(64)::bigint;
  end if;
  -- 32 bits at a time, which a bigint holds without their sign.
  for place in 0..7 loop
    amount := amount * 4294967296 + ('x' || substr(digits, 8 * place + 1, 8))::bit(32)::bigint;
  end loop;
  return amount;
end
$$;

alter function ledger_internal.word_amount owner to ledger_owner;
comment on function ledger_internal.word_amount is
  'The whole number whose 32 bytes, big-endian, these are.';
revoke execute on function ledger_internal.word_amount from public;
-- <<< db/functions/internal/proofs/word_amount.sql

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
  -- A session always takes the same shard of the eight, so a transaction of many joins, deposits and exits locks only one shard
  -- and cannot deadlock with another transaction. A shard's times ascend even if the clock goes back.
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

-- >>> db/functions/internal/totals/record_group_total.sql
drop function if exists ledger_internal.record_group_total;
-- Record the total of a shard after a join, a deposit or an exit.
create or replace function ledger_internal.record_group_total(
  shard          ledger.group_total_shards,
  entry_id       bigint,
  participant_id bigint default null
) returns void
language sql volatile
as $$
  insert into ledger.group_total_history (group_id, slot, created_at, entry_id, total, participant_id)
  values (
    shard.group_id, shard.slot, shard.changed_at, record_group_total.entry_id, shard.total,
    record_group_total.participant_id
  )
$$;

alter function ledger_internal.record_group_total owner to ledger_owner;
comment on function ledger_internal.record_group_total is
  'Record a shard''s total after an entry, so that a group''s total at a past moment is looked up instead of added up; participant_id is given for a deposit.';
revoke execute on function ledger_internal.record_group_total from public;
-- <<< db/functions/internal/totals/record_group_total.sql

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
  'Lock the present participants of the lines that are possible until the transaction ends, by ascending group and id. Without wait, all but those that another session has locked.';
revoke execute on function ledger_internal.lock_legs from public;
-- <<< db/functions/internal/transfers/lock_legs.sql

-- >>> db/functions/internal/validation/invalid_address.sql
-- Return why an address on the main network is invalid; null if it is valid.
create or replace function ledger_internal.invalid_address(
  address text
) returns text
language plpgsql immutable parallel safe
as $$
declare
  value bytea := ledger_internal.parse_address(address);
begin
  return case
    when address is null
    then 'must be given'
    when value is null
    then 'must be 0x and 40 hex digits'
    when value = '\x0000000000000000000000000000000000000000'
    then 'must not be the zero address'
    -- Digits of one case carry no checksum.
    when substr(address, 3) collate "C" not in (lower(substr(address, 3) collate "C"), upper(substr(address, 3) collate "C"))
      and address <> ledger_internal.format_address(value)
    then 'must have the checksum of EIP-55 in mixed case'
  end;
end
$$;

alter function ledger_internal.invalid_address owner to ledger_owner;
comment on function ledger_internal.invalid_address is
  'Why an address is not 0x and 40 hex digits, other than zero, whose mixed case has the checksum of EIP-55; null if it is valid.';
revoke execute on function ledger_internal.invalid_address from public;
-- <<< db/functions/internal/validation/invalid_address.sql

-- >>> db/functions/internal/validation/invalid_kind.sql
-- Return why a kind of entry is invalid; null if it is valid or not given.
create or replace function ledger_internal.invalid_kind(
  kind text
) returns text
language sql immutable parallel safe
as $$
  select case when invalid_kind.kind not in ('join', 'deposit', 'transfer', 'exit') then 'must be join, deposit, transfer or exit' end
$$;

alter function ledger_internal.invalid_kind owner to ledger_owner;
comment on function ledger_internal.invalid_kind is
  'Why a kind of entry is invalid; null if it is valid or null.';
revoke execute on function ledger_internal.invalid_kind from public;
-- <<< db/functions/internal/validation/invalid_kind.sql

-- >>> db/functions/internal/validation/parse_address.sql
-- Parse an address on the main network.
create or replace function ledger_internal.parse_address(
  address text
) returns bytea
language sql immutable parallel safe
as $$
  select case
    when octet_length(address) = 42 and address collate "C" ~ '^0x[0-9A-Fa-f]{40}$'
    then decode(substr(address, 3), 'hex')
  end
$$;

alter function ledger_internal.parse_address owner to ledger_owner;
comment on function ledger_internal.parse_address is
  'The 20 bytes of an address of 0x and 40 hex digits, whatever their case; null for any other text.';
revoke execute on function ledger_internal.parse_address from public;
-- <<< db/functions/internal/validation/parse_address.sql

-- >>> db/functions/internal/validation/parse_transfer_lines.sql
-- Parse the lines of a multi-party transfer.
create or replace function ledger_internal.parse_transfer_lines(
  group_id  bigint,
  transfers jsonb
) returns ledger_internal.transfer_lines
language plpgsql immutable
as $$
declare
  lines  ledger_internal.transfer_lines;
  valid  boolean;
  fields text[];
  reasons text[];
begin
  select
    bool_and((
      l.from_id <> l.to_id
      and ledger_internal.invalid_amount(l.amount, 1) is null
      and ledger_internal.invalid_metadata(l.metadata) is null
      and l.item - array['from', 'to', 'amount', 'metadata'] = '{}'
    ) is true),
    array_agg(l.from_id order by l.line),
    array_agg(l.to_id order by l.line),
    array_agg(l.amount order by l.line),
    case when count(l.metadata) > 0 then array_agg(l.metadata order by l.line) end
  into
    valid,
    lines.from_ids,
    lines.to_ids,
    lines.amounts,
    lines.metadatas
  from ledger_internal.read_transfer_lines(transfers) as l;

  if not valid then
    select
      f.fields,
      f.reasons
    into
      fields,
      reasons
    from ledger_internal.invalid_transfer_lines(transfers) as f;
    perform ledger_internal.refuse_invalid(fields, reasons);
  end if;
  lines.group_ids := array_fill(group_id, array[cardinality(lines.amounts)]);
  return lines;
end
$$;

alter function ledger_internal.parse_transfer_lines owner to ledger_owner;
comment on function ledger_internal.parse_transfer_lines is
  'The lines of a multi-party transfer in a group by columns, metadatas only if a line has any. Raises LG001 with the invalid fields of each line.';
revoke execute on function ledger_internal.parse_transfer_lines from public;
-- <<< db/functions/internal/validation/parse_transfer_lines.sql

-- >>> db/functions/internal/validation/read_transfer_lines.sql
-- Read the values of the lines of a multi-party transfer.
create or replace function ledger_internal.read_transfer_lines(
  transfers    jsonb,
  out line     bigint,
  out item     jsonb,
  out from_id  bigint,
  out to_id    bigint,
  out amount   numeric,
  out metadata jsonb
) returns setof record
language sql immutable
as $$
  -- 1e131071 is stored in a few bytes and written in 131,072, so numbers are not written out.
  select
    t.line,
    t.item,
    case
      when jsonb_typeof(t.from_id) = 'string'
      then ledger_internal.parse_id(t.from_id #>> '{}')
      when t.from_number between 1 and 9223372036854775807 and scale(t.from_number) = 0
      then t.from_number::bigint
    end as from_id,
    case
      when jsonb_typeof(t.to_id) = 'string'
      then ledger_internal.parse_id(t.to_id #>> '{}')
      when t.to_number between 1 and 9223372036854775807 and scale(t.to_number) = 0
      then t.to_number::bigint
    end as to_id,
    case
      when jsonb_typeof(t.amount) = 'string'
      then ledger_internal.parse_amount(t.amount #>> '{}')
      when t.amount_number between 0 and 1e78 and scale(t.amount_number) = 0
      then t.amount_number
    end as amount,
    t.metadata
  from (
    select
      v.*,
      case when jsonb_typeof(v.from_id) = 'number' then v.from_id::numeric end as from_number,
      case when jsonb_typeof(v.to_id) = 'number' then v.to_id::numeric end as to_number,
      case when jsonb_typeof(v.amount) = 'number' then v.amount::numeric end as amount_number
    from (
      select
        i.line,
        case when jsonb_typeof(i.item) = 'object' then i.item else '{"": ""}' end as item,
        i.item -> 'from' as from_id,
        i.item -> 'to' as to_id,
        i.item -> 'amount' as amount,
        nullif(i.item -> 'metadata', 'null') as metadata
      from jsonb_array_elements(read_transfer_lines.transfers) with ordinality as i (item, line)
      -- Each value is read once, and not once for each place that asks for it.
      offset 0
    ) as v
    offset 0
  ) as t
  offset 0
$$;

alter function ledger_internal.read_transfer_lines owner to ledger_owner;
comment on function ledger_internal.read_transfer_lines is
  'The values of each line of a multi-party transfer, null where they are missing or cannot be read, and the line itself, with a member that no line may have in place of one that is no object. For parse_transfer_lines.';
revoke execute on function ledger_internal.read_transfer_lines from public;
-- <<< db/functions/internal/validation/read_transfer_lines.sql

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
          and answer @> to_jsonb(h)
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

-- >>> db/functions/internal/verify/answer_discrepancies.sql
-- Compare a stored answer and its fingerprint with the record.
create or replace function ledger_internal.answer_discrepancies(
  kept ledger.idempotency_keys
) returns setof ledger.discrepancy
language plpgsql stable
as $$
declare
  answer      jsonb := ledger_internal.parse_answer(kept.answer);
  of_entry    boolean := kept.operation in (
    'transfer', 'join_group', 'deposit', 'exit_group', 'reverse_transfer', 'settle_exit'
  );
  named       bigint := ledger_internal.parse_id(coalesce(answer ->> 'entry_id', answer ->> 'id'));
  entry       ledger.entries;
  request     text[];
  -- Of the participant who joined or left; the request may have had it.
  address     text;
  discrepancy ledger.discrepancy := (kept.group_id, null, null, 'idempotency key', null);
begin
  if octet_length(kept.fingerprint) is distinct from 32 then
    discrepancy.detail := 'has no fingerprint';
    return next discrepancy;
    return;
  elsif answer is null then
    discrepancy.detail := 'has an answer that cannot be read';
    return next discrepancy;
    return;
  elsif kept.operation = 'transfer_all' then
    return query select l.* from ledger_internal.transfer_all_discrepancies(kept.group_id, answer, kept.fingerprint) as l;
    return;
  end if;

  if of_entry then
    discrepancy.entry_id := named;
    select e.*
    into entry
    from ledger.entries as e
    where e.group_id = kept.group_id
      and e.id = named
    limit 1;
    if not found then
      discrepancy.detail := 'names an entry that is not there';
      return next discrepancy;
      return;
    end if;
  end if;

  if ledger_internal.answer_agrees(kept, answer, named, entry) is not true then
    discrepancy.detail := format('has an answer to %s that contradicts the record', kept.operation);
    return next discrepancy;
    return;
  end if;

  request := ledger_internal.recorded_request(kept.operation, answer, named, entry);
  if kept.operation in ('join_group', 'exit_group') then
    select ledger_internal.format_address(p.address)
    into address
    from ledger.participants as p
    where p.group_id = kept.group_id
      and p.id = coalesce(entry.to_id, entry.from_id);
  end if;

  -- A name is kept in NFC, and another spelling may have been asked for, unless it has none: of ASCII these three have one.
  if kept.fingerprint not in (ledger_internal.fingerprint(request), ledger_internal.fingerprint(request || address))
    and coalesce(answer ->> 'name', answer ->> 'username', '') !~ '[K;`\u0080-\uffff\U00010000-\U0010ffff]'
  then
    discrepancy.detail := 'has the fingerprint of another request than the record says';
    return next discrepancy;
  end if;
end
$$;

alter function ledger_internal.answer_discrepancies owner to ledger_owner;
comment on function ledger_internal.answer_discrepancies is
  'The discrepancies of the answer stored under an idempotency key, and of the fingerprint of its request; names in the answer are not compared. For verify_keys.';
revoke execute on function ledger_internal.answer_discrepancies from public;
-- <<< db/functions/internal/verify/answer_discrepancies.sql

-- >>> db/functions/internal/verify/answered_balance_discrepancies.sql
-- Compare the balances in the answer to a multi-party transfer with its entries.
create or replace function ledger_internal.answered_balance_discrepancies(
  group_id bigint,
  answer   jsonb,
  entries  ledger.entries[]
) returns setof ledger.discrepancy
language sql stable
as $$
  select
    answered_balance_discrepancies.group_id,
    null::bigint,
    coalesce(s.id, t.id),
    'idempotency key',
    'has an answer to transfer_all that gives another balance than its entries'
  from (
    select
      l.id,
      -- As the last line that the participant is in leaves it.
      (array_agg(l.balance order by e.ordinality desc))[1] as balance
    from unnest(answered_balance_discrepancies.entries) with ordinality as e
    cross join lateral (values (e.from_id, e.from_amount), (e.to_id, e.to_amount)) as l (id, balance)
    group by l.id
  ) as s
  full join (
    select
      ledger_internal.parse_id(p.participant ->> 'id') as id,
      p.participant
    from jsonb_array_elements(
      case when jsonb_typeof(answer -> 'participants') = 'array' then answer -> 'participants' end
    ) as p (participant)
  ) as t on t.id = s.id
  where (
      t.participant @> jsonb_build_object('id', s.id, 'group_id', answered_balance_discrepancies.group_id, 'amount', s.balance)
    ) is not true
$$;

alter function ledger_internal.answered_balance_discrepancies owner to ledger_owner;
comment on function ledger_internal.answered_balance_discrepancies is
  'The participants whose balance in the answer to a multi-party transfer is not that after its entries, which are given in their order, and those who are only in one of the two. For transfer_all_discrepancies.';
revoke execute on function ledger_internal.answered_balance_discrepancies from public;
-- <<< db/functions/internal/verify/answered_balance_discrepancies.sql

-- >>> db/functions/internal/verify/answered_entries.sql
-- Look up the entries that the answer to a multi-party transfer names.
create or replace function ledger_internal.answered_entries(
  group_id     bigint,
  answer       jsonb,
  out line     bigint,
  out answered jsonb,
  out named    bigint,
  out entry    ledger.entries
) returns setof record
language sql stable
as $$
  select
    l.line,
    l.answered,
    ledger_internal.parse_id(l.answered ->> 'id') as named,
    -- Looked up for each line, whatever the planner thinks of their number; null if it is not there.
    (
      select e
      from ledger.entries as e
      where e.group_id = answered_entries.group_id
        and e.id = ledger_internal.parse_id(l.answered ->> 'id')
      limit 1
    ) as entry
  from jsonb_array_elements(
    case when jsonb_typeof(answered_entries.answer -> 'entries') = 'array' then answered_entries.answer -> 'entries' end
  ) with ordinality as l (answered, line)
$$;

alter function ledger_internal.answered_entries owner to ledger_owner;
comment on function ledger_internal.answered_entries is
  'The lines of the answer to a multi-party transfer: each as it was answered, the id that it names, and the entry of the group with this id, null if there is none. For transfer_all_discrepancies.';
revoke execute on function ledger_internal.answered_entries from public;
-- <<< db/functions/internal/verify/answered_entries.sql

-- >>> db/functions/internal/verify/api_key_discrepancies.sql
-- Check the API keys.
create or replace function ledger_internal.api_key_discrepancies()
returns setof ledger.discrepancy
language sql stable
as $$
  select
    k.group_id,
    null::bigint,
    null::bigint,
    'API key',
    format('key %s %s', k.id, c.detail)
  from (
    select
      k.*,
      count(*) over (partition by k.id) as times,
      count(*) over (partition by k.digest) as alike
    from ledger.api_keys as k
  ) as k
  cross join ledger_internal.verify_bounds() as b
  cross join lateral (
    select 'is there more than once'
    where k.times > 1
    union all
    select 'has the digest of another one'
    where k.alike > k.times
    union all
    select 'has no digest'
    where octet_length(k.digest) is distinct from 32
    union all
    select format('has the scope %s', k.scope)
    where k.scope not in ('read', 'transact', 'admin')
    union all
    select 'is for a group that is not there'
    where k.group_id is not null
      and not exists (select from ledger.groups as g where g.id = k.group_id)
    union all
    select format('was made at %s and revoked at %s', k.created_at, k.revoked_at)
    where greatest(k.created_at, k.revoked_at) > b.latest
      or least(k.created_at, k.revoked_at) = '-infinity'
    union all
    select 'has an id that will be given again'
    where k.id not between 1 and (select s.last_value - (not s.is_called)::integer from ledger.api_keys_id_seq as s)
  ) as c (detail)
$$;

alter function ledger_internal.api_key_discrepancies owner to ledger_owner;
comment on function ledger_internal.api_key_discrepancies is
  'The discrepancies of the API keys: their ids, digests, scopes, groups and times. For verify_ledger.';
revoke execute on function ledger_internal.api_key_discrepancies from public;
-- <<< db/functions/internal/verify/api_key_discrepancies.sql

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
        count(*) as deposits,
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

-- >>> db/functions/internal/verify/entry_form_discrepancies.sql
-- Check an entry's legs and amounts by themselves.
create or replace function ledger_internal.entry_form_discrepancies(
  entry ledger.entries
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
      'kind',
      format(
        'a movement of kind %s from %s, with %s after it, to %s, with %s after it',
        entry.kind,
        coalesce(entry.from_id::text, 'outside'),
        coalesce(entry.from_amount::text, 'no balance'),
        coalesce(entry.to_id::text, 'outside'),
        coalesce(entry.to_amount::text, 'no balance')
      )
    where case
        when entry.kind in ('join', 'deposit') then entry.from_id is not null or entry.to_id is null
        when entry.kind = 'transfer' then entry.from_id is null or entry.to_id is null or entry.from_id = entry.to_id
        when entry.kind = 'exit' then entry.from_id is null or entry.to_id is not null
        else true
      end
      or (entry.from_id is null) <> (entry.from_amount is null)
      or (entry.to_id is null) <> (entry.to_amount is null)
    union all
    select null, 'amount', format('moves %s, and the balances after it are %s and %s', entry.amount, entry.from_amount, entry.to_amount)
    -- As in invalid_amount, which costs as much as all the rest. NaN is above every number.
    where (entry.amount >= case when entry.kind in ('transfer', 'deposit') then 1 else 0 end) is not true
      or entry.amount >= 2::numeric ^ 256
      or entry.amount <> trunc(entry.amount)
      or entry.from_amount < 0
      or entry.from_amount >= 2::numeric ^ 256
      or entry.from_amount <> trunc(entry.from_amount)
      or entry.to_amount < 0
      or entry.to_amount >= 2::numeric ^ 256
      or entry.to_amount <> trunc(entry.to_amount)
  ) as f (participant_id, kind, detail)
$$;

alter function ledger_internal.entry_form_discrepancies owner to ledger_owner;
comment on function ledger_internal.entry_form_discrepancies is
  'The discrepancies of an entry whose legs do not fit its kind, or whose amounts are not valid. For verify_entries.';
revoke execute on function ledger_internal.entry_form_discrepancies from public;
-- <<< db/functions/internal/verify/entry_form_discrepancies.sql

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

-- >>> db/functions/internal/verify/entry_origin_discrepancies.sql
-- Check an entry's id, time, transaction and metadata.
create or replace function ledger_internal.entry_origin_discrepancies(
  entry     ledger.entries,
  times     bigint,
  latest    timestamptz,
  restored  bigint,
  first_xid xid8,
  next_xid  xid8
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
    select null::bigint, 'time', format('it is of %s', entry.created_at)
    where entry.created_at > entry_origin_discrepancies.latest
      or entry.created_at = '-infinity'
    union all
    select
      null,
      'transaction',
      format('it is of transaction %s, and the feed from %s on', entry.xid, entry_origin_discrepancies.first_xid)
    where entry.id > entry_origin_discrepancies.restored
      and entry.xid < entry_origin_discrepancies.first_xid
    union all
    select
      null,
      'transaction',
      format('it is of transaction %s, and none from %s on has ended', entry.xid, entry_origin_discrepancies.next_xid)
    where entry.id > entry_origin_discrepancies.restored
      and entry.xid >= entry_origin_discrepancies.next_xid
    union all
    select null, 'metadata', 'they are no object'
    where jsonb_typeof(entry.metadata) <> 'object'
    union all
    select null, 'entry id', format('%s entries have it', entry_origin_discrepancies.times)
    where entry_origin_discrepancies.times > 1
    union all
    select null, 'entry id', 'it is below 1'
    where entry.id < 1
  ) as f (participant_id, kind, detail)
$$;

alter function ledger_internal.entry_origin_discrepancies owner to ledger_owner;
comment on function ledger_internal.entry_origin_discrepancies is
  'The discrepancies of an entry whose id so many entries have, and of its time, its transaction and its metadata, within the bounds of verify_bounds. For verify_entries.';
revoke execute on function ledger_internal.entry_origin_discrepancies from public;
-- <<< db/functions/internal/verify/entry_origin_discrepancies.sql

-- >>> db/functions/internal/verify/entry_total_discrepancies.sql
-- Compare a join, deposit or exit with the history of the group's total.
create or replace function ledger_internal.entry_total_discrepancies(
  entry ledger.entries
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
    select null::bigint, 'total', format('the total is noted %s times', n.times)
    from (
      select count(*) as times
      from generate_series(0, 7) as s (slot)
      cross join lateral (
        select from ledger.group_total_history as t
        where t.group_id = entry.group_id
          and t.slot = s.slot
          and t.created_at = entry.created_at
          and t.entry_id = entry.id
        -- Kept from being merged into a join: a look-up for each shard, whose key begins with the slot.
        offset 0
      ) as t
    ) as n
    where entry.kind <> 'transfer'
      and n.times <> 1
    union all
    select
      null,
      'total',
      format('shard %s came to %s, and stood at %s before', s.slot, t.total, coalesce(before.total, 0))
    from generate_series(0, 7) as s (slot)
    cross join lateral (
      select t.total
      from ledger.group_total_history as t
      where t.group_id = entry.group_id
        and t.slot = s.slot
        and t.created_at = entry.created_at
        and t.entry_id = entry.id
      offset 0
    ) as t
    left join lateral (
      select b.total
      from ledger.group_total_history as b
      where b.group_id = entry.group_id
        and b.slot = s.slot
        and (b.created_at, b.entry_id) < (entry.created_at, entry.id)
      order by b.created_at desc, b.entry_id desc
      limit 1
    ) as before on true
    where entry.kind <> 'transfer'
      and t.total <> coalesce(before.total, 0) + case when entry.kind = 'exit' then -entry.amount else entry.amount end
  ) as f (participant_id, kind, detail)
$$;

alter function ledger_internal.entry_total_discrepancies owner to ledger_owner;
comment on function ledger_internal.entry_total_discrepancies is
  'The discrepancies between a join, a deposit or an exit and what it changed a shard of its group''s total to, none of a transfer. For verify_entries.';
revoke execute on function ledger_internal.entry_total_discrepancies from public;
-- <<< db/functions/internal/verify/entry_total_discrepancies.sql

-- >>> db/functions/internal/verify/feed_discrepancies.sql
-- Check the feeds.
create or replace function ledger_internal.feed_discrepancies()
returns setof ledger.discrepancy
language sql stable
as $$
  select
    null::bigint,
    null::bigint,
    null::bigint,
    'feed',
    f.detail
  from ledger_internal.verify_bounds() as b
  cross join lateral (
    select 'there is none'
    where not exists (select from ledger.feeds)
    union all
    select format('feed %s began at %s', d.generation, d.began_at)
    from ledger.feeds as d
    where d.began_at > b.latest
      or d.began_at = '-infinity'
    union all
    select format('feed %s begins after entry %s, and none above %s was written', d.generation, d.last_restored, g.given)
    from ledger.feeds as d
    cross join (select s.last_value - (not s.is_called)::integer as given from ledger.entries_id_seq as s) as g
    where d.last_restored not between 0 and g.given
    union all
    select format('feed %s begins with transaction %s, and none from %s on has ended', d.generation, b.first_xid, b.next_xid)
    from (select max(d.generation) as generation from ledger.feeds as d) as d
    where b.first_xid >= b.next_xid
    union all
    select format('%s feeds have number %s', count(*), d.generation)
    from ledger.feeds as d
    group by d.generation
    having count(*) > 1
  ) as f (detail)
$$;

alter function ledger_internal.feed_discrepancies owner to ledger_owner;
comment on function ledger_internal.feed_discrepancies is
  'The discrepancies of the feeds: their numbers, their times, and where each begins. For verify_ledger.';
revoke execute on function ledger_internal.feed_discrepancies from public;
-- <<< db/functions/internal/verify/feed_discrepancies.sql

-- >>> db/functions/internal/verify/group_time_discrepancies.sql
-- Compare the times of a group with its first join and its last exit.
create or replace function ledger_internal.group_time_discrepancies(
  id         bigint,
  created_at timestamptz,
  closed_at  timestamptz,
  latest     timestamptz
) returns setof ledger.discrepancy
language sql stable
as $$
  select
    g.id,
    null::bigint,
    null::bigint,
    'group time',
    f.detail
  from (
    values (group_time_discrepancies.id, group_time_discrepancies.created_at, group_time_discrepancies.closed_at)
  ) as g (id, created_at, closed_at)
  left join lateral (
    select
      e.created_at,
      e.xid
    from ledger.entries as e
    where e.group_id = g.id
      and e.kind = 'join'
    order by e.created_at, e.id
    limit 1
  ) as first on true
  left join lateral (
    select
      e.created_at,
      e.xid
    from ledger.entries as e
    where e.group_id = g.id
      and e.kind = 'exit'
    order by e.created_at desc, e.id desc
    limit 1
  ) as last on true
  cross join lateral (
    select format('was opened at %s, and first joined at %s', g.created_at, first.created_at)
    where g.created_at > group_time_discrepancies.latest
      or g.created_at = '-infinity'
      -- Until entries had their transaction's number, a clock that was set back showed in their times.
      or (g.created_at > first.created_at and first.xid <> '0')
    union all
    select format('was opened at %s and removed at %s, and last left at %s', g.created_at, g.closed_at, last.created_at)
    where g.closed_at > group_time_discrepancies.latest
      or g.closed_at < g.created_at
      or (g.closed_at < last.created_at and last.xid <> '0')
  ) as f (detail)
$$;

alter function ledger_internal.group_time_discrepancies owner to ledger_owner;
comment on function ledger_internal.group_time_discrepancies is
  'The discrepancies of the times of a group: when it was opened and removed, its first join, its last exit, and the latest time that a clock may show. For verify_groups.';
revoke execute on function ledger_internal.group_time_discrepancies from public;
-- <<< db/functions/internal/verify/group_time_discrepancies.sql

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
      or (checkpoint.number > 1 and previous.number is null)
    union all
    select 'has another header before it than it names'
    where checkpoint.previous <> coalesce(previous.header, decode(repeat('00', 32), 'hex'))
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
  'The discrepancies of the chain of headers at a checkpoint: the previous one, nulls where there is none, the hash of its figures, and their sum. For verify_checkpoints.';
revoke execute on function ledger_internal.header_discrepancies from public;
-- <<< db/functions/internal/verify/header_discrepancies.sql

-- >>> db/functions/internal/verify/leaf_discrepancies.sql
-- Compare a checkpoint's leaves with its root.
create or replace function ledger_internal.leaf_discrepancies(
  checkpoint ledger.checkpoints,
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
    select 'has other leaves than its root is of'
    from (
      select
        ledger_internal.fold_tree(
          array_agg(k.sum order by k.chunk), array_agg(ledger_internal.word(k.sum) || k.hash order by k.chunk)
        ) as tree,
        bool_and(t.sum = k.sum and t.hash = k.hash) as fits
      from ledger.checkpoint_chunks as k
      cross join lateral ledger_internal.chunk_tree(k, leaf_discrepancies.domain) as t
      where k.group_id = checkpoint.group_id
        and k.number = checkpoint.number
      having count(*) > 0
    ) as k
    where (k.fits and (k.tree).hash = checkpoint.root and (k.tree).sum = checkpoint.total) is not true
    union all
    select format('has %s leaves of ascending participants, and says %s', l.leaves, checkpoint.leaf_count)
    from (
      select count(*) filter (where l.participant_id > l.before) as leaves
      from (
        select
          l.participant_id,
          lag(l.participant_id, 1, 0::bigint) over (order by l.index) as before
        from ledger.checkpoint_chunks as k
        cross join lateral ledger_internal.unpack_leaves(k) as l
        where k.group_id = checkpoint.group_id
          and k.number = checkpoint.number
      ) as l
      having count(*) > 0
    ) as l
    where l.leaves <> checkpoint.leaf_count
  ) as f (detail)
$$;

alter function ledger_internal.leaf_discrepancies owner to ledger_owner;
comment on function ledger_internal.leaf_discrepancies is
  'The discrepancies of the leaves that are kept of a checkpoint, none if they were dropped: their tree, their number, and their order. For verify_checkpoints.';
revoke execute on function ledger_internal.leaf_discrepancies from public;
-- <<< db/functions/internal/verify/leaf_discrepancies.sql

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

-- >>> db/functions/internal/verify/participant_record_discrepancies.sql
-- Compare a participant with their entries.
create or replace function ledger_internal.participant_record_discrepancies(
  participant ledger.participants,
  last        ledger_internal.leg,
  latest      timestamptz
) returns setof ledger.discrepancy
language sql stable
as $$
  select
    participant.group_id,
    null::bigint,
    participant.id,
    f.kind,
    f.detail
  from (
    select 'balance', format('holds %s, and the record says %s', participant.amount, last.balance)
    where participant.amount is distinct from last.balance
      and last.id is not null
      and last.kind <> 'exit'
    union all
    select 'balance', format('left and holds %s', participant.amount)
    where last.kind = 'exit'
      and participant.amount <> 0
    union all
    select 'presence', 'is not in the record'
    where last.id is null
    union all
    select 'presence', 'left without an exit, or is present after one'
    where (participant.exited_at is not null) <> (last.kind is not distinct from 'exit')
    union all
    select 'presence', 'is present in a group that was removed'
    where participant.exited_at is null
      and exists (select from ledger.groups as g where g.id = participant.group_id and g.closed_at is not null)
    union all
    select 'presence time', format('joined at %s, and the record says %s', participant.joined_at, joined.created_at)
    from (
      select e.created_at
      from ledger.entries as e
      where e.group_id = participant.group_id
        and e.to_id = participant.id
      order by e.created_at, e.id
      limit 1
    ) as joined
    where participant.joined_at <> joined.created_at
    union all
    select 'presence time', format('left at %s, and the record says %s', participant.exited_at, last.created_at)
    where last.kind = 'exit'
      and participant.exited_at <> last.created_at
    union all
    select 'presence time', format('last moved at %s, and the record says %s', participant.moved_at, last.created_at)
    where participant.moved_at < last.created_at
      or participant.moved_at > participant_record_discrepancies.latest
      -- What moved before moved_at was there has no transaction's number, and a later time.
      or (
        participant.moved_at > last.created_at
        and exists (
          select from ledger.entries as e
          where e.group_id = participant.group_id
            and e.id = last.id
            and e.xid <> '0'
        )
      )
  ) as f (kind, detail)
$$;

alter function ledger_internal.participant_record_discrepancies owner to ledger_owner;
comment on function ledger_internal.participant_record_discrepancies is
  'The discrepancies between a participant''s row and their entries, of which last is the latest: balance, presence, and times. For verify_participants.';
revoke execute on function ledger_internal.participant_record_discrepancies from public;
-- <<< db/functions/internal/verify/participant_record_discrepancies.sql

-- >>> db/functions/internal/verify/recorded_request.sql
-- List the values of the request that an answer is of, as far as the record and the names in the answer show them.
create or replace function ledger_internal.recorded_request(
  operation text,
  answer    jsonb,
  named     bigint,
  entry     ledger.entries
) returns text[]
language sql immutable parallel safe
as $$
  select case recorded_request.operation
    when 'transfer' then ledger_internal.transfer_request(entry.from_id, entry.to_id, entry.amount, entry.metadata)
    else
      recorded_request.operation || case recorded_request.operation
        when 'join_group' then array[answer ->> 'username', entry.amount::text, entry.metadata::text]
        when 'deposit' then array[entry.to_id::text, entry.amount::text, entry.metadata::text]
        when 'exit_group' then array[entry.from_id::text, entry.metadata::text]
        when 'reverse_transfer' then array[entry.reverses::text, entry.metadata::text]
        when 'settle_exit' then array[entry.id::text, answer ->> 'reference']
        when 'create_group' then array[answer ->> 'name']
        when 'rename_group' then array[answer ->> 'name']
        when 'rename_participant' then array[recorded_request.named::text, answer ->> 'username']
        when 'bind_address' then array[recorded_request.named::text, answer ->> 'address']
      end
  end
$$;

alter function ledger_internal.recorded_request owner to ledger_owner;
comment on function ledger_internal.recorded_request is
  'The operation and the values of a request with an idempotency key, for its fingerprint, from its answer and the entry that this names; without an address that a join or an exit may have bound. For answer_discrepancies.';
revoke execute on function ledger_internal.recorded_request from public;
-- <<< db/functions/internal/verify/recorded_request.sql

-- >>> db/functions/internal/verify/rename_discrepancies.sql
-- Check a group's changes of names.
create or replace function ledger_internal.rename_discrepancies(
  group_id bigint
) returns setof ledger.discrepancy
language sql stable
as $$
  select
    rename_discrepancies.group_id,
    f.entry_id,
    f.participant_id,
    f.kind,
    f.detail
  from (
    select null::bigint, c.participant_id, 'rename', format('change %s is of a participant who is not there', c.id)
    from ledger.name_changes as c
    where c.group_id = rename_discrepancies.group_id
      and c.participant_id is not null
      and not exists (
        select from ledger.participants as p
        where p.group_id = c.group_id
          and p.id = c.participant_id
      )
    union all
    select null, c.participant_id, 'rename', format('change %s was made at %s', c.id, c.changed_at)
    from ledger.name_changes as c
    cross join ledger_internal.verify_bounds() as b
    where c.group_id = rename_discrepancies.group_id
      and (c.changed_at > b.latest or c.changed_at = '-infinity')
    union all
    select null, null, 'sequence', format('name_changes has number %s, which will be given again', c.last)
    from (
      select max(c.id) as last from ledger.name_changes as c where c.group_id = rename_discrepancies.group_id
    ) as c
    cross join ledger.name_changes_id_seq as s
    where c.last > s.last_value - (not s.is_called)::integer
  ) as f (entry_id, participant_id, kind, detail)
$$;

alter function ledger_internal.rename_discrepancies owner to ledger_owner;
comment on function ledger_internal.rename_discrepancies is
  'The discrepancies of a group''s changes of names: their participants, their times, and their numbers. For verify_total.';
revoke execute on function ledger_internal.rename_discrepancies from public;
-- <<< db/functions/internal/verify/rename_discrepancies.sql

-- >>> db/functions/internal/verify/reversal_discrepancies.sql
-- Compare a reversal with the transfer that it reverses.
create or replace function ledger_internal.reversal_discrepancies(
  entry ledger.entries
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
    select null::bigint, 'reversal', format('entry %s is no transfer of this amount the other way', entry.reverses)
    where entry.reverses is not null
      and not exists (
        select from ledger.entries as o
        where o.group_id = entry.group_id
          and o.id = entry.reverses
          and o.id < entry.id
          and o.kind = 'transfer'
          and o.from_id = entry.to_id
          and o.to_id = entry.from_id
          and o.amount = entry.amount
      )
    union all
    select null, 'reversal', format('entry %s is reversed more than once', entry.reverses)
    where entry.reverses is not null
      and (
        select count(*) from ledger.entries as o
        where o.group_id = entry.group_id
          and o.reverses = entry.reverses
      ) > 1
  ) as f (participant_id, kind, detail)
$$;

alter function ledger_internal.reversal_discrepancies owner to ledger_owner;
comment on function ledger_internal.reversal_discrepancies is
  'The discrepancies of an entry that reverses what it cannot, or what another entry reverses as well. For verify_entries.';
revoke execute on function ledger_internal.reversal_discrepancies from public;
-- <<< db/functions/internal/verify/reversal_discrepancies.sql

-- >>> db/functions/internal/verify/rights_discrepancies.sql
-- Find rights that others than ledger_owner have.
create or replace function ledger_internal.rights_discrepancies()
returns setof ledger.discrepancy
language sql stable
as $$
  with schemas as (
    select n.* from pg_namespace as n where n.nspname in ('ledger', 'ledger_internal')
  ), objects (kind, name, owner, rights) as (
    select 'schema', s.nspname, s.nspowner, s.nspacl from schemas as s
    union all
    select 'relation', c.relname, c.relowner, c.relacl from pg_class as c where c.relnamespace in (select s.oid from schemas as s)
    union all
    select 'function', p.proname, p.proowner, coalesce(p.proacl, acldefault('f', p.proowner))
    from pg_proc as p
    where p.pronamespace in (select s.oid from schemas as s)
  )
  select
    null::bigint,
    null::bigint,
    null::bigint,
    'schema',
    f.detail
  from (
    select format('%s %s belongs to %s', o.kind, o.name, o.owner::regrole)
    from objects as o
    where o.owner <> 'ledger_owner'::regrole
    union all
    select format(
      '%s is granted on %s %s to %s',
      a.privilege_type, o.kind, o.name, case a.grantee when 0 then 'PUBLIC' else a.grantee::regrole::text end
    )
    from objects as o
    cross join lateral aclexplode(o.rights) as a
    where a.grantee = 0
      or (o.kind = 'schema' and o.name = 'ledger_internal' and a.grantee <> o.owner)
    union all
    select format('function %s runs as its owner with the search_path of its caller', p.oid::regprocedure)
    from pg_proc as p
    where p.pronamespace in (select s.oid from schemas as s)
      and p.prosecdef
      and not exists (select from unnest(p.proconfig) as s (setting) where s.setting ~ '^search_path=ledger,.*pg_temp$')
  ) as f (detail)
$$;

alter function ledger_internal.rights_discrepancies owner to ledger_owner;
comment on function ledger_internal.rights_discrepancies is
  'Objects of the schemas that belong to another role than ledger_owner, rights of PUBLIC, rights on ledger_internal, and functions that run as their owner with the search_path of their caller. For verify_schema.';
revoke execute on function ledger_internal.rights_discrepancies from public;
-- <<< db/functions/internal/verify/rights_discrepancies.sql

-- >>> db/functions/internal/verify/settlement_discrepancies.sql
-- Compare an exit with its settlement.
create or replace function ledger_internal.settlement_discrepancies(
  entry  ledger.entries,
  latest timestamptz
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
    select entry.from_id, 'settlement', 'the exit has none'
    where entry.kind = 'exit'
      and not exists (
        select from ledger.settlements as s
        where s.group_id = entry.group_id
          and s.entry_id = entry.id
      )
    union all
    select entry.from_id, 'settlement', 'it has another time than its exit, a time to come, no reference, or a transaction before its time'
    from ledger.settlements as s
    where entry.kind = 'exit'
      and s.group_id = entry.group_id
      and s.entry_id = entry.id
      and (
        s.exited_at <> entry.created_at
        or (s.reference is null) <> (s.settled_at is null)
        or s.settled_at < s.exited_at
        or s.settled_at > settlement_discrepancies.latest
        or (s.settled_at is null and s.settled_xid is not null)
      )
  ) as f (participant_id, kind, detail)
$$;

alter function ledger_internal.settlement_discrepancies owner to ledger_owner;
comment on function ledger_internal.settlement_discrepancies is
  'The discrepancies of the settlement of an entry that is an exit, none of another entry. For verify_entries.';
revoke execute on function ledger_internal.settlement_discrepancies from public;
-- <<< db/functions/internal/verify/settlement_discrepancies.sql

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
    group by p.address
    having count(*) > 1
  ) as f (entry_id, participant_id, kind, detail)
$$;

alter function ledger_internal.shared_identity_discrepancies owner to ledger_owner;
comment on function ledger_internal.shared_identity_discrepancies is
  'The usernames and the addresses that several participants have who are present in a group. For verify_total.';
revoke execute on function ledger_internal.shared_identity_discrepancies from public;
-- <<< db/functions/internal/verify/shared_identity_discrepancies.sql

-- >>> db/functions/internal/verify/total_discrepancies.sql
-- Compare a group's total with its history, with the balances and with the entries.
create or replace function ledger_internal.total_discrepancies(
  group_id bigint
) returns setof ledger.discrepancy
language sql stable
as $$
  select
    total_discrepancies.group_id,
    f.entry_id,
    f.participant_id,
    f.kind,
    f.detail
  from (
    select
      null::bigint,
      null::bigint,
      'total',
      format('shard %s stands at %s, and came to %s last', c.slot, c.total, coalesce(last.total, 0))
    from ledger.group_total_shards as c
    left join lateral (
      select t.total
      from ledger.group_total_history as t
      where t.group_id = c.group_id
        and t.slot = c.slot
      order by t.created_at desc, t.entry_id desc
      limit 1
    ) as last on true
    where c.group_id = total_discrepancies.group_id
      and c.total <> coalesce(last.total, 0)
    union all
    select null, null, 'total', format('the shards add up to %s, the balances to %s', c.total, p.total)
    from (
      select coalesce(sum(c.total), 0) as total from ledger.group_total_shards as c where c.group_id = total_discrepancies.group_id
    ) as c
    cross join (
      select coalesce(sum(p.amount), 0) as total from ledger.participants as p where p.group_id = total_discrepancies.group_id
    ) as p
    where c.total <> p.total
    union all
    select null, null, 'total', format('there are %s shards, from %s to %s', count(*), min(c.slot), max(c.slot))
    from ledger.group_total_shards as c
    where c.group_id = total_discrepancies.group_id
    having count(*) <> 8
      or min(c.slot) <> 0
      or max(c.slot) <> 7
    union all
    select t.entry_id, null, 'total', format('shard %s came to %s with it, and it is no join, deposit or exit of that time and participant', t.slot, t.total)
    from ledger.group_total_history as t
    left join ledger.entries as e on e.group_id = t.group_id and e.id = t.entry_id
    where t.group_id = total_discrepancies.group_id
      and (
        e.kind is null
        or e.kind = 'transfer'
        or e.created_at <> t.created_at
        or t.slot not between 0 and 7
        or t.participant_id is distinct from case when e.kind = 'deposit' then e.to_id end
      )
  ) as f (entry_id, participant_id, kind, detail)
$$;

alter function ledger_internal.total_discrepancies owner to ledger_owner;
comment on function ledger_internal.total_discrepancies is
  'The discrepancies of a group''s total: its shards, the history of each, the balances that they add up to, and entries that changed none. For verify_total.';
revoke execute on function ledger_internal.total_discrepancies from public;
-- <<< db/functions/internal/verify/total_discrepancies.sql

-- >>> db/functions/internal/verify/transfer_all_discrepancies.sql
-- Compare the stored answer to a multi-party transfer with the record.
create or replace function ledger_internal.transfer_all_discrepancies(
  group_id    bigint,
  answer      jsonb,
  fingerprint bytea
) returns setof ledger.discrepancy
language sql stable
as $$
  with lines as materialized (
    select l.*
    from ledger_internal.answered_entries(transfer_all_discrepancies.group_id, transfer_all_discrepancies.answer) as l
  ), request as (
    select
      count(*) as lines,
      count((l.entry).id) as found,
      array_agg(l.entry order by l.line) as entries,
      ledger_internal.fingerprint(
        ledger_internal.transfer_all_request(
          array_agg((l.entry).from_id order by l.line),
          array_agg((l.entry).to_id order by l.line),
          array_agg((l.entry).amount order by l.line),
          case when count((l.entry).metadata) > 0 then array_agg((l.entry).metadata order by l.line) end
        )
      ) as fingerprint
    from lines as l
  )
  select
    transfer_all_discrepancies.group_id,
    f.entry_id,
    f.participant_id,
    'idempotency key',
    f.detail
  from (
    select l.named as entry_id, null::bigint as participant_id, 'names an entry that is not there' as detail
    from lines as l
    where (l.entry).id is null
    union all
    select (l.entry).id, null, 'has an answer to transfer_all that contradicts the record'
    from lines as l
    where (l.entry).id is not null
      and (
        (l.entry).kind = 'transfer'
        and (l.entry).reverses is null
        and l.answered @> jsonb_build_object(
          'id', (l.entry).id, 'from_id', (l.entry).from_id, 'to_id', (l.entry).to_id, 'amount', (l.entry).amount,
          'from_amount', (l.entry).from_amount, 'to_amount', (l.entry).to_amount
        )
      ) is not true
    union all
    select b.entry_id, b.participant_id, b.detail
    from request as r
    cross join lateral ledger_internal.answered_balance_discrepancies(
      transfer_all_discrepancies.group_id, transfer_all_discrepancies.answer, r.entries
    ) as b
    where r.lines = r.found
    union all
    select null, null, 'has the fingerprint of another request than the record says'
    from request as r
    where r.lines = 0
      or (r.lines = r.found and r.fingerprint <> transfer_all_discrepancies.fingerprint)
  ) as f
$$;

alter function ledger_internal.transfer_all_discrepancies owner to ledger_owner;
comment on function ledger_internal.transfer_all_discrepancies is
  'The discrepancies of the answer to a multi-party transfer: its entries, the participants with their balances after it, and the fingerprint of the request. For verify_keys.';
revoke execute on function ledger_internal.transfer_all_discrepancies from public;
-- <<< db/functions/internal/verify/transfer_all_discrepancies.sql

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
        'entries', 'group_total_history', 'idempotency_keys', 'feeds', 'name_changes',
        'settlements', 'api_keys', 'groups', 'participants'
      ],
      array[true, true, true, true, true, false, false, false, false]
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
  left join ledger.checkpoints as p on p.group_id = c.group_id and p.number = c.number - 1
  -- In another server than the checkpoint's its snapshot means nothing.
  left join ledger.feeds as w
    on b.next_xid is not null
      and w.generation = c.generation
      and w.generation = (select max(n.generation) from ledger.feeds as n)
  cross join lateral (
    select h.detail from ledger_internal.header_discrepancies(c, p, d.domain) as h
    union all
    select 'has another seal than the entries up to it make'
    where c.seal <> ledger_internal.seal_entries(c, p)
    union all
    select format('was made at %s', c.created_at)
    where c.created_at > b.latest
      or c.created_at = '-infinity'
    union all
    select r.detail
    from ledger_internal.checkpoint_record_discrepancies(c, w) as r
    where w.generation is not null
    union all
    select l.detail from ledger_internal.leaf_discrepancies(c, d.domain) as l
  ) as f (detail)
  where c.group_id = verify_checkpoints.group_id
    and c.number > verify_checkpoints.after
    and c.number <= coalesce(verify_checkpoints.upto, 9223372036854775807)
$$;

alter function ledger_internal.verify_checkpoints owner to ledger_owner;
comment on function ledger_internal.verify_checkpoints is
  'The discrepancies of a group''s checkpoints whose numbers are above after and, where it is given, not above upto: the chain of their headers, the seals of the entries, the leaves that are kept, and what was credited and settled in the record. For the owner.';
revoke execute on function ledger_internal.verify_checkpoints from public;
-- <<< db/functions/internal/verify/verify_checkpoints.sql

-- >>> db/functions/internal/verify/verify_entries.sql
-- Find the discrepancies of a range of a group's entries.
create or replace function ledger_internal.verify_entries(
  group_id bigint,
  after    bigint,
  upto     bigint
) returns setof ledger.discrepancy
language sql stable
as $$
  -- The planner puts the statement of each function in place of its call: the range is read once, and no row is made.
  select
    e.group_id,
    e.id,
    f.participant_id,
    f.kind,
    f.detail
  from (
    select
      e.*,
      count(*) over (partition by e.id) as times
    from ledger.entries as e
    where e.group_id = verify_entries.group_id
      and e.id > verify_entries.after
      -- Not "is null or": a plan for any parameters would read on to the group's end.
      and e.id <= coalesce(verify_entries.upto, 9223372036854775807)
  ) as e
  cross join ledger_internal.verify_bounds() as b
  -- What each participant held before: if every step is right, so is every balance.
  left join lateral ledger_internal.latest_leg_at(e.group_id, e.from_id, (e.created_at, e.id - 1)::ledger_internal.history_position) as sender
    on true
  left join lateral ledger_internal.latest_leg_at(e.group_id, e.to_id, (e.created_at, e.id - 1)::ledger_internal.history_position) as recipient
    on true
  cross join lateral (
    select
      (
        e.group_id, e.id, e.kind, e.from_id, e.to_id, e.amount, e.from_amount, e.to_amount, e.created_at, e.xid, e.metadata,
        e.reverses
      )::ledger.entries as entry,
      (sender.id, sender.kind, sender.created_at, sender.balance)::ledger_internal.leg as sender,
      (recipient.id, recipient.kind, recipient.created_at, recipient.balance)::ledger_internal.leg as recipient
  ) as r
  cross join lateral (
    select d.participant_id, d.kind, d.detail
    from ledger_internal.entry_form_discrepancies(r.entry) as d
    union all
    select d.participant_id, d.kind, d.detail
    from ledger_internal.entry_leg_discrepancies(r.entry, r.sender, r.recipient) as d
    union all
    select d.participant_id, d.kind, d.detail
    from ledger_internal.entry_origin_discrepancies(r.entry, e.times, b.latest, b.restored, b.first_xid, b.next_xid) as d
    union all
    select d.participant_id, d.kind, d.detail
    from ledger_internal.reversal_discrepancies(r.entry) as d
    union all
    -- A settlement or a total of what has none is found by verify_total: here it would be a look-up for each transfer.
    select d.participant_id, d.kind, d.detail
    from ledger_internal.settlement_discrepancies(r.entry, b.latest) as d
    union all
    select d.participant_id, d.kind, d.detail
    from ledger_internal.entry_total_discrepancies(r.entry) as d
  ) as f
$$;

alter function ledger_internal.verify_entries owner to ledger_owner;
comment on function ledger_internal.verify_entries is
  'The discrepancies of a group''s entries whose ids are above after and, where it is given, not above upto. For the owner.';
revoke execute on function ledger_internal.verify_entries from public;
-- <<< db/functions/internal/verify/verify_entries.sql

-- >>> db/functions/internal/verify/verify_groups.sql
-- Find the discrepancies of a range of groups, and rows whose group is missing.
create or replace function ledger_internal.verify_groups(
  after bigint,
  upto  bigint
) returns setof ledger.discrepancy
language sql stable
as $$
  with looked_at as materialized (
    select
      g.*,
      count(*) over (partition by g.id) as times,
      lag(g.id, 1, verify_groups.after) over (order by g.id) as before
    from ledger.groups as g
    where g.id > verify_groups.after
      and g.id <= coalesce(verify_groups.upto, 9223372036854775807)
  )
  select
    g.id,
    null::bigint,
    null::bigint,
    f.kind,
    f.detail
  from looked_at as g
  cross join ledger_internal.verify_bounds() as b
  cross join lateral (
    select 'group id', format('%s groups have it', g.times)
    where g.times > 1
    union all
    select 'group id', 'it is below 1'
    where g.id < 1
    union all
    select 'sequence', 'it will give ids again that are in use'
    where g.id > (select s.last_value - (not s.is_called)::integer from ledger.groups_id_seq as s)
    union all
    select 'name', 'it is empty'
    where g.name = ''
    union all
    select 'name', 'another group that exists has it'
    where g.closed_at is null
      and exists (
        select from ledger.groups as o
        where o.name = g.name collate "C"
          and o.closed_at is null
          and o.id <> g.id
      )
    union all
    select
      t.kind,
      t.detail
    from ledger_internal.group_time_discrepancies(g.id, g.created_at, g.closed_at, b.latest) as t
  ) as f (kind, detail)
  union all
  -- Groups are numbered nearly without gaps, so there is little to look through.
  select o.*
  from (
    select
      l.before,
      l.id - 1 as upto
    from looked_at as l
    union all
    select
      coalesce(max(l.id), verify_groups.after),
      coalesce(verify_groups.upto, 9223372036854775807)
    from looked_at as l
  ) as gap
  cross join lateral ledger_internal.orphan_discrepancies(gap.before, gap.upto) as o
  where gap.before < gap.upto
$$;

alter function ledger_internal.verify_groups owner to ledger_owner;
comment on function ledger_internal.verify_groups is
  'The discrepancies of the groups whose ids are above after and, where it is given, not above upto: their rows, and what belongs to a group of such an id that is not there. For the owner.';
revoke execute on function ledger_internal.verify_groups from public;
-- <<< db/functions/internal/verify/verify_groups.sql

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

-- >>> db/functions/internal/verify/verify_ledger.sql
-- Find the discrepancies of what belongs to no group: feeds, API keys, and idempotency keys of create_group.
create or replace function ledger_internal.verify_ledger()
returns setof ledger.discrepancy
language sql stable
as $$
  select f.*
  from ledger_internal.feed_discrepancies() as f
  union all
  select a.*
  from ledger_internal.api_key_discrepancies() as a
  union all
  select 0, null, null, 'idempotency key', 'there is an empty key'
  from ledger.idempotency_keys as k
  where k.group_id = 0
    and k.key = ''
$$;

alter function ledger_internal.verify_ledger owner to ledger_owner;
comment on function ledger_internal.verify_ledger is
  'The discrepancies of the feeds, the API keys, and the empty key of a request that created a group, which no range has. For the owner.';
revoke execute on function ledger_internal.verify_ledger from public;
-- <<< db/functions/internal/verify/verify_ledger.sql

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
  left join lateral ledger_internal.latest_leg_at(p.group_id, p.id, ('infinity', 9223372036854775807)::ledger_internal.history_position) as last
    on true
  cross join lateral (
    select
      r.kind,
      r.detail
    from ledger_internal.participant_record_discrepancies(
      (
        p.group_id, p.id, p.username, p.amount, p.joined_at, p.exited_at, p.moved_at, p.address, p.address_xid
      )::ledger.participants,
      (last.id, last.kind, last.created_at, last.balance)::ledger_internal.leg,
      b.latest
    ) as r
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

-- >>> db/functions/internal/verify/verify_schema.sql
-- Find rules of the schema that are not in force, in a database of any release.
create or replace function ledger_internal.verify_schema()
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
    select t.detail from ledger_internal.trigger_discrepancies() as t
    union all
    select format('table %s has no primary key', c.oid::regclass)
    from pg_class as c
    where c.relnamespace = 'ledger'::regnamespace
      and c.relkind in ('r', 'p')
      and not exists (select from pg_constraint as k where k.conrelid = c.oid and k.contype = 'p')
    union all
    select format('constraint %s of %s is not validated', k.conname, k.conrelid::regclass)
    from pg_constraint as k
    where k.connamespace = 'ledger'::regnamespace
      and not k.convalidated
    union all
    select format('index %s is not valid', i.indexrelid::regclass)
    from pg_index as i
    join pg_class as c on c.oid = i.indexrelid
    where c.relnamespace = 'ledger'::regnamespace
      and not (i.indisvalid and i.indisready and i.indislive)
    union all
    select r.detail from ledger_internal.rights_discrepancies() as r
    union all
    select format('table %s has rule %s', r.ev_class::regclass, r.rulename)
    from pg_rewrite as r
    join pg_class as c on c.oid = r.ev_class
    where c.relnamespace = 'ledger'::regnamespace
      and c.relkind in ('r', 'p')
    union all
    select format('table %s has row security', c.oid::regclass)
    from pg_class as c
    where c.relnamespace = 'ledger'::regnamespace
      and (c.relrowsecurity or exists (select from pg_policy as p where p.polrelid = c.oid))
  ) as f (detail)
$$;

alter function ledger_internal.verify_schema owner to ledger_owner;
comment on function ledger_internal.verify_schema is
  'Rules of the schema that are not in force: triggers that are disabled or missing, constraints that are not validated, invalid indexes, other owners than ledger_owner, rights of PUBLIC, rights on ledger_internal. The command ledger verify compares every object with what the migrations made. For the owner.';
revoke execute on function ledger_internal.verify_schema from public;
-- <<< db/functions/internal/verify/verify_schema.sql

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
  'The discrepancies of a group as a whole: its shards and their history, its settlements, changes of names, usernames and addresses that two have, and ids above those that were given. For the owner.';
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
      and c.generation = (select max(f.generation) from feeds as f)
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
  'Delete the leaves of all checkpoints of the group but the newest ones, keep of them, after each was computed from the record once; return how many checkpoints lost theirs. Those from before a restore keep them. list_leaves and get_proof compute the leaves from then on. Raises LG001, LG002. For the owner.';
revoke execute on function ledger.drop_checkpoint_chunks from public;
-- <<< db/functions/owner/drop_checkpoint_chunks.sql

-- >>> db/functions/owner/restart_feed.sql
-- Restart the feed after the ledger was restored from a backup.
create or replace function ledger.restart_feed()
returns integer
language plpgsql volatile
as $$
declare
  generation integer;
begin
  -- No session writes until this commits, so that every entry is either restored or new. Nor does any lock participants
  -- or exits: it would wait for this one at its next write, and this one for its rows.
  lock table ledger.participants, ledger.settlements in exclusive mode;
  lock table ledger.entries in share row exclusive mode;
  insert into ledger.feeds (generation, system_identifier, last_restored, first_xid)
  select
    (select max(f.generation) from ledger.feeds as f) + 1,
    c.system_identifier,
    (select coalesce(max(e.id), 0) from ledger.entries as e),
    pg_snapshot_xmin(pg_current_snapshot())
  from pg_control_system() as c
  on conflict do nothing
  returning feeds.generation into generation;
  if not found then
    raise exception using
      errcode = 'serialization_failure',
      message = 'the feed has just begun again';
  end if;

  -- The numbers of another server's transactions mean nothing here. Every snapshot of the new feed has what was restored,
  -- and every snapshot shows transaction 3.
  update ledger.participants as p
  set address_xid = '3'
  where p.address_xid is not null;
  update ledger.settlements as s
  set settled_xid = '3'
  where s.settled_xid is not null;
  return generation;
end
$$;

alter function ledger.restart_feed owner to ledger_owner;
comment on function ledger.restart_feed is
  'Restart the feed after a restore: earlier cursors are refused, the restored entries come first, and restored addresses and settlements are in every later checkpoint. Returns the number of the new feed. Raises 40001 when another call began it. For the owner.';
revoke execute on function ledger.restart_feed from public;
-- <<< db/functions/owner/restart_feed.sql

-- >>> db/functions/owner/verify.sql
-- Prove that the books are right, or list the discrepancies.
create or replace function ledger.verify(
  group_id bigint default null
) returns setof ledger.discrepancy
language plpgsql stable
as $$
declare
  -- Ids that are no positive number are looked at as well.
  lowest    bigint := -9223372036854775808;
  one_group bigint;
begin
  if verify.group_id is null then
    return query select f.* from ledger_internal.verify_schema() as f;
    return query select f.* from ledger_internal.verify_ledger() as f;
    return query select f.* from ledger_internal.verify_groups(lowest, null) as f;
    return query select f.* from ledger_internal.verify_ids(lowest, null) as f;
    return query select f.* from ledger_internal.verify_keys(0, '', null) as f;
  elsif not exists (select from ledger.groups as g where g.id = verify.group_id) then
    perform ledger_internal.refuse_unknown_group(group_id);
  else
    return query select f.* from ledger_internal.verify_groups(group_id - 1, group_id) as f;
  end if;

  for one_group in
    select distinct g.id
    from ledger.groups as g
    where verify.group_id is null
      or g.id = verify.group_id
    order by g.id
  loop
    return query select f.* from ledger_internal.verify_entries(one_group, lowest, null) as f;
    return query select f.* from ledger_internal.verify_participants(one_group, lowest, null) as f;
    return query select f.* from ledger_internal.verify_checkpoints(one_group, lowest, null) as f;
    return query select f.* from ledger_internal.verify_keys(one_group, '', null) as f;
    return query select f.* from ledger_internal.verify_total(one_group) as f;
  end loop;
end
$$;

alter function ledger.verify owner to ledger_owner;
comment on function ledger.verify is
  'One row for each discrepancy in the books of a group, or of all; none if they are right. What belongs to no group, the schema and ids that two groups share are looked at with all of them only. Takes no lock that stops anybody, but keeps its snapshot throughout: on a large ledger use the command ledger verify, which goes in short ranges and compares every object of the schema with what the migrations made. For the owner. Raises LG001, LG002.';
revoke execute on function ledger.verify from public;
-- <<< db/functions/owner/verify.sql
