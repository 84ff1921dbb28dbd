"""From a call to its answer, without input and output: requests, retries and problems as steps of a generator.

A client runs the steps: it sends each request that `exchange` yields, and waits for each number of seconds.
"""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import Any, Generic, TypeVar

import httpx

from ledger_client.answers import Receipt
from ledger_client.errors import ConnectionFailed, LedgerError, Problem, UnexpectedAnswer

T = TypeVar("T")

# Every call is a read or has an idempotency key, so that it may be repeated after these: no answer arrived, …
LOST = (httpx.NetworkError, httpx.TimeoutException, httpx.RemoteProtocolError)
# … or it may have been done (502, 504), or it was not (429, 503).
REPEATED = frozenset({429, 502, 503, 504})
NOT_DONE = frozenset({429, 503})
NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
FIRST_DELAY = 0.1  # seconds; each further delay is twice as long, …
LONGEST_DELAY = 5.0  # … up to this
LONGEST_RETRY_AFTER = 60.0  # seconds; a service that asks for more is not asked again

log = logging.getLogger("ledger_client")


@dataclass(frozen=True)
class Answer:
    """A success: its status, headers and body."""

    response: httpx.Response
    idempotency_key: str | None

    @cached_property
    def json(self) -> Any:
        return self.response.json()

    @property
    def data(self) -> Any:
        return self.json["data"]

    @property
    def receipt(self) -> Receipt:
        entry = self.response.headers.get("Ledger-Entry")
        replayed = self.response.headers.get("Idempotency-Replayed") == "true"
        return Receipt(self.idempotency_key, None if entry is None else int(entry), replayed)


@dataclass(frozen=True)
class Call(Generic[T]):
    """One request, and how its answer is read. A write has an idempotency key."""

    method: str
    path: str
    read: Callable[[Answer], T]
    query: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, object] | None = None
    idempotency_key: str | None = None
    wait: float = 0.0  # seconds that the service may take before it answers
    accept: str | None = None  # the media type of the answer; None is JSON
    read_following: Callable[[Answer], T] | None = None  # how a page after the first one is read, where that differs
    prefer: str = "amounts=string"  # how the answer should be (RFC 7240)

    def __post_init__(self) -> None:
        if self.method != "GET" and not self.idempotency_key:
            raise ValueError("a write without an idempotency key cannot be repeated")


@dataclass(frozen=True)
class Done(Generic[T]):
    """The end of a call: its answer."""

    answer: T


# A request to send, the seconds to wait, or the answer.
Step = httpx.Request | float | Done[T]
Steps = Generator[Step[T], httpx.Response | None, None]


@dataclass(frozen=True)
class Settings:
    """How a client makes its calls: the seconds for an answer, and how often a call is repeated."""

    timeout: float
    retries: int
    request_id: Callable[[], str] | None


def exchange(call: Call[T], settings: Settings, build: Callable[..., httpx.Request]) -> Steps[T]:
    """Make a call: yield what to do next, and at last the answer. Raises LedgerError.

    A lost connection is thrown into it, as one of LOST.
    """
    headers = {"Prefer": call.prefer}
    if call.idempotency_key:
        headers["Idempotency-Key"] = call.idempotency_key
    if call.accept:
        headers["Accept"] = call.accept
    if settings.request_id:
        headers["X-Request-ID"] = settings.request_id()
    content = None
    if call.body is not None:
        headers["Content-Type"] = "application/json"
        content = json.dumps(call.body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    timeout = httpx.Timeout(settings.timeout, read=settings.timeout + call.wait)
    delays = backoff(settings.retries)
    may_be_done = False
    while True:
        log.debug("%s %s, idempotency key %s", call.method, call.path, call.idempotency_key)
        error: LedgerError
        try:
            response = yield build(
                call.method, call.path, params=call.query, headers=headers, content=content, timeout=timeout
            )
        except LOST as lost:
            error = ConnectionFailed(f"{type(lost).__name__}: {lost}", call.idempotency_key)
            error.__cause__ = lost
            may_be_done |= not isinstance(lost, NOT_SENT)
            asked = 0.0
        else:
            assert response is not None
            if response.is_success:
                yield Done(read(call, response))
                return
            error = refusal(response, call.idempotency_key)
            asked = retry_after(response.headers.get("Retry-After"))
            if response.status_code not in REPEATED:
                # Only the database knows the key, and so whether an attempt before this one was done.
                decided = isinstance(error, Problem) and error.sqlstate is not None
                possible = may_be_done or response.is_server_error
                error.may_be_done = possible and not decided and call.idempotency_key is not None
                raise error
            may_be_done |= response.status_code not in NOT_DONE
            if asked > LONGEST_RETRY_AFTER:
                delays = iter(())
        delay = next(delays, None)
        if delay is None:
            error.may_be_done = may_be_done and call.idempotency_key is not None
            raise error
        log.info("%s %s is repeated: %s", call.method, call.path, error)
        yield asked + delay


def read(call: Call[T], response: httpx.Response) -> T:
    """Return a success as it is read. Raises UnexpectedAnswer where it is not the ledger's: a login page, say."""
    try:
        return call.read(Answer(response, call.idempotency_key))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        unexpected = UnexpectedAnswer(response.status_code, response.text, call.idempotency_key)
        unexpected.may_be_done = call.idempotency_key is not None
        raise unexpected from error


def backoff(retries: int) -> Iterator[float]:
    """Yield the seconds before each repetition: longer and longer, with a random half, so that clients spread."""
    for attempt in range(retries):
        delay = min(FIRST_DELAY * 2 ** min(attempt, 30), LONGEST_DELAY)
        yield delay * random.uniform(0.5, 1)  # noqa: S311 - jitter, no secret


def retry_after(header: str | None) -> float:
    """Return the seconds that a Retry-After asks for, given in seconds or as a date; 0 for any other text."""
    if header is None:
        return 0.0
    if header.isascii() and header.isdigit():
        return float(header)
    try:
        moment = parsedate_to_datetime(header)
    except ValueError:
        return 0.0
    return max(0.0, (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


def refusal(response: httpx.Response, idempotency_key: str | None) -> LedgerError:
    """Return the error of an answer that is no success."""
    try:
        body = response.json()
        kind = Problem.BY_CODE.get(body["code"], Problem)
        return kind(body, response.headers.get("X-Request-ID"), idempotency_key)
    except (ValueError, TypeError, KeyError, AttributeError):
        return UnexpectedAnswer(response.status_code, response.text, idempotency_key)
