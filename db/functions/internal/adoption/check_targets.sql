-- Check that a restored group can be made to agree with a snapshot.
create or replace function ledger_internal.check_targets(
  vault   ledger.vaults,
  targets ledger_internal.adoption_target[]
) returns void
language plpgsql stable
as $$
declare
  reason text;
begin
  select r.reason
  into reason
  from (
    select format('participant %s is named twice', t.participant_id)
    from unnest(targets) as t
    group by t.participant_id
    having count(*) > 1
    union all
    select format('exit %s is named twice', t.exit_entry)
    from unnest(targets) as t
    where t.exit_entry is not null
    group by t.exit_entry
    having count(*) > 1
    union all
    select format('participant %s has no address', t.participant_id)
    from unnest(targets) as t
    where t.owner = '\x0000000000000000000000000000000000000000'
    union all
    select format('participant %s has another address, or has left otherwise', t.participant_id)
    from unnest(targets) as t
    join ledger.participants as p on p.group_id = vault.group_id and p.id = t.participant_id
    left join ledger.entries as e on e.group_id = p.group_id and e.from_id = p.id and e.kind = 'exit'
    left join ledger.settlements as s on s.group_id = e.group_id and s.entry_id = e.id
    where p.address <> t.owner
      or (
        p.exited_at is not null
        and (e.id is distinct from t.exit_entry or e.amount <> t.amount or s.settled_at is not null)
      )
    union all
    select format('exit %s is in neither the snapshot nor the payouts', s.entry_id)
    from ledger.settlements as s
    join ledger.entries as e on e.group_id = s.group_id and e.id = s.entry_id
    where s.group_id = vault.group_id
      and s.settled_at is null
      -- One of nothing may have been settled without a payment.
      and e.amount > 0
      and s.entry_id <> all (coalesce(array(select t.exit_entry from unnest(targets) as t where t.exit_entry is not null), '{}'))
    union all
    select format('participant %s is one of group %s', p.id, p.group_id)
    from ledger.groups as g
    join ledger.participants as p on p.group_id = g.id
    where g.id <> vault.group_id
      and p.id = any (array(select t.participant_id from unnest(targets) as t))
    union all
    select format('entry %s is one of group %s, or is no exit of participant %s', e.id, e.group_id, t.participant_id)
    from unnest(targets) as t
    cross join ledger.groups as g
    join ledger.entries as e on e.group_id = g.id and e.id = t.exit_entry
    where g.id <> vault.group_id
      or e.kind <> 'exit'
      or e.from_id <> t.participant_id
  ) as r (reason)
  limit 1;
  if reason is not null then
    perform ledger_internal.refuse_mismatch('snapshot', format('group %s cannot be made to agree: %s', vault.group_id, reason));
  end if;
end
$$;

alter function ledger_internal.check_targets owner to ledger_owner;
comment on function ledger_internal.check_targets is
  'Check that a restored group can be made to agree with the leaves of a snapshot and with payouts that it lacks. Raises LG013 where a participant is named twice, or is somebody else, or has left otherwise, or an exit is in neither, or an id is that of another group''s.';
revoke execute on function ledger_internal.check_targets from public;
