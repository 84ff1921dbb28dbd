-- Clocks that are ahead.
-- depends: 0023.find-by-name

set local lock_timeout = '5s';
set local role ledger_owner;
-- Functions may call each other in any order.
set local check_function_bodies = off;

-- >>> db/functions/history_moment.sql
-- Say which place in a group's history a moment is.
create or replace function ledger.history_moment(
  group_id bigint,
  at_time  timestamptz,
  at_entry bigint
) returns ledger.history_moment
language plpgsql stable
as $$
declare
  moment ledger.history_moment;
begin
  perform ledger.refuse_invalid(
    array['group_id', 'at_time', 'at_entry'],
    array[
      ledger.id_fault(group_id),
      -- A client's clock may be ahead of the server's.
      case when at_time > clock_timestamp() + interval '5 seconds' then 'must not be in the future' end,
      case when at_time is not null and at_entry is not null then 'must not be given with a time' end
    ]
  );
  if at_time is not null then
    moment := (at_time, 9223372036854775807);
    return moment;
  end if;

  select
    e.created_at,
    e.id
  into moment
  from ledger.entries as e
  where e.group_id = history_moment.group_id
    and e.id = history_moment.at_entry;
  if not found then
    perform ledger.refuse_unknown_entry(group_id, 'at_entry', at_entry);
  end if;
  return moment;
end
$$;

alter function ledger.history_moment owner to ledger_owner;
comment on function ledger.history_moment is
  'The last place of a group''s history that counts at a time, or after an entry. Raises LG001 for a time that is more than 5 seconds in the future, LG002 for an entry that the group does not have.';
revoke execute on function ledger.history_moment from public;
-- <<< db/functions/history_moment.sql
