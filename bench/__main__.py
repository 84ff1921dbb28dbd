"""make bench: fill ledgers, measure in rounds, print the tables.

python -m bench [--full] [--bare] [--against FILE] [--out FILE]
"""

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from api.postgres import embedded
from bench import explorer, large, report
from bench.large import Stored, measure_large
from bench.ledgers import baseline, served, workspace
from bench.load import BenchError, loop_command, run, spread, transfers, write
from bench.measures import (
    FEW,
    MANY,
    MEASURES,
    MEMORY_AFTER_FEW,
    MEMORY_AFTER_MANY,
    TARGETS,
    Bench,
    Figures,
    measure_hostile,
    measure_matrix,
)

PATIENCE = 560  # seconds from the start, after which no more transfers are made to look at the memory
KILL_AFTER = 2  # seconds of load before the database is killed
LOAD_GOES_ON = 7  # seconds, until those are answered that wait for a connection


@dataclass(frozen=True)
class Size:
    """The size of the loads and the length of the measurements."""

    rounds: int = 3
    seconds: int = 4  # of a measure
    participants: int = 10_000  # of each of 10 groups
    small_groups: int = 1_000  # of 100 participants
    leaves: int = 100_000  # participants of the group of which checkpoints are made
    scale: int = 50  # pgbench's
    few: int = FEW  # transfers after which a worker's memory is looked at
    many: int = MANY  # and then once more


def measure(size: Size, folder: Path, full: bool = False, bare: bool = False) -> list[Figures]:
    """Measure in rounds; the figures of each, and then those that are taken once. Raises BenchError."""
    began = time.monotonic()
    with ExitStack() as stack:
        ledger = stack.enter_context(served(folder, bare))
        two_workers = stack.enter_context(served(folder, bare, workers=2))
        filling = f"10 groups of {size.participants:,}, {size.small_groups:,} of 100, one of {size.leaves:,}"
        say(f"filling {filling}, and pgbench's tables …")
        groups = ledger.fill(10, size.participants)
        *small, joins = ledger.fill(10 + size.small_groups + 1, 100)
        leaves = ledger.fill_one("checkpoints", size.leaves)
        with ledger.connect() as connection:
            connection.execute("create database pgbench")
        pgbench = [str(embedded.binaries() / "pgbench"), "-i", "-q", "-s", str(size.scale)]
        subprocess.run([*pgbench, embedded.url(folder, database="pgbench")], capture_output=True, check=True)
        web = stack.enter_context(baseline(ledger.admin))
        bench = Bench(ledger, two_workers, web, groups, small, joins, leaves, size.seconds)
        for warmed_up in (ledger, two_workers):
            bench.transfer(64, spread(groups), ledger=warmed_up)
        rounds = []
        for number in range(1, size.rounds + 1):
            say(f"round {number} of {size.rounds} …")
            with ledger.connect() as connection:
                connection.execute("checkpoint")
            figures: Figures = {}
            for take in (*MEASURES, measure_matrix) if full else MEASURES:
                figures |= take(bench)
            rounds.append(figures)
            if bench.sent >= size.few:
                bench.look_at_memory(MEMORY_AFTER_FEW)
        say("looking at the memory …")
        while bench.sent < size.many and time.monotonic() < began + PATIENCE:
            bench.transfer(256, spread(groups))
        if bench.sent >= size.many:
            bench.look_at_memory(MEMORY_AFTER_MANY)
        else:
            say(f"only {bench.sent:,} transfers in time: nothing to say of the memory")
        say("looking at hostile clients …")
        hostile = measure_hostile(bench)
        if full:
            say("verifying the books …")
            with ledger.connect() as connection:
                # As `ledger verify` does, but without its pauses: no other client needs the processor.
                discrepancies = connection.execute("select * from ledger.verify()").fetchall()
            if discrepancies:
                raise BenchError(f"the books are wrong: {discrepancies}")
        return [*rounds, bench.memory | hostile]


def kill_under_load(folder: Path) -> str:
    """Kill the database server in the middle of a load, start again and prove the books. Raises BenchError."""
    with served(folder) as ledger, tempfile.NamedTemporaryFile() as file:
        groups = ledger.fill(10, 100)
        write(file, transfers(spread(groups), 20_000), ledger.server)
        killer = threading.Timer(KILL_AFTER, ledger.postmaster.kill)
        killer.start()
        outcome = run(loop_command(ledger.server, file.name, 64, KILL_AFTER + LOAD_GOES_ON))
        killer.join()
        acknowledged = int(outcome["requests"] - outcome["refused"])
    with served(folder) as ledger:
        with ledger.connect() as connection:
            query = "select count(*) from ledger.entries where kind = 'transfer'"
            (recorded,) = connection.execute(query).fetchone() or (0,)
        if not (outcome["refused"] and acknowledged <= recorded <= acknowledged + 64):
            raise BenchError(f"{acknowledged} transfers were acknowledged, {recorded} are in the record: {outcome}")
        ledger.run("verify")
    counts = f"{acknowledged:,} transfers acknowledged, {recorded:,} in the record"
    return f"database killed under load: {counts}, `ledger verify` found nothing"


def say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure the ledger on this machine.")
    parser.add_argument("--full", action="store_true", help="measure a large ledger, too, and every kind of load")
    parser.add_argument("--bare", action="store_true", help="ask for no API key, and log no requests")
    parser.add_argument("--against", type=Path, help="the results of a run to compare with")
    parser.add_argument("--out", type=Path, default=Path("bench.json"), help="where the results go")
    options = parser.parse_args()
    against = report.load(options.against) if options.against else None
    with workspace() as folder:
        described, host = report.machine(), report.Host()
        rounds = measure(Size(), folder / "measured", options.full, options.bare)
        if options.full:
            rounds += measure_large(Stored(), folder, Size.rounds, Size.seconds, options.bare)
        killed = kill_under_load(folder / "killed")
    described += f"\n{host}"
    print(described)
    print(
        report.figures_table(rounds, against),
        report.targets_table((*TARGETS, *large.TARGETS, *explorer.TARGETS), rounds, against),
        killed,
        sep="\n\n",
    )
    report.save(options.out, described, rounds)


if __name__ == "__main__":
    main()
