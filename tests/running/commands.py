"""The `ledger` command as people run it: its own processes, HTTP over a socket, and the state after its end."""

from __future__ import annotations

import http.client
import itertools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tests.running import preloaded
from tests.support import until

ROOT = Path(__file__).resolve().parents[2]
LEDGER = Path(sys.executable).parent / "ledger"
PATIENCE = 60.0  # seconds
PORTS = itertools.count()

# Variables that a developer may have set, and that no test may depend on.
SETTINGS = (
    "DATABASE_URL",
    "LEDGER_ADMIN_URL",
    "LEDGER_DATA",
    "HOST",
    "PORT",
    "WORKERS",
    "LOG",
    "METRICS",
    "CORS_ORIGINS",
    "DRAIN",
    "DATABASE_WAIT",
    "RPC",
    "CHECK_RPC",
    "LEDGER_URL",
    "LEDGER_KEY",
)


def is_setting(name: str) -> bool:
    return name in SETTINGS or name.removeprefix("LEDGER_") in SETTINGS or name.startswith("PG")


def environment(**settings: str | Path) -> dict[str, str]:
    """The environment of a command: ours without settings of the ledger and of libpq, and with those that are given."""
    ours = {name: value for name, value in os.environ.items() if not is_setting(name)}
    return ours | {name: str(value) for name, value in settings.items()}


def command(
    *arguments: str | Path, program: Path = LEDGER, said: str | None = None, **settings: str | Path
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, from another folder than the project's; `said` is its standard input."""
    variables = environment(**settings)
    if program == LEDGER and preloaded.fits(variables):
        return preloaded.run([str(LEDGER), *map(str, arguments)], variables, "/", said or "", PATIENCE)
    return subprocess.run(
        [program, *arguments],
        env=variables,
        cwd="/",
        input=said or "",
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


def done(*arguments: str | Path, **options: str | Path) -> str:
    """Run a command that must succeed, and return its output."""
    result = command(*arguments, **options)
    assert result.returncode == 0, result.stderr
    return result.stdout


def refusal(*arguments: str, status: int = 1, **options: str | Path) -> str:
    """Run a command that must be refused with a message, and return the message."""
    result = command(*arguments, **options)
    assert result.returncode == status, (result.returncode, result.stdout, result.stderr)
    assert "Traceback" not in result.stderr
    assert "ledger: " in result.stderr or status == 2
    return result.stderr


def free_port() -> int:
    """A port that nobody listens on, and that no other process of this test run is given.

    Below those that the system gives to clients, and a share for each worker of pytest-xdist: between this look and
    the service's own nobody takes it.
    """
    share = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 8
    while True:
        port = 12_000 + 2_000 * share + next(PORTS) % 2_000
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


@dataclass(frozen=True)
class Service:
    """A `ledger serve` that answers."""

    process: subprocess.Popen[str] | preloaded.Started
    announcement: str
    host: str
    port: int
    errors: IO[str]

    @property
    def workers(self) -> list[int]:
        """The pids of the workers, the first worker first."""
        numbered = [
            (arguments(pid)[-1], pid) for pid in children(self.process.pid) if "api.server.worker" in arguments(pid)
        ]
        return [pid for _, pid in sorted(numbered)]

    @property
    def pids(self) -> list[int]:
        return [self.process.pid, *self.workers]

    def ask(
        self, method: str, path: str, body: object = None, timeout: float = PATIENCE, **given: str
    ) -> tuple[int, object]:
        """The status and the body of an answer, on a connection of its own; `given` are headers."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=timeout)
        try:
            headers = {} if body is None else {"Content-Type": "application/json"}
            connection.request(method, path, None if body is None else json.dumps(body), headers | given)
            answer = connection.getresponse()
            text = answer.read()
            return answer.status, json.loads(text) if text else None
        finally:
            connection.close()

    def answers(self) -> bool:
        return self.ask("GET", "/api/health") == (200, {"data": {"status": "ok"}})

    def listens(self) -> bool:
        try:
            socket.create_connection((self.host, self.port), timeout=5).close()
        except ConnectionError:
            return False
        return True

    def said(self) -> str:
        """Return the standard error so far."""
        self.errors.seek(0)
        return self.errors.read()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal to the first process; its exit status."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)


def started(
    program: Path | None, given: Sequence[str], variables: dict[str, str], errors: IO[str]
) -> subprocess.Popen[str] | preloaded.Started:
    """The first process of a service, in a session of its own."""
    if program is None and preloaded.fits(variables):
        return preloaded.Started([str(LEDGER), *given], variables, "/", errors)
    return subprocess.Popen(
        [program or LEDGER, *given],
        env=variables,
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
        start_new_session=True,
    )


@contextmanager
def serving(
    *given: str, locked: bool = False, program: Path | None = None, **settings: str | Path
) -> Iterator[Service]:
    """A service that answers, on a free port unless one is given; stopped in the end.

    On a database it is open to everybody until there is an API key, unless it is to be `locked`. Its first process is a
    fork of one that has loaded the command, and its workers are not, unless a program is named.
    """
    if "DATABASE_URL" in settings and "--insecure" not in given and not locked:
        given = (*(given or ["serve"]), "--insecure")
    chosen = {} if "PORT" in settings or "--port" in given else {"PORT": str(free_port())}
    with (
        tempfile.TemporaryFile("w+") as errors,
        started(program, given, environment(**settings, **chosen), errors) as process,
    ):
        pids = [process.pid]
        try:
            assert process.stdout is not None
            heard, _, _ = select.select([process.stdout], [], [], PATIENCE)
            announcement = process.stdout.readline() if heard else ""
            errors.seek(0)
            assert announcement.startswith("Ledger answers on http://"), errors.read()
            host, _, port = announcement.split()[3].removeprefix("http://").rpartition(":")
            service = Service(process, announcement, host.strip("[]"), int(port), errors)
            pids += service.workers
            yield service
            pids += service.workers
            if process.poll() is None:
                assert service.stop() == 0, service.said()
            assert "Traceback" not in service.said()
            until(lambda: not any(map(lives, pids)), f"{pids} to end")
        finally:
            for pid in filter(lives, pids):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def lives(pid: int) -> bool:
    """Return whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def arguments(pid: int) -> list[str]:
    """The command line of a process; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0").split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return [""]


def users_of(data: Path) -> list[int]:
    """The processes that work in the folder or were started with it as LEDGER_DATA, other than this one's."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            works_there = Path(os.readlink(folder / "cwd")).is_relative_to(data)
            marked = f"LEDGER_DATA={data}\0".encode() in (folder / "environ").read_bytes()
            if (works_there or marked) and lives(int(folder.name)):
                found.append(int(folder.name))
    return found


def postmaster(data: Path) -> int | None:
    """The pid of the embedded server's first process, or None when it does not run."""
    try:
        pid = int((data / "pgdata" / "postmaster.pid").read_text().split()[0])
    except FileNotFoundError:
        return None
    return pid if lives(pid) else None
