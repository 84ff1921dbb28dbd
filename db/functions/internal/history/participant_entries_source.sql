-- Build the source of a page of a participant's history.
create or replace function ledger_internal.participant_entries_source(
  with_metadata boolean
) returns text
language sql stable
as $$
  select case
    when with_metadata then $source$
      entries_with_metadata($1, $9) as e
      where $8 in (e.from_id, e.to_id) and e.kind = any ($2)
    $source$
    -- A participant's first entry is the join, and the last one may be the exit: neither is looked for further.
    else $source$
      (
        (select f.created_at, f.id from entries as f
        where 'transfer' = any ($2) and f.group_id = $1 and f.from_id = $8 and f.kind = 'transfer'
          and (f.created_at, f.id) > ($3, $4) and (f.created_at, f.id) < ($5, $6)
        order by f.created_at {direction}, f.id {direction} limit $7)
        union all
        (select f.created_at, f.id from entries as f
        where 'transfer' = any ($2) and f.group_id = $1 and f.to_id = $8 and f.kind = any ($2) and f.kind <> 'join'
          and (f.created_at, f.id) > ($3, $4) and (f.created_at, f.id) < ($5, $6)
        order by f.created_at {direction}, f.id {direction} limit $7)
        union all
        -- Deposits alone: the participant may have received many more transfers, which this does not read.
        (select t.created_at, t.entry_id from group_total_history as t
        where $2 = '{deposit}' and t.group_id = $1 and t.participant_id = $8
          and (t.created_at, t.entry_id) > ($3, $4) and (t.created_at, t.entry_id) < ($5, $6)
        order by t.created_at {direction}, t.entry_id {direction} limit $7)
        union all
        select f.created_at, f.id from (
          select * from entries as f
          where 'join' = any ($2) and f.group_id = $1 and f.to_id = $8
          order by f.created_at, f.id limit 1
        ) as f
        where f.kind = 'join'
        union all
        select f.created_at, f.id from (
          select * from entries as f
          where 'exit' = any ($2) and f.group_id = $1 and f.from_id = $8
          order by f.created_at desc, f.id desc limit 1
        ) as f
        where f.kind = 'exit'
      ) as e
      where true
    $source$
  end
$$;

alter function ledger_internal.participant_entries_source owner to ledger_owner;
comment on function ledger_internal.participant_entries_source is
  'The source for history_query of the entries of participant $8 of group $1: those of the kinds $2, or those of them whose metadata contain $9. For list_participant_entries.';
revoke execute on function ledger_internal.participant_entries_source from public;
