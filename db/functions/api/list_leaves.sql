-- List the leaves of a checkpoint, a page at a time.
create or replace function ledger.list_leaves(
  group_id bigint,
  number   bigint,
  after    bigint  default 0,
  max_rows integer default 1000
) returns setof ledger.leaf
language plpgsql stable security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  checkpoint checkpoints;
  chunk      checkpoint_chunks;
  rows       integer := greatest(coalesce(max_rows, 1000), 0);
  shown      integer;
begin
  perform refuse_invalid(array['group_id', 'number'], array[invalid_id(group_id), invalid_id(number)]);
  checkpoint := find_checkpoint(group_id, number);

  for chunk in
    with chunks as materialized (
      select k.* from chunks_of(checkpoint) as k
    )
    select k.*
    from chunks as k
    where k.chunk >= coalesce((select max(f.chunk) from chunks as f where f.first_id <= list_leaves.after), 0)
    order by k.chunk
  loop
    exit when rows = 0;
    return query
    select l.*
    from unpack_leaves(chunk) as l
    where l.participant_id > coalesce(list_leaves.after, 0)
    order by l.index
    limit rows;
    get diagnostics shown = row_count;
    rows := rows - shown;
  end loop;
end
$$;

alter function ledger.list_leaves owner to ledger_owner;
comment on function ledger.list_leaves is
  'The leaves of a checkpoint of the group, those of participants with an id above after, at most max_rows of them, by ascending participant. Where the leaves were deleted, all of them are computed for each call. Raises LG001, LG002.';
revoke execute on function ledger.list_leaves from public;
grant execute on function ledger.list_leaves to ledger_api;
grant execute on function ledger.list_leaves to ledger_bridge;
