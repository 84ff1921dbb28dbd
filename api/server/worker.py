"""A worker process: answers requests until the supervisor stops it or is gone."""

import gc
import logging
import os
import signal
import socket
import sys

from api.http.app import App, create_app
from api.http.origins import Origins, read_origins
from api.http.protocol import Connection
from api.http.request import Watch
from api.server import privileges
from api.server.listener import BACKLOG
from api.server.settings import GRACE
from api.telemetry import metrics
from api.telemetry.log import Faults, Log


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
