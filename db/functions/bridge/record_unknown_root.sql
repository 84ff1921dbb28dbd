-- Record a root of a vault that the ledger did not make, and that was taken back.
create or replace function ledger.record_unknown_root(
  group_id    bigint,
  number      bigint,
  header      text,
  transaction text,
  block       bigint
) returns ledger.bridge_result
language plpgsql volatile security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  root  unknown_roots;
  known unknown_roots;
begin
  perform refuse_invalid(
    array['group_id', 'number', 'header', 'transaction', 'block'],
    array[
      invalid_id(group_id),
      case when number < 1 then 'must be at least 1' else invalid_id(number) end,
      invalid_chain_hash(header),
      invalid_chain_hash(transaction),
      invalid_number(block)
    ]
  );
  perform lock_vault(group_id);
  root := row(
    group_id, number, parse_hex(header, 32), parse_hex(transaction, 32), block, clock_timestamp()
  );
  if exists (
    select from publications as p
    join checkpoints as c on c.group_id = p.group_id and c.number = p.number
    where p.group_id = root.group_id
      and p.number = root.number
      and c.header = root.header
  ) then
    perform refuse_mismatch('header', format('checkpoint %s of group %s was made here', number, group_id));
  end if;
  select u.*
  into known
  from unknown_roots as u
  where u.group_id = root.group_id
    and u.number = root.number;
  if not found then
    insert into unknown_roots
    select root.*;
    return row(false)::bridge_result;
  end if;
  if (known.header, known.transaction, known.block) <> (root.header, root.transaction, root.block) then
    perform refuse_mismatch('number', format('the vault of group %s had another root %s', group_id, number));
  end if;
  return row(true)::bridge_result;
end
$$;

alter function ledger.record_unknown_root owner to ledger_owner;
comment on function ledger.record_unknown_root is
  'Record a root that was published at the vault of the group and taken back, by a veto or an emergency, and that the ledger did not make or has lost in a restore: later checkpoints get numbers above it. The same again changes nothing, and replayed is true. Raises LG001, LG002, LG013.';
revoke execute on function ledger.record_unknown_root from public;
grant execute on function ledger.record_unknown_root to ledger_bridge;
