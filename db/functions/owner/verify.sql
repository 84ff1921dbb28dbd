-- Prove that the books are right, or list the discrepancies.
create or replace function ledger.verify(
  group_id bigint default null
) returns setof ledger.discrepancy
language plpgsql stable
as $$
declare
  -- Ids that are no positive number are looked at as well.
  lowest    bigint := -9223372036854775808;
  one_group bigint;
begin
  if verify.group_id is null then
    return query select f.* from ledger_internal.verify_schema() as f;
    return query select f.* from ledger_internal.verify_ledger() as f;
    return query select f.* from ledger_internal.verify_groups(lowest, null) as f;
    return query select f.* from ledger_internal.verify_ids(lowest, null) as f;
    return query select f.* from ledger_internal.verify_keys(0, '', null) as f;
  elsif not exists (select from ledger.groups as g where g.id = verify.group_id) then
    perform ledger_internal.refuse_unknown_group(group_id);
  else
    return query select f.* from ledger_internal.verify_groups(group_id - 1, group_id) as f;
  end if;

  for one_group in
    select distinct g.id
    from ledger.groups as g
    where verify.group_id is null
      or g.id = verify.group_id
    order by g.id
  loop
    return query select f.* from ledger_internal.verify_entries(one_group, lowest, null) as f;
    return query select f.* from ledger_internal.verify_participants(one_group, lowest, null) as f;
    return query select f.* from ledger_internal.verify_checkpoints(one_group, lowest, null) as f;
    return query select f.* from ledger_internal.verify_keys(one_group, '', null) as f;
    return query select f.* from ledger_internal.verify_total(one_group) as f;
  end loop;
end
$$;

alter function ledger.verify owner to ledger_owner;
comment on function ledger.verify is
  'One row for each discrepancy in the books of a group, or of all; none if they are right. What belongs to no group, the schema and ids that two groups share are looked at with all of them only. Takes no lock that stops anybody, but keeps its snapshot throughout: on a large ledger use the command ledger verify, which goes in short ranges and compares every object of the schema with what the migrations made. For the owner. Raises LG001, LG002.';
revoke execute on function ledger.verify from public;
