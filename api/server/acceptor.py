"""Accept connections so that every worker has its share of them.

A new connection wakes every worker that polls the socket, and the server of an event loop accepts all that wait before
it does anything else: of 64 connections opened at once the first worker to wake up got 62. Here a worker accepts one at
a time, and one that has more than its share leaves the next connection to the others for a moment. The kernel keeps
connections that no worker has accepted, so none is lost with a worker. A worker that hangs delays a connection by the
moment, and no longer.
"""

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Any

import uvloop

logger = logging.getLogger("ledger")

MOMENT = 0.001  # seconds
PAUSE_AFTER_ERROR = 1.0  # seconds; an error such as too many open files
LEAD = 16  # a worker is ahead that has one connection more than another, or a sixteenth more

Ahead = Callable[[], bool]


def is_ahead(own: float, least: float) -> bool:
    """Return whether a worker with so many connections leaves the next one to the worker with the least."""
    return own > least + least // LEAD


class Acceptor:
    """Accepts a socket's connections, unless this worker is ahead of the others; what Sanic needs of a server."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        ahead: Ahead,
    ) -> None:
        self.loop = loop
        self.sock = sock
        self.protocol_factory = protocol_factory
        self.ahead = ahead
        self.pause: asyncio.TimerHandle | None = None
        self.opening: set[asyncio.Task[Any]] = set()
        sock.setblocking(False)
        self.poll()

    def poll(self) -> None:
        self.loop.add_reader(self.sock, self.accept_unless_ahead)

    def accept_unless_ahead(self) -> None:
        if self.ahead():
            self.wait(MOMENT)
        else:
            self.accept()

    def wait(self, seconds: float) -> None:
        """Leave connections to the other workers, and then take one that is still there."""
        self.loop.remove_reader(self.sock)
        self.pause = self.loop.call_later(seconds, self.go_on)

    def go_on(self) -> None:
        self.pause = None
        self.poll()
        self.accept()

    def accept(self) -> None:
        try:
            connection, _ = self.sock.accept()
        except (BlockingIOError, ConnectionAbortedError):  # another worker has it, or its client has gone
            return
        except OSError:
            logger.exception("a connection cannot be accepted")
            self.wait(PAUSE_AFTER_ERROR)
            return
        connection.setblocking(False)
        task = self.loop.create_task(self.loop.connect_accepted_socket(self.protocol_factory, connection))
        self.opening.add(task)
        task.add_done_callback(self.opening.discard)

    def close(self) -> None:
        if self.pause:
            self.pause.cancel()
        self.loop.remove_reader(self.sock)
        self.sock.close()

    async def wait_closed(self) -> None:
        if self.opening:
            await asyncio.wait(self.opening)


class Loop(uvloop.Loop):
    """An event loop whose server shares the connections of its socket with other workers."""

    def __init__(self, ahead: Ahead) -> None:
        super().__init__()
        self.ahead = ahead

    async def create_server(  # type: ignore[override]
        self, protocol_factory: Callable[[], asyncio.BaseProtocol], *_: object, sock: socket.socket, **__: object
    ) -> Acceptor:
        return Acceptor(self, sock, protocol_factory, self.ahead)


class Policy(uvloop.EventLoopPolicy):  # type: ignore[misc]
    """Gives Sanic the event loop."""

    def __init__(self, ahead: Ahead) -> None:
        super().__init__()
        self.ahead = ahead

    def new_event_loop(self) -> Loop:
        return Loop(self.ahead)
