-- Find a participant's leaf in a checkpoint.
create or replace function ledger_internal.find_leaf(
  checkpoint     ledger.checkpoints,
  participant_id bigint
) returns ledger.leaf
language plpgsql stable
as $$
declare
  chunk ledger.checkpoint_chunks;
  leaf  ledger.leaf;
begin
  select k.*
  into chunk
  from ledger_internal.chunks_of(checkpoint) as k
  where k.first_id <= find_leaf.participant_id
  order by k.chunk desc
  limit 1;
  select l.*
  into leaf
  from ledger_internal.unpack_leaves(chunk) as l
  where l.participant_id = find_leaf.participant_id;
  return leaf;
end
$$;

alter function ledger_internal.find_leaf owner to ledger_owner;
comment on function ledger_internal.find_leaf is
  'The leaf of a participant in a checkpoint; nulls where there is none. Raises LG002 where the leaves were deleted and cannot be computed.';
revoke execute on function ledger_internal.find_leaf from public;
