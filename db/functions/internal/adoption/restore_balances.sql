-- Bring the balances of a restored group to those of a snapshot.
create or replace function ledger_internal.restore_balances(
  checkpoint ledger.checkpoints,
  targets    ledger_internal.adoption_target[]
) returns void
language plpgsql volatile
as $$
declare
  metadata  jsonb := jsonb_build_object('adopted', format('balance of checkpoint %s', checkpoint.number));
  step      record;
  sender    ledger.participants;
  recipient ledger.participants;
begin
  for step in
    with differences as (
      select
        p.id,
        p.amount - coalesce(t.amount, 0) as surplus
      from ledger.participants as p
      left join unnest(targets) as t on t.participant_id = p.id
      where p.group_id = checkpoint.group_id
        and p.exited_at is null
        and p.amount <> coalesce(t.amount, 0)
    ), sides as (
      -- The surplus of each sender, and the deficit of each recipient, as a stretch of the sum of all.
      select
        d.id,
        d.surplus > 0 as sends,
        sum(abs(d.surplus)) over w - abs(d.surplus) as low,
        sum(abs(d.surplus)) over w as high
      from differences as d
      window w as (partition by d.surplus > 0 order by d.id)
    )
    select
      s.id as from_id,
      r.id as to_id,
      least(s.high, r.high) - greatest(s.low, r.low) as amount
    from sides as s
    join sides as r on not r.sends and r.low < s.high and s.low < r.high
    where s.sends
    order by s.low, r.low
  loop
    select p.* into sender from ledger.participants as p where p.group_id = checkpoint.group_id and p.id = step.from_id;
    select p.* into recipient from ledger.participants as p where p.group_id = checkpoint.group_id and p.id = step.to_id;
    perform ledger_internal.post_transfer(sender, recipient, step.amount, metadata, null);
  end loop;

  if exists (
    select from ledger.participants as p
    left join unnest(targets) as t on t.participant_id = p.id
    where p.group_id = checkpoint.group_id
      and p.exited_at is null
      and p.amount <> coalesce(t.amount, 0)
  ) then
    perform ledger_internal.refuse_mismatch(
      'snapshot',
      format('the balances of group %s do not add up to those of checkpoint %s: payouts are missing, or too many', checkpoint.group_id, checkpoint.number)
    );
  end if;
end
$$;

alter function ledger_internal.restore_balances owner to ledger_owner;
comment on function ledger_internal.restore_balances is
  'Move money by transfers until each participant of a restored group has what targets say, and any other one nothing. Raises LG013 where the sums differ.';
revoke execute on function ledger_internal.restore_balances from public;
