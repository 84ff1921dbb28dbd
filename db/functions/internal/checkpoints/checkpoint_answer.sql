-- Make the answer to a call that made a checkpoint.
create or replace function ledger_internal.checkpoint_answer(
  group_id bigint,
  number   bigint,
  replayed boolean
) returns ledger.checkpoint_result
language sql stable
as $$
  select
    h.group_id,
    h.number,
    h.chain_id,
    h.vault,
    h.previous,
    h.deposits,
    h.credited,
    h.settled,
    h.leaf_count,
    h.total,
    h.root,
    h.header,
    h.seal,
    h.created_at,
    checkpoint_answer.replayed,
    h.state
  from ledger.checkpoint_headers as h
  where h.group_id = checkpoint_answer.group_id
    and h.number = checkpoint_answer.number
$$;

alter function ledger_internal.checkpoint_answer owner to ledger_owner;
comment on function ledger_internal.checkpoint_answer is
  'A checkpoint of the group as its maker returns it.';
revoke execute on function ledger_internal.checkpoint_answer from public;
