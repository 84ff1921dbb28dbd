"""What the commands print: aligned tables for people, a line of JSON for each object for programs."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

from tabulate import tabulate

ROWS = 1_000  # of a table; then the next one begins, so that a list of any length is printed as it arrives

Row = Mapping[str, object]


def harmless(text: str) -> str:
    """Escape what a terminal would obey or not show: control characters, bidirectional ones, zero-width ones."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )


def put(text: str, end: str = "\n") -> None:
    """Print text at once, as a reader of a pipe waits for it; the locale may lack some of its letters."""
    encoding = sys.stdout.encoding
    print(text.encode(encoding, "backslashreplace").decode(encoding), end=end, flush=True)


def print_line(text: str) -> None:
    put(harmless(text))


def print_json(members: Row) -> None:
    """Print a line of JSON in ASCII: no terminal obeys it, and no locale changes it."""
    put(json.dumps(members, separators=(",", ":")))


def note(text: str) -> None:
    """Print a line to the standard error."""
    print(f"ledger: {harmless(text)}", file=sys.stderr, flush=True)


def print_rows(columns: Sequence[str], rows: Iterable[Row], as_json: bool) -> None:
    """Print rows: as tables of some of their members, or each as a line of JSON with all of them."""
    if as_json:
        for row in rows:
            print_json(row)
        return
    left = iter(rows)
    while chunk := list(islice(left, ROWS)):
        print_table(columns, [[row[column] for column in columns] for row in chunk])


def print_object(members: Row, as_json: bool) -> None:
    """Print the members of one object, a line for each, or one line of JSON."""
    if as_json:
        print_json(members)
        return
    put(plain([[name, shown(value)] for name, value in members.items()], (), ["left", "left"]))


def print_table(columns: Sequence[str], cells: Sequence[Sequence[object]]) -> None:
    """Print a table under the names of its columns; numbers are aligned to the right."""
    right = [any(isinstance(row[place], int) for row in cells) for place in range(len(columns))]
    sides = ["right" if numbers else "left" for numbers in right]
    print(
        plain([[shown(cell) for cell in row] for row in cells], [name.upper() for name in columns], sides), flush=True
    )


def plain(cells: Sequence[Sequence[str]], headers: Sequence[str], sides: Sequence[str]) -> str:
    """Return aligned columns. Every cell stays as it is: tabulate would make floats of amounts, and strip names."""
    return tabulate(cells, headers, tablefmt="plain", colalign=sides, disable_numparse=True, preserve_whitespace=True)


def shown(value: object) -> str:
    """Return a value as people read it."""
    if value is None:
        return ""
    if isinstance(value, dict | list):
        return harmless(json.dumps(value, ensure_ascii=False))
    return harmless(str(value))
