"""Import participants and transfers from a file into a group of a running service, over HTTP.

Lines are sent in lists of up to 10,000. Each list has an idempotency key that follows from the group, the numbers of
its lines and their values: the same file again changes nothing, and an import that was interrupted goes on.
"""

import hashlib
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from tqdm import tqdm

from api.admin.files import MAX_ERRORS, Line, UnreadableFileError, read, written

MAX_LINES = 10_000  # of a list
MAX_BYTES = 4 << 20  # of a list
MAX_MARKS = 400_000  # of a list: what begins or separates its values
TIMEOUT = 120.0  # seconds for a list
PATIENCE = 60.0  # seconds in which a request is repeated while the service cannot answer
PROGRESS_SECONDS = 2.0  # between two lines that say how far an import is

REFUSED, UNAVAILABLE = 1, 3  # exit statuses


class ImportRefusedError(Exception):
    """Why the service did not take something: a reason for each field."""

    def __init__(self, reason: str, errors: dict[str, list[str]] | None = None) -> None:
        super().__init__(reason)
        self.errors = errors or {}


class UnavailableError(Exception):
    """Why the service did not answer; the same import again goes on where this one ended."""


def run(path: Path, group: int, file_format: str | None, decimals: int, url: str, key: str | None) -> int:
    """Import a file; return the exit status."""
    try:
        contents = read(path, file_format, decimals)
    except (UnreadableFileError, OSError) as error:
        return fail(f"{error}", REFUSED)
    if contents.error_count:
        report(contents.errors)
        more = contents.error_count - len(contents.errors)
        return fail(f"{path}: {contents.error_count} errors{f', {more} not shown' if more else ''}; nothing was sent")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        with httpx.Client(base_url=url, headers=headers, timeout=TIMEOUT, trust_env=False) as client:
            names = {line.values[side] for line in contents.transfers for side in ("from", "to")}
            known = participants(client, group) if names else {}
            joining = {line.values["username"] for line in contents.participants}
            unknown = [
                (line.number, f"{side}: no participant has this username")
                for line in contents.transfers
                for side in ("from", "to")
                if line.values[side] not in known and line.values[side] not in joining
            ]
            if unknown:
                report(unknown[:MAX_ERRORS])
                return fail(f"{path}: {len(unknown)} errors; nothing was sent")
            return send(client, group, contents.participants, contents.transfers, known)
    except ImportRefusedError as error:
        return fail(f"the service refused: {error}")
    except UnavailableError as error:
        return fail(f"{error}. The same command again goes on from here", UNAVAILABLE)


def send(client: httpx.Client, group: int, joins: list[Line], transfers: list[Line], known: dict[str, int]) -> int:
    replayed = 0
    with progress(len(joins) + len(transfers)) as advance:
        for kind, lines in (("joins", joins), ("transfers", transfers)):
            member = "participants" if kind == "joins" else "transfers"
            for chunk in chunks(lines):
                values = [line.values for line in chunk]
                if kind == "transfers":
                    values = [{**line, "from": known[line["from"]], "to": known[line["to"]]} for line in values]
                body = f'{{"{member}":[{",".join(map(written, values))}]}}'
                try:
                    answer = post(client, f"/api/groups/{group}/{kind}", body, idempotency_key(group, kind, chunk))
                except ImportRefusedError as error:
                    report(refused_lines(error, member, chunk))
                    numbers = f"lines {chunk[0].number} to {chunk[-1].number}"
                    return fail(f"the service refused {numbers}: {error}; all lines before them are in the ledger")
                replayed += len(chunk) if answer.headers.get("idempotency-replayed") == "true" else 0
                if kind == "joins" and transfers:
                    joined = answer.json()["data"]["participants"]
                    known |= {line.values["username"]: one["id"] for line, one in zip(chunk, joined, strict=True)}
                advance(len(chunk))
    total = len(joins) + len(transfers)
    print(
        f"{len(joins)} participants and {len(transfers)} transfers are in group {group}: "
        f"{total - replayed} new, {replayed} from before"
    )
    return 0


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


def refused_lines(error: ImportRefusedError, member: str, chunk: list[Line]) -> list[tuple[int, str]]:
    """The lines of the file that a refusal blames."""
    found = []
    for name, reasons in error.errors.items():
        place, bracket, rest = name.removeprefix(f"{member}[").partition("]")
        if bracket and place.isdigit() and int(place) < len(chunk):
            field = f"{rest.removeprefix('.')}: " if rest else ""
            found += [(chunk[int(place)].number, f"{field}{reason}") for reason in reasons]
    return found


def participants(client: httpx.Client, group: int) -> dict[str, int]:
    """The ids of the participants of a group, by username."""
    ids: dict[str, int] = {}
    after = 0
    while True:
        page = json.loads(request(client, "GET", f"/api/groups/{group}/participants?after={after}").text)
        ids |= {one["username"]: one["id"] for one in page["data"]}
        if "next" not in page:
            return ids
        after = page["data"][-1]["id"]


def post(client: httpx.Client, path: str, body: str, key: str) -> httpx.Response:
    headers = {"Content-Type": "application/json", "Idempotency-Key": key}
    return request(client, "POST", path, body.encode(), headers)


def request(
    client: httpx.Client, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
) -> httpx.Response:
    """The answer to a request, which is repeated while none arrives. Raises ImportRefusedError, UnavailableError."""
    until, pause = time.monotonic() + PATIENCE, 0.2
    while True:
        try:
            answer = client.request(method, path, content=body, headers=headers)
            reason = f"the service answers {answer.status_code}"
        except httpx.UnsupportedProtocol as error:
            raise ImportRefusedError(str(error)) from None
        except httpx.TransportError as error:
            answer, reason = None, f"no answer from {client.base_url}: {error}"
        if answer is not None and answer.is_success:
            return answer
        if answer is not None and answer.status_code < 500:
            raise refusal(answer)
        if time.monotonic() + pause > until:
            raise UnavailableError(reason)
        time.sleep(pause)
        pause = min(2 * pause, 5.0)


def refusal(answer: httpx.Response) -> ImportRefusedError:
    try:
        problem: dict[str, Any] = answer.json()
        return ImportRefusedError(str(problem.get("detail") or problem["title"]), problem.get("errors"))
    except (ValueError, KeyError, AttributeError):
        return ImportRefusedError(f"{answer.status_code} {answer.reason_phrase}")


@contextmanager
def progress(total: int) -> Iterator[Any]:
    """Yield what counts lines as done: a bar with rate and time left on a terminal, and otherwise lines."""
    with tqdm(total=total, unit=" lines", unit_scale=True, disable=None, file=sys.stderr) as bar:
        begun = shown = time.monotonic()
        done = 0

        def advance(lines: int) -> None:
            nonlocal done, shown
            done += lines
            bar.update(lines)
            now = time.monotonic()
            if bar.disable and now - shown >= PROGRESS_SECONDS:
                shown, rate = now, done / (now - begun)
                left = f", {(total - done) / rate:.0f} s left" if done < total else ""
                print(f"{done} of {total} lines, {rate:.0f} a second{left}", file=sys.stderr, flush=True)

        yield advance


def report(errors: list[tuple[int, str]]) -> None:
    for number, reason in errors:
        print(f"line {number}: {reason}", file=sys.stderr)


def fail(reason: str, status: int = REFUSED) -> int:
    print(f"ledger: {reason}", file=sys.stderr)
    return status
