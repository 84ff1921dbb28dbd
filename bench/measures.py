"""The measurements, and the figures to reach."""

import random
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from api.postgres import embedded
from bench import checkpoints
from bench.hostile import ATTACKS, under_attack
from bench.ledgers import Ledger
from bench.load import (
    BenchError,
    Group,
    NothingAnswered,
    Outcome,
    Server,
    from_one,
    lines,
    request,
    send,
    spread,
    transfers,
)

Figures = dict[str, float]

PEAK_SHARE = 0.7  # of the highest rate, at which an open loop looks at the times
OPEN_CONNECTIONS = 512
PAGE = 100  # rows
CLIENTS = 16  # of pgbench
FAST = 20_000  # requests a second that no measure exceeds
FEW, MANY = 100_000, 1_000_000  # transfers after which a worker's memory is looked at
# The first time at the end of a round: by then it has seen every kind of request.
MEMORY_AFTER_FEW, MEMORY_AFTER_MANY = (f"memory of the worker after {count:,} transfers [MiB]" for count in (FEW, MANY))


@dataclass
class Bench:
    """The ledgers and the machine that a run measures."""

    ledger: Ledger
    two_workers: Ledger  # the same one, on another port
    baseline: Server  # the web server without a ledger
    groups: list[Group]  # 10 of 10,000
    small: list[Group]  # 1,000 of 100
    joins: Group  # whose participants come and go
    leaves: Group  # of which checkpoints are made
    seconds: int  # of a measure
    sent: int = 0  # single transfers over HTTP to the one worker
    # The worker's memory so far, in MiB.
    memory: Figures = field(default_factory=dict)

    def transfer(
        self,
        connections: int,
        pairs: Iterator[tuple[int, int, int]],
        keyed: bool = False,
        rate: float = 0,
        ledger: Ledger | None = None,
    ) -> Outcome:
        count = FAST * self.seconds if keyed else 20_000
        requests = transfers(pairs, count, keyed)
        ledger = ledger or self.ledger
        server = ledger.server
        outcome = send(server, requests, OPEN_CONNECTIONS if rate else connections, self.seconds, rate, once=keyed)
        if ledger is self.ledger:
            self.sent += int(outcome.rate * self.seconds)
        return outcome

    def look_at_memory(self, name: str) -> None:
        self.memory.setdefault(name, self.ledger.worker.memory_info().rss / 2**20)

    def get(self, server: Server, paths: list[str], connections: int = 64) -> Outcome:
        return send(server, [request("GET", path) for path in paths], connections, self.seconds)

    def pgbench(
        self, *options: str, script: str = "", clients: int = CLIENTS, database: str = embedded.DATABASE
    ) -> float:
        """Transactions a second."""
        with tempfile.NamedTemporaryFile("w") as file:
            file.write(script)
            file.flush()
            command = [str(embedded.binaries() / "pgbench"), "-n", "-M", "prepared"]
            command += ["-c", str(clients), "-j", str(min(clients, 2))]
            command += ["-T", str(self.seconds), *options, *(["-f", file.name] if script else [])]
            done = subprocess.run(
                [*command, embedded.url(self.ledger.data, database=database)],
                capture_output=True,
                text=True,
                check=False,
            )
        rate = re.search(r"tps = ([0-9.]+)", done.stdout)
        failed = re.search(r"number of failed transactions: ([0-9]+)", done.stdout)
        if done.returncode or not rate or (failed and failed[1] != "0"):
            raise BenchError(f"pgbench failed: {done.stderr or done.stdout}")
        return float(rate[1])


def calling_transfer(groups: list[Group], one: bool) -> str:
    """pgbench's script for ledger.transfer."""
    first, size = groups[0], groups[0].last - groups[0].first + 1
    for number, group in enumerate(groups):
        if (group.id, group.first, group.last) != (
            first.id + number,
            first.first + number * size,
            first.last + number * size,
        ):
            raise BenchError("the groups' ids do not follow each other")
    return f"""
        \\set number random(0, {0 if one else len(groups) - 1})
        \\set group {first.id} + :number
        \\set first {first.first} + :number * {size}
        \\set place {0 if one else f"random(0, {size - 1})"}
        \\set from :first + :place
        \\set to :first + mod(:place + random(1, {size - 1}), {size})
        select * from ledger.transfer(:group, :from, :to, 1);
    """


def first_eight(groups: list[Group]) -> Group:
    """The first participants of the first group, as a group of their own."""
    return Group(groups[0].id, groups[0].first, groups[0].first + 7)


def measure_baseline(bench: Bench) -> Figures:
    return {
        "Sanic constant, 64 connections": bench.get(bench.baseline, ["/constant"]).rate,
        "Sanic constant, 256 connections": bench.get(bench.baseline, ["/constant"], 256).rate,
        "Sanic, select 1 through a pool, 64 connections": bench.get(bench.baseline, ["/select"]).rate,
    }


def measure_pgbench(bench: Bench) -> Figures:
    return {
        "pgbench tpcb-like, 16 clients": bench.pgbench("-b", "tpcb-like", database="pgbench"),
        "pgbench transfer, 16 clients": bench.pgbench(script=calling_transfer(bench.groups, one=False)),
        "pgbench transfer, 16 clients, from one": bench.pgbench(script=calling_transfer(bench.groups, one=True)),
        "pgbench transfer, 1 client": bench.pgbench(script=calling_transfer(bench.groups, one=False), clients=1),
    }


def costs(bench: Bench, ledger: Ledger, connections: int) -> tuple[Outcome, list[float]]:
    """Make transfers; for each of them CPU us of the workers and of PostgreSQL, and bytes of WAL."""
    before = ledger.used()
    outcome = bench.transfer(connections, spread(bench.groups), ledger=ledger)
    worker, server, wal = (after - before for before, after in zip(before, ledger.used(), strict=True))
    made = outcome.rate * bench.seconds
    return outcome, [1e6 * worker / made, 1e6 * server / made, wal / made]


def measure_transfers(bench: Bench) -> Figures:
    figures = {}
    for connections in (1, 16):
        figures[f"HTTP transfer, {connections} connections"] = bench.transfer(connections, spread(bench.groups)).rate
    figures |= measure_workers(bench)
    outcome, (worker, server, wal) = costs(bench, bench.ledger, 64)
    peak = max(outcome.rate, figures[MANY_CLIENTS])
    figures |= {
        "HTTP transfer, 64 connections": outcome.rate,
        "HTTP transfer, 64 connections, p50 [ms]": outcome.p50,
        "HTTP transfer, 64 connections, p99 [ms]": outcome.p99,
        "HTTP transfer, 64 connections, p99.9 [ms]": outcome.p999,
        "CPU of the worker for a transfer [us]": worker,
        "CPU of PostgreSQL for a transfer [us]": server,
        "WAL of a transfer [bytes]": wal,
        "HTTP transfer, 64 connections, 1,000 groups": bench.transfer(64, spread(bench.small)).rate,
        "HTTP transfer, 64 connections, from one": bench.transfer(64, from_one(bench.groups[0])).rate,
    }
    figures["HTTP transfer, 64 connections, within 8"] = bench.transfer(64, spread([first_eight(bench.groups)])).rate
    start = bench.ledger.used()[2]
    keyed = bench.transfer(64, spread(bench.groups), keyed=True).rate
    end = bench.ledger.used()[2]
    figures["HTTP transfer, 64 connections, with keys"] = keyed
    figures["WAL of a transfer with a key [bytes]"] = (end - start) / (keyed * bench.seconds)
    open_loop = bench.transfer(OPEN_CONNECTIONS, spread(bench.groups), rate=PEAK_SHARE * peak)
    return figures | {
        "HTTP transfer, open loop at 70 % of the peak": open_loop.rate,
        "HTTP transfer, open loop, p50 [ms]": open_loop.p50,
        "HTTP transfer, open loop, p99 [ms]": open_loop.p99,
        "HTTP transfer, open loop, p99.9 [ms]": open_loop.p999,
    }


def measure_workers(bench: Bench) -> Figures:
    """Transfers of many clients over one worker and over two."""
    figures: Figures = {}
    for ledger, workers in ((bench.ledger, ""), (bench.two_workers, TWO_WORKERS)):
        outcome, (worker, server, _) = costs(bench, ledger, 256)
        figures |= {
            f"{MANY_CLIENTS}{workers}": outcome.rate,
            f"{MANY_CLIENTS}{workers}, CPU of workers and PostgreSQL [us]": worker + server,
        }
    from_one_rate = bench.transfer(256, from_one(bench.groups[0]), ledger=bench.two_workers).rate
    return figures | {f"{MANY_CLIENTS}{TWO_WORKERS}, from one": from_one_rate}


def measure_many(bench: Bench) -> Figures:
    figures = {}
    for count in (10, 1_000, 10_000):
        figures[f"transfer_all of {count:,} in SQL, lines"] = many_in_sql(bench, count)
        figures[f"transfer_all of {count:,} over HTTP, lines"] = many_over_http(bench, count, 1)
    for connections in (1, 4):
        name = f"transfer_all of 8,000 over HTTP, {connections} connections, lines"
        figures[name] = many_over_http(bench, 8_000, connections)
    return figures


def many_in_sql(bench: Bench, count: int) -> float:
    lists = [(group.id, lines(group, count)) for group in bench.groups]
    with bench.ledger.connect() as connection:

        def call(group: int, transfers: str) -> None:
            connection.execute("select * from ledger.transfer_all(%s, %s::jsonb)", [group, transfers], prepare=True)

        return count * repeated(call, lists, bench.seconds)


def many_over_http(bench: Bench, count: int, connections: int) -> float:
    lists = [
        request("POST", f"/api/groups/{group.id}/transfers", f'{{"transfers": {lines(group, count)}}}')
        for group in bench.groups
    ]
    try:
        return count * send(bench.ledger.server, lists, connections, bench.seconds).rate
    except NothingAnswered:  # a list takes some seconds on a busy machine
        return count * send(bench.ledger.server, lists, connections, 10 * bench.seconds).rate


def repeated(call: Callable[[int, str], None], lists: list[tuple[int, str]], seconds: float) -> float:
    """Calls a second, one at a time."""
    calls = 0
    began = time.perf_counter()
    while (elapsed := time.perf_counter() - began) < seconds:
        call(*lists[calls % len(lists)])
        calls += 1
    return calls / elapsed


def measure_reads(bench: Bench) -> Figures:
    server = bench.ledger.server
    one = [
        f"/api/groups/{group.id}/participants/{random.randint(group.first, group.last)}"
        for group in bench.groups * 1000
    ]
    return {
        "HTTP GET participant, 64 connections": bench.get(server, one).rate,
        f"HTTP page of {PAGE} participants, 64 connections": bench.get(server, participants_pages(bench.groups)).rate,
        f"HTTP page of {PAGE} entries, 64 connections": bench.get(server, entries_pages(bench.groups)).rate,
        "HTTP group total, 64 connections": bench.get(server, totals(bench.groups)).rate,
    }


def totals(groups: list[Group]) -> list[str]:
    return [f"/api/groups/{group.id}/total" for group in groups]


def participants_pages(groups: list[Group]) -> list[str]:
    return [
        f"/api/groups/{group.id}/participants?limit={PAGE}&after={random.randint(group.first, group.last - PAGE)}"
        for group in groups * (1000 // len(groups))
    ]


def entries_pages(groups: list[Group]) -> list[str]:
    """The newest entries of participants, the newest of groups, and those that follow a participant's join."""
    return [
        path
        for group in groups
        for path in (
            f"/api/groups/{group.id}/entries?limit={PAGE}&order=desc",
            f"/api/groups/{group.id}/participants/{group.first}/entries?limit={PAGE}&order=desc",
            f"/api/groups/{group.id}/participants/{group.first}/entries?limit={PAGE}",
        )
    ]


def measure_joins(bench: Bench) -> Figures:
    """Half of the requests are joins, half exits of participants who joined before."""
    group, count = bench.joins.id, FAST * bench.seconds // 4
    with bench.ledger.connect() as connection:
        rows = connection.execute(
            """
            select j.id
            from generate_series(1, %s) as i
            cross join ledger.join_group(%s, format('leaver %%s %%s', i, now()), 1) as j
            """,
            [count, group],
        ).fetchall()

    def requests() -> Iterator[bytes]:
        for (leaver,) in rows:
            username = f"joiner {random.getrandbits(64):x}"
            yield request("POST", f"/api/groups/{group}/participants", f'{{"username": "{username}", "amount": 1}}')
            yield request("DELETE", f"/api/groups/{group}/participants/{leaver}")

    rate = send(bench.ledger.server, requests(), 64, bench.seconds, once=True).rate
    return {"HTTP joins and exits, 64 connections": rate}


def measure_checkpoints(bench: Bench) -> Figures:
    figures = checkpoints.measure_of(bench.ledger, bench.leaves, bench.seconds)
    bench.sent += int((figures[checkpoints.ALONE] + figures[checkpoints.BESIDE]) * bench.seconds)
    return figures


def measure_hostile(bench: Bench) -> Figures:
    """Another client's transfers beside each kind of hostile client, and the memory that it costs at the most."""
    figures: Figures = {}
    for kind in ATTACKS:
        noticed = under_attack(bench.ledger, bench.groups, kind, bench.seconds)
        if noticed.refused:
            raise BenchError(f"{noticed.refused} transfers were refused beside {kind}")
        figures |= {
            f"beside {kind}: p50 [ms]": noticed.p50,
            f"beside {kind}: p99 [ms]": noticed.p99,
            f"beside {kind}: worker [MiB]": noticed.worker / 2**20,
            f"beside {kind}: backend [MiB]": noticed.backend / 2**20,
        }
    return figures


def measure_matrix(bench: Bench) -> Figures:
    """Single transfers: connections by distribution, with and without keys."""
    return {
        f"{connections} connections, {text}{', with keys' if keyed else ''}": bench.transfer(
            connections, pairs, keyed
        ).rate
        for keyed in (False, True)
        for text, pairs in (
            ("10 groups of 10,000", spread(bench.groups)),
            ("1,000 groups of 100", spread(bench.small)),
            ("from one", from_one(bench.groups[0])),
            ("within 8", spread([first_eight(bench.groups)])),
        )
        for connections in (1, 16, 64, 256)
    }


MEASURES: tuple[Callable[[Bench], Figures], ...] = (
    measure_baseline,
    measure_pgbench,
    measure_transfers,
    measure_many,
    measure_reads,
    measure_joins,
    measure_checkpoints,
)


@dataclass(frozen=True)
class Target:
    """A figure to reach, as the ratio of two."""

    text: str
    figure: str
    to: str
    goal: float
    at_most: bool = False


T = "pgbench tpcb-like, 16 clients"
SINGLE = "HTTP transfer, 64 connections"
MANY_CLIENTS = "HTTP transfer, 256 connections"
TWO_WORKERS = ", 2 workers"

TARGETS = (
    Target("pgbench `ledger.transfer`, 16 clients, 10 x 10,000 / T", "pgbench transfer, 16 clients", T, 1.2),
    Target("HTTP transfers, 64 connections, 10 x 10,000 / T", SINGLE, T, 1.6),
    Target("the same, all from one participant / spread", f"{SINGLE}, from one", SINGLE, 0.95),
    Target(
        "the same, all from one / pgbench from one, 16 clients",
        f"{SINGLE}, from one",
        "pgbench transfer, 16 clients, from one",
        5,
    ),
    Target(
        "HTTP transfers / Sanic constant, 256 connections",
        MANY_CLIENTS,
        "Sanic constant, 256 connections",
        0.6,
    ),
    Target("1,000 groups of 100 / 10 groups of 10,000, 64 connections", f"{SINGLE}, 1,000 groups", SINGLE, 0.9),
    Target(
        "p99 / p50 of HTTP transfers at 70 % of the peak, open loop",
        "HTTP transfer, open loop, p99 [ms]",
        "HTTP transfer, open loop, p50 [ms]",
        4,
        at_most=True,
    ),
    Target(
        "one at a time: HTTP transfer / pgbench, 1 client",
        "HTTP transfer, 1 connections",
        "pgbench transfer, 1 client",
        0.5,
    ),
    Target("`transfer_all` of 1,000 in SQL, lines / T", "transfer_all of 1,000 in SQL, lines", T, 6),
    Target("`transfer_all` of 10,000 in SQL, lines / T", "transfer_all of 10,000 in SQL, lines", T, 6),
    Target("`transfer_all` of 1,000 over HTTP, lines / T", "transfer_all of 1,000 over HTTP, lines", T, 9),
    Target("the same of 8,000", "transfer_all of 8,000 over HTTP, 1 connections, lines", T, 12),
    Target("the same of 8,000, 4 connections", "transfer_all of 8,000 over HTTP, 4 connections, lines", T, 18),
    Target(
        "GET participant / Sanic constant, 64 connections",
        "HTTP GET participant, 64 connections",
        "Sanic constant, 64 connections",
        0.4,
    ),
    Target("2 workers / 1, 256 connections", f"{MANY_CLIENTS}{TWO_WORKERS}", MANY_CLIENTS, 0.8),
    Target(
        "the same, all from one participant / spread",
        f"{MANY_CLIENTS}{TWO_WORKERS}, from one",
        f"{MANY_CLIENTS}{TWO_WORKERS}",
        0.95,
    ),
    Target("with keys / without, 64 connections", f"{SINGLE}, with keys", SINGLE, 0.88),
    Target(
        "the same: WAL of a transfer",
        "WAL of a transfer with a key [bytes]",
        "WAL of a transfer [bytes]",
        1.5,
        at_most=True,
    ),
    Target("beside repeated checkpoints / without, 64 connections", checkpoints.BESIDE, checkpoints.ALONE, 0.8),
    Target(
        "the same: p99",
        f"{checkpoints.BESIDE}, p99 [ms]",
        f"{checkpoints.ALONE}, p99 [ms]",
        3,
        at_most=True,
    ),
    Target(
        "a worker's resident memory after 1,000,000 transfers / after 100,000",
        MEMORY_AFTER_MANY,
        MEMORY_AFTER_FEW,
        1.05,
        at_most=True,
    ),
)
