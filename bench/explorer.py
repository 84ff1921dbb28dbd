"""The explorer's first page of a group, by the figures of Chromium itself; nothing where there is no Chromium."""

import json
import statistics
import tempfile
from pathlib import Path

from bench.ledgers import Ledger
from bench.load import Group
from bench.measures import Figures, Target
from tests.openapi import browser

VISITS = 5  # of which the medians are taken, each with nothing cached

BYTES, MOST_BYTES = "explorer: first page over the wire [bytes]", "explorer: first page over the wire, at most [bytes]"
PAINT, LATEST_PAINT = "explorer: first contentful paint [ms]", "explorer: first contentful paint, at most [ms]"
SHOWN = "explorer: until the participants are shown [ms]"
GOALS: Figures = {MOST_BYTES: 100_000, LATEST_PAINT: 300}

# When the page has what it shows, and what Chromium has measured until then. A request that waits is not over yet.
BEFORE = """
new MutationObserver(() => {
  if (window.shown === undefined && document.querySelector("[aria-labelledby=participants] tbody tr")) {
    window.shown = performance.now();
  }
}).observe(document, { childList: true, subtree: true });
"""
MEASURED = """
({
  bytes: [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")]
    .reduce((sum, { transferSize }) => sum + transferSize, 0),
  paint: performance.getEntriesByName("first-contentful-paint")[0].startTime,
  shown: window.shown,
})"""


def measure_first_page(ledger: Ledger, group: Group) -> Figures:
    """The page of a group as a browser opens it for the first time."""
    if browser.CHROMIUM is None:
        return {}
    address = f"http://127.0.0.1:{ledger.server.port}/"
    visits = []
    with tempfile.TemporaryDirectory(prefix="chromium-") as profile, browser.page(Path(profile)) as page:
        page("Page.navigate", url=address)  # storage belongs to an origin
        page.until("document.querySelector('main:not([aria-busy])')")
        page.evaluate(f"sessionStorage.setItem('ledger key', {json.dumps(ledger.server.secret)})")
        page("Page.addScriptToEvaluateOnNewDocument", source=BEFORE)
        for _ in range(VISITS):
            page("Network.clearBrowserCache")
            page("Page.navigate", url="about:blank")
            page("Page.navigate", url=f"{address}#/groups/{group.id}")
            page.until("window.shown && performance.getEntriesByName('first-contentful-paint').length")
            visits.append(page.evaluate(MEASURED))
    medians = {
        figure: statistics.median(visit[name] for visit in visits if isinstance(visit, dict))
        for figure, name in ((BYTES, "bytes"), (PAINT, "paint"), (SHOWN, "shown"))
    }
    return medians | GOALS


TARGETS = (
    Target("explorer, 1 group of 1,000,000: bytes of the first page / 100,000", BYTES, MOST_BYTES, 1, at_most=True),
    Target("the same: first contentful paint / 300 ms", PAINT, LATEST_PAINT, 1, at_most=True),
)
