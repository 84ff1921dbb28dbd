"""What a worker measures once a second, and at each scrape."""

import asyncio
from collections.abc import Sequence
from typing import cast

from sanic import Request
from sanic.http import Http

from api.http.batching import SharedCalls
from api.http.request import Watch
from api.postgres.pools import Database
from api.telemetry.metrics import FEED_LAG, IN_FLIGHT, OLDEST, POOL_IDLE, POOL_SIZE, POOL_WAITING, UP, WAITING, Told

# How often what is looked at and not counted is, and how long what the database said of itself is told again.
INTERVAL = 1.0  # seconds

ACTIVITY = "select feed_lag, oldest_transaction from ledger.activity()"


class Gauges:
    """What a worker looks at: its queues and its pools every second, and at a scrape the database."""

    def __init__(self, watch: Watch, database: Database, queues: Sequence[SharedCalls]) -> None:
        self.watch = watch
        self.database = database
        self.queues = queues
        self.asked: dict[Told, float | None] = {}
        self.asked_at = -INTERVAL

    def look_again(self) -> None:
        """Look, and every second from now on."""
        self.look()
        self.watch.log.flush()
        asyncio.get_running_loop().call_later(INTERVAL, self.look_again)

    def look(self) -> None:
        metrics = self.watch.metrics
        metrics.set(IN_FLIGHT, number=sum(bool(connection.http) for connection in self.watch.connections))
        for queue in self.queues:
            metrics.set(WAITING, queue.route.together, number=len(queue.waiting))
        for name, pool in self.database.pools.items():
            stats = pool.get_stats()
            metrics.set(POOL_SIZE, name, number=stats["pool_size"])
            metrics.set(POOL_IDLE, name, number=stats["pool_available"])
            metrics.set(POOL_WAITING, name, number=stats["requests_waiting"])

    async def text(self, request: Request) -> bytes:
        """The answer to a scrape, in time whatever the database does."""
        self.watch.connections = cast("Http", request.stream).protocol.connections
        now = asyncio.get_running_loop().time()
        if now - self.asked_at >= INTERVAL:
            answer = await self.database.activity.ask(ACTIVITY)
            lag, oldest = (None if value is None else float(value) for value in answer or (None, None))
            self.asked = {UP: float(answer is not None), FEED_LAG: lag, OLDEST: oldest}
            self.asked_at = now
        self.look()
        return self.watch.metrics.text(self.asked)
