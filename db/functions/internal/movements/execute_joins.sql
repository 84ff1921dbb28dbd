-- Make a list of joins, all or none: lock, insert, write.
create or replace function ledger_internal.execute_joins(
  group_id          bigint,
  lines             ledger_internal.join_lines,
  with_participants boolean
) returns ledger.join_all_result
language plpgsql volatile
as $$
declare
  vault ledger.vaults;
begin
  -- As for one join: the group cannot be removed until this commits.
  perform from ledger.groups as g
  where g.id = execute_joins.group_id
    and g.closed_at is null
  for key share;
  if not found then
    perform ledger_internal.refuse_unknown_group(group_id);
  end if;
  vault := ledger_internal.find_vault(group_id);
  if vault.group_id is not null then
    perform ledger_internal.refuse_frozen(group_id);
    perform ledger_internal.refuse_linked_joins(group_id, lines);
  end if;

  return ledger_internal.post_joins(
    group_id, lines, ledger_internal.insert_participants(group_id, lines, vault.group_id is not null), with_participants
  );
end
$$;

alter function ledger_internal.execute_joins owner to ledger_owner;
comment on function ledger_internal.execute_joins is
  'Make the valid joins of a list, all or none, and return the answer; without the participants where nobody reads them. Raises LG001, LG002, LG005, LG010, LG012, LG014.';
revoke execute on function ledger_internal.execute_joins from public;
