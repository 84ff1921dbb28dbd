-- Find usernames and addresses that two participants of a group have.
create or replace function ledger_internal.shared_identity_discrepancies(
  group_id bigint
) returns setof ledger.discrepancy
language sql stable
as $$
  select
    shared_identity_discrepancies.group_id,
    f.entry_id,
    f.participant_id,
    f.kind,
    f.detail
  from (
    select null::bigint, null::bigint, 'username', format('%s who are present have the username %s', count(*), p.username)
    from ledger.participants as p
    where p.group_id = shared_identity_discrepancies.group_id
      and p.exited_at is null
    group by p.username
    having count(*) > 1
    union all
    select null, null, 'address', format('%s who are present have the address %s', count(*), p.address)
    from ledger.participants as p
    where p.group_id = shared_identity_discrepancies.group_id
      and p.exited_at is null
      and p.address is not null
      -- One that is only claimed counts for nobody.
      and p.address_proved is not false
    group by p.address
    having count(*) > 1
  ) as f (entry_id, participant_id, kind, detail)
$$;

alter function ledger_internal.shared_identity_discrepancies owner to ledger_owner;
comment on function ledger_internal.shared_identity_discrepancies is
  'The usernames and the addresses that several participants have who are present in a group. For verify_total.';
revoke execute on function ledger_internal.shared_identity_discrepancies from public;
