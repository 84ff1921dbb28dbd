-- Find the first line of a list of joins that repeats an earlier line's username or address.
create or replace function ledger_internal.repeated_line(
  lines  ledger_internal.join_lines,
  linked boolean
) returns bigint
language sql immutable
as $$
  select min(r.line)
  from (
    select
      l.line,
      row_number() over (partition by normalize(l.username, NFC) collate "C" order by l.line) as times_username,
      row_number() over (partition by l.address order by l.line) as times_address,
      l.address
    from unnest((lines).usernames, (lines).addresses) with ordinality as l (username, address, line)
  ) as r
  where r.times_username > 1
    or (r.times_address > 1 and r.address is not null and not linked)
$$;

alter function ledger_internal.repeated_line owner to ledger_owner;
comment on function ledger_internal.repeated_line is
  'The number, from 1, of the first line whose username or address an earlier line has; null if there is none. In a group that is linked to a vault several may claim an address.';
revoke execute on function ledger_internal.repeated_line from public;
