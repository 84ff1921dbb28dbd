-- Verify more.
-- depends: 0026.used-keys-are-40001

set local lock_timeout = '5s';
set local role ledger_owner;
-- Functions may call each other in any order.
set local check_function_bodies = off;

-- >>> db/functions/answer_fault.sql
-- Find what is wrong with an idempotency key's answer and fingerprint, beside the record.
create or replace function ledger.answer_fault(
  kept ledger.idempotency_keys
) returns setof ledger.fault
language plpgsql stable
as $$
declare
  answer   jsonb := ledger.read_answer(kept.answer);
  of_entry boolean := kept.operation in ('transfer', 'join_group', 'exit_group', 'reverse_transfer', 'settle_exit');
  named    bigint := ledger.spelled_id(coalesce(answer ->> 'entry_id', answer ->> 'id'));
  entry    ledger.entries;
  -- As a reversal and a settlement answer with it.
  written  jsonb;
  -- What was asked for, as far as the record and the names in the answer say, and whether the answer agrees with it.
  request  text[] := array[kept.operation];
  agrees   boolean;
  fault    ledger.fault := (kept.group_id, null, null, 'idempotency key', null);
begin
  if octet_length(kept.fingerprint) is distinct from 32 then
    fault.detail := 'has no fingerprint';
    return next fault;
    return;
  elsif answer is null then
    fault.detail := 'has an answer that cannot be read';
    return next fault;
    return;
  elsif kept.operation = 'transfer_all' then
    return query select l.* from ledger.lines_fault(kept.group_id, answer, kept.fingerprint) as l;
    return;
  end if;

  if of_entry then
    fault.entry_id := named;
    select e.*
    into entry
    from ledger.entries as e
    where e.group_id = kept.group_id
      and e.id = named;
    if not found then
      fault.detail := 'names an entry that is not there';
      return next fault;
      return;
    end if;
  end if;

  if kept.operation in ('reverse_transfer', 'settle_exit') then
    written := jsonb_build_object(
      'group_id', entry.group_id, 'id', entry.id, 'kind', entry.kind, 'from_id', entry.from_id, 'to_id', entry.to_id,
      'amount', entry.amount, 'from_amount', entry.from_amount, 'to_amount', entry.to_amount,
      'created_at', entry.created_at, 'metadata', entry.metadata, 'reverses', entry.reverses
    );
  end if;

  case kept.operation
    when 'transfer' then
      request := ledger.transfer_request(entry.from_id, entry.to_id, entry.amount, entry.metadata);
      agrees := entry.reverses is null and answer @> jsonb_build_object(
        'to_participant', jsonb_build_object('id', entry.to_id, 'group_id', entry.group_id, 'amount', entry.to_amount),
        'from_participant', jsonb_build_object('id', entry.from_id, 'group_id', entry.group_id, 'amount', entry.from_amount)
      );
    when 'join_group' then
      request := request || array[answer ->> 'username', entry.amount::text, entry.metadata::text];
      agrees := entry.kind = 'join'
        and answer @> jsonb_build_object('id', entry.to_id, 'group_id', entry.group_id, 'amount', entry.amount);
    when 'exit_group' then
      request := request || array[entry.from_id::text, entry.metadata::text];
      agrees := entry.kind = 'exit' and answer @> jsonb_build_object('final_amount', entry.amount);
    when 'reverse_transfer' then
      request := request || array[entry.reverses::text, entry.metadata::text];
      agrees := entry.reverses is not null and answer @> written;
    when 'settle_exit' then
      request := request || array[entry.id::text, answer ->> 'reference'];
      agrees := answer @> written and exists (
        select from ledger.settlements as s
        where s.group_id = entry.group_id
          and s.entry_id = entry.id
          and s.reference is not null
          and answer @> jsonb_build_object('reference', s.reference, 'settled_at', s.settled_at)
      );
    when 'create_group' then
      request := request || array[answer ->> 'name'];
      agrees := kept.group_id = 0 and exists (select from ledger.groups as g where g.id = named);
    when 'rename_group' then
      request := request || array[answer ->> 'name'];
      agrees := named = kept.group_id;
    when 'rename_participant' then
      request := request || array[named::text, answer ->> 'username'];
      agrees := answer @> jsonb_build_object('group_id', kept.group_id) and exists (
        select from ledger.participants as p
        where p.group_id = kept.group_id
          and p.id = named
      );
    when 'remove_group' then
      agrees := exists (select from ledger.groups as g where g.id = kept.group_id and g.closed_at is not null);
    else
      agrees := false;
  end case;

  if agrees is not true then
    fault.detail := format('has an answer to %s that contradicts the record', kept.operation);
    return next fault;
  -- A name is kept in NFC, and another spelling may have been asked for, unless it has none: of ASCII these three have one.
  elsif kept.fingerprint <> ledger.fingerprint(request)
    and coalesce(answer ->> 'name', answer ->> 'username', '') !~ '[K;`\u0080-\uffff\U00010000-\U0010ffff]'
  then
    fault.detail := 'has the fingerprint of another request than the record says';
    return next fault;
  end if;
end
$$;

alter function ledger.answer_fault owner to ledger_owner;
comment on function ledger.answer_fault is
  'What is wrong with the answer that is kept under an idempotency key, and with the fingerprint of its request; names in the answer are taken as they are. For verify_keys.';
revoke execute on function ledger.answer_fault from public;
-- <<< db/functions/answer_fault.sql

-- >>> db/functions/lines_fault.sql
-- Find what is wrong with the answer to a multi-party transfer, beside the record.
create or replace function ledger.lines_fault(
  group_id    bigint,
  answer      jsonb,
  fingerprint bytea
) returns setof ledger.fault
language sql stable
as $$
  with written as materialized (
    select
      e.*,
      l.entry,
      l.line,
      ledger.spelled_id(l.entry ->> 'id') as named
    from jsonb_array_elements(
      case when jsonb_typeof(lines_fault.answer -> 'entries') = 'array' then lines_fault.answer -> 'entries' end
    ) with ordinality as l (entry, line)
    -- Looked up for each line, whatever the planner thinks of their number.
    left join lateral (
      select e.*
      from ledger.entries as e
      where e.group_id = lines_fault.group_id
        and e.id = ledger.spelled_id(l.entry ->> 'id')
      limit 1
    ) as e on true
  ), request as (
    select
      count(*) as lines,
      count(w.id) as found,
      ledger.fingerprint(array[
        'transfer_all',
        array_agg(w.from_id order by w.line)::text,
        array_agg(w.to_id order by w.line)::text,
        array_agg(w.amount order by w.line)::text,
        case when count(w.metadata) > 0 then array_agg(w.metadata order by w.line)::text end
      ]) as fingerprint
    from written as w
  ), sides as (
    select
      s.id,
      -- As the last line that the participant is in leaves it.
      (array_agg(s.balance order by w.line desc))[1] as balance
    from written as w
    cross join lateral (values (w.from_id, w.from_amount), (w.to_id, w.to_amount)) as s (id, balance)
    group by s.id
  ), told as (
    select
      ledger.spelled_id(p.participant ->> 'id') as id,
      p.participant
    from jsonb_array_elements(
      case when jsonb_typeof(lines_fault.answer -> 'participants') = 'array' then lines_fault.answer -> 'participants' end
    ) as p (participant)
  )
  select
    lines_fault.group_id,
    f.entry_id,
    f.participant_id,
    'idempotency key',
    f.detail
  from (
    select w.named as entry_id, null::bigint as participant_id, 'names an entry that is not there' as detail
    from written as w
    where w.id is null
    union all
    select w.id, null, 'has an answer to transfer_all that contradicts the record'
    from written as w
    where w.id is not null
      and (
        w.kind = 'transfer'
        and w.reverses is null
        and w.entry @> jsonb_build_object(
          'id', w.id, 'from_id', w.from_id, 'to_id', w.to_id, 'amount', w.amount,
          'from_amount', w.from_amount, 'to_amount', w.to_amount
        )
      ) is not true
    union all
    select null, coalesce(s.id, t.id), 'has an answer to transfer_all that gives another balance than its entries'
    from sides as s
    full join told as t on t.id = s.id
    where (select r.lines = r.found from request as r)
      and (
        t.participant @> jsonb_build_object('id', s.id, 'group_id', lines_fault.group_id, 'amount', s.balance)
      ) is not true
    union all
    select null, null, 'has the fingerprint of another request than the record says'
    from request as r
    where r.lines = 0
      or (r.lines = r.found and r.fingerprint <> lines_fault.fingerprint)
  ) as f
$$;

alter function ledger.lines_fault owner to ledger_owner;
comment on function ledger.lines_fault is
  'What is wrong with the answer to a multi-party transfer: its entries, the participants with their balances after it, and the fingerprint of the request. For verify_keys.';
revoke execute on function ledger.lines_fault from public;
-- <<< db/functions/lines_fault.sql

-- >>> db/functions/read_answer.sql
-- Read a stored answer, whatever has become of it.
create or replace function ledger.read_answer(
  answer json
) returns jsonb
language plpgsql stable
as $$
declare
  read jsonb;
begin
  read := answer;
  -- A time is spelled in the time zone of the session that stored it.
  if read ? 'created_at' then
    read := read || jsonb_build_object(
      'created_at', (read ->> 'created_at')::timestamptz,
      'settled_at', (read ->> 'settled_at')::timestamptz
    );
  end if;
  return read;
exception when data_exception then
  return null;
end
$$;

alter function ledger.read_answer owner to ledger_owner;
comment on function ledger.read_answer is
  'A stored answer, its times in this session''s time zone; null where it cannot be read.';
revoke execute on function ledger.read_answer from public;
-- <<< db/functions/read_answer.sql

-- >>> db/functions/verify.sql
-- Prove that the books are right, or say where they are not.
create or replace function ledger.verify(
  group_id bigint default null
) returns setof ledger.fault
language plpgsql stable
as $$
declare
  -- Ids that are no positive number are looked at as well.
  lowest    bigint := -9223372036854775808;
  one_group bigint;
begin
  if verify.group_id is null then
    return query select f.* from ledger.verify_schema() as f;
    return query select f.* from ledger.verify_ledger() as f;
    return query select f.* from ledger.verify_groups(lowest, null) as f;
    return query select f.* from ledger.verify_ids(lowest, null) as f;
    return query select f.* from ledger.verify_keys(0, '', null) as f;
  elsif not exists (select from ledger.groups as g where g.id = verify.group_id) then
    perform ledger.refuse_unknown_group(group_id);
  else
    return query select f.* from ledger.verify_groups(group_id - 1, group_id) as f;
  end if;

  for one_group in
    select distinct g.id
    from ledger.groups as g
    where verify.group_id is null
      or g.id = verify.group_id
    order by g.id
  loop
    return query select f.* from ledger.verify_entries(one_group, lowest, null) as f;
    return query select f.* from ledger.verify_participants(one_group, lowest, null) as f;
    return query select f.* from ledger.verify_keys(one_group, '', null) as f;
    return query select f.* from ledger.verify_total(one_group) as f;
  end loop;
end
$$;

alter function ledger.verify owner to ledger_owner;
comment on function ledger.verify is
  'One row for each fault in the books of a group, or of all; none when they are right. What belongs to no group, the schema and ids that two groups share are looked at with all of them only. Takes no lock that stops anybody, but keeps its snapshot throughout: on a large ledger use the command ledger verify, which goes in short ranges and compares every object of the schema with what the migrations made. For the owner. Raises LG001, LG002.';
revoke execute on function ledger.verify from public;
-- <<< db/functions/verify.sql

-- >>> db/functions/verify_bounds.sql
-- Find what no value of a committed row lies beyond.
create or replace function ledger.verify_bounds(
  out latest    timestamptz,
  out restored  bigint,
  out first_xid xid8,
  out next_xid  xid8
)
language sql stable
as $$
  select
    -- Clocks differ, and are set back.
    clock_timestamp() + interval '1 minute',
    f.last_restored,
    f.first_xid,
    -- Another server counts transactions differently, until restart_feed() is called there. A transaction that is under way
    -- may have a number above those that have ended.
    case when f.system_identifier = c.system_identifier then
      greatest(
        pg_snapshot_xmax(pg_current_snapshot()),
        (pg_current_xact_id_if_assigned()::text::numeric + 1)::text::xid8
      )
    end
  from pg_control_system() as c
  left join (select * from ledger.feeds order by generation desc limit 1) as f on true
$$;

alter function ledger.verify_bounds owner to ledger_owner;
comment on function ledger.verify_bounds is
  'What verify holds each row against: the latest time that a clock may show, the last entry that came with a backup, the oldest transaction of the feed, and the first that this snapshot does not show, null in another server than the feed''s.';
revoke execute on function ledger.verify_bounds from public;
-- <<< db/functions/verify_bounds.sql

-- >>> db/functions/verify_entries.sql
-- Find what is wrong with a range of a group's entries, each by itself and beside those before it.
create or replace function ledger.verify_entries(
  group_id bigint,
  after    bigint,
  upto     bigint
) returns setof ledger.fault
language sql stable
as $$
  select
    e.group_id,
    e.id,
    f.participant_id,
    f.fault,
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
  cross join ledger.verify_bounds() as b
  -- What each side held before: with every step right, so is every balance.
  left join lateral ledger.last_leg(e.group_id, e.from_id, (e.created_at, e.id - 1)::ledger.history_moment) as sender
    on true
  left join lateral ledger.last_leg(e.group_id, e.to_id, (e.created_at, e.id - 1)::ledger.history_moment) as recipient
    on true
  cross join lateral (
    select
      e.from_id,
      'kind',
      format(
        'a movement of kind %s from %s, with %s after it, to %s, with %s after it',
        e.kind,
        coalesce(e.from_id::text, 'outside'),
        coalesce(e.from_amount::text, 'no balance'),
        coalesce(e.to_id::text, 'outside'),
        coalesce(e.to_amount::text, 'no balance')
      )
    where case
        when e.kind = 'join' then e.from_id is not null or e.to_id is null
        when e.kind = 'transfer' then e.from_id is null or e.to_id is null or e.from_id = e.to_id
        when e.kind = 'exit' then e.from_id is null or e.to_id is not null
        else true
      end
      or (e.from_id is null) <> (e.from_amount is null)
      or (e.to_id is null) <> (e.to_amount is null)
    union all
    select null, 'amount', format('moves %s, and the balances after it are %s and %s', e.amount, e.from_amount, e.to_amount)
    -- As in amount_fault, which costs as much as all the rest. NaN is above every number.
    where (e.amount >= case when e.kind = 'transfer' then 1 else 0 end) is not true
      or e.amount >= 2::numeric ^ 256
      or e.amount <> trunc(e.amount)
      or e.from_amount < 0
      or e.from_amount >= 2::numeric ^ 256
      or e.from_amount <> trunc(e.from_amount)
      or e.to_amount < 0
      or e.to_amount >= 2::numeric ^ 256
      or e.to_amount <> trunc(e.to_amount)
    union all
    select
      e.from_id,
      'running balance',
      format('the sender has %s after it, and had %s before it', e.from_amount, sender.balance)
    where sender.id is not null
      and e.from_amount is distinct from sender.balance - e.amount
    union all
    select e.from_id, 'running balance', format('the participant left with %s and kept %s', e.amount, e.from_amount)
    where e.kind = 'exit'
      and e.from_amount <> 0
    union all
    select
      e.to_id,
      'running balance',
      format('the recipient has %s after it, and had %s before it', e.to_amount, coalesce(recipient.balance, 0))
    where (e.kind = 'join' or recipient.id is not null)
      and e.to_amount is distinct from coalesce(recipient.balance, 0) + e.amount
    union all
    select s.participant_id, 'presence', 'the participant has not joined before it'
    from (values (e.from_id, sender.id), (e.to_id, recipient.id)) as s (participant_id, earlier)
    where e.kind <> 'join'
      and s.participant_id is not null
      and s.earlier is null
    union all
    select e.to_id, 'presence', 'the participant was there before joining'
    where e.kind = 'join'
      and recipient.id is not null
    union all
    select s.participant_id, 'presence', 'the participant had left before it'
    from (values (e.from_id, sender.kind), (e.to_id, recipient.kind)) as s (participant_id, earlier)
    where e.kind <> 'join'
      and s.earlier = 'exit'
    union all
    select s.participant_id, 'time', format('entry %s is earlier and has a higher id', s.earlier)
    from (values (e.from_id, sender.id), (e.to_id, recipient.id)) as s (participant_id, earlier)
    where s.earlier > e.id
    union all
    select s.participant_id, 'participant', 'there never was such a participant'
    from (values (e.from_id, sender.id), (e.to_id, recipient.id)) as s (participant_id, earlier)
    -- What comes later leads back to the participant's first entry.
    where s.participant_id is not null
      and s.earlier is null
      and not exists (
        select from ledger.participants as p
        where p.group_id = e.group_id
          and p.id = s.participant_id
      )
    union all
    select null, 'time', format('it is of %s', e.created_at)
    where e.created_at > b.latest
      or e.created_at = '-infinity'
    union all
    select null, 'transaction', format('it is of transaction %s, and the feed from %s on', e.xid, b.first_xid)
    where e.id > b.restored
      and e.xid < b.first_xid
    union all
    select null, 'transaction', format('it is of transaction %s, and none from %s on has ended', e.xid, b.next_xid)
    where e.id > b.restored
      and e.xid >= b.next_xid
    union all
    select null, 'metadata', 'they are no object'
    where jsonb_typeof(e.metadata) <> 'object'
    union all
    select null, 'entry id', format('%s entries have it', e.times)
    where e.times > 1
    union all
    select null, 'entry id', 'it is below 1'
    where e.id < 1
    union all
    select null, 'reversal', format('entry %s is no transfer of this amount the other way', e.reverses)
    where e.reverses is not null
      and not exists (
        select from ledger.entries as o
        where o.group_id = e.group_id
          and o.id = e.reverses
          and o.id < e.id
          and o.kind = 'transfer'
          and o.from_id = e.to_id
          and o.to_id = e.from_id
          and o.amount = e.amount
      )
    union all
    select null, 'reversal', format('entry %s is reversed more than once', e.reverses)
    where e.reverses is not null
      and (
        select count(*) from ledger.entries as o
        where o.group_id = e.group_id
          and o.reverses = e.reverses
      ) > 1
    union all
    -- A settlement or a total of what has none is found by verify_total: here it would be a look-up for each transfer.
    select e.from_id, 'settlement', 'the exit has none'
    where e.kind = 'exit'
      and not exists (
        select from ledger.settlements as s
        where s.group_id = e.group_id
          and s.entry_id = e.id
      )
    union all
    select e.from_id, 'settlement', 'it has another time than its exit, a time to come, or no reference'
    from ledger.settlements as s
    where e.kind = 'exit'
      and s.group_id = e.group_id
      and s.entry_id = e.id
      and (
        s.exited_at <> e.created_at
        or (s.reference is null) <> (s.settled_at is null)
        or s.settled_at < s.exited_at
        or s.settled_at > b.latest
      )
    union all
    select null, 'total', format('the total is noted %s times', n.times)
    from (
      select count(*) as times
      from generate_series(0, 7) as s (slot)
      cross join lateral (
        select from ledger.group_totals as t
        where t.group_id = e.group_id
          and t.slot = s.slot
          and t.created_at = e.created_at
          and t.entry_id = e.id
        -- Kept from being merged into a join: a look-up for each counter, whose key begins with the slot.
        offset 0
      ) as t
    ) as n
    where e.kind <> 'transfer'
      and n.times <> 1
    union all
    select
      null,
      'total',
      format('counter %s came to %s, and stood at %s before', s.slot, t.total, coalesce(before.total, 0))
    from generate_series(0, 7) as s (slot)
    cross join lateral (
      select t.total
      from ledger.group_totals as t
      where t.group_id = e.group_id
        and t.slot = s.slot
        and t.created_at = e.created_at
        and t.entry_id = e.id
      offset 0
    ) as t
    left join lateral (
      select b.total
      from ledger.group_totals as b
      where b.group_id = e.group_id
        and b.slot = s.slot
        and (b.created_at, b.entry_id) < (e.created_at, e.id)
      order by b.created_at desc, b.entry_id desc
      limit 1
    ) as before on true
    where e.kind <> 'transfer'
      and t.total <> coalesce(before.total, 0) + case when e.kind = 'join' then e.amount else -e.amount end
  ) as f (participant_id, fault, detail)
$$;

alter function ledger.verify_entries owner to ledger_owner;
comment on function ledger.verify_entries is
  'What is wrong with a group''s entries whose ids are above after and, where it is given, not above upto. For the owner.';
revoke execute on function ledger.verify_entries from public;
-- <<< db/functions/verify_entries.sql

-- >>> db/functions/verify_groups.sql
-- Find what is wrong with a range of groups, and rows of groups that are not there.
create or replace function ledger.verify_groups(
  after bigint,
  upto  bigint
) returns setof ledger.fault
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
    f.fault,
    f.detail
  from looked_at as g
  cross join ledger.verify_bounds() as b
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
    select 'group time', format('was opened at %s, and first joined at %s', g.created_at, first.created_at)
    where g.created_at > b.latest
      or g.created_at = '-infinity'
      -- Until entries had their transaction's number, a clock that was set back showed in their times.
      or (g.created_at > first.created_at and first.xid <> '0')
    union all
    select
      'group time',
      format('was opened at %s and removed at %s, and last left at %s', g.created_at, g.closed_at, last.created_at)
    where g.closed_at > b.latest
      or g.closed_at < g.created_at
      or (g.closed_at < last.created_at and last.xid <> '0')
  ) as f (fault, detail)
  union all
  -- Groups are numbered nearly without gaps, so there is little to look through.
  select
    o.group_id,
    null,
    null,
    'group',
    format('there is no such group, and it has %s', string_agg(format('%s: %s', o.name, o.rows), ', ' order by o.name))
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
  cross join lateral (
    select p.group_id, 'participants', count(*)
    from ledger.participants as p
    where p.group_id > gap.before
      and p.group_id <= gap.upto
    group by p.group_id
    union all
    select e.group_id, 'entries', count(*)
    from ledger.entries as e
    where e.group_id > gap.before
      and e.group_id <= gap.upto
    group by e.group_id
    union all
    select s.group_id, 'settlements', count(*)
    from ledger.settlements as s
    where s.group_id > gap.before
      and s.group_id <= gap.upto
    group by s.group_id
    union all
    select c.group_id, 'counters', count(*)
    from ledger.group_counters as c
    where c.group_id > gap.before
      and c.group_id <= gap.upto
    group by c.group_id
    union all
    select t.group_id, 'totals', count(*)
    from ledger.group_totals as t
    where t.group_id > gap.before
      and t.group_id <= gap.upto
    group by t.group_id
    union all
    select k.group_id, 'idempotency keys', count(*)
    from ledger.idempotency_keys as k
    where k.group_id > gap.before
      and k.group_id <= gap.upto
      -- Those of requests that created a group.
      and k.group_id <> 0
    group by k.group_id
  ) as o (group_id, name, rows)
  where gap.before < gap.upto
  group by o.group_id
$$;

alter function ledger.verify_groups owner to ledger_owner;
comment on function ledger.verify_groups is
  'What is wrong with the groups whose ids are above after and, where it is given, not above upto: their rows, and what belongs to a group of such an id that is not there. For the owner.';
revoke execute on function ledger.verify_groups from public;
-- <<< db/functions/verify_groups.sql

-- >>> db/functions/verify_ids.sql
-- Find entries and participants of a range of ids that share theirs with one of another group.
create or replace function ledger.verify_ids(
  after bigint,
  upto  bigint
) returns setof ledger.fault
language sql stable
as $$
  select
    s.group_id,
    e.id,
    null::bigint,
    'entry id',
    format('group %s has it as well', s.other)
  from (
    select
      e.id,
      min(e.group_id) as low,
      max(e.group_id) as high
    from (select g.id from ledger.groups as g offset 0) as g
    -- Looked up in each group, whose ids are in order: no index has them without it.
    cross join lateral (
      select
        e.group_id,
        e.id
      from ledger.entries as e
      where e.group_id = g.id
        and e.id > verify_ids.after
        and e.id <= coalesce(verify_ids.upto, 9223372036854775807)
      offset 0
    ) as e
    group by e.id
    having min(e.group_id) <> max(e.group_id)
  ) as e
  cross join lateral (values (e.low, e.high), (e.high, e.low)) as s (group_id, other)
  union all
  select
    s.group_id,
    null,
    p.id,
    'participant id',
    format('group %s has it as well', s.other)
  from (
    select
      p.id,
      min(p.group_id) as low,
      max(p.group_id) as high
    from (select g.id from ledger.groups as g offset 0) as g
    cross join lateral (
      select
        p.group_id,
        p.id
      from ledger.participants as p
      where p.group_id = g.id
        and p.id > verify_ids.after
        and p.id <= coalesce(verify_ids.upto, 9223372036854775807)
      offset 0
    ) as p
    group by p.id
    having min(p.group_id) <> max(p.group_id)
  ) as p
  cross join lateral (values (p.low, p.high), (p.high, p.low)) as s (group_id, other)
$$;

alter function ledger.verify_ids owner to ledger_owner;
comment on function ledger.verify_ids is
  'The entries and participants whose ids are above after and, where it is given, not above upto, and are those of another group''s as well. For the owner.';
revoke execute on function ledger.verify_ids from public;
-- <<< db/functions/verify_ids.sql

-- >>> db/functions/verify_keys.sql
-- Find what is wrong with a range of a group's idempotency keys, by themselves and beside the record.
create or replace function ledger.verify_keys(
  group_id bigint,
  after    text,
  upto     text
) returns setof ledger.fault
language sql stable
as $$
  select
    k.group_id,
    f.entry_id,
    f.participant_id,
    'idempotency key',
    format('the key %s %s', k.key, f.detail)
  from (
    select
      i.*,
      count(*) over (partition by i.key) as times
    from ledger.idempotency_keys as i
    where i.group_id = verify_keys.group_id
      and i.key > verify_keys.after collate "C"
      -- Above every key is the last character that there is.
      and i.key <= coalesce(verify_keys.upto, chr(1114111)) collate "C"
  ) as k
  cross join ledger.verify_bounds() as b
  -- Nearly every key is of a transfer and as it should be: that is seen without reading the JSON, which takes longer than
  -- all the rest. Looked up for each key: as a join it read all entries of the group for each range.
  left join lateral (
    select true as is_right
    from ledger.entries as e
    where k.operation = 'transfer'
      and e.group_id = k.group_id
      and e.id = ledger.spelled_id(split_part(split_part(k.answer::text, '"entry_id":', -1), ',', 1))
      and e.reverses is null
      and k.fingerprint = ledger.fingerprint(ledger.transfer_request(e.from_id, e.to_id, e.amount, e.metadata))
      and k.answer::text like '{"to_participant":{"username":"%","id":' || e.to_id || ',"group_id":' || e.group_id
        || ',"amount":' || e.to_amount || '},"from_participant":{"username":"%","id":' || e.from_id || ',"group_id":'
        || e.group_id || ',"amount":' || e.from_amount || '},"entry_id":' || e.id || ',"replayed":false}'
    limit 1
  ) as t on true
  cross join lateral (
    select null::bigint, null::bigint, format('belongs to %s requests', k.times)
    where k.times > 1
    union all
    select null, null, format('has the time %s', k.created_at)
    where k.created_at > b.latest
      or not isfinite(k.created_at)
    union all
    select a.entry_id, a.participant_id, a.detail
    from ledger.answer_fault(
      (k.group_id, k.key, k.operation, k.fingerprint, k.answer, k.created_at)::ledger.idempotency_keys
    ) as a
    where t.is_right is not true
  ) as f (entry_id, participant_id, detail)
$$;

alter function ledger.verify_keys owner to ledger_owner;
comment on function ledger.verify_keys is
  'What is wrong with a group''s idempotency keys that come after one and, where it is given, not after upto; of group 0, with those that created groups. For the owner.';
revoke execute on function ledger.verify_keys from public;
-- <<< db/functions/verify_keys.sql

-- >>> db/functions/verify_ledger.sql
-- Find what is wrong with what belongs to no group: the feeds, the API keys, and the keys of requests that created groups.
create or replace function ledger.verify_ledger()
returns setof ledger.fault
language sql stable
as $$
  select
    f.group_id,
    null::bigint,
    null::bigint,
    f.fault,
    f.detail
  from ledger.verify_bounds() as b
  cross join lateral (
    select null::bigint, 'feed', 'there is none'
    where not exists (select from ledger.feeds)
    union all
    select null, 'feed', format('feed %s began at %s', d.generation, d.began_at)
    from ledger.feeds as d
    where d.began_at > b.latest
      or d.began_at = '-infinity'
    union all
    select null, 'feed', format('feed %s begins after entry %s, and none above %s was written', d.generation, d.last_restored, g.given)
    from ledger.feeds as d
    cross join (select s.last_value - (not s.is_called)::integer as given from ledger.entries_id_seq as s) as g
    where d.last_restored not between 0 and g.given
    union all
    select null, 'feed', format('feed %s begins with transaction %s, and none from %s on has ended', d.generation, b.first_xid, b.next_xid)
    from (select max(d.generation) as generation from ledger.feeds as d) as d
    where b.first_xid >= b.next_xid
    union all
    select null, 'feed', format('%s feeds have number %s', count(*), d.generation)
    from ledger.feeds as d
    group by d.generation
    having count(*) > 1
    union all
    select k.group_id, 'API key', format('key %s %s', k.id, c.detail)
    from (
      select
        k.*,
        count(*) over (partition by k.id) as times,
        count(*) over (partition by k.digest) as alike
      from ledger.api_keys as k
    ) as k
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
    union all
    select 0, 'idempotency key', 'there is an empty key'
    from ledger.idempotency_keys as k
    where k.group_id = 0
      and k.key = ''
  ) as f (group_id, fault, detail)
$$;

alter function ledger.verify_ledger owner to ledger_owner;
comment on function ledger.verify_ledger is
  'What is wrong with the feeds, the API keys, and the empty key of a request that created a group, which no range has. For the owner.';
revoke execute on function ledger.verify_ledger from public;
-- <<< db/functions/verify_ledger.sql

-- >>> db/functions/verify_participants.sql
-- Find what is wrong with a range of a group's participants beside the record.
create or replace function ledger.verify_participants(
  group_id bigint,
  after    bigint,
  upto     bigint
) returns setof ledger.fault
language sql stable
as $$
  select
    p.group_id,
    null::bigint,
    p.id,
    f.fault,
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
  cross join ledger.verify_bounds() as b
  left join lateral ledger.last_leg(p.group_id, p.id, ('infinity', 9223372036854775807)::ledger.history_moment) as last
    on true
  left join lateral (
    select e.created_at
    from ledger.entries as e
    where e.group_id = p.group_id
      and e.to_id = p.id
    order by e.created_at, e.id
    limit 1
  ) as joined on true
  cross join lateral (
    select 'balance', format('holds %s, and the record says %s', p.amount, last.balance)
    where p.amount is distinct from last.balance
      and last.id is not null
      and last.kind <> 'exit'
    union all
    select 'balance', format('left and holds %s', p.amount)
    where last.kind = 'exit'
      and p.amount <> 0
    union all
    select 'presence', 'is not in the record'
    where last.id is null
    union all
    select 'presence', 'left without an exit, or is present after one'
    where (p.exited_at is not null) <> (last.kind is not distinct from 'exit')
    union all
    select 'presence', 'is present in a group that was removed'
    where p.exited_at is null
      and exists (select from ledger.groups as g where g.id = p.group_id and g.closed_at is not null)
    union all
    select 'presence time', format('joined at %s, and the record says %s', p.joined_at, joined.created_at)
    where p.joined_at <> joined.created_at
    union all
    select 'presence time', format('left at %s, and the record says %s', p.exited_at, last.created_at)
    where last.kind = 'exit'
      and p.exited_at <> last.created_at
    union all
    select 'presence time', format('last moved at %s, and the record says %s', p.moved_at, last.created_at)
    where p.moved_at < last.created_at
      or p.moved_at > b.latest
      -- What moved before moved_at was there has no transaction's number, and a later time.
      or (
        p.moved_at > last.created_at
        and exists (
          select from ledger.entries as e
          where e.group_id = p.group_id
            and e.id = last.id
            and e.xid <> '0'
        )
      )
    union all
    select 'username', 'is empty'
    where p.username = ''
    union all
    select 'participant id', format('%s participants have it', p.times)
    where p.times > 1
    union all
    select 'participant id', 'it is below 1'
    where p.id < 1
  ) as f (fault, detail)
$$;

alter function ledger.verify_participants owner to ledger_owner;
comment on function ledger.verify_participants is
  'What is wrong with a group''s participants whose ids are above after and, where it is given, not above upto. For the owner.';
revoke execute on function ledger.verify_participants from public;
-- <<< db/functions/verify_participants.sql

-- >>> db/functions/verify_schema.sql
-- Find rules of the schema that are not in force, whatever release it is of.
create or replace function ledger.verify_schema()
returns setof ledger.fault
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
    from unnest(array['entries', 'group_totals', 'settlements', 'idempotency_keys', 'feeds', 'api_keys']) as p (name)
    where not exists (
      select from pg_trigger as t
      where t.tgrelid = to_regclass('ledger.' || p.name)
        and t.tgfoid = to_regproc('ledger.refuse_rewriting')
        -- Before DELETE and TRUNCATE, a statement.
        and t.tgtype & 43 = 42
    )
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
    select format('%s %s belongs to %s', o.kind, o.name, o.owner::regrole)
    from (
      select 'schema', n.nspname, n.nspowner from pg_namespace as n where n.oid = 'ledger'::regnamespace
      union all
      select 'relation', c.relname, c.relowner from pg_class as c where c.relnamespace = 'ledger'::regnamespace
      union all
      select 'function', p.proname, p.proowner from pg_proc as p where p.pronamespace = 'ledger'::regnamespace
    ) as o (kind, name, owner)
    where o.owner <> 'ledger_owner'::regrole
    union all
    select format('%s is granted on %s %s to PUBLIC', a.privilege_type, o.kind, o.name)
    from (
      select 'schema', n.nspname, n.nspacl from pg_namespace as n where n.oid = 'ledger'::regnamespace
      union all
      select 'relation', c.relname, c.relacl from pg_class as c where c.relnamespace = 'ledger'::regnamespace
      union all
      select 'function', p.proname, coalesce(p.proacl, acldefault('f', p.proowner))
      from pg_proc as p
      where p.pronamespace = 'ledger'::regnamespace
    ) as o (kind, name, rights)
    cross join lateral aclexplode(o.rights) as a
    where a.grantee = 0
    union all
    select format('function %s runs as its owner with the search_path of its caller', p.oid::regprocedure)
    from pg_proc as p
    where p.pronamespace = 'ledger'::regnamespace
      and p.prosecdef
      and not exists (select from unnest(p.proconfig) as s (setting) where s.setting ~ '^search_path=ledger,.*pg_temp$')
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

alter function ledger.verify_schema owner to ledger_owner;
comment on function ledger.verify_schema is
  'Rules of the schema that are not in force: triggers that are disabled or missing, constraints that are not validated, invalid indexes, other owners than ledger_owner, rights of PUBLIC. The command ledger verify compares every object with what the migrations made. For the owner.';
revoke execute on function ledger.verify_schema from public;
-- <<< db/functions/verify_schema.sql

-- >>> db/functions/verify_total.sql
-- Find what is wrong with a group's total.
create or replace function ledger.verify_total(
  group_id bigint
) returns setof ledger.fault
language sql stable
as $$
  select
    verify_total.group_id,
    f.entry_id,
    f.participant_id,
    f.fault,
    f.detail
  from (
    select
      null::bigint,
      null::bigint,
      'total',
      format('counter %s stands at %s, and came to %s last', c.slot, c.total, coalesce(last.total, 0))
    from ledger.group_counters as c
    left join lateral (
      select t.total
      from ledger.group_totals as t
      where t.group_id = c.group_id
        and t.slot = c.slot
      order by t.created_at desc, t.entry_id desc
      limit 1
    ) as last on true
    where c.group_id = verify_total.group_id
      and c.total <> coalesce(last.total, 0)
    union all
    select null, null, 'total', format('the counters add up to %s, the balances to %s', c.total, p.total)
    from (
      select coalesce(sum(c.total), 0) as total from ledger.group_counters as c where c.group_id = verify_total.group_id
    ) as c
    cross join (
      select coalesce(sum(p.amount), 0) as total from ledger.participants as p where p.group_id = verify_total.group_id
    ) as p
    where c.total <> p.total
    union all
    select null, null, 'total', format('there are %s counters, from %s to %s', count(*), min(c.slot), max(c.slot))
    from ledger.group_counters as c
    where c.group_id = verify_total.group_id
    having count(*) <> 8
      or min(c.slot) <> 0
      or max(c.slot) <> 7
    union all
    select t.entry_id, null, 'total', format('counter %s came to %s with it, and it is no join or exit of that time', t.slot, t.total)
    from ledger.group_totals as t
    left join ledger.entries as e on e.group_id = t.group_id and e.id = t.entry_id
    where t.group_id = verify_total.group_id
      and (e.kind is null or e.kind = 'transfer' or e.created_at <> t.created_at or t.slot not between 0 and 7)
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
      format('counter %s changed at %s, and with its last join or exit at %s', c.slot, c.changed_at, last.created_at)
    from ledger.group_counters as c
    cross join ledger.verify_bounds() as b
    left join lateral (
      select t.created_at
      from ledger.group_totals as t
      where t.group_id = c.group_id
        and t.slot = c.slot
      order by t.created_at desc, t.entry_id desc
      limit 1
    ) as last on true
    where c.group_id = verify_total.group_id
      and (c.changed_at > b.latest or c.changed_at = '-infinity' or c.changed_at < last.created_at)
    union all
    select null, null, 'username', format('%s who are present have the username %s', count(*), p.username)
    from ledger.participants as p
    where p.group_id = verify_total.group_id
      and p.exited_at is null
    group by p.username
    having count(*) > 1
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
  ) as f (entry_id, participant_id, fault, detail)
$$;

alter function ledger.verify_total owner to ledger_owner;
comment on function ledger.verify_total is
  'What is wrong with a group as a whole: its counters and their history, its settlements, usernames that two have, and ids above those that were given. For the owner.';
revoke execute on function ledger.verify_total from public;
-- <<< db/functions/verify_total.sql
