-- Prove what a participant held in a checkpoint.
create or replace function ledger.get_proof(
  group_id       bigint,
  participant_id bigint,
  number         bigint default null
) returns ledger.proof
language plpgsql stable security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  checkpoint checkpoints;
  chunk      checkpoint_chunks;
  holder     checkpoint_chunks;
  sums       numeric[] := array[]::numeric[];
  nodes      bytea[] := array[]::bytea[];
  leaf       leaf;
  lower_tree tree;
  upper_tree tree;
  proof      proof;
begin
  perform refuse_invalid(
    array['group_id', 'participant_id'],
    array[invalid_id(group_id), invalid_id(participant_id)]
  );
  if number is null and (find_vault(group_id)).group_id is not null then
    number := (accepted_checkpoint(group_id)).number;
    if number is null then
      perform refuse_unknown_checkpoint(group_id, null);
    end if;
  end if;
  checkpoint := find_checkpoint(group_id, number);

  for chunk in
    select k.* from chunks_of(checkpoint) as k order by k.chunk
  loop
    sums := sums || chunk.sum::numeric;
    nodes := nodes || (word(chunk.sum) || chunk.hash);
    if chunk.first_id <= participant_id then
      holder := chunk;
    end if;
  end loop;
  select l.*
  into leaf
  from unpack_leaves(holder) as l
  where l.participant_id = get_proof.participant_id;
  if not found then
    raise exception using
      errcode = 'LG002',
      column  = 'participant_id',
      message = format('participant %s of group %s has no leaf in checkpoint %s', participant_id, group_id, checkpoint.number),
      detail  = 'participant_id: has no leaf in the checkpoint',
      hint    = 'A checkpoint has a leaf for each participant present, and for each exit that is not settled.';
  end if;

  upper_tree := fold_tree(sums, nodes, holder.chunk);
  lower_tree := chunk_tree(holder, domain_hash(checkpoint.chain_id, checkpoint.vault, group_id), (leaf.index % 1024)::integer);
  if lower_tree.hash <> holder.hash or upper_tree.hash <> checkpoint.root then
    raise exception using
      errcode = 'data_corrupted',
      message = format('the leaves of checkpoint %s of group %s have another root', checkpoint.number, group_id),
      hint    = 'Run ledger verify: the leaves have changed since the checkpoint.';
  end if;

  proof.checkpoint := get_checkpoint(group_id, checkpoint.number);
  proof.leaf := leaf;
  proof.siblings := array(
    select (s.sum, hex(s.hash))::ledger.node
    from unnest(
      lower_tree.sibling_sums || upper_tree.sibling_sums, lower_tree.sibling_hashes || upper_tree.sibling_hashes
    ) with ordinality as s (sum, hash, level)
    order by s.level
  );
  return proof;
end
$$;

alter function ledger.get_proof owner to ledger_owner;
comment on function ledger.get_proof is
  'The proof of what the participant held in a checkpoint of the group, the newest one for null, that the vault accepted where the group has one, or of the exit that was not settled then: verify_proof and its copy in Python check it. Raises LG001, LG002.';
revoke execute on function ledger.get_proof from public;
grant execute on function ledger.get_proof to ledger_api;
grant execute on function ledger.get_proof to ledger_bridge;
