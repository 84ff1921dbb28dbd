-- Make independent transfers in one call: those that need not wait.
create or replace function ledger.transfer_batch(
  group_ids        bigint[],
  from_ids         bigint[],
  to_ids           bigint[],
  amounts          numeric[],
  idempotency_keys text[]  default null,
  metadatas        jsonb[] default null
) returns setof ledger.transfer_outcome
language plpgsql volatile security definer
set search_path = ledger, ledger_internal, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
-- One plan serves every list: planning takes longer than executing a short list.
set plan_cache_mode = force_generic_plan
as $$
declare
  lines     transfer_lines;
  last      integer;
  legs      transfer_legs;
  decisions transfer_decisions;
  usernames text[];
begin
  lines.group_ids := group_ids;
  lines.from_ids := from_ids;
  lines.to_ids := to_ids;
  lines.amounts := amounts;
  lines.idempotency_keys := idempotency_keys;
  lines.metadatas := metadatas;
  lines := align_transfer_lines(lines);
  last := coalesce(cardinality(lines.amounts), 0);
  if last = 0 then
    return;
  elsif last = 1 then
    return next transfer_batch_of_one(
      lines.group_ids[1], lines.from_ids[1], lines.to_ids[1], lines.amounts[1], lines.idempotency_keys[1],
      lines.metadatas[1]
    );
    return;
  end if;

  select array_agg(transfer_is_valid(l.group_id, l.from_id, l.to_id, l.amount, l.key, l.metadata) order by l.line)
  into lines.possible
  from unnest(
    lines.group_ids, lines.from_ids, lines.to_ids, lines.amounts, lines.idempotency_keys, lines.metadatas
  ) with ordinality as l (group_id, from_id, to_id, amount, key, metadata, line);
  if lines.idempotency_keys is not null then
    lines.possible := claim_idempotency_keys(lines.group_ids, lines.idempotency_keys, lines.possible);
  end if;

  -- A refused line is deferred to transfer(), which raises the error.
  legs := lock_legs(lines, wait => false);
  decisions := decide_transfers(lines, legs, all_or_nothing => false);
  perform post_transfers(lines, legs, decisions);
  if lines.idempotency_keys is not null then
    perform store_entries(lines, decisions);
  end if;

  usernames := legs.usernames;
  return query
  select
    l.line::integer,
    case
      when l.entry_id is not null
      then 'done'
      when l.possible and (l.sender is null or l.recipient is null)
      then unmade_outcome(l.group_id, l.from_id, l.to_id)
      else 'deferred'
    end,
    case
      when l.entry_id is not null
      then (usernames[l.recipient], l.to_id, l.group_id, l.to_amount)::current_participants
    end,
    case
      when l.entry_id is not null
      then (usernames[l.sender], l.from_id, l.group_id, l.from_amount)::current_participants
    end,
    l.entry_id
  from unnest(
    lines.group_ids, lines.from_ids, lines.to_ids, lines.possible, legs.numbers[: last], legs.numbers[last + 1 :],
    decisions.entries
  ) with ordinality as l (
    group_id, from_id, to_id, possible, sender, recipient,
    entry_id, entry_from_id, entry_to_id, amount, from_amount, to_amount, line
  );
end
$$;

alter function ledger.transfer_batch owner to ledger_owner;
comment on function ledger.transfer_batch is
  'Make those of several transfers, also of several groups, that can be made at once: one row a line, in order. The outcome is done, with what transfer returns; locked, where another session holds a leg; or deferred, for all that transfer has to decide. A line that is not done changed nothing, and touches no other; one of shorter lists has nulls there. Raises 40001 where a balance or an idempotency key could not be written, and did nothing. For services that collect requests: call transfer for what is not done.';
revoke execute on function ledger.transfer_batch from public;
grant execute on function ledger.transfer_batch to ledger_api;
