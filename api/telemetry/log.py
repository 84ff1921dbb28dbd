"""Lines of JSON: one for each request on the standard output, one for each fault on the standard error.

A line keeps no request waiting and fails none. It is written when whoever reads has room for it, without blocking;
until then lines are kept, and once they are MAX_KEPT bytes, new ones are dropped and counted. Those of some
milliseconds are made and written together: one at a time, between requests, each takes the processor several times as
long. A write into a pipe is no longer than PIPE_BUF, and each ends with a line, so that lines of several workers do
not mix. The files are the supervisor's: we never open one.
"""

import asyncio
import fcntl
import json
import logging
import os
import select
import stat
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg

MAX_KEPT = 1 << 20  # bytes of lines that wait for their reader
MAX_LINE = select.PIPE_BUF  # bytes
MAX_WRITE = 1 << 16  # bytes, to a file of a disk
INTERVAL = 0.01  # seconds for which requests gather, and until a reader that had no room is asked again
MAX_PRINCIPAL = 255  # characters
MAX_CAUSES = 8  # of a fault, that are told


class Lines:
    """Lines for one file descriptor."""

    def __init__(self, descriptor: int, lock: int, dropped: Callable[[int], None]) -> None:
        """`lock` is a file that all processes share; `dropped` is told how many lines were."""
        self.descriptor = descriptor
        self.lock = lock
        self.dropped = dropped
        self.kept: deque[bytes] = deque()
        self.size = 0  # bytes
        self.most = MAX_WRITE if stat.S_ISREG(os.fstat(descriptor).st_mode) else select.PIPE_BUF
        self.poll = select.poll()
        self.poll.register(descriptor, select.POLLOUT)

    def keep(self, line: bytes) -> None:
        """Have a line written at the next write. It ends in a line feed and has MAX_LINE bytes at most."""
        if self.size + len(line) > MAX_KEPT:
            self.dropped(1)
            return
        self.kept.append(line)
        self.size += len(line)

    def write(self) -> bool:
        """Write what is kept as far as there is room for it, without blocking; whether all of it was."""
        with alone(self.lock, self.descriptor) as held:
            while held and self.kept:
                lines = [self.kept.popleft()]
                size = len(lines[0])
                while self.kept and size + len(self.kept[0]) <= self.most:
                    lines.append(self.kept.popleft())
                    size += len(lines[-1])
                try:
                    # A pipe that can be written has room for PIPE_BUF bytes, and nobody else takes it meanwhile.
                    written = self.poll.poll(0) and os.write(self.descriptor, b"".join(lines))
                except BlockingIOError:  # whoever gave us the file made it so
                    written = 0
                except OSError:  # closed, or a full disk
                    self.dropped(len(lines))
                    written = size
                if not written:
                    self.kept.extendleft(reversed(lines))
                    return False
                self.size -= size
        return not self.kept


@contextmanager
def alone(lock: int, place: int) -> Iterator[bool]:
    """Try to hold one byte of a file against other processes; whether it is held."""
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
    except OSError:
        yield False
        return
    try:
        yield True
    finally:
        fcntl.lockf(lock, fcntl.LOCK_UN, 1, place)


# A request's route, method, status, problem code and SQLSTATE.
Kind = tuple[str, str, int, str | None, str | None]
# When it was answered, as time.time() has it; its id; the backend's process id and the shared call's number; who made
# it; its kind; and how many seconds it took.
Answered = tuple[float, str, int | None, int | None, str | None, Kind, float]


class Log:
    """The log of one worker."""

    def __init__(self, worker: int, every_request: bool, lock: int, dropped: Callable[[int], None]) -> None:
        self.worker = worker
        self.requests = Lines(1, lock, dropped) if every_request else None
        self.faults = Lines(2, lock, dropped)
        self.answered: list[Answered] = []
        self.is_due = False
        self.second = -1
        self.spelled = ""
        self.ends: dict[tuple[object, ...], str] = {}
        self.principals: dict[str | None, str] = {None: "null"}

    def request(self, answered: Answered) -> None:
        """Tell of a request that is answered.

        Of its kind there are not many. What a client chose must have been checked, but for who made it.
        """
        self.answered.append(answered)
        if not self.is_due:
            self.is_due = True
            asyncio.get_running_loop().call_later(INTERVAL, self.tell)

    def tell(self) -> None:
        """Write the lines of the requests that were answered, as far as there is room, and go on until they are."""
        self.flush()
        self.is_due = self.requests is not None and bool(self.requests.kept)
        if self.is_due:
            asyncio.get_running_loop().call_later(INTERVAL, self.tell)

    def line(self, answered: Answered) -> bytes:
        now, request_id, backend, batch, principal, kind, seconds = answered
        end = self.ends.get(kind)
        if end is None:
            names = ("route", "method", "status", "code", "sqlstate")
            end = json.dumps(dict(zip(names, kind, strict=True)), separators=(",", ":"))[1:] + "\n"
            self.ends[kind] = end
        who = self.principals.get(principal)
        if who is None:
            who = self.principals[principal] = json.dumps((principal or "")[:MAX_PRINCIPAL])
        return (
            f'{{"time":"{self.timestamp(now)}","request_id":"{request_id}","worker":{self.worker},'
            f'"backend_pid":{backend or "null"},"batch":{batch or "null"},"principal":{who},'
            f'"milliseconds":{1000 * seconds:.2f},{end}'
        ).encode()

    def timestamp(self, now: float) -> str:
        """A time of RFC 3339, in UTC, to the millisecond."""
        second, millisecond = divmod(int(now * 1000), 1000)
        if second != self.second:
            self.second = second
            self.spelled = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self.spelled}.{millisecond:03}Z"

    def flush(self) -> None:
        """Write what there is, as far as there is room."""
        if self.requests is not None:
            answered, self.answered = self.answered, []
            for each in answered:
                self.requests.keep(self.line(each))
            self.requests.write()
        self.faults.write()


class Faults(logging.Handler):
    """Whatever Python's logging is told, as a line each."""

    def __init__(self, log: Log) -> None:
        super().__init__()
        self.log = log

    def emit(self, record: logging.LogRecord) -> None:
        line: dict[str, object] = {
            "time": self.log.timestamp(record.created),
            "level": record.levelname.lower(),
            "worker": self.log.worker,
            "logger": record.name,
            "request_id": getattr(record, "request_id", None),
            "message": record.getMessage(),
        }
        if record.exc_info and record.exc_info[1]:
            line["exception"] = told(record.exc_info[1])
        # Where a traceback says what happened is its end.
        for part, shorter in (("exception", second_half), ("message", first_half)):
            while len(json.dumps(line)) >= MAX_LINE and line.get(part):
                line[part] = shorter(str(line[part]))
        self.log.faults.keep(f"{json.dumps(line)}\n".encode())
        self.log.faults.write()


def first_half(text: str) -> str:
    return text[: len(text) // 2]


def second_half(text: str) -> str:
    return text[(len(text) + 1) // 2 :]


def told(error: BaseException) -> str:
    """A traceback with those of its causes, without what PostgreSQL says beside its message: that may quote rows."""
    parts: list[str] = []
    cause: BaseException | None = error
    while cause is not None and len(parts) < MAX_CAUSES:
        primary = cause.diag.message_primary if isinstance(cause, psycopg.Error) else None
        frames = "".join(traceback.format_tb(cause.__traceback__))
        parts.insert(0, f"Traceback (most recent call last):\n{frames}{type(cause).__name__}: {primary or cause}")
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return "\n\n".join(parts)
