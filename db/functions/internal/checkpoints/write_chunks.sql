-- Write the leaves of a new checkpoint, and return what it finds.
create or replace function ledger_internal.write_chunks(
  group_id bigint,
  number   bigint,
  domain   bytea
) returns ledger_internal.figures
language plpgsql volatile
as $$
declare
  figures ledger_internal.figures;
  piece   record;
begin
  figures.leaf_count := 0;

  -- One statement and so one snapshot for all figures and leaves; a volatile function in it would see newer rows.
  for piece in
    -- The first row has the figures, each of the others the leaves of a chunk.
    select
      -1 as chunk,
      null::numeric[] as amounts,
      null::bytea[] as leaves,
      pg_current_snapshot() as snapshot,
      (select max(f.generation) from ledger.feeds as f) as generation,
      credited.deposits,
      credited.amount as credited,
      settled.amount as settled
    from (
      select
        count(*) as deposits,
        coalesce(sum(e.amount), 0) as amount
      from ledger.entries as e
      where e.group_id = write_chunks.group_id
        and e.kind in ('join', 'deposit')
    ) as credited
    cross join (
      select coalesce(sum(e.amount), 0) as amount
      from ledger.settlements as s
      join ledger.entries as e on e.group_id = s.group_id and e.id = s.entry_id
      where s.group_id = write_chunks.group_id
        and s.settled_at is not null
    ) as settled
    union all
    select
      (l.place / 1024)::integer,
      array_agg(l.amount order by l.place),
      array_agg(ledger_internal.pack_leaf(l.participant_id, l.exit_entry, l.owner, l.amount) order by l.place),
      null,
      null,
      null,
      null,
      null
    from (
      select
        u.*,
        row_number() over (order by u.participant_id) - 1 as place
      from (
        select
          p.id as participant_id,
          null::bigint as exit_entry,
          p.address as owner,
          p.amount
        from ledger.participants as p
        where p.group_id = write_chunks.group_id
          and p.exited_at is null
        union all
        select
          p.id,
          e.id,
          p.address,
          e.amount
        from ledger.settlements as s
        join ledger.entries as e on e.group_id = s.group_id and e.id = s.entry_id
        join ledger.participants as p on p.group_id = e.group_id and p.id = e.from_id
        where s.group_id = write_chunks.group_id
          and s.settled_at is null
      ) as u
    ) as l
    group by l.place / 1024
    order by chunk
  loop
    if piece.chunk = -1 then
      figures.snapshot := piece.snapshot;
      figures.generation := piece.generation;
      figures.deposits := piece.deposits;
      figures.credited := piece.credited;
      figures.settled := piece.settled;
      if figures.credited >= 2::numeric ^ 256 then
        raise exception using
          errcode = 'LG011',
          column  = 'group_id',
          message = format('group %s was credited %s in all, and a checkpoint holds less than 2^256', group_id, figures.credited),
          detail  = 'group_id: was credited 2^256 or more in all',
          hint    = 'Go on in a new group.';
      end if;
    else
      insert into ledger.checkpoint_chunks
      select k.* from ledger_internal.pack_chunk(group_id, number, piece.chunk, domain, piece.amounts, piece.leaves) as k
      -- Above READ COMMITTED another checkpoint since the snapshot ends in 40001 here.
      on conflict do nothing;
      figures.leaf_count := figures.leaf_count + cardinality(piece.leaves);
    end if;
  end loop;

  select
    t.sum,
    t.hash
  into
    figures.total,
    figures.root
  from (
    select
      array_agg(k.sum order by k.chunk) as sums,
      array_agg(ledger_internal.word(k.sum) || k.hash order by k.chunk) as nodes
    from ledger.checkpoint_chunks as k
    where k.group_id = write_chunks.group_id
      and k.number = write_chunks.number
  ) as c
  cross join ledger_internal.fold_tree(c.sums, c.nodes) as t;
  return figures;
end
$$;

alter function ledger_internal.write_chunks owner to ledger_owner;
comment on function ledger_internal.write_chunks is
  'Write the chunks of a checkpoint in one snapshot, and return the snapshot, the figures and the root of it. Call it where no other transaction makes a checkpoint of the group. Raises LG011.';
revoke execute on function ledger_internal.write_chunks from public;
