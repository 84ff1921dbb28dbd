"""make chaos: a bank's load, faults in turn and then together, a table; the exit status is 1 if anything is wrong.

python -m chaos [--seconds SECONDS]
"""

import argparse
import asyncio
import random
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from bench.ledgers import LEDGER, served, workspace
from bench.load import BenchError, Server
from chaos.bank import Bank
from chaos.faults import COMBINED, FAULTS, ON_CHAIN, STEP, Scene
from chaos.history import History, Verdict, contradictions, judge, read_checkpoints, read_record
from chaos.machine import Clock, MissingError, small_disk
from chaos.proxy import Proxy
from chaos.release import code_after
from chaos.vault import Vault, chained

WORKERS = 2
LONGEST_RECOVERY = 30.0  # seconds from a fault's end until nothing has to be repeated because of it
QUIET = 2.0  # seconds without a failure, after which a fault is over
LOOK = 0.05  # seconds
STRETCH = 10.0  # seconds that a fault lasts
TOGETHER = "two of them at once"


@dataclass(frozen=True)
class Effect:
    """A fault's effect on clients: the requests that they repeated, and seconds from its end until the last one."""

    repeated: int
    recovery: float


@dataclass
class Report:
    """The result of a run."""

    history: History
    effects: dict[str, list[Effect]]  # by kind of fault
    left_out: dict[str, str]  # kinds of fault that could not be made, and why
    verdict: Verdict
    books: str  # what `ledger verify` found, if anything
    vault: list[str] = field(default_factory=list)  # what is wrong with the group with a vault

    @property
    def is_right(self) -> bool:
        history = self.history
        wrong = [*history.wrong, *self.verdict.lost, *self.verdict.doubled, *self.verdict.refused]
        slow = [effect for effects in self.effects.values() for effect in effects if effect.recovery > LONGEST_RECOVERY]
        return not (wrong or slow or history.internal_errors or self.books or self.vault)

    def __str__(self) -> str:
        history, verdict = self.history, self.verdict
        counts = {
            "writes acknowledged": len(history.acknowledged),
            "checkpoints acknowledged": len(history.checkpoints),
            "writes refused": history.refused,
            "sums read": history.reads,
            "requests repeated": history.retried,
            "acknowledged writes lost": len(verdict.lost),
            "writes doubled": len(verdict.doubled),
            "refused writes done": len(verdict.refused),
            "answers that were wrong": len(history.wrong),
            "answers of 500": history.internal_errors,
        }
        rows = [f"| {name:<24} | {count:>9,} |" for name, count in counts.items()]
        rows += ["", "| fault                     | times | requests repeated | recovery, median | worst  |"]
        rows += ["|---------------------------|------:|------------------:|-----------------:|-------:|"]
        for name, effects in self.effects.items():
            times = [effect.recovery for effect in effects]
            rows.append(
                f"| {name:<25} | {len(effects):>5} | {sum(effect.repeated for effect in effects):>17,} "
                f"| {median(times):>14.1f} s | {max(times):>4.1f} s |"
            )
        rows += ["", *(f"Not made: {name}, which {why}." for name, why in self.left_out.items())]
        rows += [*history.wrong[:10], *self.vault[:10], self.books or "`ledger verify` found nothing."]
        return "\n".join(
            ["| what                     |     count |", "|--------------------------|----------:|", *rows]
        )


def run(folder: Path, seconds: float, stretch: float = STRETCH, faults: Sequence[str] = tuple(FAULTS)) -> Report:
    """Serve, load, break and judge: each fault once, and then two at a time, until so many seconds have passed.

    Raises BenchError.
    """
    data = folder / "data"
    with ExitStack() as stack:
        needs: dict[str, Callable[[], Any]] = {
            "disk filled": lambda: stack.enter_context(small_disk(data)),
            "clock set": lambda: Clock(folder),
        }
        found, left_out = dict.fromkeys(needs), {}
        for name in set(needs) & set(faults):
            try:
                found[name] = needs[name]()
            except MissingError as error:
                left_out[name] = str(error)
        disk, clock = found.values()
        ledger = stack.enter_context(served(data, workers=WORKERS, program=clock.program if clock else LEDGER))
        with ledger.connect() as connection:
            connection.execute("alter system set max_wal_size = '256MB'")  # or the WAL would fill the small disk
            connection.execute("select pg_reload_conf()")
        proxy = Proxy(ledger.server.port)
        vault: Vault | None = None
        if any(name in ON_CHAIN for name in faults):
            try:
                vault = stack.enter_context(chained(ledger, folder / "vault"))
            except MissingError as error:
                left_out |= {name: str(error) for name in faults if name in ON_CHAIN}
        scene = Scene(ledger, proxy, stretch, disk, clock, code_after(folder / "after"), vault)
        possible = [name for name in faults if name not in left_out]
        history, effects = asyncio.run(loaded(scene, seconds, possible))
        if scene.clock:
            # Entries that were written while it was ahead would have a time to come.
            scene.clock.set(STEP)
        at_the_vault = vault.judge() if vault else []
        try:
            ledger.run("verify")
            books = ""
        except BenchError as error:
            books = str(error)
        with ledger.connect() as connection:
            record = read_record(connection)
            history.wrong += contradictions(history.checkpoints, read_checkpoints(connection))
    return Report(history, effects, left_out, judge(history.acknowledged, record), books, at_the_vault)


async def loaded(scene: Scene, seconds: float, faults: Sequence[str]) -> tuple[History, dict[str, list[Effect]]]:
    """Return the answers that a bank's clients got, and each fault's effects on them."""
    end = time.monotonic() + seconds
    effects: dict[str, list[Effect]] = defaultdict(list)
    async with scene.proxy.listening():
        bank = Bank(Server(scene.proxy.port, scene.ledger.server.secret))
        await bank.open()
        work = asyncio.create_task(bank.work())
        beside = asyncio.create_task(scene.vault.live()) if scene.vault else None

        async def inject(kind: str, *names: str) -> None:
            print(f"{', '.join(names)} …", file=sys.stderr, flush=True)
            repeated = bank.history.retried
            await asyncio.gather(*(FAULTS[name](scene) for name in names))
            seconds = await recovery(bank, work)
            effects[kind].append(Effect(bank.history.retried - repeated, seconds))

        for name in faults:
            await inject(name, name)
        possible = [name for name in COMBINED if name in faults]
        if len(possible) > 1:
            await inject(TOGETHER, *random.sample(possible, 2))
            while time.monotonic() < end:
                await inject(TOGETHER, *random.sample(possible, 2))
        bank.closing = True
        await work
        if scene.vault and beside:
            scene.vault.closing = True
            await beside
    return bank.history, dict(effects)


async def recovery(bank: Bank, work: asyncio.Task[None]) -> float:
    """Seconds from now until the last answer that a client had to repeat its request for. Raises BenchError."""
    began = time.monotonic()
    while True:
        await asyncio.sleep(LOOK)
        if work.done():  # which a bank that is open is only because of an error
            await work
        all_answered = min(client.answered_at for client in bank.clients) > began
        failed = max(began, *(client.failed_at for client in bank.clients))
        if all_answered and time.monotonic() > failed + QUIET:
            return max(0.0, *(client.repeated_until - began for client in bank.clients))
        if time.monotonic() > began + 2 * LONGEST_RECOVERY:
            raise BenchError(f"no answer to all clients {2 * LONGEST_RECOVERY:.0f} seconds after a fault")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m chaos", description="Break the ledger, and look at its books.")
    parser.add_argument("--seconds", type=float, default=300, help="how long at least, and each fault once")
    options = parser.parse_args()
    with workspace() as folder:
        report = run(folder, options.seconds)
    print(report)
    return 0 if report.is_right else 1


if __name__ == "__main__":
    sys.exit(main())
