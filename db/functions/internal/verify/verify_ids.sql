-- Find entries and participants whose id another group has too.
create or replace function ledger_internal.verify_ids(
  after bigint,
  upto  bigint
) returns setof ledger.discrepancy
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

alter function ledger_internal.verify_ids owner to ledger_owner;
comment on function ledger_internal.verify_ids is
  'The entries and participants whose ids are above after and, where it is given, not above upto, and are those of another group''s as well. For the owner.';
revoke execute on function ledger_internal.verify_ids from public;
