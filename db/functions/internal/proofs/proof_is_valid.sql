-- Check that a leaf is in a tree.
create or replace function ledger_internal.proof_is_valid(
  root           bytea,
  total          numeric,
  leaf_count     numeric,
  leaf_index     numeric,
  leaf_hash      bytea,
  amount         numeric,
  sibling_sums   numeric[],
  sibling_hashes bytea[]
) returns boolean
language plpgsql immutable parallel safe
as $$
declare
  highest constant numeric := 115792089237316195423570985008687907853269984665640564039457584007913129639935;
  node    bytea := leaf_hash;
  sum     numeric := amount;
  place   numeric := leaf_index;
  width   numeric := leaf_count;
  used    integer := 0;
  sibling numeric;
begin
  if (place >= 0 and place < width and width < 9223372036854775808 and sum between 0 and highest) is not true then
    return false;
  end if;

  while width > 1 loop
    -- The last node of an odd number moves up as it is.
    if place % 2 = 1 or place + 1 < width then
      used := used + 1;
      sibling := sibling_sums[used];
      if (sibling >= 0 and sum + sibling <= highest and octet_length(sibling_hashes[used]) = 32) is not true then
        return false;
      end if;
      if place % 2 = 1 then
        node := ledger_internal.node_hash(sibling, sibling_hashes[used], sum, node);
      else
        node := ledger_internal.node_hash(sum, node, sibling, sibling_hashes[used]);
      end if;
      sum := sum + sibling;
    end if;
    place := div(place, 2);
    width := div(width + 1, 2);
  end loop;

  return (
    used = cardinality(sibling_sums)
    and sum = total
    and node = root
  ) is true;
end
$$;

alter function ledger_internal.proof_is_valid owner to ledger_owner;
comment on function ledger_internal.proof_is_valid is
  'Whether the leaf is at this index, from 0, in the tree of leaf_count leaves that has this root and total; the siblings go from the leaf up. The root does not bind the leaf count: compare the header as well.';
revoke execute on function ledger_internal.proof_is_valid from public;
