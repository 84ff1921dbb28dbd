-- Look up the entries that the answer to a multi-party transfer names.
create or replace function ledger_internal.answered_entries(
  group_id     bigint,
  answer       jsonb,
  out line     bigint,
  out answered jsonb,
  out named    bigint,
  out entry    ledger.entries
) returns setof record
language sql stable
as $$
  select
    l.line,
    l.answered,
    ledger_internal.parse_id(l.answered ->> 'id') as named,
    -- Looked up for each line, whatever the planner thinks of their number; null if it is not there.
    (
      select e
      from ledger.entries as e
      where e.group_id = answered_entries.group_id
        and e.id = ledger_internal.parse_id(l.answered ->> 'id')
      limit 1
    ) as entry
  from jsonb_array_elements(
    case when jsonb_typeof(answered_entries.answer -> 'entries') = 'array' then answered_entries.answer -> 'entries' end
  ) with ordinality as l (answered, line)
$$;

alter function ledger_internal.answered_entries owner to ledger_owner;
comment on function ledger_internal.answered_entries is
  'The lines of the answer to a multi-party transfer: each as it was answered, the id that it names, and the entry of the group with this id, null if there is none. For transfer_all_discrepancies.';
revoke execute on function ledger_internal.answered_entries from public;
