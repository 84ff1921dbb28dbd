"""Make a participant's proof of a snapshot, with Python's standard library alone, when no ledger is there to be asked.

    python -m proofs.snapshot_proof FILE PARTICIPANT

FILE is a snapshot, as `ledger snapshot` prints it and `ledger guardian` keeps it. The proof is printed as JSON, and is
what the ledger itself would have given. A snapshot that is not valid gives none.
"""

import argparse
import json
import sys
from pathlib import Path

from .verify_proof import Json, read_leaf, require, verify
from .verify_snapshot import Tree, decode, walk


def prove(file: Path, participant: int, group: int | None = None, number: int | None = None) -> Json:
    """Return the proof of a participant's leaf in a snapshot, which must be of the group and have the number.

    Raises InvalidProof and OSError.
    """
    with file.open(encoding="utf-8") as text:
        checkpoint, leaves = walk(text)
        place = f"checkpoint {checkpoint.number} of group {checkpoint.group}"
        require(group in (None, checkpoint.group) and number in (None, checkpoint.number), f"it is {place}")
        own_index = [leaf.index for leaf in leaves if leaf.participant == participant]
    require(bool(own_index), f"participant {participant} has no leaf in {place}")
    ranges = siblings(own_index[0], checkpoint.leaf_count)
    trees = [Tree() for _ in ranges]
    own: object = None
    with file.open(encoding="utf-8") as text:
        values = decode(text)
        shown = next(values)
        for value in values:
            leaf = read_leaf(value, checkpoint)
            if leaf.participant == participant:
                own = value
            for below, tree in zip(ranges, trees, strict=True):
                if leaf.index in below:
                    tree.add(leaf.node)
    nodes = [tree.root() for tree in trees]
    path = [{"sum": str(node.sum), "hash": f"0x{node.hash.hex()}"} for node in nodes]
    proof: Json = {"checkpoint": shown, "leaf": own, "siblings": path}
    verify(proof)
    return proof


def siblings(place: int, width: int) -> list[range]:
    """The leaves below each sibling on the way from a leaf to the root, of so many leaves, the lowest first."""
    found = []
    size = 1
    while size < width:
        first = (place // size ^ 1) * size
        if first < width:  # otherwise the node below is the last of an odd number
            found.append(range(first, min(first + size, width)))
        size *= 2
    return found


def run(file: Path, participant: int) -> int:
    """Print a proof, and return the exit status."""
    try:
        proof = prove(file, participant)
    except (OSError, ValueError) as error:
        print(f"not proved: {error}", file=sys.stderr)
        return 1
    print(json.dumps(proof, separators=(",", ":")))
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Make a participant's proof of a snapshot.")
    parser.add_argument("file", metavar="FILE", type=Path, help="the snapshot as JSON")
    parser.add_argument("participant", metavar="PARTICIPANT", type=int, help="the id of the participant")
    sys.exit(run(**vars(parser.parse_args())))
