-- Find the discrepancies of a range of a group's checkpoints.
create or replace function ledger_internal.verify_checkpoints(
  group_id bigint,
  after    bigint,
  upto     bigint
) returns setof ledger.discrepancy
language sql stable
as $$
  select
    c.group_id,
    null::bigint,
    null::bigint,
    'checkpoint',
    format('checkpoint %s %s', c.number, f.detail)
  from ledger.checkpoints as c
  cross join lateral (
    select ledger_internal.domain_hash(c.chain_id, c.vault, c.group_id) as domain
  ) as d
  cross join ledger_internal.verify_bounds() as b
  left join ledger.checkpoints as p on p.group_id = c.group_id and p.number = c.number - 1
  -- In another server than the checkpoint's its snapshot means nothing.
  left join ledger.feeds as w
    on b.next_xid is not null
      and w.generation = c.generation
      and w.generation = (select max(n.generation) from ledger.feeds as n)
  cross join lateral (
    select 'has none before it'
    where c.number < 1
      or (c.number > 1 and p.number is null)
    union all
    select 'has another header before it than it names'
    where c.previous <> coalesce(p.header, decode(repeat('00', 32), 'hex'))
    union all
    select 'has another header than its figures make'
    where c.header <> ledger_internal.header_hash(
        d.domain, c.number, c.previous, c.deposits, c.credited, c.settled, c.leaf_count, c.total, c.root
      )
    union all
    select format('has a total of %s, of %s credited and %s settled', c.total, c.credited, c.settled)
    where c.total <> c.credited - c.settled
    union all
    select 'has another seal than the entries up to it make'
    where c.seal <> ledger_internal.seal_entries(c, p)
    union all
    select format('was made at %s', c.created_at)
    where c.created_at > b.latest
      or c.created_at = '-infinity'
    union all
    select format('says %s joins and deposits of %s, and the record %s of %s', c.deposits, c.credited, r.deposits, r.credited)
    from (
      select
        count(*) as deposits,
        coalesce(sum(e.amount), 0) as credited
      from ledger.entries as e
      where e.group_id = c.group_id
        and e.kind in ('join', 'deposit')
        and (e.id <= w.last_restored or pg_visible_in_snapshot(e.xid, c.snapshot))
    ) as r
    where w.generation is not null
      and (c.deposits <> r.deposits or c.credited <> r.credited)
    union all
    select format('says %s settled, and the record %s', c.settled, r.settled)
    from (
      select coalesce(sum(e.amount), 0) as settled
      from ledger.settlements as s
      join ledger.entries as e on e.group_id = s.group_id and e.id = s.entry_id
      where s.group_id = c.group_id
        and s.settled_at is not null
        and (
          s.settled_xid is null
          or s.settled_at < w.began_at
          or pg_visible_in_snapshot(s.settled_xid, c.snapshot)
        )
    ) as r
    where w.generation is not null
      and c.settled <> r.settled
    union all
    select 'has other leaves than its root is of'
    from (
      select
        ledger_internal.fold_tree(
          array_agg(k.sum order by k.chunk), array_agg(ledger_internal.word(k.sum) || k.hash order by k.chunk)
        ) as tree,
        bool_and(t.sum = k.sum and t.hash = k.hash) as fits
      from ledger.checkpoint_chunks as k
      cross join lateral ledger_internal.chunk_tree(k, d.domain) as t
      where k.group_id = c.group_id
        and k.number = c.number
      having count(*) > 0
    ) as k
    where (k.fits and (k.tree).hash = c.root and (k.tree).sum = c.total) is not true
    union all
    select format('has %s leaves of ascending participants, and says %s', l.leaves, c.leaf_count)
    from (
      select count(*) filter (where l.participant_id > l.before) as leaves
      from (
        select
          l.participant_id,
          lag(l.participant_id, 1, 0::bigint) over (order by l.index) as before
        from ledger.checkpoint_chunks as k
        cross join lateral ledger_internal.unpack_leaves(k) as l
        where k.group_id = c.group_id
          and k.number = c.number
      ) as l
      having count(*) > 0
    ) as l
    where l.leaves <> c.leaf_count
  ) as f (detail)
  where c.group_id = verify_checkpoints.group_id
    and c.number > verify_checkpoints.after
    and c.number <= coalesce(verify_checkpoints.upto, 9223372036854775807)
$$;

alter function ledger_internal.verify_checkpoints owner to ledger_owner;
comment on function ledger_internal.verify_checkpoints is
  'The discrepancies of a group''s checkpoints whose numbers are above after and, where it is given, not above upto: the chain of their headers, the seals of the entries, the leaves that are kept, and what was credited and settled in the record. For the owner.';
revoke execute on function ledger_internal.verify_checkpoints from public;
