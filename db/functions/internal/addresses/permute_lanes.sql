-- Apply Keccak's permutation to its lanes.
create or replace function ledger_internal.permute_lanes(
  lanes bigint[]
) returns bigint[]
language plpgsql immutable strict parallel safe
as $$
-- Keccak-f[1600] of the specification, lane x + 5 y at a. Unrolled, and so long, since variables are several times faster
-- than the elements of an array. >> keeps the sign, so what it fills in is masked.
declare
  round_constants constant bigint[] := array[
    1, 32898, -9223372036854742902, -9223372034707259392,
    32907, 2147483649, -9223372034707259263, -9223372036854743031,
    138, 136, 2147516425, 2147483658,
    2147516555, -9223372036854775669, -9223372036854742903, -9223372036854743037,
    -9223372036854743038, -9223372036854775680, 32778, -9223372034707292150,
    -9223372034707259263, -9223372036854742912, 2147483649, -9223372034707259384
  ];
  round_constant bigint;
  a0 bigint; a1 bigint; a2 bigint; a3 bigint; a4 bigint;
  a5 bigint; a6 bigint; a7 bigint; a8 bigint; a9 bigint;
  a10 bigint; a11 bigint; a12 bigint; a13 bigint; a14 bigint;
  a15 bigint; a16 bigint; a17 bigint; a18 bigint; a19 bigint;
  a20 bigint; a21 bigint; a22 bigint; a23 bigint; a24 bigint;
  b0 bigint; b1 bigint; b2 bigint; b3 bigint; b4 bigint;
  b5 bigint; b6 bigint; b7 bigint; b8 bigint; b9 bigint;
  b10 bigint; b11 bigint; b12 bigint; b13 bigint; b14 bigint;
  b15 bigint; b16 bigint; b17 bigint; b18 bigint; b19 bigint;
  b20 bigint; b21 bigint; b22 bigint; b23 bigint; b24 bigint;
  c0 bigint; c1 bigint; c2 bigint; c3 bigint; c4 bigint;
  d0 bigint; d1 bigint; d2 bigint; d3 bigint; d4 bigint;
begin
  a0 := lanes[1]; a1 := lanes[2]; a2 := lanes[3]; a3 := lanes[4]; a4 := lanes[5];
  a5 := lanes[6]; a6 := lanes[7]; a7 := lanes[8]; a8 := lanes[9]; a9 := lanes[10];
  a10 := lanes[11]; a11 := lanes[12]; a12 := lanes[13]; a13 := lanes[14]; a14 := lanes[15];
  a15 := lanes[16]; a16 := lanes[17]; a17 := lanes[18]; a18 := lanes[19]; a19 := lanes[20];
  a20 := lanes[21]; a21 := lanes[22]; a22 := lanes[23]; a23 := lanes[24]; a24 := lanes[25];

  foreach round_constant in array round_constants loop
    c0 := a0 # a5 # a10 # a15 # a20;
    c1 := a1 # a6 # a11 # a16 # a21;
    c2 := a2 # a7 # a12 # a17 # a22;
    c3 := a3 # a8 # a13 # a18 # a23;
    c4 := a4 # a9 # a14 # a19 # a24;
    d0 := c4 # ((c1 << 1) | ((c1 >> 63) & 1));
    d1 := c0 # ((c2 << 1) | ((c2 >> 63) & 1));
    d2 := c1 # ((c3 << 1) | ((c3 >> 63) & 1));
    d3 := c2 # ((c4 << 1) | ((c4 >> 63) & 1));
    d4 := c3 # ((c0 << 1) | ((c0 >> 63) & 1));

    b0 := a0 # d0;
    b1 := ((a6 # d1) << 44) | (((a6 # d1) >> 20) & 17592186044415);
    b2 := ((a12 # d2) << 43) | (((a12 # d2) >> 21) & 8796093022207);
    b3 := ((a18 # d3) << 21) | (((a18 # d3) >> 43) & 2097151);
    b4 := ((a24 # d4) << 14) | (((a24 # d4) >> 50) & 16383);
    b5 := ((a3 # d3) << 28) | (((a3 # d3) >> 36) & 268435455);
    b6 := ((a9 # d4) << 20) | (((a9 # d4) >> 44) & 1048575);
    b7 := ((a10 # d0) << 3) | (((a10 # d0) >> 61) & 7);
    b8 := ((a16 # d1) << 45) | (((a16 # d1) >> 19) & 35184372088831);
    b9 := ((a22 # d2) << 61) | (((a22 # d2) >> 3) & 2305843009213693951);
    b10 := ((a1 # d1) << 1) | (((a1 # d1) >> 63) & 1);
    b11 := ((a7 # d2) << 6) | (((a7 # d2) >> 58) & 63);
    b12 := ((a13 # d3) << 25) | (((a13 # d3) >> 39) & 33554431);
    b13 := ((a19 # d4) << 8) | (((a19 # d4) >> 56) & 255);
    b14 := ((a20 # d0) << 18) | (((a20 # d0) >> 46) & 262143);
    b15 := ((a4 # d4) << 27) | (((a4 # d4) >> 37) & 134217727);
    b16 := ((a5 # d0) << 36) | (((a5 # d0) >> 28) & 68719476735);
    b17 := ((a11 # d1) << 10) | (((a11 # d1) >> 54) & 1023);
    b18 := ((a17 # d2) << 15) | (((a17 # d2) >> 49) & 32767);
    b19 := ((a23 # d3) << 56) | (((a23 # d3) >> 8) & 72057594037927935);
    b20 := ((a2 # d2) << 62) | (((a2 # d2) >> 2) & 4611686018427387903);
    b21 := ((a8 # d3) << 55) | (((a8 # d3) >> 9) & 36028797018963967);
    b22 := ((a14 # d4) << 39) | (((a14 # d4) >> 25) & 549755813887);
    b23 := ((a15 # d0) << 41) | (((a15 # d0) >> 23) & 2199023255551);
    b24 := ((a21 # d1) << 2) | (((a21 # d1) >> 62) & 3);

    a0 := b0 # (~b1 & b2) # round_constant;
    a1 := b1 # (~b2 & b3);
    a2 := b2 # (~b3 & b4);
    a3 := b3 # (~b4 & b0);
    a4 := b4 # (~b0 & b1);
    a5 := b5 # (~b6 & b7);
    a6 := b6 # (~b7 & b8);
    a7 := b7 # (~b8 & b9);
    a8 := b8 # (~b9 & b5);
    a9 := b9 # (~b5 & b6);
    a10 := b10 # (~b11 & b12);
    a11 := b11 # (~b12 & b13);
    a12 := b12 # (~b13 & b14);
    a13 := b13 # (~b14 & b10);
    a14 := b14 # (~b10 & b11);
    a15 := b15 # (~b16 & b17);
    a16 := b16 # (~b17 & b18);
    a17 := b17 # (~b18 & b19);
    a18 := b18 # (~b19 & b15);
    a19 := b19 # (~b15 & b16);
    a20 := b20 # (~b21 & b22);
    a21 := b21 # (~b22 & b23);
    a22 := b22 # (~b23 & b24);
    a23 := b23 # (~b24 & b20);
    a24 := b24 # (~b20 & b21);
  end loop;

  return array[
    a0, a1, a2, a3, a4,
    a5, a6, a7, a8, a9,
    a10, a11, a12, a13, a14,
    a15, a16, a17, a18, a19,
    a20, a21, a22, a23, a24
  ];
end
$$;

alter function ledger_internal.permute_lanes owner to ledger_owner;
comment on function ledger_internal.permute_lanes is
  'The 25 lanes of 64 bits that Keccak-f[1600] makes of 25; null for null. For keccak_256.';
revoke execute on function ledger_internal.permute_lanes from public;
