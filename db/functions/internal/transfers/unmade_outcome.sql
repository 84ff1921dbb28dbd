-- Return the outcome of a line of transfer_batch whose legs are not both locked.
create or replace function ledger_internal.unmade_outcome(
  group_id bigint,
  from_id  bigint,
  to_id    bigint
) returns text
language sql stable
as $$
  select case when count(*) = 2 then 'locked' else 'deferred' end
  from ledger.participants as p
  where p.group_id = unmade_outcome.group_id
    and p.id in (unmade_outcome.from_id, unmade_outcome.to_id)
    and coalesce(p.exited_at, p.frozen_at) is null
$$;

alter function ledger_internal.unmade_outcome owner to ledger_owner;
comment on function ledger_internal.unmade_outcome is
  'locked if both legs of a transfer are present and not frozen, so that another session has locked one of them; deferred if not.';
revoke execute on function ledger_internal.unmade_outcome from public;
