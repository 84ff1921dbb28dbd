-- Read a checkpoint of a group with a vault.
create or replace function ledger_internal.parse_checkpoint(
  vault ledger.vaults,
  value jsonb
) returns ledger.checkpoints
language plpgsql stable
as $$
declare
  checkpoint ledger.checkpoints;
begin
  checkpoint.group_id := ledger_internal.parse_id(ledger_internal.json_digits(value -> 'group_id'));
  checkpoint.number := ledger_internal.parse_id(ledger_internal.json_digits(value -> 'number'));
  checkpoint.chain_id := ledger_internal.parse_amount(ledger_internal.json_digits(value -> 'chain_id'));
  checkpoint.vault := ledger_internal.json_hex(value -> 'vault', 20);
  checkpoint.previous := ledger_internal.json_hex(value -> 'previous', 32);
  checkpoint.deposits := coalesce(
    ledger_internal.parse_id(ledger_internal.json_digits(value -> 'deposits')),
    case when ledger_internal.json_digits(value -> 'deposits')::numeric = 0 then 0 end
  );
  checkpoint.credited := ledger_internal.parse_amount(ledger_internal.json_digits(value -> 'credited'));
  checkpoint.settled := ledger_internal.parse_amount(ledger_internal.json_digits(value -> 'settled'));
  checkpoint.leaf_count := coalesce(
    ledger_internal.parse_id(ledger_internal.json_digits(value -> 'leaf_count')),
    case when ledger_internal.json_digits(value -> 'leaf_count')::numeric = 0 then 0 end
  );
  checkpoint.total := ledger_internal.parse_amount(ledger_internal.json_digits(value -> 'total'));
  checkpoint.root := ledger_internal.json_hex(value -> 'root', 32);
  checkpoint.header := ledger_internal.json_hex(value -> 'header', 32);
  checkpoint.seal := ledger_internal.json_hex(value -> 'seal', 32);
  if num_nulls(
    checkpoint.group_id, checkpoint.number, checkpoint.chain_id, checkpoint.vault, checkpoint.previous,
    checkpoint.deposits, checkpoint.credited, checkpoint.settled, checkpoint.leaf_count, checkpoint.total,
    checkpoint.root, checkpoint.header, checkpoint.seal
  ) > 0 then
    perform ledger_internal.refuse_invalid(array['snapshot'], array['must have a checkpoint with all its members']);
  end if;

  if (checkpoint.group_id, checkpoint.chain_id, checkpoint.vault) is distinct from (vault.group_id, vault.chain_id, vault.vault::bytea)
  then
    perform ledger_internal.refuse_mismatch('snapshot', format('the snapshot is of another vault or group than %s', vault.group_id));
  end if;
  if checkpoint.total <> checkpoint.credited - checkpoint.settled
    or checkpoint.header <> ledger_internal.header_hash(
      vault.domain, checkpoint.number, checkpoint.previous, checkpoint.deposits, checkpoint.credited, checkpoint.settled,
      checkpoint.leaf_count, checkpoint.total, checkpoint.root
    )
  then
    perform ledger_internal.refuse_mismatch('snapshot', 'the header of the snapshot is not that of its figures');
  end if;
  return checkpoint;
end
$$;

alter function ledger_internal.parse_checkpoint owner to ledger_owner;
comment on function ledger_internal.parse_checkpoint is
  'A checkpoint of the group that is linked to the vault. Raises LG001 for what cannot be read, LG013 where the header is not that of the figures, or the checkpoint is of another vault.';
revoke execute on function ledger_internal.parse_checkpoint from public;
