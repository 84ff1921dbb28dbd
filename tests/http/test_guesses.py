"""Clients that guess API keys do not lock out those that have one."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import cast

import psycopg
import pytest
from sanic.compat import Header

from api.http import auth
from api.http.auth import Authenticator, Principal
from api.http.origins import Origins
from api.http.request import LoggedRequest
from api.postgres.connection import ConnectionLost
from api.postgres.pools import MAX_WAITING
from api.postgres.pools import Database as Connections
from api.problems import Problem
from api.routes import ROUTES
from tests.http.client import serving
from tests.support import Database, call, one

(LIST,) = (route for route in ROUTES if route.function == "list_groups")
GUESSERS = MAX_WAITING + 76  # more than can wait for a connection of a pool


def new_key(database: Database, number: int = 0) -> str:
    with database.connect(database.admin) as admin:
        return one(admin, "select secret from ledger.create_api_key(%s, 'read', null)", [f"key {number}"])[0]


def test_every_request_with_a_valid_api_key_is_answered_beside_many_guesses(
    database: Database, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A good key is due to be looked at again at each request.
    (tmp_path / "sitecustomize.py").write_text("import api.http.auth\napi.http.auth.API_KEY_CACHE_SECONDS = 0\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    good, *fresh = [new_key(database, number) for number in range(6)]

    async def status(port: int, secret: str, streams: list) -> int:
        """Send a request on a connection that is kept open."""
        if not streams:
            streams.extend(await asyncio.open_connection("127.0.0.1", port))
        reader, writer = streams
        writer.write(f"GET /api/groups HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {secret}\r\n\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        await reader.readexactly(int(head.partition("content-length: ")[2].split()[0]))
        return int(head.split()[1])

    async def close(streams: list) -> None:
        streams[1].close()
        await streams[1].wait_closed()

    async def story(port: int) -> list[int]:
        stop = False

        async def guess(number: int) -> None:
            streams: list = []
            while not stop:
                assert await status(port, f"ledger_1_{number:064x}", streams) == 401
            await close(streams)

        streams: list = []
        assert await status(port, good, streams) == 200
        guesses = [asyncio.create_task(guess(number)) for number in range(GUESSERS)]
        await asyncio.sleep(0)
        statuses = [await status(port, secret, streams) for each in fresh for secret in (good, each)]
        stop = True
        await asyncio.gather(*guesses, close(streams))
        return statuses

    with serving(database) as service:
        assert asyncio.run(story(service.port)) == [200] * 10


# The queue, with a database that answers on command


class FakeDatabase:
    """A database whose look-ups wait for their answer: the secrets that are good, or an error."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, bool, asyncio.Future]] = []

    async def call_access(self, statement: str, parameters: dict[str, str], known: bool) -> list:
        asked = 0 if statement == auth.API_KEYS_REQUIRED else parameters["key_ids"].count(",") + 1
        future = asyncio.get_running_loop().create_future()
        self.calls.append((asked, known, future))
        return await future

    async def answer(self, number: int, *rows: bytes | None) -> None:
        asked, _, future = self.calls[number]
        future.set_result([[row] for row in rows] or [[None]] * asked)
        await settle()


GOOD = json.dumps({"id": 7, "name": "shop", "scope": "read", "group_id": None}).encode()


async def settle(turns: int = 5) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)


def run(story: Callable[[Authenticator, FakeDatabase], Awaitable[None]], open_at_first: bool = False) -> None:
    async def main() -> None:
        database = FakeDatabase()
        await story(Authenticator(cast("Connections", database), open_at_first, Origins()), database)

    asyncio.run(main())


def admit(guard: Authenticator, secret: str | None) -> asyncio.Task[float]:
    headers = Header({} if secret is None else {"authorization": f"Bearer {secret}"})
    request = cast("LoggedRequest", SimpleNamespace(headers=headers))
    return asyncio.create_task(guard.admit(LIST, request, {}))


def secret_of(number: int) -> str:
    return f"ledger_{number + 1}_{number:064x}"


async def make_known(guard: Authenticator, database: FakeDatabase, secret: str) -> None:
    asking = admit(guard, secret)
    await settle()
    await database.answer(-1, GOOD)
    await asking
    due(guard, secret)


def due(guard: Authenticator, secret: str) -> None:
    """Make an API key due for another look-up."""
    guard.remembered[secret] = (guard.remembered[secret][0], 0.0)


def test_a_known_api_key_does_not_wait_for_guesses() -> None:
    async def story(guard: Authenticator, database: FakeDatabase) -> None:
        await make_known(guard, database, secret_of(0))
        guesses = [admit(guard, secret_of(number)) for number in range(1, 4)]
        await settle()
        asking = admit(guard, secret_of(0))
        await settle()
        assert [known for _, known, _ in database.calls] == [False, False, True]
        await database.answer(2, GOOD)
        assert await asking
        assert not any(guess.done() for guess in guesses)
        for guess in guesses:
            guess.cancel()

    run(story)


def test_guesses_share_calls_and_none_is_refused_for_their_number() -> None:
    async def story(guard: Authenticator, database: FakeDatabase) -> None:
        first = admit(guard, secret_of(0))
        await settle()
        guesses = [first, *(admit(guard, secret_of(number)) for number in range(1, 3001))]
        await settle()
        for number in range(7):
            await database.answer(number)
            await settle(100)  # the requests of one call go on in slices
        refusals = await asyncio.gather(*guesses, return_exceptions=True)
        assert {cast("Problem", refusal).code for refusal in refusals} == {"unauthorized"}
        assert [asked for asked, _, _ in database.calls] == [1, *[auth.MAX_BATCH] * 5, 3000 % auth.MAX_BATCH]

    run(story)


def test_concurrent_requests_with_one_api_key_share_one_look_up() -> None:
    async def story(guard: Authenticator, database: FakeDatabase) -> None:
        asking = [admit(guard, secret_of(0)) for _ in range(100)]
        await settle()
        await database.answer(0, GOOD)
        await asyncio.gather(*asking)
        assert [asked for asked, _, _ in database.calls] == [1]

    run(story)


def test_requests_of_disconnected_clients_are_not_looked_up() -> None:
    async def story(guard: Authenticator, database: FakeDatabase) -> None:
        first = admit(guard, secret_of(0))
        await settle()
        gone, other = admit(guard, secret_of(1)), admit(guard, secret_of(2))
        await settle()
        gone.cancel()
        await database.answer(0)
        await database.answer(1)
        await asyncio.gather(first, other, return_exceptions=True)
        assert [asked for asked, _, _ in database.calls] == [1, 1]

    run(story)


@pytest.mark.parametrize("error", [ConnectionLost(), psycopg.OperationalError(), psycopg.errors.QueryCanceled()])
def test_a_failed_look_up_forgets_no_api_key_and_admits_no_client(error: Exception) -> None:
    async def story(guard: Authenticator, database: FakeDatabase) -> None:
        await make_known(guard, database, secret_of(0))
        asking = admit(guard, secret_of(0))
        await settle()
        database.calls[-1][2].set_exception(error)
        with pytest.raises(Problem) as raised:
            await asking
        assert raised.value.status == 503
        again = admit(guard, secret_of(0))
        await settle()
        assert database.calls[-1][1], "it goes on being asked for beside the good ones"
        await database.answer(-1, GOOD)
        assert await again

    run(story)


def test_only_an_answer_of_the_database_forgets_an_api_key() -> None:
    async def story(guard: Authenticator, database: FakeDatabase) -> None:
        await make_known(guard, database, secret_of(0))
        for known in (True, False):
            asking = admit(guard, secret_of(0))
            await settle()
            assert database.calls[-1][1] is known
            await database.answer(-1, None)
            with pytest.raises(Problem) as raised:
                await asking
            assert raised.value.code == "unauthorized"

    run(story)


def test_while_the_database_is_away_a_request_waits_for_one_failure_at_most() -> None:
    async def story(guard: Authenticator, database: FakeDatabase) -> None:
        first = admit(guard, secret_of(0))
        await settle()
        others = [admit(guard, secret_of(number)) for number in range(1, 2000)]
        await settle()
        database.calls[0][2].set_exception(psycopg.OperationalError())
        failures = await asyncio.gather(first, *others, return_exceptions=True)
        assert {cast("Problem", failure).code for failure in failures} == {"unavailable"}
        assert len(database.calls) == 1

    run(story)


def test_spellings_of_one_api_key_count_once_and_the_oldest_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "MAX_REMEMBERED", 3)

    async def story(guard: Authenticator, database: FakeDatabase) -> None:
        for number in range(3):
            await make_known(guard, database, secret_of(number))
        for scheme in ("bearer", "BEARER", "Bearer "):
            headers = Header({"authorization": f"{scheme} {secret_of(0)}"})
            request = cast("LoggedRequest", SimpleNamespace(headers=headers))
            asking = asyncio.create_task(guard.admit(LIST, request, {}))
            await settle()
            await database.answer(-1, GOOD) if not asking.done() else None
            await asking
        assert len(database.calls) == 4
        await make_known(guard, database, secret_of(3))
        # The first one was looked at again after the second.
        assert [*guard.remembered] == [secret_of(2), secret_of(0), secret_of(3)]

    run(story)


def test_requests_without_an_api_key_share_one_look_up() -> None:
    async def story(guard: Authenticator, database: FakeDatabase) -> None:
        asking = [admit(guard, None) for _ in range(2000)]
        await settle()
        await database.answer(0, b"f")
        await asyncio.gather(*asking)
        assert len(database.calls) == 1

    run(story, open_at_first=True)


def test_each_of_many_api_keys_gets_its_own_answer(database: Database) -> None:
    """On a real server: names, scopes and groups do not get mixed up among the keys of one call."""

    async def story(secrets: list[str]) -> list[Principal | None]:
        connections = Connections(database.url(database.service), "ledger serve test")
        await connections.open()
        try:
            guard = Authenticator(connections, False, Origins())
            return [principal for principal, _ in await guard.find_new([(s.split("_")[1], s) for s in secrets])]
        finally:
            await connections.close()

    secrets = [new_key(database, number) for number in range(20)]
    with database.connect(database.admin) as admin:
        call(admin, "revoke_api_key", int(secrets[3].split("_")[1]))
    wrong = [f"{secret[:-1]}{'1' if secret[-1] == '0' else '0'}" for secret in secrets]
    principals = asyncio.run(story([each for pair in zip(secrets, wrong, strict=True) for each in pair]))
    assert principals[1::2] == [None] * 20
    names = [principal and principal.name for principal in principals[::2]]
    assert names == [None if number == 3 else f"key {number}" for number in range(20)]
