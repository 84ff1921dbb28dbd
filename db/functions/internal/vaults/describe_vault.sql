-- Describe what is recorded of a group's vault.
create or replace function ledger_internal.describe_vault(
  vault ledger.vaults
) returns ledger.vault_status
language sql stable
as $$
  select
    vault.group_id,
    vault.chain_id,
    ledger_internal.format_address(vault.vault),
    ledger_internal.hex(vault.domain),
    coalesce(d.deposit_index + 1, 0),
    coalesce(d.cumulative, 0),
    vault.followed_block,
    ledger_internal.hex(vault.followed_hash),
    vault.emergency_number is not null,
    vault.emergency_number,
    vault.closed_at is not null,
    (
      select coalesce(sum(p.amount), 0)
      from ledger.payouts as p
      where p.group_id = vault.group_id
        and p.kind <> 'reclaim'
    ),
    ledger_internal.next_checkpoint_number(vault.group_id),
    a.number,
    ledger_internal.hex(a.header),
    (
      select max(u.number)
      from ledger.unknown_roots as u
      where u.group_id = vault.group_id
    )
  from (values (true)) as one (row)
  left join lateral (
    select l.*
    from ledger.vault_deposits as l
    where l.group_id = vault.group_id
    order by l.deposit_index desc
    limit 1
  ) as d on true
  left join lateral ledger_internal.accepted_checkpoint(vault.group_id) as a on true
$$;

alter function ledger_internal.describe_vault owner to ledger_owner;
comment on function ledger_internal.describe_vault is
  'What get_vault shows of a vault: what was credited and paid, how far the chain was followed, the last checkpoint that the vault accepted, and the last root that it had and the ledger did not make.';
revoke execute on function ledger_internal.describe_vault from public;
