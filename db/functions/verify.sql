-- Prove that the books are right, or say where they are not.
create or replace function ledger.verify(
  group_id bigint default null
) returns setof ledger.fault
language plpgsql stable
as $$
declare
  one_group bigint;
begin
  if verify.group_id is null then
    return query select f.* from ledger.verify_keys(0, '', null) as f;
  elsif not exists (select from ledger.groups as g where g.id = verify.group_id) then
    perform ledger.refuse_unknown_group(group_id);
  end if;

  for one_group in
    select g.id
    from ledger.groups as g
    where verify.group_id is null
      or g.id = verify.group_id
    order by g.id
  loop
    return query select f.* from ledger.verify_entries(one_group, 0, null) as f;
    return query select f.* from ledger.verify_participants(one_group, 0, null) as f;
    return query select f.* from ledger.verify_keys(one_group, '', null) as f;
    return query select f.* from ledger.verify_total(one_group) as f;
  end loop;
end
$$;

alter function ledger.verify owner to ledger_owner;
comment on function ledger.verify is
  'One row for each fault in the books of a group, or of all; none when they are right. Takes no lock that stops anybody, but keeps its snapshot throughout: on a large ledger use the command ledger verify, which goes in short ranges. For the owner. Raises LG001, LG002.';
revoke execute on function ledger.verify from public;
