"""Processes: a supervisor that owns the listening socket, and workers that answer on it.

The workers share nothing but the socket. One that dies is replaced. As the first process of a container the supervisor
also collects every orphan that ends there. SIGTERM, SIGINT and SIGHUP are for the supervisor alone:
the workers do not hear them, because a service manager signals every process, and a second signal would cut a stop
short. They stop when the supervisor's end of a pipe is closed, by it or by its death, and finish the requests in hand.
Before that, for DRAIN seconds, the supervisor lets the health check fail while requests are still served.
"""

import fcntl
import gc
import logging
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
from dataclasses import dataclass

from api.http.app import App, create_app
from api.http.origins import Origins, read_origins
from api.http.protocol import Connection
from api.http.request import Watch
from api.postgres.pools import StartError
from api.server import privileges
from api.telemetry import metrics
from api.telemetry.log import Faults, Log

BACKLOG = 1024
GRACE = 20.0  # seconds that a worker gives the requests in hand: a wait for a connection and a call
WATCH_INTERVAL = 1.0  # seconds
READY_TIMEOUT = 30.0  # seconds from a worker's start until it answers
STOP_TIMEOUT = 5.0  # the same while a signal to stop waits

# Finds clients that vanished without a word: whose machine is silent, or takes nothing of what it is sent. Linux hands
# the options of a listening socket on to its connections.
FIND_THE_VANISHED = {
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE): 1,
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE): 30,  # seconds
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL): 10,  # seconds
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT): 3,
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT): 60_000,  # milliseconds
}

# What the system keeps of answers that a client has not acknowledged, for each connection; handed on, too.
SEND_BUFFER = 256 << 10  # bytes

# Have glibc give large blocks back to the system when they are freed. By default it keeps those up to the size of the
# largest one that was, and a worker stays as large as its largest requests made it.
MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(128 << 10), "MALLOC_TRIM_THRESHOLD_": str(4 << 20), "MALLOC_ARENA_MAX": "2"}

STOP_SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}


@dataclass(frozen=True)
class Settings:
    """What may be chosen for all workers.

    `open_at_first` asks for no API key until one has been made; `log_requests` says that each request has a line in the
    log, `metrics_for_all` that others than those on this machine may read the metrics, and `drain` for how many seconds
    the health check fails before a stop; `host` is what the service was told to listen on, and `cors_origins` are the
    origins whose web pages may use it. `account` is the OS user that the workers run as; ours where it is empty.
    """

    workers: int
    open_at_first: bool
    log_requests: bool
    metrics_for_all: bool
    drain: int
    host: str = "127.0.0.1"
    cors_origins: tuple[str, ...] = ()
    account: str = ""


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises StartError."""
    if port > 65535:  # the system would take the remainder
        raise StartError(f"{port} is no port: choose one from 1 to 65535")
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        sock = socket.create_server(address, family=family, backlog=BACKLOG)
    except UnicodeError as error:  # a label that is empty, or too long
        raise StartError(f"cannot listen on {host}: it is no name of a host") from error
    except OSError as error:
        # Python adds words of its own to what the system says of a port in use.
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        raise StartError(
            f"cannot listen on {host} port {port}: {reason}. LEDGER_HOST and LEDGER_PORT, or --host and --port, choose "
            "another."
        ) from error
    for (level, option), value in FIND_THE_VANISHED.items():
        sock.setsockopt(level, option, value)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
    return sock


def allow_many_connections() -> None:
    """Let this process and its workers have as many open files as the system allows: each connection is one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def supervise(
    sock: socket.socket,
    conninfo: str,
    settings: Settings,
    announcement: str,
    watch: Callable[[], None] | None = None,
) -> None:
    """Run the workers until SIGTERM, SIGINT or SIGHUP; then stop them and return. Raises StartError.

    SIGHUP that is ignored, as nohup has it, stays ignored. `watch` is called once a second, and has to return within
    seconds. A second signal cuts the time short in which the health check fails.
    """
    append_to_files()
    allow_many_connections()
    # Signals wait until sigtimedwait takes them, so none is lost between two looks.
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
    watch_at = time.monotonic() + WATCH_INTERVAL
    try:
        for number in range(settings.workers):
            running.append(start_worker(number))  # noqa: PERF401 - those that started are stopped
        print(announcement, flush=True)
        while stop_at is None or time.monotonic() < stop_at:
            interval = min(watch_at, stop_at or watch_at) - time.monotonic()
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
                    time.sleep(1)  # a worker that cannot start is no reason to spin
                    try:
                        running[number] = start_worker(number)
                    except StartError as error:  # killed at its start, say: the others go on meanwhile
                        print(f"{error}; trying again", file=sys.stderr)
            reap(running)
            if time.monotonic() >= watch_at:
                if watch:
                    watch()
                watch_at = time.monotonic() + WATCH_INTERVAL
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
        if ended is None or ended.si_pid in pids:  # a worker's end is for Popen to see, at the next look
            return
        os.waitpid(ended.si_pid, 0)


def append_to_files() -> None:
    """Have what is logged into a file come at its end, also after somebody cut it for its rotation."""
    for descriptor in (1, 2):
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
            fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | os.O_APPEND)


def start(
    sock: socket.socket, alive: int, memory: int, conninfo: str, settings: Settings, number: int
) -> subprocess.Popen[bytes]:
    """Start a worker and return once it answers. Raises StartError."""
    is_ready, ready = os.pipe()
    chosen = (settings.open_at_first, settings.log_requests, settings.metrics_for_all)
    numbers = (sock.fileno(), alive, ready, memory, *chosen, number)
    try:
        try:
            worker = subprocess.Popen(
                # -P: an `api` in the working directory is not ours.
                [sys.executable, "-P", "-m", "api.server.supervisor", *(str(int(number)) for number in numbers)],
                # The connection string may hold a password, which the command line would show to everybody.
                env=privileges.environment(os.environ, settings.account)
                | MALLOC
                | {
                    "LEDGER_WORKER_DATABASE": conninfo,
                    "LEDGER_WORKER_HOST": settings.host,
                    "LEDGER_WORKER_ORIGINS": ",".join(settings.cors_origins),
                    "LEDGER_WORKER_ACCOUNT": settings.account,
                    "SANIC_IGNORE_PRODUCTION_WARNING": "true",
                },
                stdin=subprocess.DEVNULL,
                pass_fds=[sock.fileno(), alive, ready, memory],
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
            while not (answered := selector.select(WATCH_INTERVAL)):
                if time.monotonic() - begun > (STOP_TIMEOUT if signal.sigpending() & STOP_SIGNALS else READY_TIMEOUT):
                    break
            if answered and os.read(is_ready, 1):
                return worker
        worker.kill()
        worker.wait()
        raise StartError(f"worker {number} did not start; what it said is above")
    finally:
        os.close(is_ready)


def work(
    sock: socket.socket,
    alive: int,
    ready: int,
    watch: Watch,
    open_at_first: bool,
    metrics_for_all: bool,
    conninfo: str,
    number: int,
    origins: Origins,
    account: str,
) -> None:
    """Answer requests, as the OS user `account` if that is not empty, until the supervisor stops or is gone."""
    app = create_app(conninfo, f"ledger serve {number}", watch, open_at_first, metrics_for_all, origins)
    app.config.GRACEFUL_SHUTDOWN_TIMEOUT = GRACE

    async def give_up_rights(*_: object) -> None:
        if account:
            privileges.become(account)

    # Once everything is loaded, which the account may not be able to read; before the first connection to anybody.
    app.register_listener(give_up_rights, "before_server_start", priority=1)

    stopping = False

    @app.before_server_stop
    async def note_stop(app: App) -> None:
        nonlocal stopping
        stopping = True

    def stop() -> None:
        # A stop that comes before the server's own loop runs is lost, so it is said until it is heard.
        if not stopping:
            app.stop(terminate=False)
            app.loop.call_later(0.2, stop)

    def supervisor_gone() -> None:
        app.loop.remove_reader(alive)
        stop()

    @app.after_server_start
    async def follow_supervisor(app: App) -> None:
        # What there is by now stays for good. Looking through it again and again, Python's collector would stop all
        # requests for some 15 ms each time.
        gc.collect()
        gc.freeze()
        app.loop.add_reader(alive, supervisor_gone)
        os.write(ready, b"1")
        os.close(ready)

    app.run(
        sock=sock,
        protocol=Connection,
        single_process=True,
        motd=False,
        access_log=False,
        backlog=BACKLOG,
        register_sys_signals=False,
    )


def main() -> None:
    descriptor, alive, ready, memory, open_at_first, log_requests, metrics_for_all, number = map(int, sys.argv[1:])
    # SIGTERM, SIGINT and SIGHUP stay blocked, as the supervisor had them.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
    ours = metrics.Metrics(memory, number)
    ours.begin()
    log = Log(number, bool(log_requests), memory, lambda lines: ours.add(metrics.DROPPED, number=lines))
    logging.basicConfig(level=logging.WARNING, handlers=[Faults(log)])
    conninfo = os.environ.pop("LEDGER_WORKER_DATABASE")
    sock, watch = socket.socket(fileno=descriptor), Watch(ours, log)
    hosts = (os.environ.pop("LEDGER_WORKER_HOST"), sock.getsockname()[0])
    origins = Origins(hosts, read_origins(os.environ.pop("LEDGER_WORKER_ORIGINS")))
    account = os.environ.pop("LEDGER_WORKER_ACCOUNT")
    work(sock, alive, ready, watch, bool(open_at_first), bool(metrics_for_all), conninfo, number, origins, account)


if __name__ == "__main__":
    main()
