"""ledger_internal.keccak_256: known hashes, and every length of message against an implementation in Python."""

import random

import pytest

from tests.support import one, refused

# Of the Keccak team's submission, and the selectors and hashes that every Ethereum library has.
KNOWN = {
    b"": "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470",
    b"abc": "4e03657aea45a94fc7d47ba826c8d667c0d1e6e33a64a036ec44f58fa12d6c45",
    b"testing": "5f16f4c7f149ac4f9510d9cf8cf384038ad348b3bcdc01915f95de12df9d1b02",
    b"The quick brown fox jumps over the lazy dog": "4d741b6f1eb29cb2a9b9911c82f56fa8d73b04959d3d9d222895df6c0b28aa15",
    b"transfer(address,uint256)": "a9059cbb2ab09eb219583f4a59a5d0623ade346d962bcd4e46b11da047c9049b",
}
BLOCK = 136  # bytes
WORD = 2**64


def turned(lane: int, by: int) -> int:
    return (lane << by | lane >> (64 - by)) % WORD


def permuted(lanes: list[int]) -> list[int]:
    """Keccak-f[1600], as its specification's pseudo-code has it; lane x + 5 y."""
    shift = 1
    for _ in range(24):
        columns = [lanes[x] ^ lanes[x + 5] ^ lanes[x + 10] ^ lanes[x + 15] ^ lanes[x + 20] for x in range(5)]
        lanes = [lane ^ columns[(i + 4) % 5] ^ turned(columns[(i + 1) % 5], 1) for i, lane in enumerate(lanes)]
        x, y, moved = 1, 0, lanes[1]
        for step in range(24):
            x, y = y, (2 * x + 3 * y) % 5
            moved, lanes[x + 5 * y] = lanes[x + 5 * y], turned(moved, (step + 1) * (step + 2) // 2 % 64)
        lanes = [
            lane ^ (~lanes[i - i % 5 + (i + 1) % 5] % WORD & lanes[i - i % 5 + (i + 2) % 5])
            for i, lane in enumerate(lanes)
        ]
        for place in range(7):
            lanes[0] ^= (shift & 1) << (2**place - 1)
            shift = shift << 1 ^ (0x171 if shift & 0x80 else 0)
    return lanes


def keccak_256(message: bytes) -> bytes:
    """The hash of a message of one block."""
    block = bytearray(message.ljust(BLOCK, b"\0"))
    block[len(message)] ^= 0x01
    block[-1] ^= 0x80
    lanes = [int.from_bytes(block[i : i + 8], "little") for i in range(0, BLOCK, 8)]
    return b"".join(lane.to_bytes(8, "little") for lane in permuted(lanes + [0] * 8)[:4])


def hashed(inside, message: bytes) -> bytes:
    return one(inside, "select ledger_internal.keccak_256(%s)", [message])[0]


@pytest.mark.parametrize("message", KNOWN)
def test_hashes_what_is_known(inside, message):
    assert hashed(inside, message).hex() == keccak_256(message).hex() == KNOWN[message]


def test_hashes_a_message_of_every_length(inside):
    messages = random.Random(55)
    for length in range(BLOCK):
        message = messages.randbytes(length)
        assert hashed(inside, message) == keccak_256(message), message.hex()
    assert hashed(inside, b"\xff" * 135) == keccak_256(b"\xff" * 135)


def test_refuses_a_message_of_two_blocks(inside):
    refused(inside, "54000", "select ledger_internal.keccak_256(%s)", [b"a" * BLOCK])
