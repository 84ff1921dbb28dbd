"""Decide whether a root is clean: by its snapshot, by what was paid, and by the snapshot of the root before it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from api.proofs.verify_proof import InvalidProof, Leaf, require
from api.proofs.verify_snapshot import walk

Paid = set[tuple[int, int]]  # the participant and the exit's entry of each exit that was paid


class Unclean(Exception):
    """Why a root must be vetoed, however often its snapshot is fetched again."""


class Unreadable(Exception):
    """Why the mirrored snapshot of the root before cannot be compared."""


@dataclass(frozen=True)
class Mirrored:
    """A snapshot in a file, and the header that it must have."""

    file: Path
    header: str


def judge(snapshot: Mirrored, domain: str, paid: Paid) -> int:
    """Check all leaves of a root, and return their number. Raises InvalidProof, Unclean and OSError.

    InvalidProof: the file is not the snapshot of that root; another copy may be. Unclean: it is, as a whole.
    """
    twice: Leaf | None = None
    with snapshot.file.open(encoding="utf-8") as text:
        checkpoint, leaves = walk(text, snapshot.header)
        require(f"0x{checkpoint.domain.hex()}" == domain, "the snapshot has another domain")
        for leaf in leaves:
            if leaf.exit_entry and (leaf.participant, leaf.exit_entry) in paid:
                twice = twice or leaf
    if twice is not None:
        raise Unclean(f"the exit of participant {twice.participant} in entry {twice.exit_entry} was paid before")
    return checkpoint.leaf_count


def compare(snapshot: Mirrored, previous: Mirrored, paid: Paid) -> None:
    """Check what no honest operator changes from one root to the next. Raises Unclean, Unreadable and OSError.

    An address is bound to a participant once, and an exit that was not paid stays as it is. The balances of those who
    are present may change, and only they know whether they should. The snapshot was judged before.
    """
    finding: str | None = None
    with snapshot.file.open(encoding="utf-8") as text, previous.file.open(encoding="utf-8") as older:
        try:
            # To the last leaf, since only then the snapshot of before is known to be that.
            for before, after in merged(walk(older, previous.header)[1], walk(text, snapshot.header)[1]):
                finding = finding or changed(before, after, paid)
        except (InvalidProof, UnicodeDecodeError) as error:
            raise Unreadable(f"{previous.file}: {error}") from None
    if finding is not None:
        raise Unclean(finding)


def merged(older: Iterator[Leaf], newer: Iterator[Leaf]) -> Iterator[tuple[Leaf, Leaf | None]]:
    """Each leaf of before with the one of the same participant."""
    after = next(newer, None)
    for before in older:
        while after is not None and after.participant < before.participant:
            after = next(newer, None)
        yield before, after if after is not None and after.participant == before.participant else None


def changed(before: Leaf, after: Leaf | None, paid: Paid) -> str | None:
    """Return what must not have happened to a leaf, if anything has."""
    if after is not None and any(before.owner) and after.owner != before.owner:
        return f"participant {before.participant} has another address than before"
    # An exit with nothing needs no payment, and one that was paid must be gone, which judge() looks at.
    if not before.exit_entry or not before.node.sum or (before.participant, before.exit_entry) in paid:
        return None
    exit_of = f"the exit of participant {before.participant} in entry {before.exit_entry}"
    if after is None:
        return f"{exit_of} is gone, and was not paid"
    if (after.exit_entry, after.node.sum) != (before.exit_entry, before.node.sum):
        return f"{exit_of} was changed, and was not paid"
    return None
