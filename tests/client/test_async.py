"""The client for asyncio does the same."""

import asyncio
from collections.abc import Coroutine
from contextlib import aclosing

import httpx
import pytest

import ledger_client
from ledger_client import AsyncClient, FilePlace


class Line(httpx.AsyncBaseTransport):
    """A connection that loses the answer to each key's first request."""

    def __init__(self) -> None:
        self.real = httpx.AsyncHTTPTransport()
        self.keys: set[str] = set()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self.real.handle_async_request(request)
        key = request.headers.get("Idempotency-Key")
        if key and key not in self.keys:
            self.keys.add(key)
            await response.aread()
            raise httpx.ReadError("the answer is lost", request=request)
        return response

    async def aclose(self) -> None:
        await self.real.aclose()


def run(main: Coroutine[object, object, None]) -> None:
    asyncio.run(main)


def test_transfers_at_once_are_done_once_each(url: str) -> None:
    async def main() -> None:
        async with AsyncClient(url, transport=Line()) as client:
            group = await client.create_group("asyncio")
            alice, bob = await asyncio.gather(*(client.join_group(group.id, name, 100) for name in ("alice", "bob")))
            moved = await asyncio.gather(*(client.transfer(group.id, alice.id, bob.id, 1) for _ in range(20)))
            assert all(each.receipt.replayed for each in moved)
            assert [each.amount async for each in client.list_participants(group.id, page_size=1)] in (
                [80, 120],
                [120, 80],
            )
            assert len([each async for each in client.list_entries(group.id, kind="transfer", page_size=7)]) == 20
            with pytest.raises(ledger_client.InsufficientFunds) as refused:
                await client.transfer(group.id, alice.id, bob.id, 81)
            assert refused.value.fields == {"amount": ["exceeds the balance of 80"]}

    run(main())


def test_the_feed_is_followed_from_a_stored_place(url: str, now: FilePlace) -> None:
    async def main() -> None:
        async with AsyncClient(url) as client:
            group = await client.create_group("asyncio, the feed")
            joined = [await client.join_group(group.id, f"p{number}", 1) for number in range(3)]
            seen: list[int] = []
            for number in (1, 2):
                async with asyncio.timeout(60), aclosing(client.feed(now, page_size=2)) as feed:
                    async for entry in feed:
                        seen += [entry.id] if entry.group_id == group.id else []
                        if len(seen) >= 2 * number:
                            break
            ids = [each.receipt.entry_id for each in joined]
            assert seen == [ids[0], ids[1], ids[1], ids[2]]

    run(main())
