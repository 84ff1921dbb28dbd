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
  group_id   bigint := parse_id(json_digits(checkpoint -> 'group_id'));
  number     bigint := parse_id(json_digits(checkpoint -> 'number'));
  chain_id   numeric := parse_amount(json_digits(checkpoint -> 'chain_id'));
  vault      bytea := json_hex(checkpoint -> 'vault', 20);
  previous   bytea := json_hex(checkpoint -> 'previous', 32);
  deposits   numeric := parse_amount(json_digits(checkpoint -> 'deposits'));
  credited   numeric := parse_amount(json_digits(checkpoint -> 'credited'));
  settled    numeric := parse_amount(json_digits(checkpoint -> 'settled'));
  leaf_count numeric := parse_amount(json_digits(checkpoint -> 'leaf_count'));
  total      numeric := parse_amount(json_digits(checkpoint -> 'total'));
  tree_root  bytea := json_hex(checkpoint -> 'root', 32);
  shown      bytea := json_hex(checkpoint -> 'header', 32);
  leaf_index numeric := parse_amount(json_digits(leaf -> 'index'));
  leaf_of    bigint := parse_id(json_digits(leaf -> 'participant_id'));
  exit_entry numeric := case when leaf -> 'exit_entry' = 'null' then 0 else parse_amount(json_digits(leaf -> 'exit_entry')) end;
  owner      bytea := json_hex(leaf -> 'owner', 20);
  amount     numeric := parse_amount(json_digits(leaf -> 'amount'));
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

  -- Siblings that cannot be right are not read.
  if (case jsonb_typeof(siblings) when 'array' then jsonb_array_length(siblings) end = sibling_count(leaf_count, leaf_index))
    is not true
  then
    return false;
  end if;
  select
    coalesce(array_agg(parse_amount(json_digits(s.sibling -> 'sum')) order by s.level), '{}'),
    coalesce(array_agg(json_hex(s.sibling -> 'hash', 32) order by s.level), '{}')
  into sums, hashes
  from jsonb_array_elements(siblings) with ordinality as s (sibling, level);

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
