"""Check a proof of what a participant holds, with Python's standard library alone: this file can be copied away.

    python verify_proof.py FILE --header HEX
    python verify_proof.py FILE --rpc URL --vault ADDRESS --owner OWNER

FILE is the answer of GET /api/groups/G/checkpoints/N/proofs/P. HEX is the header that was published, in a place that
the operator of the ledger cannot change afterwards. Without it the proof is only shown to be consistent.

With --rpc the place is the group's vault: a node of the chain is asked, as of its last finalized block, whether the
checkpoint is the last ripe root, which is the one that an emergency pays. The node is believed. ADDRESS is the vault
that the participant paid into; without it the one that the proof names is believed as well. A vault pays the owner that
the leaf names: OWNER is the participant's address, and a proof with another one is refused.

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
import urllib.error
import urllib.request
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from http.client import HTTPException
from pathlib import Path

Json = dict[str, object]

# How a call of the vault begins: 4 bytes of the Keccak-256 of its signature, which the standard library does not have.
SELECTORS = {
    "domain(uint64)": "0x58f7ca61",
    "latest(uint64)": "0xb0d665f7",
    "ripe(uint64)": "0xd7ca4030",
    "emergency(uint64)": "0x5e30ea9c",
    "spent(uint64,uint64,uint64)": "0x20440bbd",
}
TIMEOUT = 30  # seconds for each answer of a node
LONGEST_ANSWER = 1 << 20  # bytes


class InvalidProof(ValueError):
    """Why a proof, or a snapshot, shows nothing."""


def verify(proof: object, header: str | None = None, root: str | None = None, owner: str | None = None) -> str:
    """Return, in words, what a decoded proof shows. Raises InvalidProof."""
    checkpoint = read_checkpoint(member(proof, "checkpoint"), header, root)
    leaf = read_leaf(member(proof, "leaf"), checkpoint)
    require(leaf.index < checkpoint.leaf_count, "the leaf is beyond the last one")
    shown = str(member(member(proof, "leaf"), "owner"))
    require(owner is None or parse_hex(owner, 20) == leaf.owner, f"the leaf is of another owner: {shown}")

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
    if any(checkpoint.vault) and any(leaf.owner):
        held += f", payable to {shown}"
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

    chain: int
    vault: bytes
    group: int
    number: int
    domain: bytes
    leaf_count: int
    total: int
    root: bytes
    header: bytes


@dataclass(frozen=True)
class Leaf:
    """A leaf: what a participant holds, or what an exit that is not settled left with."""

    index: int
    participant: int
    exit_entry: int  # 0 while present
    owner: bytes
    node: Node


def read_checkpoint(value: object, header: str | None, root: str | None) -> Checkpoint:
    """Check a decoded checkpoint against its header, and against what was published. Raises InvalidProof."""
    # The ledger's ids and counts are below 2^63.
    group, number = whole(value, "group_id", 63), whole(value, "number", 63)
    deposits, leaf_count = whole(value, "deposits", 63), whole(value, "leaf_count", 63)
    credited, settled, total = (whole(value, name, 256) for name in ("credited", "settled", "total"))
    tree_root, shown = octets(value, "root", 32), octets(value, "header", 32)

    chain, vault = whole(value, "chain_id", 256), octets(value, "vault", 20)
    domain = digest(b"\x03ledger/vault/1", word(chain), vault, int64(group))
    first_half = (domain, int64(number), octets(value, "previous", 32), int64(deposits))
    second_half = (word(credited), word(settled), int64(leaf_count), word(total), tree_root)
    require(digest(b"\x02", *first_half, *second_half) == shown, "the checkpoint does not hash to its header")
    require(header is None or parse_hex(header, 32) == shown, "the checkpoint is not the one with that header")
    require(root is None or parse_hex(root, 32) == tree_root, "the checkpoint is not the one with that root")
    require(total == credited - settled, "the checkpoint's total is not what was credited less what was settled")
    require(min(group, number) > 0, "an id is 0")
    return Checkpoint(chain, vault, group, number, domain, leaf_count, total, tree_root, shown)


def verify_on_chain(proof: object, rpc: str, vault: str | None = None) -> str:
    """Return, in words, what the vault knows of a decoded proof, at the last finalized block. Raises InvalidProof."""
    checkpoint = read_checkpoint(member(proof, "checkpoint"), None, None)
    leaf = read_leaf(member(proof, "leaf"), checkpoint)
    require(any(checkpoint.vault), "the group has no vault")
    require(vault is None or parse_hex(vault, 20) == checkpoint.vault, "the proof is of another vault")
    chain = quantity(ask(rpc, "eth_chainId"))
    require(chain == checkpoint.chain, f"the node is of chain {chain}, the proof of chain {checkpoint.chain}")
    block = ask(rpc, "eth_getBlockByNumber", "finalized", False)
    number, seconds = quantity(member(block, "number")), quantity(member(block, "timestamp"))
    require(seconds < 1 << 33, "the node's answer is not a time")

    def view(signature: str, *arguments: int) -> bytes:
        data = SELECTORS[signature] + b"".join(map(word, arguments)).hex()
        answer = ask(rpc, "eth_call", {"to": f"0x{checkpoint.vault.hex()}", "data": data}, hex(number))
        require(isinstance(answer, str) and len(answer) >= 66, "the vault that the proof names does not answer")
        return bytes.fromhex(str(answer)[2:])

    require(view("domain(uint64)", checkpoint.group) == checkpoint.domain, "the vault has another domain")
    # A root begins with its number and its header.
    ripe, latest = view("ripe(uint64)", checkpoint.group), view("latest(uint64)", checkpoint.group)
    if ripe[32:64] != checkpoint.header:
        last = f"the last ripe one is {int.from_bytes(ripe[:32], 'big')}"
        require(latest[32:64] != checkpoint.header, f"checkpoint {checkpoint.number} is not ripe yet: {last}")
        why = "is older" if checkpoint.number <= int.from_bytes(ripe[:32], "big") else "was vetoed, or not published"
        raise InvalidProof(f"checkpoint {checkpoint.number} {why}, or has another header: {last}")
    frozen = any(view("emergency(uint64)", checkpoint.group))
    paid = any(view("spent(uint64,uint64,uint64)", checkpoint.group, checkpoint.number, leaf.index))

    at = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    lines = (
        f"vault 0x{checkpoint.vault.hex()} on chain {chain}, at finalized block {number} of {at}:",
        f"checkpoint {checkpoint.number} is the last ripe one",
        "there is an emergency: every leaf of it is paid" if frozen else "there is no emergency",
        "this leaf was paid" if paid else "this leaf was not paid",
    )
    return "\n".join(lines)


def ask(rpc: str, method: str, *parameters: object) -> object:
    """The result of a call of a node of the chain. Raises InvalidProof."""
    require(rpc.startswith(("http://", "https://")), "the address of a node begins with http:// or https://")
    call = {"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}
    headers = {"Content-Type": "application/json"}
    try:
        request = urllib.request.Request(rpc, json.dumps(call).encode(), headers)  # noqa: S310
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:  # noqa: S310
            decoded = json.loads(answer.read(LONGEST_ANSWER))
    except urllib.error.HTTPError as error:
        raise InvalidProof(f"the node answers with status {error.code}") from None
    except (OSError, HTTPException, ValueError, RecursionError) as error:
        raise InvalidProof(f"the node does not answer: {error}") from None
    if not isinstance(decoded, dict) or decoded.get("result") is None:
        raise InvalidProof(f"the node has no answer to {method}: {json.dumps(decoded)[:200]}")
    return decoded["result"]


def quantity(value: object) -> int:
    if not isinstance(value, str) or not re.fullmatch("0x[0-9a-fA-F]{1,64}", value):
        raise InvalidProof("the node's answer is not a number")
    return int(value, 16)


def read_leaf(value: object, checkpoint: Checkpoint) -> Leaf:
    """Return a decoded leaf with its node in the checkpoint's tree. Raises InvalidProof."""
    index, participant = whole(value, "index", 63), whole(value, "participant_id", 63)
    exit_entry = 0 if member(value, "exit_entry") is None else whole(value, "exit_entry", 63)
    amount = whole(value, "amount", 256)
    require(participant > 0, "an id is 0")
    owner = octets(value, "owner", 20)
    octets_of_leaf = (checkpoint.domain, int64(participant), int64(exit_entry), owner, word(amount))
    return Leaf(index, participant, exit_entry, owner, Node(amount, digest(b"\x00", *octets_of_leaf)))


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


def hash_text(value: str, length: int = 32) -> str:
    """The type of an argument that is a hash."""
    try:
        parse_hex(value, length)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return value


def address_text(value: str) -> str:
    """The type of an argument that is an address."""
    return hash_text(value, 20)


def add_arguments(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("file", metavar="FILE", help=f"{what} as JSON; - is the standard input")
    parser.add_argument("--header", type=hash_text, metavar="HEX", help="the header of the checkpoint, as published")
    parser.add_argument("--root", type=hash_text, metavar="HEX", help="the root of the checkpoint, as published")


def add_arguments_of_chain(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rpc", metavar="URL", help="a node of the chain, which is asked what the vault knows")
    parser.add_argument("--vault", type=address_text, metavar="ADDRESS", help="the vault that the proof must be of")
    parser.add_argument("--owner", type=address_text, metavar="ADDRESS", help="the owner that the leaf must be of")


def run(
    file: str,
    header: str | None,
    root: str | None,
    rpc: str | None = None,
    vault: str | None = None,
    owner: str | None = None,
) -> int:
    """Print what the proof in a file shows, and return the exit status."""
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text("utf-8")
        proof = read(text)
        shows = verify(proof, header, root, owner)
        require(rpc is not None or vault is None, "--vault goes with --rpc")
        if rpc is not None:
            shows += f"\n{verify_on_chain(proof, rpc, vault)}"
    except (OSError, ValueError) as error:
        print(f"not proved: {error}", file=sys.stderr)
        return 1
    print(shows)
    if header is None and root is None and rpc is None:
        print("Nothing published was compared: give --header, --root or --rpc.", file=sys.stderr)
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Check a proof of what a participant of a ledger holds.")
    add_arguments(parser, "the proof")
    add_arguments_of_chain(parser)
    sys.exit(run(**vars(parser.parse_args())))
