-- Join the participants again that a restore lost.
create or replace function ledger_internal.restore_participants(
  vault   ledger.vaults,
  targets ledger_internal.adoption_target[]
) returns void
language plpgsql volatile
as $$
declare
  target ledger_internal.adoption_target;
begin
  for target in
    select t.*
    from unnest(targets) as t
    where not exists (
      select from ledger.participants as p
      where p.group_id = vault.group_id
        and p.id = t.participant_id
    )
    order by t.participant_id
  loop
    perform ledger_internal.add_participant(vault.group_id, target.owner, false, target.participant_id);
    perform ledger_internal.post_join(vault.group_id, target.participant_id, 0, '{"adopted": "joined before a restore"}');
  end loop;
end
$$;

alter function ledger_internal.restore_participants owner to ledger_owner;
comment on function ledger_internal.restore_participants is
  'Join the participants of targets whom a restored group lacks again, under their ids, with nothing. Their addresses count as claimed: whether they were proved is lost.';
revoke execute on function ledger_internal.restore_participants from public;
