"""Count what the bridge does, for node exporter's textfile collector."""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field

from prometheus_client import Metric as Family
from prometheus_client.registry import Collector

from api.telemetry.metrics import Metric, family_of

OLDEST = 20  # groups that have a series of their own

ROUND = Metric(
    "ledger_bridge_round_timestamp_seconds",
    "gauge",
    "when the last complete round ended, in seconds since 1970; 0 before it",
)
FOLLOWED = Metric(
    "ledger_bridge_followed_timestamp_seconds",
    "gauge",
    "the time of the final block up to which all groups are followed, in seconds since 1970; 0 before it",
)
LAG = Metric("ledger_bridge_lag_blocks", "gauge", "how many blocks that block is behind the newest one")
ROOT = Metric(
    "ledger_bridge_ripe_root_timestamp_seconds",
    "gauge",
    f"when the last ripe root of a group that holds something was published, or since when it holds it without a root, "
    f"in seconds since 1970: the {OLDEST} oldest groups",
    ("group",),
)
SILENT = Metric(
    "ledger_bridge_silence_timestamp_seconds",
    "gauge",
    f"when the silence of that group ends and anybody may declare an emergency, in seconds since 1970: the {OLDEST} "
    f"next groups",
    ("group",),
)
REQUESTS = Metric("ledger_bridge_open_requests", "gauge", "exits that were requested at the vault and are not paid")
EXITS = Metric("ledger_bridge_open_exits", "gauge", "exits that are not paid, the requested ones included")
TRANSACTIONS = Metric("ledger_bridge_open_transactions", "gauge", "transactions that were sent and are not final")
BALANCE = Metric("ledger_bridge_balance_ether", "gauge", "what a key has to pay fees with", ("key",))
CEILING = Metric("ledger_bridge_at_fee_ceiling", "gauge", "1 while a transaction waits because fees exceed the ceiling")
FAILED = Metric("ledger_bridge_failures_total", "counter", "rounds that failed and were tried again")
HALTED = Metric("ledger_bridge_halted", "gauge", "1 after the bridge has halted", ("reason",))

SHOWN = (
    *(ROUND, FOLLOWED, LAG, ROOT, SILENT, REQUESTS, EXITS, TRANSACTIONS, BALANCE, CEILING, FAILED),
    HALTED,
)


@dataclass(eq=False)
class BridgeMetrics(Collector):
    """The numbers of one process. Times are in seconds since 1970, by the chain's clock but for the round's."""

    round_at: float = 0.0
    followed: float = 0.0
    lag: int = 0
    roots: dict[int, int] = field(default_factory=dict)  # by group
    silent: dict[int, int] = field(default_factory=dict)
    requests: int = 0
    exits: int = 0
    transactions: int = 0
    balances: dict[str, int] = field(default_factory=dict)  # wei by key
    at_ceiling: bool = False
    failed: int = 0
    halted: str | None = None  # the reason

    def collect(self) -> Iterator[Family]:
        for metric, number in (
            (ROUND, self.round_at),
            (FOLLOWED, self.followed),
            (LAG, self.lag),
            (REQUESTS, self.requests),
            (EXITS, self.exits),
            (TRANSACTIONS, self.transactions),
            (CEILING, int(self.at_ceiling)),
            (FAILED, self.failed),
        ):
            family = family_of(metric)
            family.add_metric([], number)
            yield family
        for metric, times in ((ROOT, self.roots), (SILENT, self.silent)):
            family = family_of(metric)
            for at, group in heapq.nsmallest(OLDEST, ((at, group) for group, at in times.items())):
                family.add_metric([str(group)], at)
            yield family
        family = family_of(BALANCE)
        for key, wei in self.balances.items():
            family.add_metric([key], wei / 10**18)
        yield family
        family = family_of(HALTED)
        family.add_metric([self.halted or ""], int(self.halted is not None))
        yield family
