"""Log as lines of JSON: one for each request on the standard output, one for each error on the standard error.

No request waits for its line or fails because of it. A line is written without blocking, when its reader has room for
it; until then lines are buffered, and once the buffer has MAX_BUFFERED bytes, new lines are dropped and counted. The
lines of some milliseconds are formatted and written together: one at a time, between requests, each takes several times
as much CPU. A write into a pipe has at most PIPE_BUF bytes and ends with a line, so the lines of several workers do
not mix. The supervisor opened the files; a worker never opens one.
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

MAX_BUFFERED = 1 << 20  # bytes of lines that wait for their reader
MAX_LINE = select.PIPE_BUF  # bytes
MAX_WRITE = 1 << 16  # bytes, to a file of a disk
INTERVAL = 0.01  # seconds for which lines gather, and between two attempts to write for a reader without room
MAX_PRINCIPAL = 255  # characters
MAX_CAUSES = 8  # of an error, whose tracebacks are logged


class LineWriter:
    """Writes lines to one file descriptor."""

    def __init__(self, descriptor: int, lock: int, dropped: Callable[[int], None]) -> None:
        """`lock` is a file that all processes share; `dropped` is called with the number of lines that were dropped."""
        self.descriptor = descriptor
        self.lock = lock
        self.dropped = dropped
        self.buffered: deque[bytes] = deque()
        self.size = 0  # bytes
        self.most = MAX_WRITE if stat.S_ISREG(os.fstat(descriptor).st_mode) else select.PIPE_BUF
        self.poll = select.poll()
        self.poll.register(descriptor, select.POLLOUT)

    def add(self, line: bytes) -> None:
        """Buffer a line for the next write. It ends in a line feed and has at most MAX_LINE bytes."""
        if self.size + len(line) > MAX_BUFFERED:
            self.dropped(1)
            return
        self.buffered.append(line)
        self.size += len(line)

    def write(self) -> bool:
        """Write buffered lines as far as there is room, without blocking; return whether all were written."""
        with try_lock(self.lock, self.descriptor) as held:
            while held and self.buffered:
                lines = [self.buffered.popleft()]
                size = len(lines[0])
                while self.buffered and size + len(self.buffered[0]) <= self.most:
                    lines.append(self.buffered.popleft())
                    size += len(lines[-1])
                try:
                    # A pipe that can be written has room for PIPE_BUF bytes, and the lock keeps other processes out.
                    written = self.poll.poll(0) and os.write(self.descriptor, b"".join(lines))
                except BlockingIOError:  # the file was made non-blocking before we inherited it
                    written = 0
                except OSError:  # closed, or a full disk
                    self.dropped(len(lines))
                    written = size
                if not written:
                    self.buffered.extendleft(reversed(lines))
                    return False
                self.size -= size
        return not self.buffered


@contextmanager
def try_lock(lock: int, place: int) -> Iterator[bool]:
    """Try to lock one byte of a file against other processes; yield whether it is locked."""
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
RequestKind = tuple[str, str, int, str | None, str | None]
# When the request was answered, by time.time(); its id; the backend's process id and the batch's number; the principal;
# its kind; and how many seconds it took.
RequestRecord = tuple[float, str, int | None, int | None, str | None, RequestKind, float]


class Log:
    """The log of one worker."""

    def __init__(self, worker: int, every_request: bool, lock: int, dropped: Callable[[int], None]) -> None:
        self.worker = worker
        self.requests = LineWriter(1, lock, dropped) if every_request else None
        self.errors = LineWriter(2, lock, dropped)
        self.answered: list[RequestRecord] = []
        self.is_due = False
        self.second = -1
        self.spelled = ""
        self.ends: dict[tuple[object, ...], str] = {}
        self.principals: dict[str | None, str] = {None: "null"}

    def request(self, answered: RequestRecord) -> None:
        """Log a request that was answered.

        There are few kinds of requests. All that a client chose has been checked, except the name of its API key.
        """
        self.answered.append(answered)
        if not self.is_due:
            self.is_due = True
            asyncio.get_running_loop().call_later(INTERVAL, self.write_pending)

    def write_pending(self) -> None:
        """Write the lines of the answered requests as far as there is room, and again until all are written."""
        self.flush()
        self.is_due = self.requests is not None and bool(self.requests.buffered)
        if self.is_due:
            asyncio.get_running_loop().call_later(INTERVAL, self.write_pending)

    def line(self, answered: RequestRecord) -> bytes:
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
        """Return a time as in RFC 3339, in UTC, to the millisecond."""
        second, millisecond = divmod(int(now * 1000), 1000)
        if second != self.second:
            self.second = second
            self.spelled = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self.spelled}.{millisecond:03}Z"

    def flush(self) -> None:
        """Write all lines, as far as there is room."""
        if self.requests is not None:
            answered, self.answered = self.answered, []
            for each in answered:
                self.requests.add(self.line(each))
            self.requests.write()
        self.errors.write()


class ErrorLogHandler(logging.Handler):
    """Logs each record of Python's logging as a line."""

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
            line["exception"] = traceback_of(record.exc_info[1])
        # The end of a traceback is where it shows what happened.
        for part, shorter in (("exception", second_half), ("message", first_half)):
            while len(json.dumps(line)) >= MAX_LINE and line.get(part):
                line[part] = shorter(str(line[part]))
        self.log.errors.add(f"{json.dumps(line)}\n".encode())
        self.log.errors.write()


def first_half(text: str) -> str:
    return text[: len(text) // 2]


def second_half(text: str) -> str:
    return text[(len(text) + 1) // 2 :]


def traceback_of(error: BaseException) -> str:
    """Return the tracebacks of an error and its causes, without PostgreSQL's DETAIL, which may quote rows."""
    parts: list[str] = []
    cause: BaseException | None = error
    while cause is not None and len(parts) < MAX_CAUSES:
        primary = cause.diag.message_primary if isinstance(cause, psycopg.Error) else None
        frames = "".join(traceback.format_tb(cause.__traceback__))
        parts.insert(0, f"Traceback (most recent call last):\n{frames}{type(cause).__name__}: {primary or cause}")
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return "\n\n".join(parts)
