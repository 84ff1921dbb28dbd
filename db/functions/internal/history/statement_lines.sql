-- Read the lines of a page of a participant's statement.
create or replace function ledger_internal.statement_lines(
  group_id       bigint,
  participant_id bigint,
  bounds         ledger_internal.history_range,
  max_rows       bigint
) returns ledger.statement_line[]
language plpgsql stable
as $$
declare
  lines ledger.statement_line[];
begin
  -- Planned at each call, as a page of the participant's history is, whose query this takes.
  execute format(
    $page$
      select coalesce(array_agg(
        (
          r.id, r.kind, r.created_at, c.id, c.username,
          case when r.from_id = $8 then -r.amount else r.amount end,
          case when r.from_id = $8 then r.from_amount else r.to_amount end,
          r.metadata
        )::ledger.statement_line
        order by r.created_at, r.id
      ), '{}')
      from (%s) as r
      left join lateral (
        select p.id, p.username
        from ledger.participants as p
        where p.group_id = $1
          and p.id = case when r.from_id = $8 then r.to_id else r.from_id end
        offset 0
      ) as c on true
    $page$,
    ledger_internal.history_query(
      ledger_internal.participant_entries_source(with_metadata => false), newest_first => false
    )
  )
  into lines
  using
    group_id, array['join', 'deposit', 'transfer', 'exit'], bounds.low_at, bounds.low_id, bounds.high_at, bounds.high_id,
    max_rows, participant_id;
  return lines;
end
$$;

alter function ledger_internal.statement_lines owner to ledger_owner;
comment on function ledger_internal.statement_lines is
  'The first entries, at most max_rows, of a participant between two positions of a group''s history, as lines of a statement. For get_statement.';
revoke execute on function ledger_internal.statement_lines from public;
