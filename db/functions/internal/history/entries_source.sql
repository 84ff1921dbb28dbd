-- Build the source of a page of a group's history.
create or replace function ledger_internal.entries_source(
  with_metadata boolean,
  settled       boolean
) returns text
language sql stable
as $$
  select case
    -- Found through the index on groups and metadata alone, then sorted: meant for values that few entries have.
    when with_metadata then $source$
      entries_with_metadata($1, $9) as e
      where e.kind = any ($2) and ($8 is null or exists (
        select from settlements as s
        where s.group_id = $1 and s.entry_id = e.id and (s.settled_at is not null) = $8
      ))
    $source$
    when settled is not null then replace(
      $source$
        (select s.exited_at as created_at, s.entry_id as id from settlements as s
        where s.group_id = $1 and s.settled_at {state}
          and (s.exited_at, s.entry_id) > ($3, $4) and (s.exited_at, s.entry_id) < ($5, $6)
        order by s.exited_at {direction}, s.entry_id {direction} limit $7) as e
        where true
      $source$,
      '{state}',
      -- Spelled as the condition of an index.
      case when settled then 'is not null' else 'is null' end
    )
    -- Spelled as the conditions of the two indexes: what has two sides is a transfer.
    else $source$
      (
        (select f.created_at, f.id from entries as f
        where 'transfer' = any ($2) and f.group_id = $1 and f.from_id is not null and f.to_id is not null
          and (f.created_at, f.id) > ($3, $4) and (f.created_at, f.id) < ($5, $6)
        order by f.created_at {direction}, f.id {direction} limit $7)
        union all
        select o.created_at, o.id
        from unnest(array_remove($2, 'transfer')) as k (kind) cross join lateral (
          select f.created_at, f.id from entries as f
          where f.group_id = $1 and f.kind = k.kind and f.kind <> 'transfer'
            and (f.created_at, f.id) > ($3, $4) and (f.created_at, f.id) < ($5, $6)
          order by f.created_at {direction}, f.id {direction} limit $7
        ) as o
      ) as e
      where true
    $source$
  end
$$;

alter function ledger_internal.entries_source owner to ledger_owner;
comment on function ledger_internal.entries_source is
  'The source for history_query of the entries of group $1: those of the kinds $2, exits that are settled or not ($8), or those whose metadata contain $9. For list_entries.';
revoke execute on function ledger_internal.entries_source from public;
