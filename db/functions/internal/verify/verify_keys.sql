-- Find the discrepancies of a range of a group's idempotency keys.
create or replace function ledger_internal.verify_keys(
  group_id bigint,
  after    text,
  upto     text
) returns setof ledger.discrepancy
language sql stable
as $$
  select
    k.group_id,
    f.entry_id,
    f.participant_id,
    'idempotency key',
    format('the key %s %s', k.key, f.detail)
  from (
    select
      i.*,
      count(*) over (partition by i.key) as times
    from ledger.idempotency_keys as i
    where i.group_id = verify_keys.group_id
      and i.key > verify_keys.after collate "C"
      -- Above every key is the last character that there is.
      and i.key <= coalesce(verify_keys.upto, chr(1114111)) collate "C"
  ) as k
  cross join ledger_internal.verify_bounds() as b
  -- Nearly every key is of a transfer and as it should be: that is seen without reading the JSON, which takes longer than
  -- all the rest. Looked up for each key: as a join it read all entries of the group for each range.
  left join lateral (
    select true as is_right
    from ledger.entries as e
    where k.operation = 'transfer'
      and e.group_id = k.group_id
      and e.id = coalesce(
        k.entry_id, ledger_internal.parse_id(split_part(split_part(k.answer::text, '"entry_id":', -1), ',', 1))
      )
      and e.reverses is null
      and k.fingerprint = ledger_internal.fingerprint(ledger_internal.transfer_request(e.from_id, e.to_id, e.amount, e.metadata))
      and (k.entry_id is null) = (k.answer is not null)
      and (
        k.entry_id is not null
        or k.answer::text like '{"to_participant":{"username":"%","id":' || e.to_id || ',"group_id":' || e.group_id
          || ',"amount":' || e.to_amount || '},"from_participant":{"username":"%","id":' || e.from_id || ',"group_id":'
          || e.group_id || ',"amount":' || e.from_amount || '},"entry_id":' || e.id || ',"replayed":false}'
      )
    limit 1
  ) as t on true
  cross join lateral (
    select null::bigint, null::bigint, format('belongs to %s requests', k.times)
    where k.times > 1
    union all
    select null, null, format('has the time %s', k.created_at)
    where k.created_at > b.latest
      or not isfinite(k.created_at)
    union all
    select a.entry_id, a.participant_id, a.detail
    from ledger_internal.answer_discrepancies(
      (k.group_id, k.key, k.operation, k.fingerprint, k.answer, k.created_at, k.entry_id)::ledger.idempotency_keys
    ) as a
    where t.is_right is not true
  ) as f (entry_id, participant_id, detail)
$$;

alter function ledger_internal.verify_keys owner to ledger_owner;
comment on function ledger_internal.verify_keys is
  'The discrepancies of a group''s idempotency keys that come after one and, where it is given, not after upto; of group 0, with those that created groups. For the owner.';
revoke execute on function ledger_internal.verify_keys from public;
