-- Count the siblings on the way from a leaf to the root.
create or replace function ledger_internal.sibling_count(
  leaf_count numeric,
  leaf_index numeric
) returns integer
language plpgsql immutable parallel safe
as $$
declare
  place    numeric := leaf_index;
  width    numeric := leaf_count;
  siblings integer := 0;
begin
  if (place >= 0 and place < width and width < 9223372036854775808) is not true then
    return null;
  end if;
  while width > 1 loop
    -- The last node of an odd number moves up as it is.
    if place % 2 = 1 or place + 1 < width then
      siblings := siblings + 1;
    end if;
    place := div(place, 2);
    width := div(width + 1, 2);
  end loop;
  return siblings;
end
$$;

alter function ledger_internal.sibling_count owner to ledger_owner;
comment on function ledger_internal.sibling_count is
  'How many siblings the proof of the leaf at this index, from 0, of a tree of leaf_count leaves has; null where there is no such leaf.';
revoke execute on function ledger_internal.sibling_count from public;
