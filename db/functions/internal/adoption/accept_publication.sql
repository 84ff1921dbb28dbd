-- Record that a vault accepted a checkpoint that was adopted.
create or replace function ledger_internal.accept_publication(
  checkpoint ledger.checkpoints
) returns boolean
language plpgsql volatile
as $$
declare
  changed integer;
  steps   integer := 0;
begin
  insert into ledger.publications (group_id, number)
  values (checkpoint.group_id, checkpoint.number)
  on conflict do nothing;
  get diagnostics changed = row_count;
  steps := steps + changed;
  if exists (
    select from ledger.publications as p
    where p.group_id = checkpoint.group_id
      and p.number = checkpoint.number
      and p.state in ('vetoed', 'abandoned')
  ) then
    perform ledger_internal.refuse_mismatch(
      'snapshot', format('checkpoint %s of group %s was vetoed or abandoned', checkpoint.number, checkpoint.group_id)
    );
  end if;

  update ledger.publications as p
  set
    state = case when p.number = checkpoint.number or c.header = checkpoint.previous then 'accepted' else 'vetoed' end,
    changed_at = greatest(clock_timestamp(), p.changed_at)
  from ledger.checkpoints as c
  where p.group_id = checkpoint.group_id
    and p.number <= checkpoint.number
    and p.state = 'prepared'
    and c.group_id = p.group_id
    and c.number = p.number;
  get diagnostics changed = row_count;
  steps := steps + changed;
  update ledger.publications as p
  set
    state = case when c.header = checkpoint.previous then 'closed' else 'vetoed' end,
    changed_at = greatest(clock_timestamp(), p.changed_at)
  from ledger.checkpoints as c
  where p.group_id = checkpoint.group_id
    and p.number < checkpoint.number
    and p.state = 'accepted'
    and c.group_id = p.group_id
    and c.number = p.number;
  get diagnostics changed = row_count;
  steps := steps + changed;

  if steps > 0 then
    insert into ledger.adoptions (group_id, number)
    values (checkpoint.group_id, checkpoint.number)
    on conflict do nothing;
  end if;
  return steps > 0;
end
$$;

alter function ledger_internal.accept_publication owner to ledger_owner;
comment on function ledger_internal.accept_publication is
  'Record that the vault accepted a checkpoint of the group last, and that those before it are closed, where it names them, or vetoed; return whether anything changed. Which transactions did it is not known. Raises LG013 where this one was vetoed.';
revoke execute on function ledger_internal.accept_publication from public;
