-- List a group's entries, a page at a time, in the order of their time.
create or replace function ledger.list_entries(
  group_id     bigint,
  kind         text        default null,
  settled      boolean     default null,
  metadata     jsonb       default null,
  since        timestamptz default null,
  until        timestamptz default null,
  after        bigint      default null,
  before       bigint      default null,
  newest_first boolean     default false,
  max_rows     integer     default 1000
) returns setof ledger.record
language plpgsql stable security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  kinds  text[] := case when kind is null then array['join', 'deposit', 'transfer', 'exit'] else array[kind] end;
  bounds ledger_internal.history_range;
begin
  perform refuse_invalid(
    array['group_id', 'kind', 'settled', 'metadata'],
    array[
      invalid_id(group_id),
      invalid_kind(kind),
      case when settled is not null and kind <> 'exit' then 'goes with the kind exit' end,
      invalid_metadata(metadata)
    ]
  );
  bounds := history_range(group_id, since, until, after, before);

  -- Planned at each call, for its filter and its direction: a range of one index, whatever is stored.
  return query execute history_query(entries_source(metadata is not null, settled), newest_first)
  using
    group_id, kinds, bounds.low_at, bounds.low_id, bounds.high_at, bounds.high_id,
    greatest(coalesce(max_rows, 1000), 0), settled, metadata;
end
$$;

alter function ledger.list_entries owner to ledger_owner;
comment on function ledger.list_entries is
  'The entries of a group, also of one that was removed, by time and then id: those of a kind, exits that are settled or not, those whose metadata contain a JSON object, since a time and until before another, after and before another entry; at most max_rows of them. Raises LG001, LG002.';
revoke execute on function ledger.list_entries from public;
grant execute on function ledger.list_entries to ledger_api;
