"""Make the checkpoints of all groups, once or at an interval. A failure of one group does not stop the others."""

import json
import math
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

import psycopg

from api.admin import checkpoints
from api.admin.progress import Progress, beside, progress
from api.postgres import sessions
from api.problems import PROBLEMS, code_of
from api.telemetry import textfile
from api.telemetry.checkpoints import CheckpointMetrics, oldest

PAGE = 1_000  # groups
LONGEST_PAUSE = 30.0  # seconds between two attempts to connect
PATIENCE = 30.0  # seconds for which a single round waits for a database that went away in the middle of it

NEWEST = """
select n.group_id, n.number, extract(epoch from n.created_at)::float8, n.is_current
from ledger.list_newest_checkpoints(%s, %s) as n
"""


GROUPS = "select count(*) from ledger.list_groups(max_rows => 2147483647)"  # about as many as have checkpoints


class Stop(KeyboardInterrupt):
    """Ends a schedule at once: psycopg cancels the statement that it waits for, as it does for Ctrl-C."""


@dataclass(frozen=True)
class Schedule:
    """What to do: `every` so many seconds, or once; `keep` the leaves of so many checkpoints, or all."""

    conninfo: str
    every: int | None
    keep: int | None
    metrics_file: Path | None


def follow(schedule: Schedule) -> bool:
    """Make checkpoints, without an end if there is an interval; return whether nothing failed. Raises psycopg.Error."""
    metrics = CheckpointMetrics()
    due_at = time.monotonic()
    while True:
        # Where there is no terminal, the lines of the log show it.
        with progress("groups", hidden=schedule.every is not None or not sys.stderr.isatty()) as shown:
            one_round(schedule, metrics, shown)
        write(schedule, metrics)
        if schedule.every is None:
            return metrics.failed == 0
        # A round that takes longer than the interval delays the next ones.
        now = time.monotonic()
        due_at = max(due_at + schedule.every, now)
        time.sleep(due_at - now)


def one_round(schedule: Schedule, metrics: CheckpointMetrics, shown: Progress) -> None:
    """Make a checkpoint of each group whose newest one is not current. Raises psycopg.Error."""
    waits = schedule.every is not None
    session = connected(schedule, metrics, math.inf if waits else 0)
    try:
        covered: list[tuple[float, int]] = []
        after = 0
        while True:
            looked_at = time.time()
            try:
                page = session.execute(NEWEST, [after, PAGE]).fetchall()
                if not (after or shown.hidden):
                    ((groups,),) = session.execute(GROUPS)
                    shown.expect(groups)
            except psycopg.OperationalError as error:  # away, or a lock that was not released in time
                failed(schedule, metrics, None, error)
                session.close()
                if not waits:
                    raise
                time.sleep(1)
                session = connected(schedule, metrics, math.inf)
                continue
            if not page:
                break
            for group, number, created_at, is_current in page:
                if session.closed:
                    session = connected(schedule, metrics, math.inf if waits else PATIENCE)
                at = looked_at if is_current else cover(session, schedule, metrics, group, number)
                covered = oldest([*covered, (created_at if at is None else at, group)])
                if schedule.keep is not None and at is not None:
                    drop(session, schedule, metrics, group, schedule.keep)
                shown.advance()
            after = page[-1][0]
        metrics.complete(time.time(), covered)
    finally:
        session.close()


def cover(
    session: psycopg.Connection, schedule: Schedule, metrics: CheckpointMetrics, group: int, number: int
) -> float | None:
    """Make the checkpoint of a group that follows `number`; return from when it is, or None where it failed."""
    began_at, began = time.time(), time.perf_counter()
    try:
        # Of two processes at once the second one gets the checkpoint of the first.
        call = "select c.number, c.leaf_count, c.replayed from ledger.checkpoint(%s, %s) as c"
        ((made, leaf_count, replayed),) = session.execute(call, [group, f"scheduled-after-{number}"])
    except psycopg.Error as error:
        failed(schedule, metrics, group, error)
        return None
    seconds = time.perf_counter() - began
    if not replayed:
        metrics.made(seconds)
        line = {"group_id": group, "number": made, "leaf_count": leaf_count, "seconds": round(seconds, 3)}
        log(sys.stdout, line)
    return began_at


def drop(session: psycopg.Connection, schedule: Schedule, metrics: CheckpointMetrics, group: int, keep: int) -> None:
    """Delete the leaves of a group's checkpoints but the newest ones."""
    try:
        checkpoints.drop(session, group, keep)
    except psycopg.Error as error:
        failed(schedule, metrics, group, error)


def connected(schedule: Schedule, metrics: CheckpointMetrics, patience: float) -> psycopg.Connection:
    """Connect; try again for so many seconds. Raises psycopg.OperationalError."""
    deadline = time.monotonic() + patience
    pause = 1.0
    while True:
        try:
            return sessions.connect(schedule.conninfo, "ledger checkpoint --all")
        except psycopg.OperationalError as error:
            if time.monotonic() + pause > deadline:
                raise
            failed(schedule, metrics, None, error)
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)


def failed(schedule: Schedule, metrics: CheckpointMetrics, group: int | None, error: psycopg.Error) -> None:
    """Count and log a failure, without the amounts that a refusal's words have."""
    metrics.failed += 1
    code = code_of(error.sqlstate) if error.sqlstate else None
    refused = (error.sqlstate or "").startswith("LG")
    message = PROBLEMS[code][1] if refused and code else error.diag.message_primary or str(error).strip()
    line = {"level": "error", "group_id": group, "code": code, "sqlstate": error.sqlstate, "message": message}
    log(sys.stderr, line)
    write(schedule, metrics)


def write(schedule: Schedule, metrics: CheckpointMetrics) -> None:
    """Write the metrics, where they are wanted. Without them the checkpoints go on."""
    if schedule.metrics_file is None:
        return
    try:
        textfile.write(metrics, schedule.metrics_file)
    except OSError as error:
        log(sys.stderr, {"level": "error", "message": f"cannot write {schedule.metrics_file}: {error.strerror}"})


def log(file: TextIO, line: Mapping[str, object]) -> None:
    """Write a line of JSON, as the service does."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    with beside():
        print(json.dumps({"time": now, **line}), file=file, flush=True)
