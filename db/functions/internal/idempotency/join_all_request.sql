-- List the values that identify a list of joins among requests with the same idempotency key.
create or replace function ledger_internal.join_all_request(
  usernames text[],
  amounts   numeric[],
  addresses bytea[],
  metadatas jsonb[]
) returns text[]
language sql immutable parallel safe
as $$
  select array[
    'join_all',
    -- Composed, as they are stored: so the record shows what was asked for.
    array(
      select normalize(l.username, NFC)
      from unnest(join_all_request.usernames) with ordinality as l (username, line)
      order by l.line
    )::text,
    join_all_request.amounts::text,
    -- Hex, whatever the session's bytea_output.
    case when join_all_request.addresses is not null then array(
      select encode(l.address, 'hex')
      from unnest(join_all_request.addresses) with ordinality as l (address, line)
      order by l.line
    )::text end,
    join_all_request.metadatas::text
  ]
$$;

alter function ledger_internal.join_all_request owner to ledger_owner;
comment on function ledger_internal.join_all_request is
  'The operation and the values of a list of joins, by columns, for its fingerprint; addresses and metadatas are null where no line has any.';
revoke execute on function ledger_internal.join_all_request from public;
