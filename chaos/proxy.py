"""A TCP proxy whose connections can be cut and slowed down."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

PIECE = 65_536  # bytes


class Proxy:
    """Forwards connections to its port. Set `delay`, in seconds, to slow every piece down."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.delay = 0.0
        self.writers: set[asyncio.StreamWriter] = set()
        self.port = 0
        self.connections: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        server = await asyncio.start_server(self.accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            server.close()
            self.cut()
            await asyncio.gather(*self.connections)

    def cut(self) -> None:
        """Reset every connection, whatever is on its way."""
        for writer in self.writers:
            writer.transport.abort()

    def turn_to(self, target: int) -> None:
        """Forward to another port from now on, and cut the open connections."""
        self.target = target
        self.cut()

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.create_task(self.connect(reader, writer))
        self.connections.add(connection)
        connection.add_done_callback(self.connections.discard)

    async def connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        ends = {writer, far_writer}
        self.writers |= ends
        try:
            await asyncio.gather(self.pass_on(reader, far_writer), self.pass_on(far_reader, writer))
        finally:
            self.writers -= ends

    async def pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while piece := await reader.read(PIECE):
                if self.delay:
                    await asyncio.sleep(self.delay)
                writer.write(piece)
                await writer.drain()
        # Whatever ended one direction ends the other.
        writer.close()
