-- Compare a participant with the vault of the group.
create or replace function ledger_internal.frozen_discrepancies(
  participant ledger.participants,
  vault       ledger.vaults
) returns setof ledger.discrepancy
language sql stable
as $$
  select
    participant.group_id,
    null::bigint,
    participant.id,
    'vault',
    f.detail
  from (
    select 'the participant is present in a frozen group and not frozen, or frozen in another one'
    where case
        when vault.frozen_at is not null and participant.exited_at is null
        then participant.frozen_at is null
        else participant.frozen_at is not null
      end
    union all
    select 'the address is not marked as that of a group with a vault, is so in another group, or is missing'
    where (participant.address_proved is null) <> (vault.group_id is null)
      or (vault.group_id is not null and participant.address is null)
  ) as f (detail)
$$;

alter function ledger_internal.frozen_discrepancies owner to ledger_owner;
comment on function ledger_internal.frozen_discrepancies is
  'The discrepancies between a participant and the vault of the group, nulls without one: whether they are frozen, and whether their address is marked. For verify_participants.';
revoke execute on function ledger_internal.frozen_discrepancies from public;
