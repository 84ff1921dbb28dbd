-- List the newest checkpoint of each group, a page of groups at a time.
create or replace function ledger.list_newest_checkpoints(
  after    bigint  default 0,
  max_rows integer default 1000
) returns setof ledger.newest_checkpoint
language sql stable security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
  select
    g.id,
    coalesce(c.number, 0),
    coalesce(c.created_at, g.created_at),
    coalesce(checkpoint_is_current(c), false)
  from groups as g
  left join lateral (
    select n.*
    from checkpoints as n
    where n.group_id = g.id
    order by n.number desc
    limit 1
  ) as c on true
  where g.id > coalesce(list_newest_checkpoints.after, 0)
    -- Those of a group with a vault are the bridge's.
    and not exists (select from vaults as v where v.group_id = g.id)
    and (
      g.closed_at is null
      or exists (
        select from settlements as s
        where s.group_id = g.id
          and s.settled_at is null
      )
    )
  order by g.id
  limit greatest(coalesce(list_newest_checkpoints.max_rows, 1000), 0)
$$;

alter function ledger.list_newest_checkpoints owner to ledger_owner;
comment on function ledger.list_newest_checkpoints is
  'The newest checkpoint of each group without a vault that exists or has exits to settle, with an id above after, at most max_rows of them, by ascending id; number 0 and the time of the group where there is none. is_current is true where a checkpoint made now would be of the same entries, settlements and addresses.';
revoke execute on function ledger.list_newest_checkpoints from public;
grant execute on function ledger.list_newest_checkpoints to ledger_api;
