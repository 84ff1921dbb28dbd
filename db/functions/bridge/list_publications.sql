-- List what became of a group's checkpoints at its vault.
create or replace function ledger.list_publications(
  group_id bigint
) returns setof ledger.publication
language plpgsql stable security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
begin
  perform require_vault(group_id);
  return query
  select s.*
  from publications as p
  cross join lateral describe_publication(p) as s
  where p.group_id = list_publications.group_id
  order by p.number;
end
$$;

alter function ledger.list_publications owner to ledger_owner;
comment on function ledger.list_publications is
  'The checkpoints of the group that were prepared for its vault, with their states, and the transaction and the block that published each, or that ended it where it was vetoed or abandoned, by ascending number. Raises LG001, LG002, LG013.';
revoke execute on function ledger.list_publications from public;
grant execute on function ledger.list_publications to ledger_bridge;
