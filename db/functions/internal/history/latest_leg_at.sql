-- Find the latest entry of a participant at a moment.
create or replace function ledger_internal.latest_leg_at(
  group_id       bigint,
  participant_id bigint,
  moment         ledger_internal.history_position
) returns setof ledger_internal.leg
language sql stable
as $$
  select
    l.id,
    l.kind,
    l.created_at,
    l.balance
  from (
    (
      select
        e.id,
        e.kind,
        e.created_at,
        e.from_amount as balance
      from ledger.entries as e
      where e.group_id = latest_leg_at.group_id
        and e.from_id = latest_leg_at.participant_id
        and (e.created_at, e.id) <= ((moment).created_at, (moment).id)
      order by e.created_at desc, e.id desc
      limit 1
    )
    union all
    (
      select
        e.id,
        e.kind,
        e.created_at,
        e.to_amount
      from ledger.entries as e
      where e.group_id = latest_leg_at.group_id
        and e.to_id = latest_leg_at.participant_id
        and (e.created_at, e.id) <= ((moment).created_at, (moment).id)
      order by e.created_at desc, e.id desc
      limit 1
    )
  ) as l
  order by l.created_at desc, l.id desc
  limit 1
$$;

alter function ledger_internal.latest_leg_at owner to ledger_owner;
comment on function ledger_internal.latest_leg_at is
  'The latest entry of a participant up to a moment, with the participant''s balance after it; no row if there is none. Two index look-ups.';
revoke execute on function ledger_internal.latest_leg_at from public;
