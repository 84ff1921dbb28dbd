"""Count in memory that the supervisor and its workers share, and format the metrics for Prometheus.

Each process has a row of numbers that it alone writes, without a lock: a worker the row of its number, the supervisor
the last. Whichever worker answers a scrape adds the rows up. A worker that dies leaves its counts in its row, and its
replacement continues from them. The memory has no name in any folder and ends with its processes, so a kill leaves
nothing to clean up.

prometheus-client writes the text format. Its own way with several processes, a file for each metric and process in a
folder, keeps the files of all that have died, and takes 5.6 microseconds to count a request where this takes 0.7.
"""

import fcntl
import mmap
import os
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

from prometheus_client import CollectorRegistry
from prometheus_client import Metric as Family
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from api.problems import PROBLEMS
from api.routes import DESCRIPTION, DOCS, LIVE, METRICS, ROUTES

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# All unknown values share one label, so that no client can create new ones.
OTHER = "other"
PATHS = (*dict.fromkeys(route.path for route in ROUTES), LIVE, METRICS, DESCRIPTION, DOCS, OTHER)
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", OTHER)
CLIENT_GONE = 499  # the client did not wait for the answer
STATUSES = (200, 201, 204, 304, CLIENT_GONE, *sorted({status for status, _ in PROBLEMS.values()}), OTHER)
BATCH_FUNCTIONS = tuple(route.batch_function for route in ROUTES if route.batch_function)
POOLS = ("call", "read", "shared", "shared read", "access", "new key", "feed")

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
REQUESTS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0)


@dataclass(frozen=True, eq=False)
class Metric:
    """A metric. `values` are those that each label may have; `bounds` a histogram's upper ones."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    meaning: str
    labels: tuple[str, ...] = ()
    values: tuple[tuple[object, ...], ...] = ()
    bounds: tuple[float, ...] = ()


ANSWERED = Metric(
    "ledger_requests_total",
    "counter",
    "requests answered",
    ("route", "method", "status"),
    (PATHS, METHODS, STATUSES),
)
DURATION = Metric(
    "ledger_request_duration_seconds",
    "histogram",
    "from a request's head to its answer",
    ("route",),
    (PATHS,),
    SECONDS,
)
CONNECTIONS = Metric("ledger_connections", "gauge", "connections of clients")
IN_FLIGHT = Metric("ledger_requests_in_flight", "gauge", "requests that are being answered")
REFUSED = Metric("ledger_problems_total", "counter", "problems answered", ("code",), (tuple(PROBLEMS),))
WAITING = Metric(
    "ledger_shared_calls_waiting", "gauge", "requests that wait for a shared call", ("function",), (BATCH_FUNCTIONS,)
)
BATCH_SIZE = Metric(
    "ledger_shared_call_requests",
    "histogram",
    "requests in one shared call",
    ("function",),
    (BATCH_FUNCTIONS,),
    REQUESTS,
)
POOL_SIZE = Metric("ledger_pool_connections", "gauge", "connections to the database", ("pool",), (POOLS,))
POOL_IDLE = Metric("ledger_pool_available", "gauge", "connections that nobody uses", ("pool",), (POOLS,))
POOL_WAITING = Metric("ledger_pool_waiting", "gauge", "requests that wait for a connection", ("pool",), (POOLS,))
STARTS = Metric("ledger_worker_starts_total", "counter", "workers started, those in place of dead ones included")
DRAINING = Metric("ledger_draining", "gauge", "1 from the signal to stop until it stops listening")
DROPPED = Metric("ledger_log_lines_dropped_total", "counter", "lines that the log's reader did not take in time")
UP = Metric("ledger_database_up", "gauge", "1 when the database answered this scrape")
FEED_LAG = Metric(
    "ledger_feed_lag_seconds", "gauge", "how long the oldest entry that the feed cannot return yet has waited"
)
OLDEST = Metric("ledger_oldest_transaction_seconds", "gauge", "for how long the oldest transaction has been open")

# They are shown in this order. The last ones are the database's, asked for at a scrape.
KEPT = (
    *(ANSWERED, DURATION, CONNECTIONS, IN_FLIGHT, REFUSED, WAITING, BATCH_SIZE, POOL_SIZE, POOL_IDLE, POOL_WAITING),
    *(STARTS, DRAINING, DROPPED),
)
ASKED = (UP, FEED_LAG, OLDEST)

Labels = tuple[object, ...]


def combinations(values: Sequence[tuple[object, ...]]) -> list[Labels]:
    if not values:
        return [()]
    return [(value, *rest) for value in values[0] for rest in combinations(values[1:])]


def layout() -> tuple[dict[Metric, dict[Labels, int]], int]:
    """Return the place in a row of each metric's number for each set of labels, and how many numbers a row has.

    A histogram has several, of which it is the first: a count for each bucket, the unbounded one included, and the sum.
    """
    places: dict[Metric, dict[Labels, int]] = {}
    end = 0
    for metric in KEPT:
        width = len(metric.bounds) + 2 if metric.kind == "histogram" else 1
        places[metric] = {}
        for labels in combinations(metric.values):
            places[metric][labels] = end
            end += width
    return places, end


PLACES, WIDTH = layout()
ROW = -(-WIDTH * 8 // mmap.PAGESIZE) * mmap.PAGESIZE  # bytes

REQUESTS_AT = PLACES[ANSWERED]
DURATION_AT = {path: place for (path,), place in PLACES[DURATION].items()}
SUM_OF_SECONDS = len(SECONDS) + 1


def share(workers: int) -> int:
    """Create zeroed memory for so many workers and their supervisor; return its descriptor."""
    descriptor = os.memfd_create("ledger metrics", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.truncate(descriptor, ROW * (workers + 1))
    # A worker that was taken over cannot take it away from the others.
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
    return descriptor


class Metrics:
    """The numbers of one process, and a look at those of all."""

    def __init__(self, descriptor: int, number: int) -> None:
        """`number` is the worker's; -1 means the supervisor."""
        self.memory = mmap.mmap(descriptor, os.fstat(descriptor).st_size)
        numbers = memoryview(self.memory).cast("d")
        self.rows = [numbers[first : first + WIDTH] for first in range(0, len(numbers), ROW // 8)]
        self.row = self.rows[number]

    def begin(self) -> None:
        """Take over the row of the worker before: keep its counters, and reset its gauges."""
        for metric in KEPT:
            if metric.kind == "gauge":
                for place in PLACES[metric].values():
                    self.row[place] = 0

    def add(self, metric: Metric, *labels: object, number: float = 1) -> None:
        self.row[PLACES[metric][labels]] += number

    def set(self, metric: Metric, *labels: object, number: float) -> None:
        self.row[PLACES[metric][labels]] = number

    def observe(self, metric: Metric, *labels: object, number: float) -> None:
        place = PLACES[metric][labels]
        self.row[place + bisect_left(metric.bounds, number)] += 1
        self.row[place + len(metric.bounds) + 1] += number

    def answered(self, path: str, method: str, status: int, seconds: float) -> None:
        """Count a request of one of PATHS and METHODS. Inlined, because it runs for each request."""
        row = self.row
        place = REQUESTS_AT.get((path, method, status))
        row[REQUESTS_AT[(path, method, OTHER)] if place is None else place] += 1
        place = DURATION_AT[path]
        row[place + bisect_left(SECONDS, seconds)] += 1
        row[place + SUM_OF_SECONDS] += seconds

    def own_and_least(self, gauge: Metric) -> tuple[float, float]:
        """Return this worker's number, and the least of all workers'."""
        place = PLACES[gauge][()]
        return self.row[place], min(row[place] for row in self.rows[:-1])

    def total(self, place: int) -> float:
        return sum(row[place] for row in self.rows)

    @property
    def draining(self) -> bool:
        """Whether the supervisor will stop after the drain time."""
        return self.rows[-1][PLACES[DRAINING][()]] > 0

    def text(self, asked: Mapping[Metric, float | None]) -> bytes:
        """All metrics in Prometheus' text format; `asked` has those of the database, None where they are not known."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(Scrape(self, asked))
        return generate_latest(registry)


@dataclass(frozen=True, eq=False)
class Scrape(Collector):
    """Collects the metrics of one scrape."""

    metrics: Metrics
    asked: Mapping[Metric, float | None]

    def collect(self) -> Iterator[Family]:
        for metric in KEPT:
            if metric.kind == "histogram":
                yield self.histogram(metric)
                continue
            family = family_of(metric)
            for labels, place in PLACES[metric].items():
                number = self.metrics.total(place)
                # Of the thousands of sets of labels that a request can have, most never come.
                if number or metric is not ANSWERED:
                    family.add_metric([str(label) for label in labels], number)
            yield family
        for metric in ASKED:
            known = self.asked.get(metric)
            if known is not None:
                family = family_of(metric)
                family.add_metric([], known)
                yield family

    def histogram(self, metric: Metric) -> HistogramMetricFamily:
        family = HistogramMetricFamily(metric.name, metric.meaning, labels=metric.labels)
        bounds = [*map(str, metric.bounds), "+Inf"]
        for labels, first in PLACES[metric].items():
            counts = list(accumulate(self.metrics.total(first + place) for place in range(len(bounds))))
            if counts[-1]:
                buckets = list(zip(bounds, counts, strict=True))
                family.add_metric([str(label) for label in labels], buckets, self.metrics.total(first + len(bounds)))
        return family


def family_of(metric: Metric) -> CounterMetricFamily | GaugeMetricFamily:
    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    return kind(metric.name, metric.meaning, labels=metric.labels)
