-- Raise LG014 if a group is frozen.
create or replace function ledger_internal.refuse_frozen(
  group_id bigint
) returns void
language plpgsql stable
as $$
begin
  if exists (
    select from ledger.vaults as v
    where v.group_id = refuse_frozen.group_id
      and v.emergency_number is not null
  ) then
    raise exception using
      errcode = 'LG014',
      column  = 'group_id',
      message = format('group %s is frozen', group_id),
      detail  = 'group_id: is frozen by an emergency of its vault',
      hint    = 'Get the proof of the last ripe checkpoint and withdraw from the vault with it; nothing moves in the group any more.';
  end if;
end
$$;

alter function ledger_internal.refuse_frozen owner to ledger_owner;
comment on function ledger_internal.refuse_frozen is
  'Raises LG014 if an emergency was declared at the vault of the group; nothing for any other group.';
revoke execute on function ledger_internal.refuse_frozen from public;
