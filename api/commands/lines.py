"""The file of `ledger transfers`: a JSON list of transfers, as a request of the service has it."""

import argparse
import json
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

from api.commands.arguments import amount, read_object
from api.commands.statuses import Unusable
from ledger_client import TransferLine

REQUIRED = {"from", "to", "amount"}


def read_lines(path: str, id_of: Callable[[str], int]) -> list[TransferLine]:
    """Read the transfers of a file, or of the standard input for "-". Raises Unusable.

    `id_of` returns the id of a participant's username.
    """
    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")
        given = json.loads(text, object_pairs_hook=read_object)
    except OSError as error:
        raise Unusable(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise Unusable(f"{path} is not JSON: {error}") from None
    if not isinstance(given, list):
        raise Unusable(f"{path} is not a list of transfers")
    id_of = cache(id_of)
    return [read_line(line, f"transfers[{number}] of {path}", id_of) for number, line in enumerate(given)]


def read_line(line: object, place: str, id_of: Callable[[str], int]) -> TransferLine:
    if not isinstance(line, dict) or not REQUIRED <= set(line) <= {*REQUIRED, "metadata"}:
        raise Unusable(f"{place} needs from, to and amount, and may have metadata")
    sides, metadata = (line["from"], line["to"]), line.get("metadata")
    if any(type(side) not in (int, str) for side in sides) or not isinstance(metadata, dict | None):
        raise Unusable(f"{place}: from and to are ids or usernames, and metadata is an object")
    try:
        moved = amount(str(line["amount"]))
    except argparse.ArgumentTypeError as error:
        raise Unusable(f"{place}: {error}") from None
    sender, recipient = (id_of(side) if isinstance(side, str) else side for side in sides)
    return TransferLine(sender, recipient, moved, metadata)
