-- Delete the leaves of a group's old checkpoints that can be computed again.
create or replace function ledger.drop_checkpoint_chunks(
  group_id bigint,
  keep     bigint
) returns bigint
language plpgsql volatile
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  newest     checkpoints;
  checkpoint checkpoints;
  dropped    bigint := 0;
begin
  perform refuse_invalid(
    array['group_id', 'keep'],
    array[invalid_id(group_id), case when (keep >= 1) is not true then 'must be 1 or more' end]
  );
  newest := find_checkpoint(group_id);

  for checkpoint in
    select c.*
    from checkpoints as c
    where c.group_id = drop_checkpoint_chunks.group_id
      and c.number <= newest.number - keep
      -- What a vault pays: the last one that it accepted, or the one before that in an emergency.
      and c.number < coalesce((
        select min(a.number)
        from (
          select p.number
          from publications as p
          where p.group_id = drop_checkpoint_chunks.group_id
            and p.state in ('accepted', 'closed')
          order by p.number desc
          limit 2
        ) as a
      ), 9223372036854775807)
      and c.generation = (select max(f.generation) from feeds as f)
      and c.adopted_at is null
      and exists (
        select from checkpoint_chunks as k
        where k.group_id = c.group_id
          and k.number = c.number
      )
    order by c.number
  loop
    -- Raises where the record gives another root.
    perform from recompute_chunks(checkpoint);
    delete from checkpoint_chunks as k
    where k.group_id = checkpoint.group_id
      and k.number = checkpoint.number;
    dropped := dropped + 1;
  end loop;
  return dropped;
end
$$;

alter function ledger.drop_checkpoint_chunks owner to ledger_owner;
comment on function ledger.drop_checkpoint_chunks is
  'Delete the leaves of all checkpoints of the group but the newest ones, keep of them, after each was computed from the record once; return how many checkpoints lost theirs. Those from before a restore keep them, and the last two that a vault accepted. list_leaves and get_proof compute the leaves from then on. Raises LG001, LG002. For the owner.';
revoke execute on function ledger.drop_checkpoint_chunks from public;
