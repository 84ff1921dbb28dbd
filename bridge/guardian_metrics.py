"""Count what `ledger guardian` does, and write it for node exporter's textfile collector."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from prometheus_client import Metric as Family
from prometheus_client.registry import Collector

from api.telemetry.metrics import Metric, family_of

HEAD = Metric("ledger_guardian_head_timestamp_seconds", "gauge", "time of the newest block, in seconds since 1970")
ROUND = Metric(
    "ledger_guardian_round_timestamp_seconds",
    "gauge",
    "when the last complete look at the chain ended, in seconds since 1970; 0 before it",
)
DECIDED = Metric(
    "ledger_guardian_roots_total", "counter", "roots that were found clean, unclean or withheld", ("outcome",)
)
PENDING = Metric("ledger_guardian_roots_pending", "gauge", "roots that are not decided yet")
VETOES = Metric("ledger_guardian_vetoes_total", "counter", "vetoes that were sent")
UNCHECKED = Metric(
    "ledger_guardian_roots_unchecked_total", "counter", "roots that became ripe without having been found clean"
)
FAILED = Metric(
    "ledger_guardian_failures_total", "counter", "looks at the chain, vetoes and writings of files that failed"
)
BALANCE = Metric("ledger_guardian_balance_ether", "gauge", "what the key has for the gas of vetoes")
SHOWN = (HEAD, ROUND, DECIDED, PENDING, VETOES, UNCHECKED, FAILED, BALANCE)

OUTCOMES = ("clean", "unclean", "withheld")


@dataclass(eq=False)
class GuardianMetrics(Collector):
    """The numbers of one process. Times are seconds since 1970."""

    head_at: float = 0.0
    round_at: float = 0.0
    decided: Counter[str] = field(default_factory=Counter)
    pending: int = 0
    vetoes: int = 0
    unchecked: int = 0
    failed: int = 0
    balance: int = 0  # wei

    def collect(self) -> Iterator[Family]:
        for metric, number in (
            (HEAD, self.head_at),
            (ROUND, self.round_at),
            (PENDING, self.pending),
            (VETOES, self.vetoes),
            (UNCHECKED, self.unchecked),
            (FAILED, self.failed),
            (BALANCE, self.balance / 10**18),
        ):
            family = family_of(metric)
            family.add_metric([], number)
            yield family
        family = family_of(DECIDED)
        for outcome in OUTCOMES:
            family.add_metric([outcome], self.decided[outcome])
        yield family
