-- Fold nodes into the root of their tree.
create or replace function ledger_internal.fold_tree(
  sums  numeric[],
  nodes bytea[],
  place integer default null
) returns ledger_internal.tree
language plpgsql immutable parallel safe
as $$
declare
  width integer := cardinality(sums);
  tree  ledger_internal.tree;
begin
  tree.sibling_sums := '{}';
  tree.sibling_hashes := '{}';

  -- In place, level by level: a node is the word of its sum and its hash.
  while width > 1 loop
    if place is not null then
      if place # 1 < width then
        tree.sibling_sums := tree.sibling_sums || sums[(place # 1) + 1];
        tree.sibling_hashes := tree.sibling_hashes || substr(nodes[(place # 1) + 1], 33);
      end if;
      place := place / 2;
    end if;

    for i in 1 .. width / 2 loop
      sums[i] := sums[2 * i - 1] + sums[2 * i];
      nodes[i] := ledger_internal.word(sums[i]) || sha256('\x01'::bytea || nodes[2 * i - 1] || nodes[2 * i]);
    end loop;
    -- The last node of an odd number moves up as it is.
    if width % 2 = 1 then
      sums[width / 2 + 1] := sums[width];
      nodes[width / 2 + 1] := nodes[width];
    end if;
    width := (width + 1) / 2;
  end loop;

  tree.sum := coalesce(sums[1], 0);
  tree.hash := coalesce(substr(nodes[1], 33), '\x0000000000000000000000000000000000000000000000000000000000000000');
  return tree;
end
$$;

alter function ledger_internal.fold_tree owner to ledger_owner;
comment on function ledger_internal.fold_tree is
  'The root of the tree of these nodes, each the word of its sum and then its hash, and the siblings of the one at a place, from 0; 0 and 32 zero bytes without a node. A tree folds to the same root in chunks of 1,024 and then the chunks. Raises 22003 where a sum comes to 2^256.';
revoke execute on function ledger_internal.fold_tree from public;
