"""The tables of a run, and how it compares with another."""

import json
import os
import platform
import statistics
from collections.abc import Iterable
from pathlib import Path

import psutil

from bench.load import WRK
from bench.measures import Figures, Target

LISTEN = 2.0  # seconds


def machine() -> str:
    """What a run is measured on, and how quiet it is before the run."""
    before = psutil.cpu_times_percent(LISTEN)
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.machine(),
    )
    memory = psutil.virtual_memory().total / 2**30
    generator = "wrk" if WRK else "an event loop of its own (no wrk here), which takes more of the machine"
    return (
        f"{os.cpu_count()} cores ({model}), {memory:.0f} GiB, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}; before it: load {os.getloadavg()[0]:.1f}, "
        f"{before.idle:.0f} % idle, {getattr(before, 'steal', 0.0):.0f} % taken by the host\n"
        f"closed loops by {generator}; everything on this machine; fsync and synchronous_commit on"
    )


class Host:
    """The processors' time from now on that the host gives to other machines."""

    def __init__(self) -> None:
        self.before = psutil.cpu_times()

    def __str__(self) -> str:
        now = psutil.cpu_times()
        taken = getattr(now, "steal", 0.0) - getattr(self.before, "steal", 0.0)
        return f"{taken / (sum(now) - sum(self.before)):.1%} of the processors' time was taken by the host during it"


def medians(rounds: list[Figures]) -> Figures:
    names = dict.fromkeys(name for figures in rounds for name in figures)
    return {name: statistics.median(figures[name] for figures in rounds if name in figures) for name in names}


def ratios(target: Target, rounds: list[Figures]) -> list[float]:
    """The rounds' ratios; figures that were taken once have one."""
    return [f[target.figure] / f[target.to] for f in rounds if target.figure in f and target.to in f]


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    cells = [head, *rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    lines = [
        "| "
        + " | ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
        + " |"
        for row in cells
    ]
    rule = "|" + "|".join("-" * (w + 2) if i == 0 else "-" * (w + 1) + ":" for i, w in enumerate(widths)) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def figures_table(rounds: list[Figures], against: list[Figures] | None) -> str:
    now, before = medians(rounds), medians(against or [])
    head: tuple[str, ...] = ("a second, unless it says otherwise", "median", "lowest", "highest")
    rows = []
    for name, median in now.items():
        taken = [figures[name] for figures in rounds if name in figures]
        row = [name, number(median), number(min(taken)), number(max(taken))]
        if against is not None:
            row += [number(before[name]), f"{median / before[name]:.2f}"] if before.get(name) else ["", ""]
        rows.append(tuple(row))
    return table(head + (("before", "now / before") if against is not None else ()), rows)


def targets_table(targets: Iterable[Target], rounds: list[Figures], against: list[Figures] | None) -> str:
    rows = []
    for target in targets:
        taken = ratios(target, rounds)
        if not taken:
            continue
        reached = statistics.median(taken)
        good = reached <= target.goal if target.at_most else reached >= target.goal
        row = [
            target.text,
            f"{reached:.2f}",
            f"{min(taken):.2f}",
            f"{max(taken):.2f}",
            f"{'at most ' if target.at_most else ''}{target.goal:g}",
            "yes" if good else "no",
        ]
        if against is not None:
            was = ratios(target, against)
            row.append(f"{statistics.median(was):.2f}" if was else "")
        rows.append(tuple(row))
    first = "T is the rate of pgbench's tpcb-like, scale 50, 16 clients"
    head: tuple[str, ...] = (first, "ratio", "lowest", "highest", "goal", "reached")
    return table(head + (("before",) if against is not None else ()), rows)


def number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def save(path: Path, described: str, rounds: list[Figures]) -> None:
    path.write_text(json.dumps({"machine": described, "rounds": rounds}, indent=1) + "\n")


def load(path: Path) -> list[Figures]:
    rounds: list[Figures] = json.loads(path.read_text())["rounds"]
    return rounds
