-- Raise LG012 for what is not done by hand in a group with a vault.
create or replace function ledger_internal.refuse_linked(
  group_id bigint,
  field    text,
  hint     text
) returns void
language plpgsql immutable
as $$
begin
  raise exception using
    errcode = 'LG012',
    column  = refuse_linked.field,
    message = format('group %s is linked to a vault', group_id),
    detail  = format('%s: is not accepted in a group that is linked to a vault', field),
    hint    = refuse_linked.hint;
end
$$;

alter function ledger_internal.refuse_linked owner to ledger_owner;
comment on function ledger_internal.refuse_linked is
  'Raises LG012 that blames the field: the group is linked to a vault, and the chain decides this.';
revoke execute on function ledger_internal.refuse_linked from public;
