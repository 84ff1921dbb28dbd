"""Choose the media type of an answer by the request's Accept header (RFC 9110, 12.5.1)."""

import re
from collections.abc import Iterable, Iterator

from api.routes import CSV, NDJSON

JSON = "application/json"

# What an answer's Content-Type is: CSV with its header line (RFC 4180).
CONTENT_TYPES = {JSON: JSON, CSV: "text/csv; charset=utf-8; header=present", NDJSON: NDJSON}

QUALITY = re.compile(r"0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?")


def chosen(accepts: Iterable[str], offered: tuple[str, ...]) -> str:
    """Return the media type that the client prefers of those offered, the first one where it has no preference.

    A type that the client names is preferred to one that a wildcard of the same quality stands for. The first one is
    also for a client that accepts none of them: the service refuses no Accept.
    """
    qualities = dict(ranges(accepts))
    if not qualities:
        return offered[0]
    rated = [(*rating(qualities, media_type), -place) for place, media_type in enumerate(offered)]
    quality, _, place = max(rated)
    return offered[-place] if quality else offered[0]


def rating(qualities: dict[str, float], media_type: str) -> tuple[float, int]:
    """Return the quality of a media type, and how exactly the range that has it names it; 0 where none does."""
    for exactness, each in ((2, media_type), (1, f"{media_type.partition('/')[0]}/*"), (0, "*/*")):
        if each in qualities:
            return qualities[each], exactness
    return 0.0, 0


def ranges(accepts: Iterable[str]) -> Iterator[tuple[str, float]]:
    """Yield each media range, in lower case and without its parameters, and its quality. Other text is left out."""
    for each in ",".join(accepts).lower().split(","):
        media_range, *parameters = [part.strip(" \t") for part in each.split(";")]
        given = [part.removeprefix("q=") for part in parameters if part.startswith("q=")]
        if "/" in media_range and all(QUALITY.fullmatch(value) for value in given):
            yield media_range, float(given[0]) if given else 1.0
