"""Run one worker process: answer requests until the supervisor stops or dies."""

import asyncio
import gc
import logging
import os
import signal
import socket
import sys

from api.http.app import App, create_app
from api.http.origins import Origins
from api.http.protocol import Connection
from api.http.request import Telemetry
from api.server import privileges
from api.server.acceptor import Policy, is_ahead
from api.server.listener import BACKLOG
from api.server.settings import GRACE, WORKER_SETTINGS, WorkerSettings
from api.telemetry import metrics
from api.telemetry.log import ErrorLogHandler, Log


def work(number: int, given: WorkerSettings) -> None:
    """Answer requests until the supervisor stops or dies."""
    settings = given.service
    sock = socket.socket(fileno=given.listener)
    counters = metrics.Metrics(given.memory, number)
    counters.begin()
    log = Log(number, settings.log_requests, given.memory, lambda lines: counters.add(metrics.DROPPED, number=lines))
    logging.basicConfig(level=logging.WARNING, handlers=[ErrorLogHandler(log)])
    app = create_app(
        given.conninfo,
        f"ledger serve {number}",
        Telemetry(counters, log),
        settings.open_at_first,
        settings.metrics_for_all,
        Origins((settings.host, sock.getsockname()[0]), settings.cors_origins),
    )
    app.config.GRACEFUL_SHUTDOWN_TIMEOUT = GRACE

    async def give_up_rights(*_: object) -> None:
        if settings.account:
            privileges.become(settings.account)

    # After all modules are loaded, which the account may not be able to read; before the first connection is opened.
    app.register_listener(give_up_rights, "before_server_start", priority=1)

    stopping = False

    @app.before_server_stop
    async def note_stop(app: App) -> None:
        nonlocal stopping
        stopping = True

    def stop() -> None:
        # Sanic ignores a stop before its own loop runs, so it is repeated until the server stops.
        if not stopping:
            app.stop(terminate=False)
            app.loop.call_later(0.2, stop)

    def supervisor_gone() -> None:
        app.loop.remove_reader(given.alive)
        stop()

    @app.after_server_start
    async def follow_supervisor(app: App) -> None:
        # The objects that exist now are permanent. Scanning them, Python's collector would stop all requests for some
        # 15 ms each time.
        gc.collect()
        gc.freeze()
        app.loop.add_reader(given.alive, supervisor_gone)
        os.write(given.ready, b"1")
        os.close(given.ready)

    def ahead() -> bool:
        return is_ahead(*counters.own_and_least(metrics.CONNECTIONS))

    if settings.workers > 1:
        asyncio.set_event_loop_policy(Policy(ahead))
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
    """Run the worker whose number is the argument, with the settings that the environment holds."""
    # SIGTERM, SIGINT and SIGHUP stay blocked, as the supervisor had them.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
    work(int(sys.argv[1]), WorkerSettings.from_json(os.environ.pop(WORKER_SETTINGS)))


if __name__ == "__main__":
    main()
