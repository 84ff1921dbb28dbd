-- Write the joins of participants who were just inserted.
create or replace function ledger_internal.post_joins(
  group_id          bigint,
  lines             ledger_internal.join_lines,
  participant_ids   bigint[],
  with_participants boolean
) returns ledger.join_all_result
language plpgsql volatile
as $$
declare
  joined      numeric := (select sum(l.amount) from unnest(lines.amounts) as l (amount));
  -- As in post_join(): what waits for a username or an address holds no shard, so the time is known only now.
  shard       ledger.group_total_shards := ledger_internal.add_to_group_total(group_id, joined, null);
  before      numeric := shard.total - joined;
  new_entries bigint[] := array(
    select nextval('ledger.entries_id_seq') from generate_series(1, cardinality(participant_ids))
  );
  result      ledger.join_all_result;
begin
  update ledger.participants as p
  set
    joined_at = shard.changed_at,
    moved_at = shard.changed_at
  where p.group_id = post_joins.group_id
    and p.id = any (participant_ids);

  insert into ledger.entries (group_id, id, kind, to_id, amount, to_amount, created_at, metadata)
  overriding system value
  select
    post_joins.group_id,
    l.entry_id,
    'join',
    l.participant_id,
    l.amount,
    l.amount,
    shard.changed_at,
    l.metadata
  from unnest(new_entries, participant_ids, lines.amounts, lines.metadatas)
    as l (entry_id, participant_id, amount, metadata);

  -- A row for each entry, as for single joins: a total is looked up at each of them.
  insert into ledger.group_total_history (group_id, slot, created_at, entry_id, total)
  select
    post_joins.group_id,
    shard.slot,
    shard.changed_at,
    l.entry_id,
    before + sum(l.amount) over (order by l.line rows unbounded preceding)
  from unnest(new_entries, lines.amounts) with ordinality as l (entry_id, amount, line);

  select array_agg((l.entry_id, l.participant_id, l.amount)::ledger.join_entry order by l.line)
  into result.entries
  from unnest(new_entries, participant_ids, lines.amounts) with ordinality as l (entry_id, participant_id, amount, line);
  if with_participants then
    select array_agg(
      (normalize(l.username, NFC), l.participant_id, post_joins.group_id, l.amount)::ledger.current_participants
      order by l.line
    )
    into result.participants
    from unnest(participant_ids, lines.usernames, lines.amounts) with ordinality
      as l (participant_id, username, amount, line);
  end if;
  result.replayed := false;
  return result;
end
$$;

alter function ledger_internal.post_joins owner to ledger_owner;
comment on function ledger_internal.post_joins is
  'Write the entries of a list of joins and their amounts in the group''s total, and return the answer, without the participants where nobody reads them; this transaction has inserted them, with these amounts.';
revoke execute on function ledger_internal.post_joins from public;
