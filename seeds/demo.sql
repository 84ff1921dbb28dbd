-- Two groups to try things on, made through the ledger's functions only: ledger seed, or psql -f seeds/demo.sql.
-- A group that exists is left as it is, so a second run changes nothing.

do $$
declare
  new_group bigint;
  username  text;
begin
  select id into new_group from ledger.create_group('Ethereum Foundation');
  foreach username in array array['Vitalik', 'Vlad', 'Gavin', 'Danny'] loop
    perform ledger.join_group(new_group, username, 100);
  end loop;
exception when sqlstate 'LG005' then
  raise notice '%', sqlerrm;
end
$$;

do $$
declare
  new_group bigint;
  username  text;
begin
  select id into new_group from ledger.create_group('ConsenSys');
  foreach username in array array['Joe', 'Dudley', 'Kevin'] loop
    perform ledger.join_group(new_group, username, 100);
  end loop;
exception when sqlstate 'LG005' then
  raise notice '%', sqlerrm;
end
$$;
