"""Show how far long work is on the standard error: a bar with rate and time left on a terminal, otherwise lines."""

import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from threading import Event, RLock, Thread
from typing import Never

from tqdm import tqdm

SECONDS = 2.0  # between two lines
STEP_SECONDS = 10.0  # between two lines about a single step
REFRESH_SECONDS = 1.0  # between two looks at the time on a terminal

tqdm.set_lock(RLock())  # no other process shows anything here


def ignore(count: int) -> None:
    """Show nothing: what long work calls where nobody watches it."""


class Progress:
    """How many of an expected number of rows are done."""

    def __init__(self, bar: "tqdm[Never]", unit: str, hidden: bool) -> None:
        self.bar = bar
        self.unit = unit
        self.hidden = hidden
        self.done = 0
        self.begun = self.shown = time.monotonic()

    def expect(self, total: int) -> None:
        """Set how many there will be, at least about."""
        self.bar.total = total

    def advance(self, count: int = 1, place: str = "") -> None:
        """Count some as done; `place` says which ones they were."""
        self.done += count
        if not self.bar.disable:
            self.bar.set_postfix_str(place, refresh=False)
            self.bar.update(count)
            return
        now = time.monotonic()
        if now - self.shown >= SECONDS and not self.hidden:
            self.shown = now
            sys.stderr.write(f"{self.line(now - self.begun)}{place and f'; {place}'}\n")
            sys.stderr.flush()

    def line(self, seconds: float) -> str:
        """Return the progress after so many seconds as a line."""
        rate = self.done / seconds if seconds > 0 else 0.0
        if self.bar.total is None or self.done > self.bar.total:
            return f"{self.done:,} {self.unit}, {rate:,.0f} a second"
        left = f", {(self.bar.total - self.done) / rate:,.0f} s left" if rate > 0 else ""
        return f"{self.done:,} of {self.bar.total:,} {self.unit}, {rate:,.0f} a second{left}"


@contextmanager
def progress(unit: str, total: int | None = None, hidden: bool = False) -> Iterator[Progress]:
    """Show the progress of what is done here, unless it is `hidden`: where the output is on the same terminal, say."""
    disabled = True if hidden else None  # None: where there is no terminal
    with tqdm(
        total=total, unit=f" {unit}", unit_scale=True, disable=disabled, file=sys.stderr, dynamic_ncols=True
    ) as bar:
        shown = Progress(bar, unit, hidden)
        try:
            yield shown
        finally:
            bar.leave = shown.done > 0


@contextmanager
def waiting(step: str) -> Iterator[None]:
    """Show for how long a single step has taken so far."""
    ended = Event()

    def show() -> None:
        began = time.monotonic()
        with tqdm(
            desc=step, bar_format="{desc}: {elapsed}", disable=None, file=sys.stderr, leave=False, delay=REFRESH_SECONDS
        ) as bar:
            while not ended.wait(STEP_SECONDS if bar.disable else REFRESH_SECONDS):
                bar.update(0)
                if bar.disable:
                    sys.stderr.write(f"{step}: {time.monotonic() - began:,.0f} s so far\n")
                    sys.stderr.flush()

    thread = Thread(target=show, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def beside() -> AbstractContextManager[None]:
    """Return what other output belongs into: a bar is taken away before it, and is back after it."""
    return tqdm.external_write_mode()
