-- Verify renames.
-- depends: 0028.short-ways-for-ordinary-values

set local lock_timeout = '5s';
set local role ledger_owner;
-- Functions may call each other in any order.
set local check_function_bodies = off;

-- >>> db/functions/keys_required.sql
-- Say whether requests need an API key.
create or replace function ledger.keys_required(
  out keys_required boolean
)
language sql stable security definer
set search_path = ledger, pg_temp
as $$
  select exists (select from api_keys)
    -- A reset dropped some, and was not completed.
    or to_regclass('public.ledger_keys_were_dropped') is not null
$$;

alter function ledger.keys_required owner to ledger_owner;
comment on function ledger.keys_required is
  'Whether an API key has ever been made: from then on each request needs one. Revoking the last, or a reset, does not change that.';
revoke execute on function ledger.keys_required from public;
grant execute on function ledger.keys_required to ledger_api;
-- <<< db/functions/keys_required.sql

-- >>> db/functions/metadata_is_long.sql
-- Tell metadata that would have too many bytes, without writing their numbers out.
create or replace function ledger.metadata_is_long(
  metadata jsonb
) returns boolean
language plpgsql immutable parallel safe
as $$
begin
  -- No JSON text takes more than four times its bytes when it is stored.
  if pg_column_size(metadata) > 5 * 4096 then
    return true;
  end if;

  -- 1e4096 is stored in a few bytes and written in 4,097: a number counts with its decimal places and the digits that its
  -- size is certain to have.
  return coalesce(sum(scale(n.number) + (array[1, 1, 17, 65, 257, 1025, 4097])[
    1 + width_bucket(abs(n.number), array[1e0, 1e16, 1e64, 1e256, 1e1024, 1e4096]::numeric[])
  ]) > 4096, false)
  from (
    select v.value::numeric as number
    from jsonb_path_query(metadata, 'strict $.** ? (@.type() == "number")') as v (value)
    offset 0
  ) as n;
end
$$;

alter function ledger.metadata_is_long owner to ledger_owner;
comment on function ledger.metadata_is_long is
  'Whether metadata certainly have more than 4096 bytes as text. Where this returns false, writing them out is cheap.';
revoke execute on function ledger.metadata_is_long from public;
-- <<< db/functions/metadata_is_long.sql

-- >>> db/functions/name_fault.sql
-- Say what is wrong with a name or username, or null when nothing is.
create or replace function ledger.name_fault(
  name text
) returns text
language sql immutable parallel safe
as $$
  -- Spelled out, as classes like [:space:] depend on the locale.
  select case
    when name_fault.name is null
    then 'must be given'
    -- Most names are of ASCII alone.
    when octet_length(name_fault.name) <= 255 and name_fault.name collate "C" ~ '^[ -~]*[!-~][ -~]*$'
    then null
    -- No character in NFC stands for more than four others, so what is much longer need not be normalized.
    when char_length(name_fault.name) > 4 * 255
    then 'must have at most 255 characters'
    when char_length(normalize(name_fault.name, NFC)) > 255
    then 'must have at most 255 characters'
    when name_fault.name collate "C" ~ '[\u0001-\u001f\u007f-\u009f]'
    then 'must not contain control characters'
    -- White space, what Unicode has for ignorable, and four that are drawn as nothing: Braille, Khitan, a note, annotations.
    when name_fault.name collate "C" !~ (
      '[^ \u00a0\u00ad\u034f\u061c\u115f\u1160\u1680\u17b4\u17b5\u180b-\u180f\u2000-\u200f\u2028-\u202f\u205f-\u206f\u2800'
      || '\u3000\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U00016fe4\U0001bca0-\U0001bca3\U0001d159\U0001d173-\U0001d17a'
      || '\U000e0000-\U000e0fff]'
    )
    then 'must not be blank'
    -- What Unicode has for ignorable, which bidirectional controls are, too, and separators of lines. A variation selector
    -- may follow an emoji, and a joiner may stand between two.
    when name_fault.name collate "C" ~ (
      '[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200c\u200e\u200f\u2028-\u202e\u2060-\u206f\u3164'
      || '\ufe00-\ufe0e\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]'
    )
    then 'must not contain invisible characters'
    when name_fault.name collate "C" ~ '[\u200d\ufe0f]'
      -- The emoji of a key has a digit, a variation selector, and the key.
      and replace(name_fault.name, U&'\FE0F\20E3', '') collate "C" ~ (
        '(?<![\u00a9\u00ae\u203c\u2049\u2122-\u27bf\u2934\u2935\u2b05-\u2b55\u3030\u303d\u3297\u3299\U0001f000-\U0001faff])\ufe0f'
        || '|(?<![\u2122-\u27bf\u2b05-\u2b55\U0001f000-\U0001faff\ufe0f])\u200d'
        || '|\u200d(?![\u2122-\u27bf\u2b05-\u2b55\U0001f000-\U0001faff])'
      )
    then 'must not contain invisible characters'
  end
$$;

alter function ledger.name_fault owner to ledger_owner;
comment on function ledger.name_fault is
  'What is wrong with a name that must be 1 to 255 characters in NFC, not blank and without control characters or invisible ones; null when nothing is.';
revoke execute on function ledger.name_fault from public;
-- <<< db/functions/name_fault.sql

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
    select c.group_id, 'changes of names', count(*)
    from ledger.name_changes as c
    where c.group_id > gap.before
      and c.group_id <= gap.upto
    group by c.group_id
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
    from unnest(
      array[
        'entries', 'group_totals', 'idempotency_keys', 'feeds', 'name_changes',
        'settlements', 'api_keys', 'groups', 'participants'
      ],
      array[true, true, true, true, true, false, false, false, false]
    ) as p (name, is_permanent)
    where not exists (
      select from pg_trigger as t
      where t.tgrelid = to_regclass('ledger.' || p.name)
        and t.tgfoid = to_regproc('ledger.refuse_rewriting')
        -- Before DELETE and TRUNCATE, a statement; for what is permanent before each UPDATE as well.
        and t.tgtype & 43 = 42
        and (not p.is_permanent or t.tgtype & 16 = 16)
        and t.tgqual is null
        and cardinality(t.tgattr::smallint[]) = 0
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
    select null, c.participant_id, 'rename', format('change %s is of a participant who is not there', c.id)
    from ledger.name_changes as c
    where c.group_id = verify_total.group_id
      and c.participant_id is not null
      and not exists (
        select from ledger.participants as p
        where p.group_id = c.group_id
          and p.id = c.participant_id
      )
    union all
    select null, c.participant_id, 'rename', format('change %s was made at %s', c.id, c.changed_at)
    from ledger.name_changes as c
    cross join ledger.verify_bounds() as b
    where c.group_id = verify_total.group_id
      and (c.changed_at > b.latest or c.changed_at = '-infinity')
    union all
    select null, null, 'sequence', format('name_changes has number %s, which will be given again', c.last)
    from (
      select max(c.id) as last from ledger.name_changes as c where c.group_id = verify_total.group_id
    ) as c
    cross join ledger.name_changes_id_seq as s
    where c.last > s.last_value - (not s.is_called)::integer
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
  'What is wrong with a group as a whole: its counters and their history, its settlements, changes of names, usernames that two have, and ids above those that were given. For the owner.';
revoke execute on function ledger.verify_total from public;
-- <<< db/functions/verify_total.sql
