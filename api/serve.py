"""Processes: a supervisor that owns the listening socket, and workers that answer on it.

The workers share nothing but the socket. One that dies is replaced. SIGTERM and SIGINT are for the supervisor alone:
the workers do not hear them, because a service manager signals every process, and a second signal would cut a stop
short. They stop when the supervisor's end of a pipe is closed, by it or by its death, and finish the requests in hand.
"""

import gc
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable

from api.app import App, create_app
from api.database import StartError

BACKLOG = 1024
GRACE = 20.0  # seconds that a worker gives the requests in hand: a wait for a connection and a call
WATCH_INTERVAL = 1.0  # seconds
READY_TIMEOUT = 30.0  # seconds from a worker's start until it answers

STOP_SIGNALS = {signal.SIGTERM, signal.SIGINT}


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises StartError."""
    if port > 65535:  # the system would take the remainder
        raise StartError(f"{port} is no port: choose one from 1 to 65535")
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address, family=family, backlog=BACKLOG)
    except OSError as error:
        # Python adds words of its own to what the system says of a port in use.
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        raise StartError(
            f"cannot listen on {host} port {port}: {reason}. HOST and PORT, or --host and --port, choose another."
        ) from error


def supervise(
    sock: socket.socket,
    conninfo: str,
    workers: int,
    open_at_first: bool,
    announcement: str,
    watch: Callable[[], None] | None = None,
) -> None:
    """Run the workers until SIGTERM or SIGINT; then stop them and return. Raises StartError.

    `open_at_first` asks for no API key until one has been made; `watch` is called once a second.
    """
    # Signals wait until sigtimedwait takes them, so none is lost between two looks.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS | {signal.SIGCHLD})
    alive, supervisor_alive = os.pipe()  # the workers stop at the end of it
    running: list[subprocess.Popen[bytes]] = []
    try:
        for number in range(workers):
            running.append(start(sock, alive, conninfo, number, open_at_first))  # noqa: PERF401 - those that started are stopped
        print(announcement, flush=True)
        while True:
            received = signal.sigtimedwait(STOP_SIGNALS | {signal.SIGCHLD}, WATCH_INTERVAL)
            if received is None:
                if watch:
                    watch()
                continue
            if received.si_signo in STOP_SIGNALS:
                return
            for number, worker in enumerate(running):
                if worker.poll() is not None:
                    print(f"worker {number} ended with {worker.returncode}; starting another", file=sys.stderr)
                    time.sleep(1)  # a worker that cannot start is no reason to spin
                    running[number] = start(sock, alive, conninfo, number, open_at_first)
    finally:
        sock.close()
        os.close(supervisor_alive)
        for worker in running:
            try:
                worker.wait(GRACE + 5)
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()
        os.close(alive)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS | {signal.SIGCHLD})


def start(sock: socket.socket, alive: int, conninfo: str, number: int, open_at_first: bool) -> subprocess.Popen[bytes]:
    """Start a worker and return once it answers. Raises StartError."""
    is_ready, ready = os.pipe()
    arguments = [sock.fileno(), alive, ready, int(open_at_first), number]
    try:
        worker = subprocess.Popen(
            # -P: an `api` in the working directory is not ours.
            [sys.executable, "-P", "-m", "api.serve", *map(str, arguments)],
            # The connection string may hold a password, which the command line would show to everybody.
            env=os.environ | {"LEDGER_WORKER_DATABASE": conninfo, "SANIC_IGNORE_PRODUCTION_WARNING": "true"},
            stdin=subprocess.DEVNULL,
            pass_fds=[sock.fileno(), alive, ready],
            process_group=0,  # a terminal's Ctrl-C goes to the supervisor
        )
        os.close(ready)
        with selectors.DefaultSelector() as selector:
            selector.register(is_ready, selectors.EVENT_READ)
            if selector.select(READY_TIMEOUT) and os.read(is_ready, 1):
                return worker
        worker.kill()
        worker.wait()
        raise StartError(f"worker {number} did not start; what it said is above")
    finally:
        os.close(is_ready)


def work(sock: socket.socket, alive: int, ready: int, conninfo: str, number: int, open_at_first: bool) -> None:
    """Answer requests until the supervisor stops or is gone."""
    app = create_app(conninfo, f"ledger serve {number}", open_at_first)
    app.config.GRACEFUL_SHUTDOWN_TIMEOUT = GRACE

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

    app.run(sock=sock, single_process=True, motd=False, access_log=False, backlog=BACKLOG, register_sys_signals=False)


def main() -> None:
    descriptor, alive, ready, open_at_first, number = map(int, sys.argv[1:])
    # SIGTERM and SIGINT stay blocked, as the supervisor had them.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
    conninfo = os.environ.pop("LEDGER_WORKER_DATABASE")
    work(socket.socket(fileno=descriptor), alive, ready, conninfo, number, bool(open_at_first))


if __name__ == "__main__":
    main()
