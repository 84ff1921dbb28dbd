-- Undo: verify more.

set local lock_timeout = '5s';
set local role ledger_owner;
-- Functions may call each other in any order.
set local check_function_bodies = off;

-- >>> db/functions/answer_fault.sql
drop function if exists ledger.answer_fault;
-- <<< db/functions/answer_fault.sql

-- >>> db/functions/lines_fault.sql
drop function if exists ledger.lines_fault;
-- <<< db/functions/lines_fault.sql

-- >>> db/functions/read_answer.sql
drop function if exists ledger.read_answer;
-- <<< db/functions/read_answer.sql

-- >>> db/functions/verify.sql
-- Prove that the books are right, or say where they are not.
create or replace function ledger.verify(
  group_id bigint default null
) returns setof ledger.fault
language plpgsql stable
as $$
declare
  one_group bigint;
begin
  if verify.group_id is null then
    return query select f.* from ledger.verify_keys(0, '', null) as f;
  elsif not exists (select from ledger.groups as g where g.id = verify.group_id) then
    perform ledger.refuse_unknown_group(group_id);
  end if;

  for one_group in
    select g.id
    from ledger.groups as g
    where verify.group_id is null
      or g.id = verify.group_id
    order by g.id
  loop
    return query select f.* from ledger.verify_entries(one_group, 0, null) as f;
    return query select f.* from ledger.verify_participants(one_group, 0, null) as f;
    return query select f.* from ledger.verify_keys(one_group, '', null) as f;
    return query select f.* from ledger.verify_total(one_group) as f;
  end loop;
end
$$;

alter function ledger.verify owner to ledger_owner;
comment on function ledger.verify is
  'One row for each fault in the books of a group, or of all; none when they are right. Takes no lock that stops anybody, but keeps its snapshot throughout: on a large ledger use the command ledger verify, which goes in short ranges. For the owner. Raises LG001, LG002.';
revoke execute on function ledger.verify from public;
-- <<< db/functions/verify.sql

-- >>> db/functions/verify_bounds.sql
drop function if exists ledger.verify_bounds;
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
    select null, 'entry id', format('%s entries have it', e.times)
    where e.times > 1
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
    select e.from_id, 'settlement', 'it has another time than its exit, or is settled without a reference'
    from ledger.settlements as s
    where e.kind = 'exit'
      and s.group_id = e.group_id
      and s.entry_id = e.id
      and (s.exited_at <> e.created_at or (s.reference is null) <> (s.settled_at is null) or s.settled_at < s.exited_at)
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
drop function if exists ledger.verify_groups;
-- <<< db/functions/verify_groups.sql

-- >>> db/functions/verify_ids.sql
drop function if exists ledger.verify_ids;
-- <<< db/functions/verify_ids.sql

-- >>> db/functions/verify_keys.sql
-- Find what is wrong with a range of a group's idempotency keys.
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
    null::bigint,
    'idempotency key',
    f.detail
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
  cross join lateral (
    select null::bigint, format('%s requests have the key %s', k.times, k.key)
    where k.times > 1
    union all
    select null, format('the key %s has no fingerprint', k.key)
    where octet_length(k.fingerprint) is distinct from 32
    union all
    select w.entry_id, format('the key %s names an entry that is not there', k.key)
    from (
      select case
        when k.operation in ('reverse_transfer', 'settle_exit')
        then k.answer ->> 'id'
        else k.answer ->> 'entry_id'
      end::bigint
      union all
      select (l.line ->> 'id')::bigint
      from json_array_elements(case when k.operation = 'transfer_all' then k.answer -> 'entries' end) as l (line)
    ) as w (entry_id)
    where w.entry_id is not null
      -- Looked up for each key. As `not exists` it became a join that read all entries of the group for each range.
      and (
        select true from ledger.entries as e
        where e.group_id = k.group_id
          and e.id = w.entry_id
        limit 1
      ) is not true
  ) as f (entry_id, detail)
$$;

alter function ledger.verify_keys owner to ledger_owner;
comment on function ledger.verify_keys is
  'What is wrong with a group''s idempotency keys that come after one and, where it is given, not after upto; of group 0, with those that created groups. For the owner.';
revoke execute on function ledger.verify_keys from public;
-- <<< db/functions/verify_keys.sql

-- >>> db/functions/verify_ledger.sql
drop function if exists ledger.verify_ledger;
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
    union all
    select 'participant id', format('%s participants have it', p.times)
    where p.times > 1
  ) as f (fault, detail)
$$;

alter function ledger.verify_participants owner to ledger_owner;
comment on function ledger.verify_participants is
  'What is wrong with a group''s participants whose ids are above after and, where it is given, not above upto. For the owner.';
revoke execute on function ledger.verify_participants from public;
-- <<< db/functions/verify_participants.sql

-- >>> db/functions/verify_schema.sql
drop function if exists ledger.verify_schema;
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
    null::bigint,
    f.fault,
    f.detail
  from (
    select
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
    select null, 'total', format('the counters add up to %s, the balances to %s', c.total, p.total)
    from (
      select coalesce(sum(c.total), 0) as total from ledger.group_counters as c where c.group_id = verify_total.group_id
    ) as c
    cross join (
      select coalesce(sum(p.amount), 0) as total from ledger.participants as p where p.group_id = verify_total.group_id
    ) as p
    where c.total <> p.total
    union all
    select null, 'total', format('there are %s counters, from %s to %s', count(*), min(c.slot), max(c.slot))
    from ledger.group_counters as c
    where c.group_id = verify_total.group_id
    having count(*) <> 8
      or min(c.slot) <> 0
      or max(c.slot) <> 7
    union all
    select t.entry_id, 'total', format('counter %s came to %s with it, and it is no join or exit of that time', t.slot, t.total)
    from ledger.group_totals as t
    left join ledger.entries as e on e.group_id = t.group_id and e.id = t.entry_id
    where t.group_id = verify_total.group_id
      and (e.kind is null or e.kind = 'transfer' or e.created_at <> t.created_at or t.slot not between 0 and 7)
    union all
    select s.entry_id, 'settlement', 'it is settled, and is no exit'
    from ledger.settlements as s
    left join ledger.entries as e on e.group_id = s.group_id and e.id = s.entry_id
    where s.group_id = verify_total.group_id
      and e.kind is distinct from 'exit'
  ) as f (entry_id, fault, detail)
$$;

alter function ledger.verify_total owner to ledger_owner;
comment on function ledger.verify_total is
  'What is wrong with a group''s counters, their history and its settlements as a whole. For the owner.';
revoke execute on function ledger.verify_total from public;
-- <<< db/functions/verify_total.sql
