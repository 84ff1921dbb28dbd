"""Turn proofs and snapshots in files into the arguments of the vault's functions, after checking them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from api.proofs import verify_proof
from api.proofs.verify_proof import Checkpoint, InvalidProof, Leaf, Node, listed, member, octets, parent, whole
from api.proofs.verify_snapshot import decode, walk

SNAPSHOT = '"leaves"'  # what a snapshot has, and a proof has not
BEGINNING = 1 << 13  # characters of a file in which that is


@dataclass(frozen=True)
class Claim:
    """A leaf and its siblings on the way to the root."""

    leaf: Leaf
    siblings: tuple[Node, ...]

    def arguments(self) -> tuple[tuple[Any, ...], list[tuple[int, bytes]]]:
        """The vault's Leaf and Nodes."""
        leaf = self.leaf
        ids = (leaf.index, leaf.participant, leaf.exit_entry)
        return (*ids, leaf.owner, leaf.node.sum), [(node.sum, node.hash) for node in self.siblings]


@dataclass(frozen=True)
class Claims:
    """Leaves of one checkpoint. `header` is the vault's Header."""

    checkpoint: Checkpoint
    header: tuple[Any, ...]
    claims: Sequence[Claim]


def read(file: Path) -> Claims:
    """Read a proof, or the leaves of all in a snapshot. Raises OSError and InvalidProof."""
    try:
        with file.open(encoding="utf-8") as text:
            is_snapshot = SNAPSHOT in text.read(BEGINNING)
        return read_snapshot(file) if is_snapshot else read_proof(file)
    except UnicodeDecodeError:
        raise InvalidProof("it is not text") from None


def read_proof(file: Path) -> Claims:
    proof = verify_proof.read(file.read_text("utf-8"))
    verify_proof.verify(proof)
    shown = member(proof, "checkpoint")
    checkpoint = verify_proof.read_checkpoint(shown, None, None)
    leaf = verify_proof.read_leaf(member(proof, "leaf"), checkpoint)
    siblings = [Node(whole(each, "sum", 256), octets(each, "hash", 32)) for each in listed(member(proof, "siblings"))]
    return Claims(checkpoint, header_of(shown), [Claim(leaf, tuple(siblings))])


def read_snapshot(file: Path) -> Claims:
    with file.open(encoding="utf-8") as text:
        shown = next(decode(text))
    with file.open(encoding="utf-8") as text:
        checkpoint, walked = walk(text)
        leaves = list(walked)
    levels = [[leaf.node for leaf in leaves]]
    while len(levels[-1]) > 1:
        below = levels[-1]
        pairs = zip(below[::2], below[1::2], strict=False)
        levels.append([parent(left, right) for left, right in pairs] + below[len(below) & ~1 :])
    return Claims(checkpoint, header_of(shown), [Claim(leaf, path(levels, leaf.index)) for leaf in leaves])


def path(levels: Sequence[Sequence[Node]], place: int) -> tuple[Node, ...]:
    found = []
    for level in levels[:-1]:
        if place ^ 1 < len(level):  # otherwise it is the last of an odd number
            found.append(level[place ^ 1])
        place //= 2
    return tuple(found)


def header_of(checkpoint: object) -> tuple[Any, ...]:
    """A checkpoint as the vault's Header."""

    def number(name: str) -> int:
        return whole(checkpoint, name, 256)

    return (
        *(number("group_id"), number("number"), octets(checkpoint, "previous", 32)),
        *(number("deposits"), number("credited"), number("settled"), number("leaf_count"), number("total")),
        octets(checkpoint, "root", 32),
    )
