-- Build the query of a page of history.
create or replace function ledger_internal.history_query(
  source       text,
  newest_first boolean
) returns text
language sql stable
as $$
  -- With the limit and the offset the planner does not join whole tables for one page.
  select replace(
    format(
      $page$
        select r.*
        from (
          select e.created_at, e.id
          from %s
            and (e.created_at, e.id) > ($3, $4) and (e.created_at, e.id) < ($5, $6)
          order by e.created_at {direction}, e.id {direction}
          limit $7
        ) as page
        cross join lateral (
          select r.* from ledger.record as r where r.group_id = $1 and r.id = page.id offset 0
        ) as r
        order by page.created_at {direction}, page.id {direction}
      $page$,
      source
    ),
    '{direction}',
    case when newest_first then 'desc' else 'asc' end
  )
$$;

alter function ledger_internal.history_query owner to ledger_owner;
comment on function ledger_internal.history_query is
  'The query of a page of history: source, which ends in a where clause, names the entries e and their order {direction}. $1 is the group, $3 to $6 its bounds, $7 the limit.';
revoke execute on function ledger_internal.history_query from public;
