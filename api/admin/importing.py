"""Import participants and transfers from a file into a group of a running service, over HTTP.

Lines are sent in lists of up to 10,000. Each list has an idempotency key that follows from the group, the numbers of
its lines and their values: the same file again changes nothing, and an import that was interrupted goes on.
"""

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from api.admin.files import MAX_ERRORS, Line, UnreadableFileError, read, written
from api.admin.progress import beside, progress
from ledger_client import Client, JoinLine, Joins, LedgerError, ListSummary, Problem, TransferLine

MAX_LINES = 10_000  # of a list
MAX_BYTES = 4 << 20  # of a list
MAX_MARKS = 400_000  # of a list: what begins or separates its values
TIMEOUT = 120.0  # seconds for a list
RETRIES = 20  # of a request while the service cannot answer: about a minute

REFUSED, UNAVAILABLE = 1, 3  # exit statuses


def run(path: Path, group: int, file_format: str | None, decimals: int, url: str, key: str | None) -> int:
    """Import a file; return the exit status."""
    try:
        contents = read(path, file_format, decimals)
    except OSError as error:
        return fail(f"cannot read {path}: {error.strerror}")
    except UnreadableFileError as error:
        return fail(str(error))
    if contents.error_count:
        report(contents.errors)
        more = contents.error_count - len(contents.errors)
        return fail(
            f"{path}: {counted(contents.error_count, 'error')}{f', {more} not shown' if more else ''}; nothing was sent"
        )
    try:
        with Client(url, key, timeout=TIMEOUT, retries=RETRIES) as client:
            names = {line.values[side] for line in contents.transfers for side in ("from", "to")}
            known = {one.username: one.id for one in client.list_participants(group)} if names else {}
            joining = {line.values["username"] for line in contents.participants}
            unknown = [
                (line.number, f"{side}: no participant has this username")
                for line in contents.transfers
                for side in ("from", "to")
                if line.values[side] not in known and line.values[side] not in joining
            ]
            if unknown:
                report(unknown[:MAX_ERRORS])
                return fail(f"{path}: {counted(len(unknown), 'error')}; nothing was sent")
            return send(client, group, contents.participants, contents.transfers, known)
    except ValueError as error:
        return fail(str(error))
    except LedgerError as error:
        if is_refusal(error):
            return fail(f"the service refused: {error}")
        return fail(f"{error}. The same command again goes on from here", UNAVAILABLE)


def is_refusal(error: LedgerError) -> bool:
    """Whether the service decided, and would decide the same again."""
    return getattr(error, "status", 500) < 500


def send(client: Client, group: int, joins: list[Line], transfers: list[Line], known: dict[str, int]) -> int:
    replayed = 0
    with progress("lines", len(joins) + len(transfers)) as shown:
        for kind, lines in (("joins", joins), ("transfers", transfers)):
            for chunk in chunks(lines):
                try:
                    made = post(client, group, kind, chunk, known)
                except LedgerError as error:
                    if not is_refusal(error):
                        raise
                    numbers = f"lines {chunk[0].number} to {chunk[-1].number}"
                    with beside():
                        if isinstance(error, Problem):
                            report(refused_lines(error, chunk))
                        return fail(f"the service refused {numbers}: {error}; all lines before them are in the ledger")
                replayed += len(chunk) * made.receipt.replayed
                if isinstance(made, Joins):
                    known |= {
                        line.values["username"]: one.id for line, one in zip(chunk, made.participants, strict=True)
                    }
                shown.advance(len(chunk))
    total = len(joins) + len(transfers)
    print(
        f"{counted(len(joins), 'participant')} and {counted(len(transfers), 'transfer')} are in group {group}: "
        f"{total - replayed} new, {replayed} from before"
    )
    return 0


def post(client: Client, group: int, kind: str, chunk: list[Line], known: dict[str, int]) -> Joins | ListSummary:
    """Send a list; of joins the answer has the ids that transfers need. Raises LedgerError."""
    key = idempotency_key(group, kind, chunk)
    # As they are written: decimals of the file are floats then.
    rows = [json.loads(written(line.values)) for line in chunk]
    if kind == "joins":
        joins = [JoinLine(row["username"], int(row["amount"]), row.get("address"), row.get("metadata")) for row in rows]
        return client.join_all(group, joins, idempotency_key=key)
    transfers = [
        TransferLine(known[row["from"]], known[row["to"]], int(row["amount"]), row.get("metadata")) for row in rows
    ]
    return client.transfer_all_minimal(group, transfers, idempotency_key=key)


def chunks(lines: list[Line]) -> Iterator[list[Line]]:
    """Divide lines into lists that the service takes, the same lines always in the same way."""
    chunk: list[Line] = []
    size = marks = 0
    for line in lines:
        text = written(line.values)
        its_marks = sum(map(text.count, ",:[{\\"))
        if chunk and (
            len(chunk) == MAX_LINES or size + len(text.encode()) > MAX_BYTES or marks + its_marks > MAX_MARKS
        ):
            yield chunk
            chunk, size, marks = [], 0, 0
        chunk.append(line)
        size += len(text.encode())
        marks += its_marks
    if chunk:
        yield chunk


def idempotency_key(group: int, kind: str, chunk: list[Line]) -> str:
    hashed = hashlib.sha256(f"{group} {kind}\n".encode())
    for line in chunk:
        hashed.update(f"{line.number} {written(line.values)}\n".encode())
    return f"import-{hashed.hexdigest()}"


def refused_lines(error: Problem, chunk: list[Line]) -> list[tuple[int, str]]:
    """The lines of the file that a refusal blames, by fields such as transfers[0].amount."""
    found = []
    for name, reasons in error.fields.items():
        place, bracket, rest = name.partition("[")[2].partition("]")
        if bracket and place.isdigit() and int(place) < len(chunk):
            field = f"{rest.removeprefix('.')}: " if rest else ""
            found += [(chunk[int(place)].number, f"{field}{reason}") for reason in reasons]
    return found


def counted(number: int, one: str) -> str:
    return f"{number} {one if number == 1 else f'{one}s'}"


def report(errors: list[tuple[int, str]]) -> None:
    for number, reason in errors:
        print(f"line {number}: {reason}", file=sys.stderr)


def fail(reason: str, status: int = REFUSED) -> int:
    print(f"ledger: {reason}", file=sys.stderr)
    return status
