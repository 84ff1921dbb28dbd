-- Raise LG012 for a list of joins that a group with a vault does not take.
create or replace function ledger_internal.refuse_linked_joins(
  group_id bigint,
  lines    ledger_internal.join_lines
) returns void
language plpgsql stable
as $$
declare
  refused record;
begin
  select
    l.line,
    l.amount
  into refused
  from unnest(lines.amounts, lines.addresses) with ordinality as l (amount, address, line)
  where l.amount <> 0
    or l.address is null
  order by l.line
  limit 1;
  if found then
    perform ledger_internal.refuse_linked(
      group_id,
      format('participants[%s].%s', refused.line - 1, case when refused.amount <> 0 then 'amount' else 'address' end),
      'Join with amounts of 0 and addresses; money comes from an address by a deposit into the vault.'
    );
  end if;
end
$$;

alter function ledger_internal.refuse_linked_joins owner to ledger_owner;
comment on function ledger_internal.refuse_linked_joins is
  'Raises LG012 for the first line with an amount or without an address, as participants[0].amount; for a group that is linked to a vault.';
revoke execute on function ledger_internal.refuse_linked_joins from public;
