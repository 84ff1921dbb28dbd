-- Find the discrepancies of a range of a group's participants.
create or replace function ledger_internal.verify_participants(
  group_id bigint,
  after    bigint,
  upto     bigint
) returns setof ledger.discrepancy
language sql stable
as $$
  select
    p.group_id,
    null::bigint,
    p.id,
    f.kind,
    f.detail
  from (
    select
      p.*,
      count(*) over (partition by p.id) as times
    from ledger.participants as p
    where p.group_id = verify_participants.group_id
      and p.id > verify_participants.after
      and p.id <= coalesce(verify_participants.upto, 9223372036854775807)
  ) as p
  cross join ledger_internal.verify_bounds() as b
  left join ledger.vaults as w on w.group_id = p.group_id
  left join lateral ledger_internal.latest_leg_at(p.group_id, p.id, ('infinity', 9223372036854775807)::ledger_internal.history_position) as last
    on true
  cross join lateral (
    select
      r.kind,
      r.detail
    from ledger_internal.participant_record_discrepancies(
      (
        p.group_id, p.id, p.username, p.amount, p.joined_at, p.exited_at, p.moved_at, p.address, p.address_xid, p.address_proved,
        p.frozen_at
      )::ledger.participants,
      (last.id, last.kind, last.created_at, last.balance)::ledger_internal.leg,
      b.latest
    ) as r
    union all
    select
      v.kind,
      v.detail
    from ledger_internal.frozen_discrepancies(
      (
        p.group_id, p.id, p.username, p.amount, p.joined_at, p.exited_at, p.moved_at, p.address, p.address_xid, p.address_proved,
        p.frozen_at
      )::ledger.participants,
      w
    ) as v
    union all
    select 'username', 'is empty'
    where p.username = ''
    union all
    select 'address', 'is not of 20 bytes, is zero, or has no transaction'
    where (p.address is null) <> (p.address_xid is null)
      or octet_length(p.address) <> 20
      or p.address = '\x0000000000000000000000000000000000000000'
    union all
    select 'participant id', format('%s participants have it', p.times)
    where p.times > 1
    union all
    select 'participant id', 'it is below 1'
    where p.id < 1
  ) as f (kind, detail)
$$;

alter function ledger_internal.verify_participants owner to ledger_owner;
comment on function ledger_internal.verify_participants is
  'The discrepancies of a group''s participants whose ids are above after and, where it is given, not above upto. For the owner.';
revoke execute on function ledger_internal.verify_participants from public;
