-- Undo: look before writing out.

set local lock_timeout = '5s';
set local role ledger_owner;
-- Functions may call each other in any order.
set local check_function_bodies = off;

-- >>> db/functions/exit_group.sql
-- Leave a group with the final amount, which returns to the main network.
create or replace function ledger.exit_group(
  group_id        bigint,
  participant_id  bigint,
  idempotency_key text  default null,
  metadata        jsonb default null
) returns ledger.exit_result
language plpgsql volatile security definer
set search_path = ledger, pg_temp
as $$
declare
  request    text[] := array['exit_group', participant_id::text, metadata::text];
  answer     json;
  exited     exit_result;
  last_moved timestamptz;
  counter    group_counters;
begin
  perform refuse_invalid(
    array['group_id', 'participant_id', 'idempotency_key', 'metadata'],
    array[id_fault(group_id), id_fault(participant_id), key_fault(idempotency_key), metadata_fault(metadata)]
  );

  if idempotency_key is not null then
    answer := replay(group_id, idempotency_key, request);
    if answer is not null then
      exited := json_populate_record(exited, answer);
      exited.replayed := true;
      return exited;
    end if;
  end if;

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

  counter := count_in_total(group_id, -exited.final_amount, last_moved);

  update participants as p
  set
    amount = 0,
    moved_at = counter.changed_at,
    exited_at = counter.changed_at
  where p.group_id = exit_group.group_id
    and p.id = exit_group.participant_id;

  insert into entries (group_id, kind, from_id, amount, from_amount, created_at, metadata)
  values (
    exit_group.group_id, 'exit', exit_group.participant_id, exited.final_amount, 0, counter.changed_at,
    exit_group.metadata
  )
  returning entries.id into exited.entry_id;
  perform remember_total(counter, exited.entry_id);

  insert into settlements (group_id, entry_id, exited_at)
  values (exit_group.group_id, exited.entry_id, counter.changed_at);

  exited.replayed := false;
  if idempotency_key is not null then
    perform remember(group_id, idempotency_key, request, to_json(exited));
  end if;
  return exited;
end
$$;

alter function ledger.exit_group owner to ledger_owner;
comment on function ledger.exit_group is
  'Leave the group with all that the participant holds, the final amount. entry_id is the entry written. Raises LG001, LG002, LG006.';
revoke execute on function ledger.exit_group from public;
grant execute on function ledger.exit_group to ledger_api;
-- <<< db/functions/exit_group.sql

-- >>> db/functions/join_group.sql
-- Join a group with a deposit from the main network.
create or replace function ledger.join_group(
  group_id        bigint,
  username        text,
  amount          numeric,
  idempotency_key text  default null,
  metadata        jsonb default null
) returns ledger.join_result
language plpgsql volatile security definer
set search_path = ledger, pg_temp
as $$
declare
  request text[] := array['join_group', username, trunc(amount)::text, metadata::text];
  answer  json;
  joined  join_result;
  counter group_counters;
begin
  perform refuse_invalid(
    array['group_id', 'username', 'amount', 'idempotency_key', 'metadata'],
    array[
      id_fault(group_id),
      name_fault(username),
      amount_fault(amount, 0),
      key_fault(idempotency_key),
      metadata_fault(metadata)
    ]
  );

  if idempotency_key is not null then
    answer := replay(group_id, idempotency_key, request);
    if answer is not null then
      joined := json_populate_record(joined, answer);
      joined.replayed := true;
      return joined;
    end if;
  end if;

  -- Kept from removal until this commits; joins do not keep each other out.
  perform from groups as g
  where g.id = join_group.group_id
    and g.closed_at is null
  for key share;
  if not found then
    perform refuse_unknown_group(group_id);
  end if;

  insert into participants (group_id, username, amount)
  values (join_group.group_id, join_group.username, join_group.amount)
  on conflict do nothing
  returning participants.username, participants.id, participants.group_id, participants.amount
  into joined.username, joined.id, joined.group_id, joined.amount;
  if not found then
    perform refuse_taken('username', username);
  end if;

  -- Whoever waits for a username holds no counter, so the time is known only now.
  counter := count_in_total(group_id, amount, null);
  update participants as p
  set
    joined_at = counter.changed_at,
    moved_at = counter.changed_at
  where p.group_id = join_group.group_id
    and p.id = joined.id;

  insert into entries (group_id, kind, to_id, amount, to_amount, created_at, metadata)
  values (
    join_group.group_id, 'join', joined.id, join_group.amount, join_group.amount, counter.changed_at, join_group.metadata
  )
  returning entries.id into joined.entry_id;
  perform remember_total(counter, joined.entry_id);

  joined.replayed := false;
  if idempotency_key is not null then
    perform remember(group_id, idempotency_key, request, to_json(joined));
  end if;
  return joined;
end
$$;

alter function ledger.join_group owner to ledger_owner;
comment on function ledger.join_group is
  'Join a group under a username that no one present has, with a deposit of 0 or more. entry_id is the entry written. Raises LG001, LG002, LG005, LG006.';
revoke execute on function ledger.join_group from public;
grant execute on function ledger.join_group to ledger_api;
-- <<< db/functions/join_group.sql

-- >>> db/functions/metadata_fault.sql
-- Say what is wrong with an entry's metadata, or null when nothing is or there is none.
create or replace function ledger.metadata_fault(
  metadata jsonb
) returns text
language sql immutable parallel safe
as $$
  select case
    when jsonb_typeof(metadata_fault.metadata) <> 'object'
    then 'must be an object'
    when octet_length(metadata_fault.metadata::text) > 4096
    then 'must have at most 4096 bytes'
  end
$$;

alter function ledger.metadata_fault owner to ledger_owner;
comment on function ledger.metadata_fault is
  'What is wrong with metadata that must be a JSON object of at most 4096 bytes where there is any; null when nothing is.';
revoke execute on function ledger.metadata_fault from public;
-- <<< db/functions/metadata_fault.sql

-- >>> db/functions/metadata_is_long.sql
drop function if exists ledger.metadata_is_long;
-- <<< db/functions/metadata_is_long.sql

-- >>> db/functions/reverse_transfer.sql
-- Move the amount of a transfer back, once.
create or replace function ledger.reverse_transfer(
  group_id        bigint,
  entry_id        bigint,
  idempotency_key text  default null,
  metadata        jsonb default null
) returns ledger.entry_result
language plpgsql volatile security definer
set search_path = ledger, pg_temp
as $$
declare
  request  text[] := array['reverse_transfer', entry_id::text, metadata::text];
  answer   json;
  original entries;
  moved    transfer_result;
  reversal entry_result;
begin
  perform refuse_invalid(
    array['group_id', 'entry_id', 'idempotency_key', 'metadata'],
    array[id_fault(group_id), id_fault(entry_id), key_fault(idempotency_key), metadata_fault(metadata)]
  );

  if idempotency_key is not null then
    answer := replay(group_id, idempotency_key, request);
    if answer is not null then
      reversal := json_populate_record(reversal, answer);
      reversal.replayed := true;
      return reversal;
    end if;
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

  -- Of two at once the second waits here, in ascending id as everywhere, and then finds the entry reversed.
  perform from participants as p
  where p.group_id = reverse_transfer.group_id
    and p.id in (original.from_id, original.to_id)
    and p.exited_at is null
  order by p.id
  for no key update;

  -- Who is gone is told first, as everywhere.
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

  moved := move(group_id, original.to_id, original.from_id, original.amount, metadata, entry_id);
  select
    r.*,
    false
  into reversal
  from ledger.record as r
  where r.group_id = reverse_transfer.group_id
    and r.id = moved.entry_id;
  if idempotency_key is not null then
    perform remember(group_id, idempotency_key, request, to_json(reversal));
  end if;
  return reversal;
end
$$;

alter function ledger.reverse_transfer owner to ledger_owner;
comment on function ledger.reverse_transfer is
  'Move the amount of a transfer back, at most once; returns the new entry, which names the one that it reverses. Raises LG001, LG002, LG003, LG006, LG007.';
revoke execute on function ledger.reverse_transfer from public;
grant execute on function ledger.reverse_transfer to ledger_api;
-- <<< db/functions/reverse_transfer.sql

-- >>> db/functions/spelled_json.sql
drop function if exists ledger.spelled_json;
-- <<< db/functions/spelled_json.sql

-- >>> db/functions/transfer_line_faults.sql
-- Say what is wrong with the lines of a multi-party transfer.
create or replace function ledger.transfer_line_faults(
  transfers jsonb,
  out fields text[],
  out faults text[]
)
language sql immutable
as $$
  select
    array_agg(f.field),
    array_agg(f.fault)
  from (
    select
      format('transfers[%s]%s', l.line - 1, m.member) as field,
      m.fault
    from jsonb_array_elements(transfer_line_faults.transfers) with ordinality as i (item, line)
    cross join lateral (
      select
        i.line,
        jsonb_typeof(i.item) <> 'object' as other,
        case when jsonb_typeof(i.item) = 'object' then i.item else '{}' end as item,
        i.item ->> 'from' as from_id,
        i.item ->> 'to' as to_id,
        i.item ->> 'amount' as amount
    ) as l
    cross join lateral (
      select 1 as place, '' as member, 'must be an object' as fault
      where l.other
      union all
      select s.place, s.member, case when s.id is null then 'must be given' else 'must be a positive integer below 2^63' end
      from (values (2, '.from', l.from_id), (3, '.to', l.to_id)) as s (place, member, id)
      where not l.other
        and ledger.spelled_id(s.id) is null
      union all
      select 3, '.to', 'must be another participant'
      where ledger.spelled_id(l.from_id) = ledger.spelled_id(l.to_id)
      union all
      select 4, '.amount', a.fault
      from (
        select case
          when l.amount is not null and ledger.spelled_amount(l.amount) is null
          then 'must be a whole number below 2^256'
          else ledger.amount_fault(ledger.spelled_amount(l.amount), 1)
        end
      ) as a (fault)
      where not l.other
        and a.fault is not null
      union all
      select 5, '.metadata', n.fault
      from (select ledger.metadata_fault(nullif(l.item -> 'metadata', 'null'))) as n (fault)
      where n.fault is not null
      union all
      -- A name in which nothing can be taken for the end of a field or of a line.
      select 6, '.' || left(regexp_replace(k.name collate "C", '[\u0001-\u001f\u007f-\u009f:]', '?', 'g'), 63), 'is not known'
      from jsonb_object_keys(l.item) as k (name)
      where k.name not in ('from', 'to', 'amount', 'metadata')
    ) as m
    order by l.line, m.place, m.member
    limit 100
  ) as f
$$;

alter function ledger.transfer_line_faults owner to ledger_owner;
comment on function ledger.transfer_line_faults is
  'The fields of a multi-party transfer''s lines that are wrong, as transfers[0].amount, and what is wrong with each; the first 100 of them, null when there is none.';
revoke execute on function ledger.transfer_line_faults from public;
-- <<< db/functions/transfer_line_faults.sql

-- >>> db/functions/transfer_lines.sql
-- Read the lines of a multi-party transfer.
create or replace function ledger.transfer_lines(
  transfers jsonb
) returns ledger.transfer_lines
language plpgsql immutable
as $$
declare
  lines  ledger.transfer_lines;
  valid  boolean;
  fields text[];
  faults text[];
begin
  select
    bool_and((
      l.from_id <> l.to_id and ledger.amount_fault(l.amount, 1) is null and ledger.metadata_fault(l.metadata) is null
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
  from (
    select
      i.line,
      case when jsonb_typeof(i.item) = 'object' then i.item else '{"": ""}' end as item,
      ledger.spelled_id(i.item ->> 'from') as from_id,
      ledger.spelled_id(i.item ->> 'to') as to_id,
      ledger.spelled_amount(i.item ->> 'amount') as amount,
      nullif(i.item -> 'metadata', 'null') as metadata
    from jsonb_array_elements(transfer_lines.transfers) with ordinality as i (item, line)
    -- Each value is read once, and not once for each place that asks for it.
    offset 0
  ) as l;

  if not valid then
    select
      f.fields,
      f.faults
    into
      fields,
      faults
    from ledger.transfer_line_faults(transfers) as f;
    perform ledger.refuse_invalid(fields, faults);
  end if;
  return lines;
end
$$;

alter function ledger.transfer_lines owner to ledger_owner;
comment on function ledger.transfer_lines is
  'The columns of a multi-party transfer, metadatas only where a line has any. Raises LG001 with what is wrong in each line.';
revoke execute on function ledger.transfer_lines from public;
-- <<< db/functions/transfer_lines.sql
