-- Check whether a restored group has a checkpoint.
create or replace function ledger_internal.checkpoint_is_known(
  checkpoint ledger.checkpoints
) returns boolean
language plpgsql stable
as $$
declare
  accepted ledger.checkpoints := ledger_internal.accepted_checkpoint(checkpoint.group_id);
  known    ledger.checkpoints;
begin
  select c.*
  into known
  from ledger.checkpoints as c
  where c.group_id = checkpoint.group_id
    and c.number >= checkpoint.number
  order by c.number
  limit 1;
  if accepted.number > checkpoint.number or known.number > checkpoint.number or known.header <> checkpoint.header then
    perform ledger_internal.refuse_mismatch(
      'snapshot', format('group %s has checkpoint %s with header %s', checkpoint.group_id, known.number, ledger_internal.hex(known.header))
    );
  end if;
  return known.number is not null;
end
$$;

alter function ledger_internal.checkpoint_is_known owner to ledger_owner;
comment on function ledger_internal.checkpoint_is_known is
  'Whether the group has this checkpoint, and it is the newest that can be adopted. Raises LG013 where it has another one of this number, or later ones that its vault cannot have.';
revoke execute on function ledger_internal.checkpoint_is_known from public;
