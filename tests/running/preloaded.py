"""Run `ledger` or `yoyo` without the half second that Python takes to load it.

A process loads the commands and the migrations once and does nothing else. Each run is a fork of it: a process of its
own, with its own environment, folder, standard streams and arguments, that runs the installed script.
"""

from __future__ import annotations

import atexit
import functools
import io
import json
import os
import select
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import IO, Self

# Variables that Python and the loader read when they start. With other values than ours a command is not forked.
READ_AT_START = ("PYTHON", "LC_", "LANG", "LD_", "TZ", "MALLOC_")


def fits(environment: Mapping[str, str]) -> bool:
    """Return whether a fork behaves as a command that is started with this environment."""
    return all(
        environment.get(name) == os.environ.get(name)
        for name in environment.keys() | os.environ.keys()
        if name.startswith(READ_AT_START)
    )


@functools.cache
def loaded() -> tuple[socket.socket, subprocess.Popen[bytes]]:
    """The process that waits for requests, and where to send them."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        process = subprocess.Popen([sys.executable, "-P", __file__, str(theirs.fileno())], pass_fds=[theirs.fileno()])
    atexit.register(process.wait)
    atexit.register(ours.close)  # runs first
    return ours, process


def run(
    command: Sequence[str], environment: Mapping[str, str], folder: str, said: str, timeout: float
) -> subprocess.CompletedProcess[str]:
    """As subprocess.run with `capture_output` and `text`. Raises subprocess.TimeoutExpired."""
    (stdin, typed), (printed, stdout), (complained, stderr), (result, statuses) = (os.pipe() for _ in range(4))
    ask(command, environment, folder, False, [stdin, stdout, stderr, statuses])
    with (
        ThreadPoolExecutor(3) as threads,
        open(typed, "w") as keyboard,
        open(printed) as output,
        open(complained) as errors,
        open(result) as end,
    ):
        pid = int(end.readline())
        typing = threads.submit(type_in, keyboard, said)
        reading = [threads.submit(stream.read) for stream in (output, errors)]
        if not select.select([end], [], [], timeout)[0]:
            os.kill(pid, signal.SIGKILL)
            raise subprocess.TimeoutExpired(command, timeout)
        status = int(end.readline())
        typing.result()
        return subprocess.CompletedProcess(command, status, *(stream.result() for stream in reading))


def ask(
    command: Sequence[str], environment: Mapping[str, str], folder: str, own_session: bool, descriptors: list[int]
) -> None:
    """Have a command started; the descriptors are its standard streams and where its pid and its status go."""
    asking, _ = loaded()
    socket.send_fds(asking, [json.dumps([command, dict(environment), folder, own_session]).encode()], descriptors)
    for descriptor in descriptors:
        os.close(descriptor)


class Started:
    """A run in a session of its own, with what a test needs of subprocess.Popen."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], folder: str, stderr: IO[str]) -> None:
        (printed, stdout), (result, statuses) = os.pipe(), os.pipe()
        streams = [os.open(os.devnull, os.O_RDONLY), stdout, os.dup(stderr.fileno())]
        ask(command, environment, folder, True, [*streams, statuses])
        self.stdout = open(printed)  # noqa: SIM115 - closed at the end of the with block
        self.end = open(result)  # noqa: SIM115
        self.pid = int(self.end.readline())
        self.returncode: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.wait()
        self.stdout.close()
        self.end.close()

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit status. Raises subprocess.TimeoutExpired."""
        if self.returncode is None:
            if not select.select([self.end], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("ledger", timeout or 0)
            self.returncode = int(self.end.readline())
        return self.returncode

    def poll(self) -> int | None:
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def type_in(keyboard: io.TextIOBase, said: str) -> None:
    try:
        with keyboard:
            keyboard.write(said)
    except BrokenPipeError:  # the command did not read it
        pass


def serve(requests: socket.socket) -> None:
    """Answer each request in a process of its own: the command's pid, and its exit status."""
    while True:
        request, descriptors, _, _ = socket.recv_fds(requests, 1 << 20, 4)
        if not request:
            return
        if json.loads(request)[0][1:2] == ["bridge"]:
            import bridge.run  # noqa: F401 - its libraries take a second, which the other commands do without
        if json.loads(request)[0][1:2] and json.loads(request)[0][1] in api.cli.SERVICE_COMMANDS:
            from api.commands import command  # noqa: F401 - the same
        if os.fork() == 0:
            requests.close()
            watch(*json.loads(request), *descriptors)
        for descriptor in descriptors:
            os.close(descriptor)


def watch(
    command: list[str],
    environment: dict[str, str],
    folder: str,
    own_session: bool,
    stdin: int,
    stdout: int,
    stderr: int,
    statuses: int,
) -> None:
    """Run a command and report on it."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    pid = os.fork()
    if pid == 0:
        os.close(statuses)
        for descriptor, stream in ((stdin, 0), (stdout, 1), (stderr, 2)):
            os.dup2(descriptor, stream)
            os.close(descriptor)
        if own_session:
            os.setsid()
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        be(command)
    for descriptor in (stdin, stdout, stderr):
        os.close(descriptor)
    os.write(statuses, b"%d\n" % pid)
    _, status = os.waitpid(pid, 0)
    os.write(statuses, b"%d\n" % os.waitstatus_to_exitcode(status))
    os._exit(0)


def be(command: list[str]) -> None:
    """Run the command, and end as Python ends."""
    script, *_ = sys.argv = command
    status = 0
    try:
        sys.path.insert(0, os.path.dirname(script))
        with open(script) as code:
            exec(compile(code.read(), script, "exec"), {"__name__": "__main__", "__file__": script})
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        status = 1
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status & 0xFF)


if __name__ == "__main__":
    import sqlparse
    import yoyo.scripts.main  # noqa: F401 - for the forks

    import api.cli  # for the forks
    from api.postgres import migrate

    # What a fork would do again: to split the migrations takes as long as to apply them.
    sqlparse.split = functools.cache(sqlparse.split)
    for file in migrate.MIGRATIONS.glob("*.sql"):
        sqlparse.split(file.read_text())

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no process waits for the watching ones
    with socket.socket(fileno=int(sys.argv[1])) as requests:
        serve(requests)
