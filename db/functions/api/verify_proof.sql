-- Check a proof of what a participant holds, without the ledger's tables.
create or replace function ledger.verify_proof(
  proof  jsonb,
  header text default null,
  root   text default null
) returns boolean
language plpgsql immutable security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  checkpoint jsonb := proof -> 'checkpoint';
  leaf       jsonb := proof -> 'leaf';
  siblings   jsonb := proof -> 'siblings';
  -- Null stands for what is missing or malformed.
  group_id   bigint := parse_id(json_scalar_text(checkpoint -> 'group_id'));
  number     bigint := parse_id(json_scalar_text(checkpoint -> 'number'));
  chain_id   numeric := parse_amount(json_scalar_text(checkpoint -> 'chain_id'));
  vault      bytea := parse_hex(checkpoint ->> 'vault', 20);
  previous   bytea := parse_hex(checkpoint ->> 'previous', 32);
  deposits   numeric := parse_amount(json_scalar_text(checkpoint -> 'deposits'));
  credited   numeric := parse_amount(json_scalar_text(checkpoint -> 'credited'));
  settled    numeric := parse_amount(json_scalar_text(checkpoint -> 'settled'));
  leaf_count numeric := parse_amount(json_scalar_text(checkpoint -> 'leaf_count'));
  total      numeric := parse_amount(json_scalar_text(checkpoint -> 'total'));
  tree_root  bytea := parse_hex(checkpoint ->> 'root', 32);
  shown      bytea := parse_hex(checkpoint ->> 'header', 32);
  leaf_index numeric := parse_amount(json_scalar_text(leaf -> 'index'));
  leaf_of    bigint := parse_id(json_scalar_text(leaf -> 'participant_id'));
  exit_entry numeric := parse_amount(coalesce(json_scalar_text(leaf -> 'exit_entry'), '0'));
  owner      bytea := parse_hex(leaf ->> 'owner', 20);
  amount     numeric := parse_amount(json_scalar_text(leaf -> 'amount'));
  sums       numeric[];
  hashes     bytea[];
  domain     bytea;
begin
  perform refuse_invalid(
    array['header', 'root'],
    array[
      case when header is not null then invalid_hash(header) end,
      case when root is not null then invalid_hash(root) end
    ]
  );

  -- More siblings than a tree can have levels need not be read.
  if jsonb_typeof(siblings) is distinct from 'array' or jsonb_array_length(siblings) > 63 then
    return false;
  end if;
  select
    coalesce(array_agg(parse_amount(json_scalar_text(s.sibling -> 'sum')) order by s.level), '{}'),
    coalesce(array_agg(parse_hex(s.sibling ->> 'hash', 32) order by s.level), '{}')
  into sums, hashes
  from jsonb_array_elements(siblings) with ordinality as s (sibling, level);

  if num_nulls(
      group_id, number, chain_id, vault, previous, deposits, credited, settled, leaf_count, total, tree_root, shown,
      leaf_index, leaf_of, exit_entry, owner, amount
    ) > 0
    or greatest(chain_id, credited, amount) >= 2::numeric ^ 256
    or greatest(deposits, leaf_count, exit_entry) >= 9223372036854775808
    or total <> credited - settled
  then
    return false;
  end if;

  domain := domain_hash(chain_id, vault, group_id);
  return
    shown = header_hash(
      domain, number, previous, deposits::bigint, credited, settled, leaf_count::bigint, total, tree_root
    )
    and (header is null or shown = parse_hex(header, 32))
    and (root is null or tree_root = parse_hex(root, 32))
    and proof_is_valid(
      tree_root, total, leaf_count, leaf_index,
      leaf_hash(domain, pack_leaf(leaf_of, exit_entry::bigint, owner, amount)), amount, sums, hashes
    );
end
$$;

alter function ledger.verify_proof owner to ledger_owner;
comment on function ledger.verify_proof is
  'Whether a proof, as get_proof returns it, shows a leaf of its checkpoint; with a header or a root that was published, 0x and 64 hex digits, whether it is one of that checkpoint. Without either it shows only that the proof is consistent. Reads no table. A malformed proof is false. Raises LG001.';
revoke execute on function ledger.verify_proof from public;
grant execute on function ledger.verify_proof to ledger_api;
