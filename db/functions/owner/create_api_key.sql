-- Create an API key and return its secret, which is shown only once.
create or replace function ledger.create_api_key(
  name     text,
  scope    text,
  group_id bigint default null
) returns ledger.api_key_result
language plpgsql volatile
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  new_key api_key_result;
begin
  perform refuse_invalid(
    array['name', 'scope', 'group_id'],
    array[
      invalid_name(name),
      case when scope in ('read', 'transact', 'admin') then null else 'must be read, transact or admin' end,
      case when group_id is not null then invalid_id(group_id) end
    ]
  );
  if group_id is not null then
    perform from groups as g
    where g.id = create_api_key.group_id
      and g.closed_at is null
    for key share;
    if not found then
      perform refuse_unknown_group(group_id);
    end if;
  end if;

  new_key.id := nextval(pg_get_serial_sequence('ledger.api_keys', 'id'));
  -- Two UUIDs hold 244 bits of the server's strong random numbers.
  new_key.secret := format(
    'ledger_%s_%s', new_key.id, encode(sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())), 'hex')
  );
  insert into api_keys (id, name, scope, group_id, digest)
  overriding system value
  values (new_key.id, normalize(name, NFC), scope, group_id, sha256(convert_to(new_key.secret, 'UTF8')));
  return new_key;
end
$$;

alter function ledger.create_api_key owner to ledger_owner;
comment on function ledger.create_api_key is
  'Make an API key of scope read, transact or admin, for one group or, with null, for all. Returns its id and its secret, of which a digest alone is kept. Raises LG001, LG002. For the owner.';
revoke execute on function ledger.create_api_key from public;
