-- Make the exits again that a restore lost.
create or replace function ledger_internal.restore_exits(
  checkpoint ledger.checkpoints,
  targets    ledger_internal.adoption_target[]
) returns void
language plpgsql volatile
as $$
declare
  target      ledger_internal.adoption_target;
  participant ledger.participants;
  settled     record;
  payout      ledger.payouts;
begin
  foreach target in array coalesce(targets, '{}') loop
    continue when target.exit_entry is null;
    select p.*
    into participant
    from ledger.participants as p
    where p.group_id = checkpoint.group_id
      and p.id = target.participant_id
      and p.exited_at is null;
    continue when not found;
    -- Later than the entries before it, whose ids may be higher.
    participant.moved_at := participant.moved_at + interval '1 microsecond';
    perform ledger_internal.post_exit(
      participant, '{"adopted": "left before a restore"}', target.exit_entry
    );
  end loop;

  for settled in
    select
      e.id,
      e.from_id,
      p.address
    from ledger.settlements as s
    join ledger.entries as e on e.group_id = s.group_id and e.id = s.entry_id
    join ledger.participants as p on p.group_id = e.group_id and p.id = e.from_id
    where s.group_id = checkpoint.group_id
      and s.settled_at is null
      and e.amount = 0
      and not exists (select from unnest(targets) as t where t.exit_entry = e.id)
  loop
    payout.group_id := checkpoint.group_id;
    payout.kind := 'exit';
    payout.subject := settled.id;
    payout.participant_id := settled.from_id;
    payout.owner := settled.address;
    payout.amount := 0;
    perform ledger_internal.settle_paid_exit(ledger_internal.find_vault(checkpoint.group_id), payout);
    perform ledger_internal.add_payout(payout);
  end loop;
end
$$;

alter function ledger_internal.restore_exits owner to ledger_owner;
comment on function ledger_internal.restore_exits is
  'Let the participants leave again whose exit a restored group lacks, under the entry that it had, and settle exits of nothing that the checkpoint no longer has.';
revoke execute on function ledger_internal.restore_exits from public;
