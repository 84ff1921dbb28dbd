-- Make a checkpoint of a group: commit to what each participant holds.
create or replace function ledger.checkpoint(
  group_id        bigint,
  idempotency_key text default null
) returns ledger.checkpoint_result
language plpgsql volatile security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  request  text[] := array['checkpoint'];
  answer   json;
  previous checkpoints;
  made     checkpoints;
  figures  figures;
  domain   bytea;
  result   checkpoint_result;
begin
  perform refuse_invalid(
    array['group_id', 'idempotency_key'],
    array[invalid_id(group_id), invalid_idempotency_key(idempotency_key)]
  );
  -- What this transaction has written would be in the leaves, and not in the snapshot that is kept.
  if pg_current_xact_id_if_assigned() is not null then
    raise exception using
      errcode = 'active_sql_transaction',
      message = 'a checkpoint must be the first change of its transaction',
      hint    = 'Call ledger.checkpoint() in a transaction of its own.';
  end if;

  if idempotency_key is not null then
    answer := claim_idempotency_key(group_id, idempotency_key, request);
    if answer is not null then
      result := json_populate_record(result, answer);
      result.replayed := true;
      return result;
    end if;
  end if;

  -- One checkpoint of the group at a time. No idempotency key is empty, so that this is the lock of none.
  perform pg_advisory_xact_lock(hashtextextended('', group_id));
  perform from groups as g where g.id = checkpoint.group_id;
  if not found then
    perform refuse_unknown_group(group_id);
  end if;
  select c.*
  into previous
  from checkpoints as c
  where c.group_id = checkpoint.group_id
  order by c.number desc
  limit 1;

  made.group_id := group_id;
  made.number := coalesce(previous.number, 0) + 1;
  -- The group has no vault.
  made.chain_id := 0;
  made.vault := decode(repeat('00', 20), 'hex');
  made.previous := coalesce(previous.header, decode(repeat('00', 32), 'hex'));
  domain := domain_hash(made.chain_id, made.vault, group_id);
  figures := write_chunks(group_id, made.number, domain);
  if figures.total <> figures.credited - figures.settled then
    raise exception using
      errcode = 'data_corrupted',
      message = format('the leaves of group %s add up to %s, and %s was credited, %s settled', group_id, figures.total, figures.credited, figures.settled),
      hint    = 'Run ledger verify: the books are wrong.';
  end if;

  made.deposits := figures.deposits;
  made.credited := figures.credited;
  made.settled := figures.settled;
  made.leaf_count := figures.leaf_count;
  made.total := figures.total;
  made.root := figures.root;
  made.header := header_hash(
    domain, made.number, made.previous, made.deposits, made.credited, made.settled, made.leaf_count, made.total, made.root
  );
  made.snapshot := figures.snapshot;
  made.generation := figures.generation;
  made.seal := seal_entries(made, previous);
  made.created_at := clock_timestamp();
  insert into checkpoints
  select made.*
  -- As in write_chunks, for a group without leaves.
  on conflict do nothing;
  select
    h.*,
    false
  into result
  from checkpoint_headers as h
  where h.group_id = checkpoint.group_id
    and h.number = made.number;

  if idempotency_key is not null then
    perform store_answer(group_id, idempotency_key, request, to_json(result));
  end if;
  return result;
end
$$;

alter function ledger.checkpoint owner to ledger_owner;
comment on function ledger.checkpoint is
  'Make a checkpoint of the group, also of one that was removed: the root of a tree with a leaf for each participant present and for each exit that is not settled, in one snapshot, chained to the checkpoint before it. No movement waits for it. It must be the first change of its transaction. Raises LG001, LG002, LG006, LG011.';
revoke execute on function ledger.checkpoint from public;
grant execute on function ledger.checkpoint to ledger_api;
