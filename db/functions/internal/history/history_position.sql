-- Find the position in a group's history that a time or an entry stands for.
create or replace function ledger_internal.history_position(
  group_id bigint,
  at_time  timestamptz,
  at_entry bigint
) returns ledger_internal.history_position
language plpgsql stable
as $$
declare
  moment ledger_internal.history_position;
begin
  perform ledger_internal.refuse_invalid(
    array['group_id', 'at_time', 'at_entry'],
    array[
      ledger_internal.invalid_id(group_id),
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
  where e.group_id = history_position.group_id
    and e.id = history_position.at_entry;
  if not found then
    perform ledger_internal.refuse_unknown_entry(group_id, 'at_entry', at_entry);
  end if;
  return moment;
end
$$;

alter function ledger_internal.history_position owner to ledger_owner;
comment on function ledger_internal.history_position is
  'The last place of a group''s history that counts at a time, or after an entry. Raises LG001 for a time that is more than 5 seconds in the future, LG002 for an entry that the group does not have.';
revoke execute on function ledger_internal.history_position from public;
