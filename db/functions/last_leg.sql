-- Find the last entry of a participant at a moment.
create or replace function ledger.last_leg(
  group_id       bigint,
  participant_id bigint,
  moment         ledger.history_moment
) returns setof ledger.leg
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
      where e.group_id = last_leg.group_id
        and e.from_id = last_leg.participant_id
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
      where e.group_id = last_leg.group_id
        and e.to_id = last_leg.participant_id
        and (e.created_at, e.id) <= ((moment).created_at, (moment).id)
      order by e.created_at desc, e.id desc
      limit 1
    )
  ) as l
  order by l.created_at desc, l.id desc
  limit 1
$$;

alter function ledger.last_leg owner to ledger_owner;
comment on function ledger.last_leg is
  'The last entry of a participant up to a moment, with the participant''s balance after it; no row when there is none. Two look-ups in an index.';
revoke execute on function ledger.last_leg from public;
