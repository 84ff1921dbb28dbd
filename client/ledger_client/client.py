"""The clients. Each has a method for every operation in `calls`, with its arguments and answer, and the feed.

A list is an iterator, which asks for a page when it needs one.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Iterator
from typing import Any, Concatenate, ParamSpec, Self, TypedDict, TypeVar

import httpx

from ledger_client import calls
from ledger_client.answers import Entry, Page
from ledger_client.exchange import LOST, Call, Done, Settings, Step, Steps, exchange
from ledger_client.feed import MemoryPlace, Place, Reader

P = ParamSpec("P")
T = TypeVar("T")

TIMEOUT = 30.0  # seconds
RETRIES = 8
WAIT = 30  # seconds that the feed waits for something new in one request


class Options(TypedDict):
    base_url: str
    headers: dict[str, str]
    verify: ssl.SSLContext | bool


def options(url: str, key: str | None, verify: ssl.SSLContext | bool) -> Options:
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"{url!r} has to begin with http:// or https://")
    authorization = {} if key is None else {"Authorization": f"Bearer {key}"}
    return {"base_url": url, "headers": {"User-Agent": "ledger-client"} | authorization, "verify": verify}


def named(method: Any, build: Callable[..., object], answer: str) -> Any:
    """Give a method the name, the documentation and the signature of its call."""
    functools.update_wrapper(method, build)
    del method.__wrapped__  # its signature has no self
    signature = inspect.signature(build)
    this = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    value = str(signature.return_annotation).removeprefix("Call[").removesuffix("]").removeprefix("Page[")
    method.__signature__ = signature.replace(
        parameters=[this, *signature.parameters.values()], return_annotation=answer.format(value.removesuffix("]"))
    )
    return method


def sync_one(build: Callable[P, Call[T]]) -> Callable[Concatenate[Client, P], T]:
    def method(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.send(build(*args, **kwargs))

    made: Callable[Concatenate[Client, P], T] = named(method, build, "{}")
    return made


def sync_many(build: Callable[P, Call[Page[T]]]) -> Callable[Concatenate[Client, P], Iterator[T]]:
    def method(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        return self.pages(build(*args, **kwargs))

    made: Callable[Concatenate[Client, P], Iterator[T]] = named(method, build, "Iterator[{}]")
    return made


def async_one(build: Callable[P, Call[T]]) -> Callable[Concatenate[AsyncClient, P], Awaitable[T]]:
    async def method(self: AsyncClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.send(build(*args, **kwargs))

    made: Callable[Concatenate[AsyncClient, P], Awaitable[T]] = named(method, build, "{}")
    return made


def async_many(build: Callable[P, Call[Page[T]]]) -> Callable[Concatenate[AsyncClient, P], AsyncIterator[T]]:
    def method(self: AsyncClient, /, *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[T]:
        return self.pages(build(*args, **kwargs))

    made: Callable[Concatenate[AsyncClient, P], AsyncIterator[T]] = named(method, build, "AsyncIterator[{}]")
    return made


class Client:
    """A client that blocks. Threads may share one.

    `key` is an API key. `timeout` is in seconds, for each attempt. A call is repeated up to `retries` times where no
    answer came, the service did nothing (503), or the outcome is unknown (504); a write always has an idempotency key,
    so it is done once. `request_id` returns the name of the next request in the service's log.
    """

    def __init__(
        self,
        url: str,
        key: str | None = None,
        *,
        timeout: float = TIMEOUT,
        retries: int = RETRIES,
        request_id: Callable[[], str] | None = None,
        verify: ssl.SSLContext | bool = True,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._settings = Settings(timeout, retries, request_id)
        self._http = httpx.Client(**options(url, key, verify), transport=transport)
        self._sleep: Callable[[float], None] = time.sleep

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def send(self, call: Call[T]) -> T:
        """Make a call. Raises LedgerError."""
        steps = exchange(call, self._settings, self._http.build_request)
        step = next(steps)
        while not isinstance(step, Done):
            step = self._take(step, steps)
        return step.answer

    def _take(self, step: httpx.Request | float, steps: Steps[T]) -> Step[T]:
        if isinstance(step, float):
            self._sleep(step)
            return next(steps)
        try:
            response = self._http.send(step)
        except LOST as error:
            return steps.throw(error)
        return steps.send(response)

    def pages(self, call: Call[Page[T]]) -> Iterator[T]:
        """Iterate over the rows of a call for a list, page by page."""
        following: Call[Page[T]] | None = call
        while following:
            page = self.send(following)
            yield from page.items
            following = calls.next_page(following, page)

    def feed(
        self, place: Place | None = None, *, page_size: int | None = None, wait: int = WAIT, follow: bool = True
    ) -> Generator[Entry, None, None]:
        """Iterate over the entries of all groups from a place on, and wait for more unless `follow` is False.

        The place is stored when the next entry is asked for, so after an entry was processed: after a crash the last
        one may come again, and none is left out. Raises CursorExpired.
        """
        reader = Reader(place or MemoryPlace(), page_size, wait if follow else 0)
        while True:
            page = self.send(reader.next_call())
            yield from reader.process(page)
            if not page.entries and not follow:
                return

    # Groups
    list_groups = sync_many(calls.list_groups)
    create_group = sync_one(calls.create_group)
    get_group = sync_one(calls.get_group)
    rename_group = sync_one(calls.rename_group)
    remove_group = sync_one(calls.remove_group)
    group_total = sync_one(calls.group_total)
    # Participants
    list_participants = sync_many(calls.list_participants)
    join_group = sync_one(calls.join_group)
    join_all = sync_one(calls.join_all)
    join_all_minimal = sync_one(calls.join_all_minimal)
    get_participant = sync_one(calls.get_participant)
    rename_participant = sync_one(calls.rename_participant)
    exit_group = sync_one(calls.exit_group)
    deposit = sync_one(calls.deposit)
    get_address = sync_one(calls.get_address)
    bind_address = sync_one(calls.bind_address)
    # Transfers
    transfer = sync_one(calls.transfer)
    transfer_all = sync_one(calls.transfer_all)
    transfer_all_minimal = sync_one(calls.transfer_all_minimal)
    reverse_transfer = sync_one(calls.reverse_transfer)
    settle_exit = sync_one(calls.settle_exit)
    # Entries
    list_entries = sync_many(calls.list_entries)
    list_participant_entries = sync_many(calls.list_participant_entries)
    get_statement = sync_one(calls.get_statement)
    get_entry = sync_one(calls.get_entry)
    read_feed = sync_one(calls.read_feed)
    feed_end = sync_one(calls.feed_end)
    # Files
    download_participants = sync_many(calls.download_participants)
    download_entries = sync_many(calls.download_entries)
    download_participant_entries = sync_many(calls.download_participant_entries)
    download_statement = sync_many(calls.download_statement)
    # Checkpoints
    checkpoint = sync_one(calls.checkpoint)
    list_checkpoints = sync_many(calls.list_checkpoints)
    get_checkpoint = sync_one(calls.get_checkpoint)
    list_leaves = sync_many(calls.list_leaves)
    get_proof = sync_one(calls.get_proof)
    # The service
    health = sync_one(calls.health)
    live = sync_one(calls.live)
    metrics = sync_one(calls.metrics)


class AsyncClient:
    """A client for asyncio, with the methods of `Client`: those that return one answer are awaited."""

    def __init__(
        self,
        url: str,
        key: str | None = None,
        *,
        timeout: float = TIMEOUT,
        retries: int = RETRIES,
        request_id: Callable[[], str] | None = None,
        verify: ssl.SSLContext | bool = True,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._settings = Settings(timeout, retries, request_id)
        self._http = httpx.AsyncClient(**options(url, key, verify), transport=transport)
        self._sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def send(self, call: Call[T]) -> T:
        """Make a call. Raises LedgerError."""
        steps = exchange(call, self._settings, self._http.build_request)
        step = next(steps)
        while not isinstance(step, Done):
            step = await self._take(step, steps)
        return step.answer

    async def _take(self, step: httpx.Request | float, steps: Steps[T]) -> Step[T]:
        if isinstance(step, float):
            await self._sleep(step)
            return next(steps)
        try:
            response = await self._http.send(step)
        except LOST as error:
            return steps.throw(error)
        return steps.send(response)

    async def pages(self, call: Call[Page[T]]) -> AsyncIterator[T]:
        """Iterate over the rows of a call for a list, page by page."""
        following: Call[Page[T]] | None = call
        while following:
            page = await self.send(following)
            for item in page.items:
                yield item
            following = calls.next_page(following, page)

    async def feed(
        self, place: Place | None = None, *, page_size: int | None = None, wait: int = WAIT, follow: bool = True
    ) -> AsyncGenerator[Entry, None]:
        """Iterate over the entries of all groups, as `Client.feed` does."""
        reader = Reader(place or MemoryPlace(), page_size, wait if follow else 0)
        while True:
            page = await self.send(reader.next_call())
            for entry in reader.process(page):
                yield entry
            if not page.entries and not follow:
                return

    # Groups
    list_groups = async_many(calls.list_groups)
    create_group = async_one(calls.create_group)
    get_group = async_one(calls.get_group)
    rename_group = async_one(calls.rename_group)
    remove_group = async_one(calls.remove_group)
    group_total = async_one(calls.group_total)
    # Participants
    list_participants = async_many(calls.list_participants)
    join_group = async_one(calls.join_group)
    join_all = async_one(calls.join_all)
    join_all_minimal = async_one(calls.join_all_minimal)
    get_participant = async_one(calls.get_participant)
    rename_participant = async_one(calls.rename_participant)
    exit_group = async_one(calls.exit_group)
    deposit = async_one(calls.deposit)
    get_address = async_one(calls.get_address)
    bind_address = async_one(calls.bind_address)
    # Transfers
    transfer = async_one(calls.transfer)
    transfer_all = async_one(calls.transfer_all)
    transfer_all_minimal = async_one(calls.transfer_all_minimal)
    reverse_transfer = async_one(calls.reverse_transfer)
    settle_exit = async_one(calls.settle_exit)
    # Entries
    list_entries = async_many(calls.list_entries)
    list_participant_entries = async_many(calls.list_participant_entries)
    get_statement = async_one(calls.get_statement)
    get_entry = async_one(calls.get_entry)
    read_feed = async_one(calls.read_feed)
    feed_end = async_one(calls.feed_end)
    # Files
    download_participants = async_many(calls.download_participants)
    download_entries = async_many(calls.download_entries)
    download_participant_entries = async_many(calls.download_participant_entries)
    download_statement = async_many(calls.download_statement)
    # Checkpoints
    checkpoint = async_one(calls.checkpoint)
    list_checkpoints = async_many(calls.list_checkpoints)
    get_checkpoint = async_one(calls.get_checkpoint)
    list_leaves = async_many(calls.list_leaves)
    get_proof = async_one(calls.get_proof)
    # The service
    health = async_one(calls.health)
    live = async_one(calls.live)
    metrics = async_one(calls.metrics)
