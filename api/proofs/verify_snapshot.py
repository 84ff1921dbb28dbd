"""Check all leaves of a checkpoint, with Python's standard library alone: the folder of this file can be copied away.

    python -m proofs.verify_snapshot FILE --header HEX

FILE is what `ledger snapshot` prints: {"checkpoint":{…},"leaves":[{…},…]}. HEX is the header that was published, in a
place that the operator of the ledger cannot change afterwards. Without it the snapshot is only shown to be consistent.

verify_proof.py describes the tree. A proof shows one leaf. Only who has all of them sees that no participant has two,
and that nothing but these leaves is in the total. It takes as much memory for a million leaves as for one. The exit
status is 0 for a valid snapshot, and 1 for any other.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterator
from typing import TextIO

from .verify_proof import (
    Checkpoint,
    InvalidProof,
    Leaf,
    Node,
    add_arguments,
    members,
    parent,
    read_checkpoint,
    read_leaf,
    require,
)

PIECE = 1 << 16  # characters of the file that are read at a time
LONGEST = 1 << 12  # characters that the checkpoint, or a leaf, has at most with the spaces around it

START = re.compile(r'\s*\{\s*"checkpoint"\s*:\s*')
LEAVES = re.compile(r'\s*,\s*"leaves"\s*:\s*\[\s*(\]?)')
BETWEEN = re.compile(r"\s*([,\]])\s*")
END = re.compile(r"\s*\}\s*")


def verify(file: TextIO, header: str | None = None, root: str | None = None) -> str:
    """Return, in words, what the snapshot in a file shows. Raises InvalidProof."""
    checkpoint, leaves = walk(file, header, root)
    exits = sum(leaf.exit_entry > 0 for leaf in leaves)
    place = f"checkpoint {checkpoint.number} of group {checkpoint.group}"
    total = f"{checkpoint.leaf_count} leaves of {checkpoint.total} in all"
    return f"{place} has {total}, {exits} of them exits that are not settled"


def walk(file: TextIO, header: str | None = None, root: str | None = None) -> tuple[Checkpoint, Iterator[Leaf]]:
    """Return the checkpoint of a snapshot and its leaves, which are valid once the last one was taken.

    Raises InvalidProof, also while leaves are taken.
    """
    values = decode(file)
    checkpoint = read_checkpoint(next(values), header, root)
    return checkpoint, walk_leaves(values, checkpoint)


def walk_leaves(values: Iterator[object], checkpoint: Checkpoint) -> Iterator[Leaf]:
    tree = Tree()
    before = 0
    for value in values:
        leaf = read_leaf(value, checkpoint)
        require(leaf.index == tree.leaves, f"leaf {leaf.index} is in the place of leaf {tree.leaves}")
        require(leaf.participant != before, f"participant {leaf.participant} has two leaves")
        require(leaf.participant > before, f"participant {leaf.participant} comes after participant {before}")
        before = leaf.participant
        tree.add(leaf.node)
        yield leaf
    root_node = tree.root()
    require(tree.leaves == checkpoint.leaf_count, f"there are {tree.leaves} leaves of {checkpoint.leaf_count}")
    require(root_node.sum == checkpoint.total, f"the leaves add up to {root_node.sum} of {checkpoint.total}")
    require(root_node.hash == checkpoint.root, "the leaves have another root")


class Tree:
    """The tree above leaves that come one after another: the roots of the full subtrees so far, the largest first."""

    def __init__(self) -> None:
        self.leaves = 0
        self.subtrees: list[Node] = []

    def add(self, node: Node) -> None:
        self.leaves += 1
        self.subtrees.append(node)
        pairs = self.leaves
        while pairs % 2 == 0:
            right, left = self.subtrees.pop(), self.subtrees.pop()
            self.subtrees.append(parent(left, right))
            pairs //= 2

    def root(self) -> Node:
        """The last node of an odd number moves up, so that the smallest subtrees are joined first."""
        if not self.subtrees:
            return Node(0, bytes(32))
        node, *larger = reversed(self.subtrees)
        for left in larger:
            node = parent(left, node)
        return node


def decode(file: TextIO) -> Iterator[object]:
    """Decode the checkpoint of a snapshot, then each leaf, from a piece of the file at a time. Raises InvalidProof."""
    decoder = json.JSONDecoder(object_pairs_hook=members)
    text = file.read(PIECE)
    at = skip(START, text, 0, "it does not begin with a checkpoint").end()
    value, at = decode_at(decoder, text, at)
    yield value
    step = skip(LEAVES, text, at, "no leaves follow the checkpoint")
    while step[1] != "]":
        at = step.end()
        if len(text) - at < LONGEST:
            text, at = text[at:] + file.read(PIECE), 0
        value, at = decode_at(decoder, text, at)
        yield value
        step = skip(BETWEEN, text, at, "the list of leaves is broken off")
    rest = text[step.end() :] + file.read(LONGEST)
    require(END.fullmatch(rest) is not None and not file.read(1), "something else follows the leaves")


def decode_at(decoder: json.JSONDecoder, text: str, at: int) -> tuple[object, int]:
    try:
        return decoder.raw_decode(text, at)
    except (ValueError, RecursionError) as error:
        raise InvalidProof(f"it is not JSON: {error}") from None


def skip(pattern: re.Pattern[str], text: str, at: int, otherwise: str) -> re.Match[str]:
    found = pattern.match(text, at)
    if found is None:
        raise InvalidProof(otherwise)
    return found


def run(file: str, header: str | None, root: str | None) -> int:
    """Print what the snapshot in a file shows, and return the exit status."""
    try:
        with sys.stdin if file == "-" else open(file, encoding="utf-8") as text:
            shows = verify(text, header, root)
    except (OSError, ValueError) as error:
        print(f"not proved: {error}", file=sys.stderr)
        return 1
    print(shows)
    if header is None and root is None:
        print("Nothing published was compared: give --header, or --root.", file=sys.stderr)
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Check all leaves of a checkpoint of a ledger.")
    add_arguments(parser, "the snapshot")
    sys.exit(run(**vars(parser.parse_args())))
