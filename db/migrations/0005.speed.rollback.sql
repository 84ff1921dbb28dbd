-- Undo: speed.

set local lock_timeout = '5s';
set local role ledger_owner;
do $$
begin
  if to_regclass('ledger.entries_by_kind') is null and exists (
    select from pg_class as c
    where c.oid = 'ledger.entries'::regclass
      and (c.reltuples > 1000000 or pg_relation_size(c.oid) > 128 * 1024 * 1024)
  ) then
    raise exception using
      errcode = 'object_not_in_prerequisite_state',
      message = 'an index of the entries is missing, and building it in a migration would stop writes',
      hint    = 'First, as ledger_owner: create index concurrently entries_by_kind on ledger.entries (group_id, kind, created_at, id).';
  end if;
end
$$;
create index if not exists entries_by_kind
  on ledger.entries (group_id, kind, created_at, id);
drop index if exists ledger.entries_others_by_kind;
drop index if exists ledger.entries_transfers_by_time;

-- Functions may call each other in any order.
set local check_function_bodies = off;

-- >>> db/functions/api/join_all_minimal.sql
drop function if exists ledger.join_all_minimal;
-- <<< db/functions/api/join_all_minimal.sql

-- >>> db/functions/api/transfer_all_minimal.sql
drop function if exists ledger.transfer_all_minimal;
-- <<< db/functions/api/transfer_all_minimal.sql

-- >>> db/functions/internal/movements/execute_joins.sql
drop function if exists ledger_internal.execute_joins;
-- <<< db/functions/internal/movements/execute_joins.sql

-- >>> db/functions/internal/transfers/execute_transfers.sql
drop function if exists ledger_internal.execute_transfers;
-- <<< db/functions/internal/transfers/execute_transfers.sql

-- >>> db/functions/internal/validation/check_join_list.sql
drop function if exists ledger_internal.check_join_list;
-- <<< db/functions/internal/validation/check_join_list.sql

-- >>> db/functions/internal/validation/check_transfer_list.sql
drop function if exists ledger_internal.check_transfer_list;
-- <<< db/functions/internal/validation/check_transfer_list.sql

-- >>> db/functions/internal/validation/invalid_list.sql
drop function if exists ledger_internal.invalid_list;
-- <<< db/functions/internal/validation/invalid_list.sql

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

-- >>> db/functions/api/create_group.sql
-- Create a group, which is one off-chain ledger.
create or replace function ledger.create_group(
  name            text,
  idempotency_key text default null
) returns ledger.group_result
language plpgsql volatile security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  request   text[] := array['create_group', name];
  new_group group_result;
begin
  perform refuse_invalid(
    array['name', 'idempotency_key'],
    array[invalid_new_name(name, 0, idempotency_key, request), invalid_idempotency_key(idempotency_key)]
  );

  -- The group does not exist yet, so the idempotency key belongs to group 0, as for every request of create_group.
  new_group := claim_idempotency_key(0, idempotency_key, request, new_group);
  if new_group.replayed then
    return new_group;
  end if;

  -- Names stored before NFC was enforced also count as taken.
  insert into groups (name)
  select normalize(create_group.name, NFC)
  where find_group_id(array_remove(name_spellings(create_group.name), normalize(create_group.name, NFC))) is null
  on conflict do nothing
  returning groups.name, groups.id into new_group.name, new_group.id;
  if not found then
    perform refuse_taken_name('name', name, 'group ' || find_group_id(name_spellings(name))::text);
  end if;

  insert into group_total_shards (group_id, slot)
  select new_group.id, s.slot
  from generate_series(0, 7) as s (slot);

  new_group.replayed := false;
  perform store_answer(0, idempotency_key, request, new_group);
  return new_group;
end
$$;

alter function ledger.create_group owner to ledger_owner;
comment on function ledger.create_group is
  'Open a group under a name, composed (NFC), that no other existing group has. Raises LG001, LG005, LG006.';
revoke execute on function ledger.create_group from public;
grant execute on function ledger.create_group to ledger_api;
-- <<< db/functions/api/create_group.sql

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

-- >>> db/functions/api/join_all.sql
-- Make many joins of one group in one step: all of them in their order, or none.
create or replace function ledger.join_all(
  group_id        bigint,
  participants    jsonb,
  idempotency_key text default null
) returns ledger.join_all_result
language plpgsql volatile security definer
set search_path = ledger, ledger_internal, pg_temp
-- One plan serves every list: with the values of one it would be planned for ten thousand lines at each call.
set plan_cache_mode = force_generic_plan
as $$
declare
  lines   join_lines;
  request text[];
  vault   vaults;
  result  join_all_result;
begin
  perform refuse_invalid(
    array['group_id', 'participants', 'idempotency_key'],
    array[
      invalid_id(group_id),
      case
        when participants is null
        then 'must be given'
        when jsonb_typeof(participants) <> 'array'
        then 'must be a list'
        when jsonb_array_length(participants) not between 1 and 10000
        then 'must have 1 to 10000 lines'
      end,
      invalid_idempotency_key(idempotency_key)
    ]
  );
  lines := parse_join_lines(participants);

  if idempotency_key is not null then
    request := join_all_request(lines.usernames, lines.amounts, lines.addresses, lines.metadatas);
    result := claim_idempotency_key(group_id, idempotency_key, request, result);
    if result.replayed then
      return result;
    end if;
  end if;

  -- As for one join: the group cannot be removed until this commits.
  perform from groups as g
  where g.id = join_all.group_id
    and g.closed_at is null
  for key share;
  if not found then
    perform refuse_unknown_group(group_id);
  end if;
  vault := find_vault(group_id);
  if vault.group_id is not null then
    perform refuse_frozen(group_id);
    perform refuse_linked_joins(group_id, lines);
  end if;

  result := post_joins(group_id, lines, insert_participants(group_id, lines, vault.group_id is not null));
  perform store_answer(group_id, idempotency_key, request, result);
  return result;
end
$$;

alter function ledger.join_all owner to ledger_owner;
comment on function ledger.join_all is
  'Make 1 to 10,000 joins of a group, a JSON list of {"username", "amount", "metadata", "address"}, all or none, in order, each as join_group would. entries are the entries written and participants the participants who joined, by line. A field of a line is named as participants[0].username. Raises LG001, LG002, LG005, LG006, LG010, LG012, LG014.';
revoke execute on function ledger.join_all from public;
grant execute on function ledger.join_all to ledger_api;
-- <<< db/functions/api/join_all.sql

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
  perform store_entry(group_id, idempotency_key, request, result.entry_id);
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

-- >>> db/functions/api/transfer_batch.sql
-- Make independent transfers in one call: those that need not wait.
create or replace function ledger.transfer_batch(
  group_ids        bigint[],
  from_ids         bigint[],
  to_ids           bigint[],
  amounts          numeric[],
  idempotency_keys text[]  default null,
  metadatas        jsonb[] default null
) returns setof ledger.transfer_outcome
language plpgsql volatile security definer
set search_path = ledger, ledger_internal, pg_temp
-- One plan serves every list: planning takes longer than executing a short list.
set plan_cache_mode = force_generic_plan
as $$
declare
  lines     transfer_lines;
  last      integer;
  legs      transfer_legs;
  decisions transfer_decisions;
  usernames text[];
begin
  lines.group_ids := group_ids;
  lines.from_ids := from_ids;
  lines.to_ids := to_ids;
  lines.amounts := amounts;
  lines.idempotency_keys := idempotency_keys;
  lines.metadatas := metadatas;
  lines := align_transfer_lines(lines);
  last := coalesce(cardinality(lines.amounts), 0);
  if last = 0 then
    return;
  elsif last = 1 then
    return next transfer_batch_of_one(
      lines.group_ids[1], lines.from_ids[1], lines.to_ids[1], lines.amounts[1], lines.idempotency_keys[1],
      lines.metadatas[1]
    );
    return;
  end if;

  select array_agg(transfer_is_valid(l.group_id, l.from_id, l.to_id, l.amount, l.key, l.metadata) order by l.line)
  into lines.possible
  from unnest(
    lines.group_ids, lines.from_ids, lines.to_ids, lines.amounts, lines.idempotency_keys, lines.metadatas
  ) with ordinality as l (group_id, from_id, to_id, amount, key, metadata, line);
  if lines.idempotency_keys is not null then
    lines.possible := claim_idempotency_keys(lines.group_ids, lines.idempotency_keys, lines.possible);
  end if;

  -- A refused line is deferred to transfer(), which raises the error.
  legs := lock_legs(lines, wait => false);
  decisions := decide_transfers(lines, legs, all_or_nothing => false);
  perform post_transfers(lines, legs, decisions);
  if lines.idempotency_keys is not null then
    perform store_entries(lines, decisions);
  end if;

  usernames := legs.usernames;
  return query
  select
    l.line::integer,
    case
      when l.entry_id is not null
      then 'done'
      when l.possible and (l.sender is null or l.recipient is null)
      then unmade_outcome(l.group_id, l.from_id, l.to_id)
      else 'deferred'
    end,
    case
      when l.entry_id is not null
      then (usernames[l.recipient], l.to_id, l.group_id, l.to_amount)::current_participants
    end,
    case
      when l.entry_id is not null
      then (usernames[l.sender], l.from_id, l.group_id, l.from_amount)::current_participants
    end,
    l.entry_id
  from unnest(
    lines.group_ids, lines.from_ids, lines.to_ids, lines.possible, legs.numbers[: last], legs.numbers[last + 1 :],
    decisions.entries
  ) with ordinality as l (
    group_id, from_id, to_id, possible, sender, recipient,
    entry_id, entry_from_id, entry_to_id, amount, from_amount, to_amount, line
  );
end
$$;

alter function ledger.transfer_batch owner to ledger_owner;
comment on function ledger.transfer_batch is
  'Make those of several transfers, also of several groups, that can be made at once: one row a line, in order. The outcome is done, with what transfer returns; locked, where another session holds a leg; or deferred, for all that transfer has to decide. A line that is not done changed nothing, and touches no other; one of shorter lists has nulls there. Raises 40001 where a balance or an idempotency key could not be written, and did nothing. For services that collect requests: call transfer for what is not done.';
revoke execute on function ledger.transfer_batch from public;
grant execute on function ledger.transfer_batch to ledger_api;
-- <<< db/functions/api/transfer_batch.sql

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

-- >>> db/functions/internal/movements/post_joins.sql
drop function if exists ledger_internal.post_joins;
-- Write the joins of participants who were just inserted.
create or replace function ledger_internal.post_joins(
  group_id        bigint,
  lines           ledger_internal.join_lines,
  participant_ids bigint[]
) returns ledger.join_all_result
language plpgsql volatile
as $$
declare
  joined      numeric := (select sum(l.amount) from unnest(lines.amounts) as l (amount));
  -- As in post_join(): what waits for a username or an address holds no shard, so the time is known only now.
  shard       ledger.group_total_shards := ledger_internal.add_to_group_total(group_id, joined, null);
  before      numeric := shard.total - joined;
  new_entries bigint[] := array(
    select nextval('ledger.entries_id_seq') from generate_series(1, cardinality(participant_ids))
  );
  result      ledger.join_all_result;
begin
  update ledger.participants as p
  set
    joined_at = shard.changed_at,
    moved_at = shard.changed_at
  where p.group_id = post_joins.group_id
    and p.id = any (participant_ids);

  insert into ledger.entries (group_id, id, kind, to_id, amount, to_amount, created_at, metadata)
  overriding system value
  select
    post_joins.group_id,
    l.entry_id,
    'join',
    l.participant_id,
    l.amount,
    l.amount,
    shard.changed_at,
    l.metadata
  from unnest(new_entries, participant_ids, lines.amounts, lines.metadatas)
    as l (entry_id, participant_id, amount, metadata);

  -- A row for each entry, as for single joins: a total is looked up at each of them.
  insert into ledger.group_total_history (group_id, slot, created_at, entry_id, total)
  select
    post_joins.group_id,
    shard.slot,
    shard.changed_at,
    l.entry_id,
    before + sum(l.amount) over (order by l.line rows unbounded preceding)
  from unnest(new_entries, lines.amounts) with ordinality as l (entry_id, amount, line);

  select
    array_agg((l.entry_id, l.participant_id, l.amount)::ledger.join_entry order by l.line),
    array_agg(
      (normalize(l.username, NFC), l.participant_id, post_joins.group_id, l.amount)::ledger.current_participants
      order by l.line
    )
  into
    result.entries,
    result.participants
  from unnest(new_entries, participant_ids, lines.usernames, lines.amounts) with ordinality
    as l (entry_id, participant_id, username, amount, line);
  result.replayed := false;
  return result;
end
$$;

alter function ledger_internal.post_joins owner to ledger_owner;
comment on function ledger_internal.post_joins is
  'Write the entries of a list of joins and their amounts in the group''s total, and return the answer; this transaction has inserted the participants, with these amounts.';
revoke execute on function ledger_internal.post_joins from public;
-- <<< db/functions/internal/movements/post_joins.sql

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

-- >>> db/functions/internal/transfers/post_transfers.sql
-- Write the transfers of a list that were decided: the balances and the entries.
create or replace function ledger_internal.post_transfers(
  lines     ledger_internal.transfer_lines,
  legs      ledger_internal.transfer_legs,
  decisions ledger_internal.transfer_decisions
) returns void
language plpgsql volatile
as $$
declare
  changed integer := cardinality(array_remove(decisions.changed_at, null));
  written integer;
begin
  -- No other session can move a locked row, so its ctid is still valid.
  update ledger.participants as p
  set
    amount = l.balance,
    moved_at = l.changed_at
  from unnest(legs.ids, legs.places, decisions.balances, decisions.changed_at) as l (id, place, balance, changed_at)
  where l.changed_at is not null
    and p.ctid = l.place
    and p.id = l.id;
  get diagnostics written = row_count;
  if written <> changed then
    raise exception using
      errcode = 'serialization_failure',
      message = format('of %s balances %s were written', changed, written);
  end if;

  insert into ledger.entries (
    group_id, id, kind, from_id, to_id, amount, from_amount, to_amount, created_at, metadata
  )
  overriding system value
  select
    l.group_id,
    l.id,
    'transfer',
    l.from_id,
    l.to_id,
    l.amount,
    l.from_amount,
    l.to_amount,
    l.moment,
    l.metadata
  from unnest(lines.group_ids, decisions.entries, decisions.moments, lines.metadatas)
    as l (group_id, id, from_id, to_id, amount, from_amount, to_amount, moment, metadata)
  where l.id is not null;
end
$$;

alter function ledger_internal.post_transfers owner to ledger_owner;
comment on function ledger_internal.post_transfers is
  'Write the transfers that decide_transfers allowed, between the participants that lock_legs locked: their balances and the entries. Raises 40001 where a balance could not be written.';
revoke execute on function ledger_internal.post_transfers from public;
-- <<< db/functions/internal/transfers/post_transfers.sql

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

drop type if exists ledger.list_summary;
