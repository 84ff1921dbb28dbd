-- Move money between participants who are locked, line by line: the rule of every multi-party transfer.
create or replace function ledger.move_all(
  group_id bigint,
  lines    ledger.transfer_lines,
  held     ledger.transfer_sides
) returns ledger.transfer_all_result
language plpgsql volatile
as $$
declare
  moment       timestamptz := greatest(clock_timestamp(), held.moved_at);
  from_amounts numeric[];
  to_amounts   numeric[];
  refused      integer;
  result       ledger.transfer_all_result;
begin
  -- A balance after a line is what was held at first and all that came and went up to there. Sums over windows, no
  -- joins: the plan is the same for ten lines and for ten thousand.
  select
    array_agg(b.from_amount order by b.line),
    array_agg(b.to_amount order by b.line),
    min(b.line) filter (where ledger.balance_fault(b.from_amount, b.to_amount) is not null)
  into
    from_amounts,
    to_amounts,
    refused
  from (
    select
      r.line,
      max(r.balance) filter (where r.change < 0) as from_amount,
      max(r.balance) filter (where r.change > 0) as to_amount
    from (
      select
        c.line,
        c.change,
        sum(c.change) over (partition by c.id order by c.line) as balance
      from (
        select 0 as line, h.id, h.amount as change
        from unnest(held.ids, held.amounts) as h (id, amount)
        union all
        select l.line, l.id, -l.amount
        from unnest(lines.from_ids, lines.amounts) with ordinality as l (id, amount, line)
        union all
        select l.line, l.id, l.amount
        from unnest(lines.to_ids, lines.amounts) with ordinality as l (id, amount, line)
      ) as c
    ) as r
    where r.line > 0
    group by r.line
  ) as b;

  if refused is not null then
    perform ledger.refuse_transfer(
      ledger.balance_fault(from_amounts[refused], to_amounts[refused]),
      format('transfers[%s].amount', refused - 1),
      lines.from_ids[refused],
      from_amounts[refused] + lines.amounts[refused],
      lines.amounts[refused]
    );
  end if;

  with moved as (
    update ledger.participants as p
    set
      amount = f.amount,
      moved_at = moment
    from (
      select
        c.id,
        sum(c.change) as amount
      from (
        select h.id, h.amount as change
        from unnest(held.ids, held.amounts) as h (id, amount)
        union all
        select l.id, -l.amount
        from unnest(lines.from_ids, lines.amounts) as l (id, amount)
        union all
        select l.id, l.amount
        from unnest(lines.to_ids, lines.amounts) as l (id, amount)
      ) as c
      group by c.id
    ) as f
    where p.group_id = move_all.group_id
      and p.id = f.id
    returning p.username, p.id, p.group_id, p.amount
  )
  select array_agg((m.username, m.id, m.group_id, m.amount)::ledger.current_participants order by m.id)
  into result.participants
  from moved as m;

  with written as (
    insert into ledger.entries (
      group_id, kind, from_id, to_id, amount, from_amount, to_amount, created_at, metadata
    )
    select
      move_all.group_id,
      'transfer',
      l.from_id,
      l.to_id,
      l.amount,
      l.from_amount,
      l.to_amount,
      moment,
      l.metadata
    from unnest(lines.from_ids, lines.to_ids, lines.amounts, from_amounts, to_amounts, lines.metadatas)
      with ordinality as l (from_id, to_id, amount, from_amount, to_amount, metadata, line)
    order by l.line
    returning id, from_id, to_id, amount, from_amount, to_amount
  )
  -- Ids ascend with the lines.
  select array_agg((w.id, w.from_id, w.to_id, w.amount, w.from_amount, w.to_amount)::ledger.transfer_entry order by w.id)
  into result.entries
  from written as w;
  return result;
end
$$;

alter function ledger.move_all owner to ledger_owner;
comment on function ledger.move_all is
  'Make the transfers of the lines, in their order, between participants whom lock_sides returned. Raises LG003, and LG001 where a balance would reach 2^256, for the first line that cannot be made.';
revoke execute on function ledger.move_all from public;
