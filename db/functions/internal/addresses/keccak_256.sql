-- Hash a message of one block with Keccak-256, as Ethereum does.
create or replace function ledger_internal.keccak_256(
  message bytea
) returns bytea
language plpgsql immutable strict parallel safe
as $$
declare
  block bytea;
  lanes bigint[];
begin
  if octet_length(message) > 135 then
    raise exception using
      errcode = 'program_limit_exceeded',
      message = format('a message of one block has at most 135 bytes, not %s', octet_length(message));
  end if;

  -- A 1 behind the message and another at the end of the block; where they meet, they share a byte.
  block := message || '\x01' || decode(repeat('00', 135 - octet_length(message)), 'hex');
  block := set_byte(block, 135, get_byte(block, 135) | 128);
  select array_agg(l.lane order by l.number)
  into lanes
  from (
    select
      n.number,
      bit_or(get_byte(block, 8 * n.number + b.place)::bigint << 8 * b.place)
    from generate_series(0, 16) as n (number)
    cross join generate_series(0, 7) as b (place)
    group by n.number
  ) as l (number, lane);
  -- The block is xored into lanes that are all 0.
  lanes := ledger_internal.permute_lanes(lanes || array_fill(0::bigint, array[8]));

  return (
    select string_agg(substr(int8send(l.lane), 9 - b.place, 1), '' order by l.number, b.place)
    from unnest(lanes[1:4]) with ordinality as l (lane, number)
    cross join generate_series(1, 8) as b (place)
  );
end
$$;

alter function ledger_internal.keccak_256 owner to ledger_owner;
comment on function ledger_internal.keccak_256 is
  'Keccak-256, with the padding from before SHA-3, of a message of at most 135 bytes; null for null.';
revoke execute on function ledger_internal.keccak_256 from public;
