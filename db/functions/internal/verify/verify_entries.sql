-- Find the discrepancies of a range of a group's entries.
create or replace function ledger_internal.verify_entries(
  group_id bigint,
  after    bigint,
  upto     bigint
) returns setof ledger.discrepancy
language sql stable
as $$
  -- The planner puts the statement of each function in place of its call: the range is read once, and no row is made.
  select
    e.group_id,
    e.id,
    f.participant_id,
    f.kind,
    f.detail
  from (
    select
      e.*,
      count(*) over (partition by e.id) as times
    from ledger.entries as e
    where e.group_id = verify_entries.group_id
      and e.id > verify_entries.after
      -- Not "is null or": a plan for any parameters would read on to the group's end.
      and e.id <= coalesce(verify_entries.upto, 9223372036854775807)
  ) as e
  cross join ledger_internal.verify_bounds() as b
  -- What each participant held before: if every step is right, so is every balance.
  left join lateral ledger_internal.latest_leg_at(e.group_id, e.from_id, (e.created_at, e.id - 1)::ledger_internal.history_position) as sender
    on true
  left join lateral ledger_internal.latest_leg_at(e.group_id, e.to_id, (e.created_at, e.id - 1)::ledger_internal.history_position) as recipient
    on true
  cross join lateral (
    select
      (
        e.group_id, e.id, e.kind, e.from_id, e.to_id, e.amount, e.from_amount, e.to_amount, e.created_at, e.xid, e.metadata,
        e.reverses
      )::ledger.entries as entry,
      (sender.id, sender.kind, sender.created_at, sender.balance)::ledger_internal.leg as sender,
      (recipient.id, recipient.kind, recipient.created_at, recipient.balance)::ledger_internal.leg as recipient
  ) as r
  cross join lateral (
    select d.participant_id, d.kind, d.detail
    from ledger_internal.entry_form_discrepancies(r.entry) as d
    union all
    select d.participant_id, d.kind, d.detail
    from ledger_internal.entry_leg_discrepancies(r.entry, r.sender, r.recipient) as d
    union all
    select d.participant_id, d.kind, d.detail
    from ledger_internal.entry_origin_discrepancies(r.entry, e.times, b.latest, b.restored, b.first_xid, b.next_xid) as d
    union all
    select d.participant_id, d.kind, d.detail
    from ledger_internal.reversal_discrepancies(r.entry) as d
    union all
    -- A settlement or a total of what has none is found by verify_total: here it would be a look-up for each transfer.
    select d.participant_id, d.kind, d.detail
    from ledger_internal.settlement_discrepancies(r.entry, b.latest) as d
    union all
    select d.participant_id, d.kind, d.detail
    from ledger_internal.entry_total_discrepancies(r.entry) as d
  ) as f
$$;

alter function ledger_internal.verify_entries owner to ledger_owner;
comment on function ledger_internal.verify_entries is
  'The discrepancies of a group''s entries whose ids are above after and, where it is given, not above upto. For the owner.';
revoke execute on function ledger_internal.verify_entries from public;
