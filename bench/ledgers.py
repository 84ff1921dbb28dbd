"""A ledger to measure: served on an embedded database of its own, and what its processes use."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg

from api.postgres import embedded
from bench.load import ROOT, BenchError, Group, Server

START_TIMEOUT = 60.0  # seconds
JOINS = 1_000  # of a transaction


@dataclass
class Ledger:
    """A served ledger. `admin` is its owner's connection string."""

    data: Path
    server: Server
    admin: str
    service: psutil.Process
    program: tuple[str, ...]

    @property
    def worker(self) -> psutil.Process:
        (worker,) = self.workers
        return worker

    @property
    def workers(self) -> list[psutil.Process]:
        return [process for process in self.service.children() if "api.server.worker" in process.cmdline()]

    @property
    def postmaster(self) -> psutil.Process:
        return psutil.Process(int((self.data / "pgdata" / "postmaster.pid").read_text().split()[0]))

    def connect(self) -> psycopg.Connection:
        return psycopg.connect(self.admin, autocommit=True)

    def run(self, *arguments: str) -> str:
        """Run a `ledger` command and return its output. Raises BenchError."""
        done = subprocess.run(
            [*self.program, *arguments],
            cwd=ROOT,
            env=environment(self.data),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise BenchError(f"ledger {' '.join(arguments)} failed: {done.stderr or done.stdout}")
        return done.stdout

    def fill(self, groups: int, participants: int) -> list[Group]:
        """Make groups of participants, with the names and deposits of `ledger seed`; those that were not there."""
        with self.connect() as connection:
            known = {row[0] for row in connection.execute("select id from ledger.groups")}
        self.run("seed", "--groups", str(groups), "--participants", str(participants))
        with self.connect() as connection:
            rows = connection.execute(
                "select group_id, min(id), max(id), count(*) from ledger.participants group by 1 order by 1"
            ).fetchall()
            connection.execute("vacuum analyze")
            connection.execute("checkpoint")
        new = [Group(group, first, last) for group, first, last, _ in rows if group not in known]
        if any(last - first + 1 != count for group, first, last, count in rows if group not in known):
            raise BenchError("the ids of a group's participants do not follow each other")
        return new

    def fill_one(self, name: str, participants: int) -> Group:
        """Make one group, whose participants hold some ETH in wei."""
        joins = """
            select min(j.id), max(j.id)
            from generate_series(%s::bigint, %s::bigint) as n
            cross join ledger.join_group(%s, format('participant %%s', n), n * 10::numeric ^ 18) as j
        """
        ids: list[int] = []
        with self.connect() as connection:
            (group,) = connection.execute("select id from ledger.create_group(%s)", [name]).fetchone() or (0,)
            for first in range(1, participants + 1, JOINS):
                last = min(first + JOINS - 1, participants)
                ids += connection.execute(joins, [first, last, group]).fetchone() or ()
            connection.execute("vacuum analyze")
        if ids[-1] - ids[0] + 1 != participants:
            raise BenchError("the ids of a group's participants do not follow each other")
        return Group(int(group), ids[0], ids[-1])

    def used(self) -> tuple[float, float, int]:
        """CPU seconds of the workers and of PostgreSQL so far, and bytes of WAL."""
        server = [self.postmaster, *self.postmaster.children()]
        with self.connect() as connection:
            (wal,) = connection.execute("select pg_current_wal_insert_lsn() - '0/0'").fetchone() or (0,)
        return sum(map(seconds, self.workers)), sum(map(seconds, server)), int(wal)


LEDGER = (sys.executable, "-m", "api.cli")


def seconds(process: psutil.Process) -> float:
    with suppress(psutil.NoSuchProcess):
        times = process.cpu_times()
        return times.user + times.system
    return 0.0


def environment(data: Path) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.removeprefix("LEDGER_") not in IGNORED} | {
        "LEDGER_DATA": str(data)
    }


IGNORED = {
    "DATABASE_URL",
    "ADMIN_URL",
    "HOST",
    "PORT",
    "WORKERS",
    "LOG",
    "METRICS",
    "DRAIN",
    "DATABASE_WAIT",
    "CHECK_RPC",
}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


@contextmanager
def workspace() -> Iterator[Path]:
    """A folder for ledgers, on a disk: /tmp may be memory."""
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="ledger-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # for the embedded server's own user
        yield folder


@contextmanager
def served(data: Path, bare: bool = False, workers: int = 1, program: tuple[str, ...] = LEDGER) -> Iterator[Ledger]:
    """A ledger that is served from a folder until the context ends, to who has an API key. Raises BenchError.

    One that is bare asks for no key, and logs no requests. `program` is the command line before its arguments.
    """
    port = free_port()
    with ExitStack() as stack:
        command = [*program, "serve", "--port", str(port), "--workers", str(workers)]
        command += ["--log", "faults" if bare else "requests"]
        process = stack.enter_context(stopped_at_end(command, environment(data)))
        until_answered(f"http://127.0.0.1:{port}/api/health", process)
        ledger = Ledger(data, Server(port), embedded.url(data), psutil.Process(process.pid), program)
        if not bare:
            ledger.server = Server(port, ledger.run("key", "create", "bench", "--scope", "admin").strip())
            until_asked_for(ledger.server)
        yield ledger


@contextmanager
def baseline(conninfo: str) -> Iterator[Server]:
    """A web server without a ledger. Raises BenchError."""
    port = free_port()
    with stopped_at_end([sys.executable, "-m", "bench.baseline", str(port), conninfo], dict(os.environ)) as process:
        until_answered(f"http://127.0.0.1:{port}/constant", process)
        yield Server(port)


@contextmanager
def stopped_at_end(command: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def until_asked_for(server: Server) -> None:
    """Wait until a service that has been open asks for a key."""
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{server.port}/api/groups", timeout=5).close()
        except urllib.error.HTTPError as error:
            if error.code == 401:
                return
        time.sleep(0.1)
    raise BenchError("the service asks for no key")


def until_answered(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError), urllib.request.urlopen(url, timeout=1) as answer:
            json.load(answer)
            return
        time.sleep(0.05)
    raise BenchError(f"nothing answers at {url}")
