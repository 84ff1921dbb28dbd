-- Revoke an API key for good.
create or replace function ledger.revoke_api_key(
  key_id bigint
) returns ledger.api_key
language plpgsql volatile
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  revoked api_key;
begin
  perform refuse_invalid(array['key_id'], array[invalid_id(key_id)]);

  update api_keys as k
  set revoked_at = coalesce(k.revoked_at, clock_timestamp())
  where k.id = revoke_api_key.key_id
  returning k.id, k.name, k.scope, k.group_id, k.created_at, k.revoked_at into revoked;
  if not found then
    raise exception using
      errcode = 'LG002',
      column  = 'key_id',
      message = format('no API key %s', key_id),
      detail  = 'key_id: no such API key',
      hint    = 'List the API keys with ledger.list_api_keys().';
  end if;
  return revoked;
end
$$;

alter function ledger.revoke_api_key owner to ledger_owner;
comment on function ledger.revoke_api_key is
  'Revoke an API key: the service refuses it within 5 seconds. One that was revoked stays as it is. Raises LG001, LG002. For the owner.';
revoke execute on function ledger.revoke_api_key from public;
