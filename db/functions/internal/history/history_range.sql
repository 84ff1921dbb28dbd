-- Find the positions in a group's history that limit a page.
create or replace function ledger_internal.history_range(
  group_id bigint,
  since    timestamptz,
  until    timestamptz,
  after    bigint,
  before   bigint
) returns ledger_internal.history_range
language plpgsql stable
as $$
declare
  earlier ledger.entries;
  later   ledger.entries;
  bounds  ledger_internal.history_range;
begin
  if not exists (select from ledger.groups as g where g.id = history_range.group_id) then
    perform ledger_internal.refuse_unknown_group(group_id);
  end if;

  select e.*
  into earlier
  from ledger.entries as e
  where e.group_id = history_range.group_id
    and e.id = history_range.after;
  select e.*
  into later
  from ledger.entries as e
  where e.group_id = history_range.group_id
    and e.id = history_range.before;
  perform ledger_internal.refuse_invalid(
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

alter function ledger_internal.history_range owner to ledger_owner;
comment on function ledger_internal.history_range is
  'The two positions in a group''s history, both exclusive, that since (inclusive), until (exclusive), after and before leave between them; 0 stands for no entry. Raises LG001 for an after or before that is no entry of the group, LG002 for a group that never existed.';
revoke execute on function ledger_internal.history_range from public;
