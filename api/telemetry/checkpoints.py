"""Count what `ledger checkpoint --all` does."""

import heapq
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate

from prometheus_client import Metric as Family
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

from api.telemetry.metrics import Metric, family_of

OLDEST = 20  # groups that have a series of their own

DURATION = Metric(
    "ledger_checkpoint_duration_seconds",
    "histogram",
    "how long a checkpoint took",
    bounds=(0.01, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0),
)
FAILED = Metric(
    "ledger_checkpoint_failures_total", "counter", "checkpoints, deletions of leaves and connections that failed"
)
ROUND = Metric(
    "ledger_checkpoint_round_timestamp_seconds",
    "gauge",
    "when the last complete round of all groups ended, in seconds since 1970; 0 before it",
)
COVERED = Metric(
    "ledger_checkpoint_covered_timestamp_seconds",
    "gauge",
    f"up to when the newest checkpoint has what moved, in seconds since 1970: the {OLDEST} oldest groups",
    ("group",),
)
SHOWN = (DURATION, FAILED, ROUND, COVERED)


@dataclass(eq=False)
class CheckpointMetrics(Collector):
    """The numbers of one process. Times are those of time.time()."""

    durations: list[int] = field(default_factory=lambda: [0] * (len(DURATION.bounds) + 1))
    seconds: float = 0.0
    failed: int = 0
    round_at: float = 0.0
    covered: list[tuple[float, int]] = field(default_factory=list)  # time and group, the oldest first

    def made(self, seconds: float) -> None:
        self.durations[bisect_left(DURATION.bounds, seconds)] += 1
        self.seconds += seconds

    def complete(self, at: float, covered: list[tuple[float, int]]) -> None:
        """Note the end of a round, and up to when its oldest groups are covered."""
        self.round_at = at
        self.covered = covered

    def collect(self) -> Iterator[Family]:
        bounds = [*map(str, DURATION.bounds), "+Inf"]
        buckets = list(zip(bounds, accumulate(self.durations), strict=True))
        yield HistogramMetricFamily(DURATION.name, DURATION.meaning, buckets, self.seconds)
        for metric, number in ((FAILED, self.failed), (ROUND, self.round_at)):
            family = family_of(metric)
            family.add_metric([], number)
            yield family
        family = family_of(COVERED)
        for at, group in self.covered:
            family.add_metric([str(group)], at)
        yield family


def oldest(covered: Iterable[tuple[float, int]]) -> list[tuple[float, int]]:
    """The oldest of these times, with their groups."""
    return heapq.nsmallest(OLDEST, covered)
