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
  left join lateral (
    select l.*
    from ledger.checkpoints as l
    where l.group_id = c.group_id
      and l.number < c.number
    order by l.number desc
    limit 1
  ) as p on true
  -- In another server than the checkpoint's its snapshot means nothing.
  left join ledger.feeds as w
    on b.next_xid is not null
      and w.generation = c.generation
      and w.generation = (select max(n.generation) from ledger.feeds as n)
  cross join lateral (
    select h.detail from ledger_internal.header_discrepancies(c, p, d.domain) as h
    union all
    select 'has another seal than the entries up to it make'
    where c.adopted_at is null
      and c.seal <> ledger_internal.seal_entries(c, p)
    union all
    select format('was made at %s', c.created_at)
    where c.created_at > b.latest
      or c.created_at = '-infinity'
    union all
    select r.detail
    from ledger_internal.checkpoint_record_discrepancies(c, w) as r
    where w.generation is not null
      and c.adopted_at is null
    union all
    select l.detail from ledger_internal.leaf_discrepancies(c, d.domain) as l
    union all
    select u.detail from ledger_internal.publication_discrepancies(c, b.latest) as u
  ) as f (detail)
  where c.group_id = verify_checkpoints.group_id
    and c.number > verify_checkpoints.after
    and c.number <= coalesce(verify_checkpoints.upto, 9223372036854775807)
$$;

alter function ledger_internal.verify_checkpoints owner to ledger_owner;
comment on function ledger_internal.verify_checkpoints is
  'The discrepancies of a group''s checkpoints whose numbers are above after and, where it is given, not above upto: the chain of their headers, the seals of the entries, the leaves that are kept, what was credited and settled in the record, and what became of them at a vault. For the owner.';
revoke execute on function ledger_internal.verify_checkpoints from public;
