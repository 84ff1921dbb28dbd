-- Find the discrepancies between a checkpoint and what was kept of it elsewhere.
create or replace function ledger_internal.verify_kept(
  group_id bigint,
  number   bigint,
  header   bytea,
  seal     bytea
) returns setof ledger.discrepancy
language plpgsql stable
as $$
declare
  checkpoint  ledger.checkpoints;
  discrepancy ledger.discrepancy := row(group_id, null, null, 'kept checkpoint', null);
begin
  select c.*
  into checkpoint
  from ledger.checkpoints as c
  where c.group_id = verify_kept.group_id
    and c.number = verify_kept.number;
  if not found then
    discrepancy.detail := format('checkpoint %s is not there', number);
    return next discrepancy;
    return;
  end if;

  if checkpoint.header <> header then
    discrepancy.detail := format('checkpoint %s has another header than was kept: %s', number, ledger_internal.hex(checkpoint.header));
    return next discrepancy;
  end if;
  if checkpoint.seal <> seal then
    discrepancy.detail := format('checkpoint %s has another seal than was kept: %s', number, ledger_internal.hex(checkpoint.seal));
    return next discrepancy;
  end if;

  -- The record of an adopted one is that of after the restore.
  if checkpoint.adopted_at is not null then
    return;
  end if;
  begin
    perform from ledger_internal.recompute_chunks(checkpoint);
  exception
    when data_corrupted or numeric_value_out_of_range then
      discrepancy.detail := format('checkpoint %s has other leaves in the record: %s', number, sqlerrm);
      return next discrepancy;
    when sqlstate 'LG002' then
      -- The ledger was restored since, and only leaves that are stored can be compared with the root.
      null;
  end;
end
$$;

alter function ledger_internal.verify_kept owner to ledger_owner;
comment on function ledger_internal.verify_kept is
  'The discrepancies of a checkpoint with the header and the seal that it had when they were kept elsewhere, and with the leaves that the record gives. Whether the entries give its seal, verify_checkpoints shows, from the first checkpoint on. For the owner.';
revoke execute on function ledger_internal.verify_kept from public;
