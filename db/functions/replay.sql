-- Find what was answered to a request with this idempotency key before.
create or replace function ledger.replay(
  group_id bigint,
  key      text,
  request  text[]
) returns json
language plpgsql volatile
as $$
declare
  first ledger.idempotency_keys;
begin
  -- Until this transaction ends, nobody else acts under the key: a repeated request waits for the first one's outcome.
  -- The lock comes before every row lock, and the look-up is a statement of its own, to see what committed meanwhile.
  perform pg_advisory_xact_lock(hashtextextended(replay.key collate "C", replay.group_id));

  select k.*
  into first
  from ledger.idempotency_keys as k
  where k.group_id = replay.group_id
    and k.key = replay.key collate "C";

  if first.fingerprint <> ledger.fingerprint(request) then
    raise exception using
      errcode = 'LG006',
      column  = 'idempotency_key',
      message = 'idempotency key belongs to another request',
      detail  = 'idempotency_key: was used for another request',
      hint    = 'Repeat a request with exactly its values, and give each new request a key of its own.';
  end if;
  return first.answer;
end
$$;

alter function ledger.replay owner to ledger_owner;
comment on function ledger.replay is
  'The answer that was given to this request, an operation and its values, under this idempotency key of the group; null when there was none. Keeps the key to itself until the transaction ends. Raises LG006 when the key was used for another request.';
revoke execute on function ledger.replay from public;
