"""Places in the feed, and where a reader keeps its own.

A place is the cursor of a page, and the number of entries after it that were processed: "1-742-3+5". The feed's order
never changes, so a reader that starts again skips exactly these. So a place can be stored after each entry, although
the service gives a cursor for each page.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from ledger_client import calls
from ledger_client.answers import Entry, FeedPage
from ledger_client.exchange import Call

# A cursor, and how many entries after it were processed; a reader at the beginning has no cursor.
PLACE = re.compile(r"(?!$)([0-9]+-[0-9]+-[0-9]+)?(?:\+([0-9]+))?", re.ASCII)


class Place(Protocol):
    """Where a reader of the feed keeps its place: a file, a row of a table."""

    def load(self) -> str | None:
        """Return the place that was stored last; None is the beginning."""

    def store(self, place: str) -> None:
        """Store a place, once everything before it has been processed."""


class FilePlace:
    """A place in a file, which is replaced as a whole: a crash leaves the previous place or the new one."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def load(self) -> str | None:
        try:
            return self.path.read_text().strip()
        except FileNotFoundError:
            return None

    def store(self, place: str) -> None:
        handle, name = tempfile.mkstemp(dir=self.path.parent, prefix=f"{self.path.name}.")
        try:
            with os.fdopen(handle, "w") as file:
                file.write(f"{place}\n")
                file.flush()
                os.fsync(handle)
            Path(name).replace(self.path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


class MemoryPlace:
    """A place that ends with the process, from the beginning of the feed or another place on."""

    def __init__(self, place: str | None = None) -> None:
        self.place = place

    def load(self) -> str | None:
        return self.place

    def store(self, place: str) -> None:
        self.place = place


def parse_place(place: str | None) -> tuple[str | None, int]:
    """Return the cursor of a place, and the number of entries to skip. Raises ValueError."""
    if place is None:
        return None, 0
    if not (found := PLACE.fullmatch(place)):
        raise ValueError(f"{place!r} is no place in the feed")
    return found[1], int(found[2] or 0)


class Reader:
    """Reads the feed from a place on, without input and output: which call is next, and what to do with its answer."""

    def __init__(self, place: Place, page_size: int | None, wait: int) -> None:
        self.place = place
        self.page_size = page_size
        self.wait = wait
        self.cursor, self.skipped = parse_place(place.load())

    def next_call(self) -> Call[FeedPage]:
        return calls.read_feed(self.cursor, limit=self.page_size, wait=self.wait)

    def process(self, page: FeedPage) -> Iterator[Entry]:
        """Yield the entries of a page that were not processed before, and store the place after each one."""
        for number, entry in enumerate(page.entries, 1):
            if number > self.skipped:
                yield entry
                last = number == len(page.entries)
                self.place.store(str(page.cursor) if last else f"{self.cursor or ''}+{number}")
        self.skipped = max(0, self.skipped - len(page.entries))
        self.cursor = page.cursor
