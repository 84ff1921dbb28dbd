-- Transfer the amount of a transfer back, once.
create or replace function ledger.reverse_transfer(
  group_id        bigint,
  entry_id        bigint,
  idempotency_key text  default null,
  metadata        jsonb default null
) returns ledger.entry_result
language plpgsql volatile security definer
set search_path = ledger, ledger_internal, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
as $$
declare
  request  text[];
  original entries;
  moved    transfer_result;
  reversal entry_result;
begin
  perform refuse_invalid(
    array['group_id', 'entry_id', 'idempotency_key', 'metadata'],
    array[invalid_id(group_id), invalid_id(entry_id), invalid_idempotency_key(idempotency_key), invalid_metadata(metadata)]
  );

  request := array['reverse_transfer', entry_id::text, metadata::text];
  reversal := claim_idempotency_key(group_id, idempotency_key, request, reversal);
  if reversal.replayed then
    return reversal;
  end if;

  select e.*
  into original
  from entries as e
  where e.group_id = reverse_transfer.group_id
    and e.id = reverse_transfer.entry_id;
  if not found then
    perform refuse_unknown_entry(group_id, 'entry_id', entry_id);
  end if;
  if original.kind <> 'transfer' then
    perform refuse_invalid(array['entry_id'], array[format('must be a transfer, not %s', original.kind)]);
  end if;

  -- Of two simultaneous reversals the second waits here, then finds the entry reversed.
  perform lock_pair(group_id, original.to_id, original.from_id, wait => true);

  -- A participant who exited is reported first, as in every function.
  perform get_participant(group_id, original.to_id);
  perform get_participant(group_id, original.from_id);
  if exists (
    select from entries as e
    where e.group_id = reverse_transfer.group_id
      and e.reverses = reverse_transfer.entry_id
  ) then
    raise exception using
      errcode = 'LG007',
      column  = 'entry_id',
      message = format('entry %s of group %s was reversed before', entry_id, group_id),
      detail  = 'entry_id: has already been reversed',
      hint    = 'Look at its reversed_by with ledger.get_entry().';
  end if;

  moved := execute_transfer(group_id, original.to_id, original.from_id, original.amount, metadata, entry_id);
  select
    r.*,
    false
  into reversal
  from ledger.record as r
  where r.group_id = reverse_transfer.group_id
    and r.id = moved.entry_id;
  perform store_answer(group_id, idempotency_key, request, reversal);
  return reversal;
end
$$;

alter function ledger.reverse_transfer owner to ledger_owner;
comment on function ledger.reverse_transfer is
  'Move the amount of a transfer back, at most once; returns the new entry, which names the one that it reverses. Raises LG001, LG002, LG003, LG006, LG007, LG014.';
revoke execute on function ledger.reverse_transfer from public;
grant execute on function ledger.reverse_transfer to ledger_api;
