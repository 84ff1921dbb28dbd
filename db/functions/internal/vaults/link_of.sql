-- Make the answer to link_vault.
create or replace function ledger_internal.link_of(
  vault    ledger.vaults,
  replayed boolean
) returns ledger.link_result
language sql stable
as $$
  select
    s.*,
    link_of.replayed
  from ledger_internal.describe_vault(vault) as s
$$;

alter function ledger_internal.link_of owner to ledger_owner;
comment on function ledger_internal.link_of is
  'What link_vault returns: what get_vault shows, and whether the group was linked before.';
revoke execute on function ledger_internal.link_of from public;
