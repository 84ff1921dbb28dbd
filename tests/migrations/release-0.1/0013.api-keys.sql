-- API keys.
-- depends: 0012.verify-keys-by-lookup

set local lock_timeout = '5s';

-- Who may make temporary tables and functions can fill the disk with them. Whoever is not the database's owner cannot
-- take that away: ledger serve then refuses to start, and says what the owner is to do.
do $$
begin
  execute format('revoke temporary on database %I from public', current_database());
exception when insufficient_privilege then
  raise warning 'not the owner of database %: temporary tables stay allowed', current_database();
end
$$;

set local role ledger_owner;
-- Functions may call each other in any order.
set local check_function_bodies = off;

create table if not exists ledger.api_keys (
  id         bigint generated always as identity,
  name       text collate "C" not null,
  scope      text collate "C" not null,
  group_id   bigint,
  digest     bytea not null,
  created_at timestamptz not null default clock_timestamp(),
  revoked_at timestamptz,
  constraint api_keys_pkey primary key (id),
  constraint api_keys_scope check (scope in ('read', 'transact', 'admin')),
  constraint api_keys_sha_256 check (octet_length(digest) = 32)
);

comment on table ledger.api_keys is 'Who may use the service over HTTP. Kept for ever: once there is a key, one is always required.';
comment on column ledger.api_keys.id is 'Number of the key, a part of its secret.';
comment on column ledger.api_keys.name is 'Who uses it, for people.';
comment on column ledger.api_keys.scope is 'read, transact (moves money as well) or admin (changes groups and names as well).';
comment on column ledger.api_keys.group_id is 'The only group that it is for; null is all of them.';
comment on column ledger.api_keys.digest is 'SHA-256 of its secret, which is kept nowhere.';
comment on column ledger.api_keys.created_at is 'When it was made.';
comment on column ledger.api_keys.revoked_at is 'When it was revoked; null while it is good.';

create or replace trigger api_keys_are_kept
  before delete or truncate on ledger.api_keys
  for each statement execute function ledger.refuse_rewriting();

do $$
begin
  if to_regtype('ledger.api_key') is null then
    create type ledger.api_key as (
      id         bigint,
      name       text,
      scope      text,
      group_id   bigint,
      created_at timestamptz,
      revoked_at timestamptz
    );
  end if;
  if to_regtype('ledger.api_key_result') is null then
    create type ledger.api_key_result as (
      id     bigint,
      secret text
    );
  end if;
  if to_regtype('ledger.principal') is null then
    create type ledger.principal as (
      id       bigint,
      name     text,
      scope    text,
      group_id bigint
    );
  end if;
end
$$;

comment on type ledger.api_key is 'An API key without its secret.';
comment on type ledger.api_key_result is 'A new API key: its id, and its secret, which is said only once.';
comment on type ledger.principal is 'Whom an API key stands for: its id and name, what it may do and in which group (null is all).';

-- >>> db/functions/authenticate.sql
-- Find the API key whose secret has this digest.
create or replace function ledger.authenticate(
  key_id bigint,
  digest bytea
) returns setof ledger.principal
language sql stable security definer
set search_path = ledger, pg_temp
as $$
  select
    k.id,
    k.name,
    k.scope,
    k.group_id
  from api_keys as k
  cross join (select uuid_send(gen_random_uuid()) as salt offset 0) as s
  where k.id = authenticate.key_id
    and k.revoked_at is null
    -- Salted anew and hashed again, the time that the comparison takes tells nothing of either digest.
    and sha256(s.salt || k.digest) = sha256(s.salt || authenticate.digest)
$$;

alter function ledger.authenticate owner to ledger_owner;
comment on function ledger.authenticate is
  'The API key with this id, if it is not revoked and digest is the SHA-256 of its secret: who it is and what it may do. No row otherwise.';
revoke execute on function ledger.authenticate from public;
grant execute on function ledger.authenticate to ledger_api;
-- <<< db/functions/authenticate.sql

-- >>> db/functions/create_api_key.sql
-- Make an API key, and say its secret for the only time.
create or replace function ledger.create_api_key(
  name     text,
  scope    text,
  group_id bigint default null
) returns ledger.api_key_result
language plpgsql volatile
set search_path = ledger, pg_temp
as $$
declare
  new_key api_key_result;
begin
  perform refuse_invalid(
    array['name', 'scope', 'group_id'],
    array[
      name_fault(name),
      case when scope in ('read', 'transact', 'admin') then null else 'must be read, transact or admin' end,
      case when group_id is not null then id_fault(group_id) end
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
  values (new_key.id, name, scope, group_id, sha256(convert_to(new_key.secret, 'UTF8')));
  return new_key;
end
$$;

alter function ledger.create_api_key owner to ledger_owner;
comment on function ledger.create_api_key is
  'Make an API key of scope read, transact or admin, for one group or, with null, for all. Returns its id and its secret, of which a digest alone is kept. Raises LG001, LG002. For the owner.';
revoke execute on function ledger.create_api_key from public;
-- <<< db/functions/create_api_key.sql

-- >>> db/functions/keys_required.sql
-- Say whether requests need an API key.
create or replace function ledger.keys_required(
  out keys_required boolean
)
language sql stable security definer
set search_path = ledger, pg_temp
as $$
  select exists (select from api_keys)
$$;

alter function ledger.keys_required owner to ledger_owner;
comment on function ledger.keys_required is
  'Whether an API key has ever been made: from then on each request needs one. Revoking the last does not change that.';
revoke execute on function ledger.keys_required from public;
grant execute on function ledger.keys_required to ledger_api;
-- <<< db/functions/keys_required.sql

-- >>> db/functions/list_api_keys.sql
-- List API keys, those revoked as well, without their secrets.
create or replace function ledger.list_api_keys(
  after    bigint  default 0,
  max_rows integer default 1000
) returns setof ledger.api_key
language sql stable
set search_path = ledger, pg_temp
as $$
  select
    k.id,
    k.name,
    k.scope,
    k.group_id,
    k.created_at,
    k.revoked_at
  from api_keys as k
  where k.id > coalesce(list_api_keys.after, 0)
  order by k.id
  limit greatest(coalesce(list_api_keys.max_rows, 1000), 0)
$$;

alter function ledger.list_api_keys owner to ledger_owner;
comment on function ledger.list_api_keys is
  'The API keys with an id above after, at most max_rows of them, by ascending id. For the owner.';
revoke execute on function ledger.list_api_keys from public;
-- <<< db/functions/list_api_keys.sql

-- >>> db/functions/refuse_rewriting.sql
-- Refuse to change or delete what the ledger keeps for ever; the trigger of its permanent tables.
create or replace function ledger.refuse_rewriting()
returns trigger
language plpgsql
as $$
begin
  raise exception using
    errcode = 'restrict_violation',
    message = format('%s on %I.%I is refused: the record is permanent', lower(tg_op), tg_table_schema, tg_table_name),
    hint    = case tg_table_name
      when 'api_keys'
      then 'Make an API key useless with ledger.revoke_api_key.'
      else 'Correct a mistake by a new movement: ledger.transfer, ledger.join_group or ledger.exit_group.'
    end;
end
$$;

alter function ledger.refuse_rewriting owner to ledger_owner;
comment on function ledger.refuse_rewriting is
  'Trigger that refuses UPDATE, DELETE and TRUNCATE on permanent tables, to their owner as well. Raises 23001.';
revoke execute on function ledger.refuse_rewriting from public;
-- <<< db/functions/refuse_rewriting.sql

-- >>> db/functions/revoke_api_key.sql
-- Make an API key useless, for good.
create or replace function ledger.revoke_api_key(
  key_id bigint
) returns ledger.api_key
language plpgsql volatile
set search_path = ledger, pg_temp
as $$
declare
  revoked api_key;
begin
  perform refuse_invalid(array['key_id'], array[id_fault(key_id)]);

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
-- <<< db/functions/revoke_api_key.sql
