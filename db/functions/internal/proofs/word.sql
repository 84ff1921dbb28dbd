-- Write an amount as the 32 bytes that hashes are made of.
create or replace function ledger_internal.word(
  amount numeric
) returns bytea
language plpgsql immutable strict parallel safe
as $$
declare
  quotient numeric;
begin
  if amount >= 0 and amount < 9223372036854775808 and amount = trunc(amount) then
    return '\x000000000000000000000000000000000000000000000000'::bytea || int8send(amount::bigint);
  end if;
  if (
    amount >= 0
    and amount <= 115792089237316195423570985008687907853269984665640564039457584007913129639935
    and amount = trunc(amount)
  ) is not true then
    raise exception using
      errcode = 'numeric_value_out_of_range',
      message = format('%s is not a whole number from 0 to 2^256 - 1', amount);
  end if;

  if amount >= 340282366920938463463374607431768211456 then
    quotient := div(amount, 340282366920938463463374607431768211456);
    return substr(ledger_internal.word(quotient), 17)
      || substr(ledger_internal.word(amount - quotient * 340282366920938463463374607431768211456), 17);
  end if;
  -- A bigint has 64 bits with its sign.
  quotient := div(amount, 18446744073709551616);
  amount := amount - quotient * 18446744073709551616;
  return '\x00000000000000000000000000000000'::bytea
    || int8send((case when quotient < 9223372036854775808 then quotient else quotient - 18446744073709551616 end)::bigint)
    || int8send((case when amount < 9223372036854775808 then amount else amount - 18446744073709551616 end)::bigint);
end
$$;

alter function ledger_internal.word owner to ledger_owner;
comment on function ledger_internal.word is
  'The 32 bytes, big-endian, of a whole number from 0 to 2^256 - 1. Raises 22003 for any other number: a wrapped one would stand for another amount.';
revoke execute on function ledger_internal.word from public;
