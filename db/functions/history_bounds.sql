-- Put what limits a page of a group's history into two places in it.
create or replace function ledger.history_bounds(
  group_id bigint,
  since    timestamptz,
  until    timestamptz,
  after    bigint,
  before   bigint
) returns ledger.history_bounds
language plpgsql stable
as $$
declare
  earlier ledger.entries;
  later   ledger.entries;
  bounds  ledger.history_bounds;
begin
  if not exists (select from ledger.groups as g where g.id = history_bounds.group_id) then
    perform ledger.refuse_unknown_group(group_id);
  end if;

  select e.*
  into earlier
  from ledger.entries as e
  where e.group_id = history_bounds.group_id
    and e.id = history_bounds.after;
  select e.*
  into later
  from ledger.entries as e
  where e.group_id = history_bounds.group_id
    and e.id = history_bounds.before;
  perform ledger.refuse_invalid(
    array['after', 'before'],
    array[
      case when earlier.id is null and after <> 0 then 'must be an entry of the group' end,
      case when later.id is null and before <> 0 then 'must be an entry of the group' end
    ]
  );

  -- History goes by time and then by id, and no id is 0 or less.
  bounds := (coalesce(since, '-infinity'), 0, coalesce(until, 'infinity'), 0);
  if (earlier.created_at, earlier.id) > (bounds.low_at, bounds.low_id) then
    bounds.low_at := earlier.created_at;
    bounds.low_id := earlier.id;
  end if;
  if (later.created_at, later.id) < (bounds.high_at, bounds.high_id) then
    bounds.high_at := later.created_at;
    bounds.high_id := later.id;
  end if;
  return bounds;
end
$$;

alter function ledger.history_bounds owner to ledger_owner;
comment on function ledger.history_bounds is
  'The two places in a group''s history, both exclusive, between which lies what is since (inclusive), until (exclusive), after and before; 0 stands for no entry. Raises LG001 for an after or before that is no entry of the group, LG002 for a group that never was.';
revoke execute on function ledger.history_bounds from public;
