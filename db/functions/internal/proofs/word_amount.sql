-- Read an amount from its 32 bytes.
create or replace function ledger_internal.word_amount(
  word bytea
) returns numeric
language plpgsql immutable strict parallel safe
as $$
declare
  digits text := encode(word, 'hex');
  amount numeric := 0;
begin
  if digits < '0000000000000000000000000000000000000000000000008' collate "C" then
    return ('x' || substr(digits, 49))::bit(64)::bigint;
  end if;
  -- 32 bits at a time, which a bigint holds without their sign.
  for place in 0..7 loop
    amount := amount * 4294967296 + ('x' || substr(digits, 8 * place + 1, 8))::bit(32)::bigint;
  end loop;
  return amount;
end
$$;

alter function ledger_internal.word_amount owner to ledger_owner;
comment on function ledger_internal.word_amount is
  'The whole number whose 32 bytes, big-endian, these are.';
revoke execute on function ledger_internal.word_amount from public;
