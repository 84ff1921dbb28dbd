"""Supervise the workers: start them on one listening socket, replace those that die, stop them.

The workers share nothing but the socket. As the first process of a container the supervisor also collects every orphan
that ends there. Only the supervisor handles SIGTERM, SIGINT and SIGHUP: a service manager signals every process, and a
second signal would cut a stop short, so the workers block them. A worker stops when the supervisor's end of a pipe is
closed, by the supervisor or by its death, and finishes the requests in hand. Before that, for DRAIN seconds, the health
check fails while requests are still served.
"""

import fcntl
import os
import resource
import selectors
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable

from api.postgres.preflight import StartError
from api.server import privileges
from api.server.settings import GRACE, WORKER_SETTINGS, Settings, WorkerSettings
from api.telemetry import metrics

MONITOR_INTERVAL = 1.0  # seconds
READY_TIMEOUT = 30.0  # seconds from a worker's start until it answers
STOP_TIMEOUT = 5.0  # the same while a signal to stop is pending

# Have glibc give large blocks back to the system when they are freed. By default it keeps those up to the size of the
# largest one that was, and a worker stays as large as its largest requests made it.
MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(128 << 10), "MALLOC_TRIM_THRESHOLD_": str(4 << 20), "MALLOC_ARENA_MAX": "2"}

STOP_SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}


def allow_many_connections() -> None:
    """Let this process and its workers have as many open files as the system allows: each connection is one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def supervise(
    sock: socket.socket,
    conninfo: str,
    settings: Settings,
    announcement: str,
    monitor: Callable[[], None] | None = None,
) -> None:
    """Run the workers until SIGTERM, SIGINT or SIGHUP; then stop them and return. Raises StartError.

    SIGHUP that is ignored, as nohup has it, stays ignored. `monitor` is called once a second, and has to return within
    seconds. A second signal ends the time in which the health check fails.
    """
    append_to_files()
    allow_many_connections()
    # Signals stay pending until sigtimedwait takes them, so none is lost between two calls.
    stops = {number for number in STOP_SIGNALS if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN}
    signal.pthread_sigmask(signal.SIG_BLOCK, stops | {signal.SIGCHLD})
    alive, supervisor_alive = os.pipe()  # the workers stop at the end of it
    memory = metrics.share(settings.workers)
    ours = metrics.Metrics(memory, -1)
    running: list[subprocess.Popen[bytes]] = []

    def start_worker(number: int) -> subprocess.Popen[bytes]:
        ours.add(metrics.STARTS)
        return start(sock, alive, memory, conninfo, settings, number)

    stop_at: float | None = None
    monitor_at = time.monotonic() + MONITOR_INTERVAL
    try:
        for number in range(settings.workers):
            running.append(start_worker(number))  # noqa: PERF401 - those that started are stopped
        print(announcement, flush=True)
        while stop_at is None or time.monotonic() < stop_at:
            interval = min(monitor_at, stop_at or monitor_at) - time.monotonic()
            received = signal.sigtimedwait(stops | {signal.SIGCHLD}, max(interval, 0))
            if received and received.si_signo in stops:
                if stop_at is not None:
                    return
                stop_at = time.monotonic() + settings.drain
                ours.set(metrics.DRAINING, number=1)
                continue
            for number, worker in enumerate(running):
                if worker.poll() is not None:
                    print(f"worker {number} ended with {worker.returncode}; starting another", file=sys.stderr)
                    time.sleep(1)  # so that a worker that cannot start does not make this loop spin
                    try:
                        running[number] = start_worker(number)
                    except StartError as error:  # the other workers continue
                        print(f"{error}; trying again", file=sys.stderr)
            reap(running)
            if time.monotonic() >= monitor_at:
                if monitor:
                    monitor()
                monitor_at = time.monotonic() + MONITOR_INTERVAL
    finally:
        sock.close()
        os.close(supervisor_alive)
        deadline = time.monotonic() + GRACE + 5
        for worker in running:
            try:
                worker.wait(max(deadline - time.monotonic(), 0))
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()
        os.close(alive)
        os.close(memory)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, stops | {signal.SIGCHLD})


def reap(workers: list[subprocess.Popen[bytes]]) -> None:
    """Collect the children that have ended and are no workers: orphans, which the first process of a container gets."""
    pids = {worker.pid for worker in workers if worker.returncode is None}
    while True:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if ended is None or ended.si_pid in pids:  # Popen collects a worker, in the next round
            return
        os.waitpid(ended.si_pid, 0)


def append_to_files() -> None:
    """Append to a log file, so that it may be truncated for its rotation."""
    for descriptor in (1, 2):
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
            fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | os.O_APPEND)


def start(
    sock: socket.socket, alive: int, memory: int, conninfo: str, settings: Settings, number: int
) -> subprocess.Popen[bytes]:
    """Start a worker and return once it answers. Raises StartError."""
    is_ready, ready = os.pipe()
    given = WorkerSettings(settings, conninfo, sock.fileno(), alive, ready, memory)
    try:
        try:
            worker = subprocess.Popen(
                # -P: an `api` in the working directory is not ours. The number is what `ps` shows of the worker.
                [sys.executable, "-P", "-m", "api.server.worker", str(number)],
                # The connection string may hold a password, which the command line would show to everybody.
                env=privileges.environment(os.environ, settings.account)
                | MALLOC
                | {WORKER_SETTINGS: given.to_json(), "SANIC_IGNORE_PRODUCTION_WARNING": "true"},
                stdin=subprocess.DEVNULL,
                pass_fds=given.descriptors,
                # A terminal's Ctrl-C goes to the supervisor, and no worker can type into the terminal.
                start_new_session=True,
            )
        except OSError as error:  # no memory, or no process more
            raise StartError(f"worker {number} could not be started: {error}") from error
        finally:
            os.close(ready)
        begun = time.monotonic()
        with selectors.DefaultSelector() as selector:
            selector.register(is_ready, selectors.EVENT_READ)
            while not (answered := selector.select(MONITOR_INTERVAL)):
                if time.monotonic() - begun > (STOP_TIMEOUT if signal.sigpending() & STOP_SIGNALS else READY_TIMEOUT):
                    break
            if answered and os.read(is_ready, 1):
                return worker
        worker.kill()
        worker.wait()
        raise StartError(f"worker {number} did not start; its output is above")
    finally:
        os.close(is_ready)
