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
    select null, c.participant_id, 'rename', format('change %s leads to another name than the next one has', c.id)
    from (
      select
        n.*,
        coalesce(lead(n.old_name) over later, p.username) as following,
        lead(n.before_entry) over later as before_later_entry
      from ledger.name_changes as n
      join ledger.participants as p on p.group_id = n.group_id and p.id = n.participant_id
      where n.group_id = rename_discrepancies.group_id
      window later as (partition by n.participant_id order by n.id)
    ) as c
    where c.new_name <> c.following
      or c.before_entry >= c.before_later_entry
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
  'The discrepancies of a group''s changes of names: their participants, their times, their order, and their numbers. For verify_total.';
revoke execute on function ledger_internal.rename_discrepancies from public;
