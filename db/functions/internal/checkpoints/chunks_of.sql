-- Find the chunks of a checkpoint, or compute them again.
create or replace function ledger_internal.chunks_of(
  checkpoint ledger.checkpoints
) returns setof ledger.checkpoint_chunks
language plpgsql stable
as $$
begin
  return query
  select k.*
  from ledger.checkpoint_chunks as k
  where k.group_id = checkpoint.group_id
    and k.number = checkpoint.number
  order by k.chunk;
  if not found and checkpoint.leaf_count > 0 then
    return query select k.* from ledger_internal.recompute_chunks(checkpoint) as k;
  end if;
end
$$;

alter function ledger_internal.chunks_of owner to ledger_owner;
comment on function ledger_internal.chunks_of is
  'The chunks of a checkpoint in their order, computed from the record where they were deleted. Raises LG002 where they can no longer be computed.';
revoke execute on function ledger_internal.chunks_of from public;
