"""A worker's measurements, once a second and at each scrape."""

import asyncio
from collections.abc import Sequence
from typing import cast

from sanic import Request
from sanic.http import Http

from api.http.batching import CallBatches
from api.http.request import Telemetry
from api.postgres.pools import Database
from api.telemetry.metrics import (
    FEED_LAG,
    IN_FLIGHT,
    OLDEST,
    POOL_IDLE,
    POOL_SIZE,
    POOL_WAITING,
    UP,
    WAITING,
    Metric,
)

# Between two measurements, and for how long the database's answer is used again.
INTERVAL = 1.0  # seconds

ACTIVITY = "select feed_lag, oldest_transaction from ledger.activity()"


class Gauges:
    """A worker's gauges: its queues and pools, measured every second, and the database's, at a scrape."""

    def __init__(self, telemetry: Telemetry, database: Database, queues: Sequence[CallBatches]) -> None:
        self.telemetry = telemetry
        self.database = database
        self.queues = queues
        self.database_gauges: dict[Metric, float | None] = {}
        self.answered_at = -INTERVAL

    def measure_every_second(self) -> None:
        """Measure now and then every second."""
        self.measure()
        self.telemetry.log.flush()
        asyncio.get_running_loop().call_later(INTERVAL, self.measure_every_second)

    def measure(self) -> None:
        metrics = self.telemetry.metrics
        metrics.set(IN_FLIGHT, number=sum(bool(connection.http) for connection in self.telemetry.connections))
        for queue in self.queues:
            metrics.set(WAITING, queue.route.batch_function, number=len(queue.waiting))
        for name, pool in self.database.pools.items():
            stats = pool.get_stats()
            metrics.set(POOL_SIZE, name, number=stats["pool_size"])
            metrics.set(POOL_IDLE, name, number=stats["pool_available"])
            metrics.set(POOL_WAITING, name, number=stats["requests_waiting"])

    async def text(self, request: Request) -> bytes:
        """Return the metrics for a scrape, in time even if the database does not answer."""
        self.telemetry.connections = cast("Http", request.stream).protocol.connections
        now = asyncio.get_running_loop().time()
        if now - self.answered_at >= INTERVAL:
            answer = await self.database.activity.ask(ACTIVITY)
            lag, oldest = (None if value is None else float(value) for value in answer or (None, None))
            self.database_gauges = {UP: float(answer is not None), FEED_LAG: lag, OLDEST: oldest}
            self.answered_at = now
        self.measure()
        return self.telemetry.metrics.text(self.database_gauges)
