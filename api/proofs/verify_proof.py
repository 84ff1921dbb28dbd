"""Check a proof of what a participant holds, with Python's standard library alone: this file can be copied away.

    python verify_proof.py FILE --header HEX

FILE is the answer of GET /api/groups/G/checkpoints/N/proofs/P. HEX is the header that was published, in a place that
the operator of the ledger cannot change afterwards. Without it the proof is only shown to be consistent.

A checkpoint commits to a leaf for each participant present and for each exit that is not settled, in a tree of sums.
H is SHA-256, integers are unsigned and big-endian, and | puts bytes one after another:

    domain = H(0x03 | "ledger/vault/1" | chain_id 32 | vault 20 | group_id 8)
    leaf   = H(0x00 | domain 32 | participant_id 8 | exit_entry 8 | owner 20 | amount 32)
    node   = H(0x01 | left sum 32 | left hash 32 | right sum 32 | right hash 32)
    header = H(0x02 | domain 32 | number 8 | previous header 32 | deposits 8 | credited 32 | settled 32
                    | leaf_count 8 | total 32 | root 32)

Neighbours are paired, level by level; the last node of an odd number moves up as it is. The exit status is 0 for a
valid proof, and 1 for any other.
"""

import argparse
import json
import re
import sys
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

Json = dict[str, object]


class InvalidProof(ValueError):
    """Why a proof, or a snapshot, shows nothing."""


def verify(proof: object, header: str | None = None, root: str | None = None) -> str:
    """Return, in words, what a decoded proof shows. Raises InvalidProof."""
    checkpoint = read_checkpoint(member(proof, "checkpoint"), header, root)
    leaf = read_leaf(member(proof, "leaf"), checkpoint)
    require(leaf.index < checkpoint.leaf_count, "the leaf is beyond the last one")

    node = leaf.node
    siblings = listed(member(proof, "siblings"))
    rest = [Node(whole(each, "sum", 256), octets(each, "hash", 32)) for each in siblings]
    place, width = leaf.index, checkpoint.leaf_count
    while width > 1:
        if place % 2 or place + 1 < width:  # otherwise it is the last of an odd number
            require(bool(rest), "siblings are missing")
            sibling = rest.pop(0)
            node = parent(sibling, node) if place % 2 else parent(node, sibling)
        place, width = place // 2, (width + 1) // 2
    require(not rest, "there are too many siblings")
    require(node.hash == checkpoint.root, "the path does not lead to the root")
    require(node.sum == checkpoint.total, "the path does not add up to the total")

    amount, exit_entry = leaf.node.sum, leaf.exit_entry
    held = f"holds {amount}" if exit_entry == 0 else f"left with {amount} in entry {exit_entry}, which is not settled"
    place_of_leaf = f"leaf {leaf.index} of {checkpoint.leaf_count} in checkpoint {checkpoint.number}"
    return f"participant {leaf.participant} of group {checkpoint.group} {held}: {place_of_leaf}"


@dataclass(frozen=True)
class Node:
    """A subtree: the sum of its leaves, and its hash."""

    sum: int
    hash: bytes


@dataclass(frozen=True)
class Checkpoint:
    """What a header commits to, as far as leaves are checked against it."""

    group: int
    number: int
    domain: bytes
    leaf_count: int
    total: int
    root: bytes


@dataclass(frozen=True)
class Leaf:
    """A leaf: what a participant holds, or what an exit that is not settled left with."""

    index: int
    participant: int
    exit_entry: int  # 0 while present
    node: Node


def read_checkpoint(value: object, header: str | None, root: str | None) -> Checkpoint:
    """Check a decoded checkpoint against its header, and against what was published. Raises InvalidProof."""
    # The ledger's ids and counts are below 2^63.
    group, number = whole(value, "group_id", 63), whole(value, "number", 63)
    deposits, leaf_count = whole(value, "deposits", 63), whole(value, "leaf_count", 63)
    credited, settled, total = (whole(value, name, 256) for name in ("credited", "settled", "total"))
    tree_root, shown = octets(value, "root", 32), octets(value, "header", 32)

    vault = octets(value, "vault", 20)
    domain = digest(b"\x03ledger/vault/1", word(whole(value, "chain_id", 256)), vault, int64(group))
    first_half = (domain, int64(number), octets(value, "previous", 32), int64(deposits))
    second_half = (word(credited), word(settled), int64(leaf_count), word(total), tree_root)
    require(digest(b"\x02", *first_half, *second_half) == shown, "the checkpoint does not hash to its header")
    require(header is None or parse_hex(header, 32) == shown, "the checkpoint is not the one with that header")
    require(root is None or parse_hex(root, 32) == tree_root, "the checkpoint is not the one with that root")
    require(total == credited - settled, "the checkpoint's total is not what was credited less what was settled")
    require(min(group, number) > 0, "an id is 0")
    return Checkpoint(group, number, domain, leaf_count, total, tree_root)


def read_leaf(value: object, checkpoint: Checkpoint) -> Leaf:
    """Return a decoded leaf with its node in the checkpoint's tree. Raises InvalidProof."""
    index, participant = whole(value, "index", 63), whole(value, "participant_id", 63)
    exit_entry = 0 if member(value, "exit_entry") is None else whole(value, "exit_entry", 63)
    amount = whole(value, "amount", 256)
    require(participant > 0, "an id is 0")
    ids = int64(participant) + int64(exit_entry)
    octets_of_leaf = (checkpoint.domain, ids, octets(value, "owner", 20), word(amount))
    return Leaf(index, participant, exit_entry, Node(amount, digest(b"\x00", *octets_of_leaf)))


def parent(left: Node, right: Node) -> Node:
    require(left.sum + right.sum < 1 << 256, "a sum is 2^256 or more")
    return Node(left.sum + right.sum, digest(b"\x01", word(left.sum), left.hash, word(right.sum), right.hash))


def digest(*parts: bytes) -> bytes:
    return sha256(b"".join(parts)).digest()


def word(number: int) -> bytes:
    return number.to_bytes(32, "big")


def int64(number: int) -> bytes:
    return number.to_bytes(8, "big")


def require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise InvalidProof(otherwise)


def member(value: object, name: str) -> object:
    if not isinstance(value, dict) or name not in value:
        raise InvalidProof(f"{name} is missing")
    return value[name]


def listed(value: object) -> list[object]:
    if not isinstance(value, list):
        raise InvalidProof("siblings must be a list")
    return value


def whole(value: object, name: str, bits: int) -> int:
    """A member that is a whole number below 2^bits, or its digits."""
    number = member(value, name)
    if isinstance(number, str) and re.fullmatch("[0-9]{1,78}", number):
        number = int(number)
    if type(number) is not int or not 0 <= number < 1 << bits:
        raise InvalidProof(f"{name} must be a whole number from 0 to below 2^{bits}")
    return number


def octets(value: object, name: str, length: int) -> bytes:
    try:
        return parse_hex(member(value, name), length)
    except ValueError as error:
        raise InvalidProof(f"{name} {error}") from None


def parse_hex(value: object, length: int) -> bytes:
    if not isinstance(value, str) or not re.fullmatch(f"0x[0-9a-fA-F]{{{2 * length}}}", value):
        raise ValueError(f"must be 0x and {2 * length} hex digits")
    return bytes.fromhex(value[2:])


def read(text: str) -> object:
    """Decode a proof, also one in the `data` of an HTTP answer. Raises InvalidProof."""
    try:
        decoded = json.loads(text, object_pairs_hook=members)
    except (ValueError, RecursionError) as error:
        raise InvalidProof(f"it is not JSON: {error}") from None
    answered = isinstance(decoded, dict) and "data" in decoded and "checkpoint" not in decoded
    return decoded["data"] if answered else decoded


def members(pairs: list[tuple[str, object]]) -> Json:
    """A JSON object, which must have each member once: another reader could take another value."""
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a member is repeated")
    return dict(pairs)


def hash_text(value: str) -> str:
    """The type of an argument that is a hash."""
    try:
        parse_hex(value, 32)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return value


def add_arguments(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("file", metavar="FILE", help=f"{what} as JSON; - is the standard input")
    parser.add_argument("--header", type=hash_text, metavar="HEX", help="the header of the checkpoint, as published")
    parser.add_argument("--root", type=hash_text, metavar="HEX", help="the root of the checkpoint, as published")


def run(file: str, header: str | None, root: str | None) -> int:
    """Print what the proof in a file shows, and return the exit status."""
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text("utf-8")
        shows = verify(read(text), header, root)
    except (OSError, ValueError) as error:
        print(f"not proved: {error}", file=sys.stderr)
        return 1
    print(shows)
    if header is None and root is None:
        print("Nothing published was compared: give --header, or --root.", file=sys.stderr)
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Check a proof of what a participant of a ledger holds.")
    add_arguments(parser, "the proof")
    sys.exit(run(**vars(parser.parse_args())))
