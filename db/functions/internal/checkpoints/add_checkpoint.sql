-- Write a group's next checkpoint, with its leaves.
create or replace function ledger_internal.add_checkpoint(
  group_id bigint
) returns bigint
language plpgsql volatile
as $$
declare
  vault    ledger.vaults := ledger_internal.find_vault(group_id);
  previous ledger.checkpoints;
  made     ledger.checkpoints;
  figures  ledger_internal.figures;
  domain   bytea;
begin
  select c.*
  into previous
  from ledger.checkpoints as c
  where c.group_id = add_checkpoint.group_id
  order by c.number desc
  limit 1;

  made.group_id := group_id;
  made.number := ledger_internal.next_checkpoint_number(group_id);
  made.chain_id := coalesce(vault.chain_id, 0);
  made.vault := coalesce(vault.vault, decode(repeat('00', 20), 'hex'));
  -- A vault knows the headers that it accepted.
  made.previous := coalesce(
    case
      when vault.group_id is null
      then previous.header
      else (ledger_internal.accepted_checkpoint(group_id)).header
    end,
    decode(repeat('00', 32), 'hex')
  );
  domain := ledger_internal.domain_hash(made.chain_id, made.vault, group_id);

  figures := ledger_internal.write_chunks(made, previous, domain);
  if figures.total <> figures.credited - figures.settled then
    raise exception using
      errcode = 'data_corrupted',
      message = format('the leaves of group %s add up to %s, and %s was credited, %s settled', group_id, figures.total, figures.credited, figures.settled),
      hint    = 'Run ledger verify: the books are wrong.';
  end if;
  made.deposits := figures.deposits;
  made.credited := figures.credited;
  made.settled := figures.settled;
  made.leaf_count := figures.leaf_count;
  made.total := figures.total;
  made.root := figures.root;
  made.header := ledger_internal.header_hash(
    domain, made.number, made.previous, made.deposits, made.credited, made.settled, made.leaf_count, made.total, made.root
  );
  made.snapshot := figures.snapshot;
  made.generation := figures.generation;
  made.seal := figures.seal;
  made.created_at := clock_timestamp();
  insert into ledger.checkpoints
  select made.*
  -- As in write_chunks, for a group without leaves.
  on conflict do nothing;
  if not found then
    raise exception using
      errcode = 'serialization_failure',
      message = format('another transaction made checkpoint %s of group %s', made.number, group_id);
  end if;
  return made.number;
end
$$;

alter function ledger_internal.add_checkpoint owner to ledger_owner;
comment on function ledger_internal.add_checkpoint is
  'Write the next checkpoint of a group, chained to the one before it, or to the last one that its vault accepted, and return its number. Call it where no other transaction makes a checkpoint of the group, and before this one has written anything. Raises LG011, 40001 where another transaction made it, XX001 where the leaves are not what was credited less what was settled.';
revoke execute on function ledger_internal.add_checkpoint from public;
