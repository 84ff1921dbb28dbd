"""Transfers and reads that arrive together share a call, and no outcome touches another's."""

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psycopg
import pytest
from psycopg_pool import TooManyRequests

from api.http import batching
from api.http.batching import CallBatches, array
from api.postgres.connection import ConnectionLost
from api.postgres.pools import Trace
from api.routes import ROUTES, Route
from api.telemetry.metrics import Metrics, share
from tests.http.client import Answer, problem, serving
from tests.support import in_background, join, one, until, wait_until_blocked

(TRANSFER,) = (route for route in ROUTES if route.function == "transfer")
(READ,) = (route for route in ROUTES if route.function == "get_participant")


@pytest.fixture
def together(api, admin) -> Callable[..., list[Answer]]:
    """Send requests that share one call: they queue while a first call waits for the table."""

    def send(first: tuple, *requests: tuple) -> list[Answer]:
        with ThreadPoolExecutor(len(requests) + 1) as pool:
            with admin.transaction():
                admin.execute("lock table ledger.participants in access exclusive mode")
                held = pool.submit(api, *first)
                waiting = (
                    "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and query ~ 'transfer_batch'"
                )
                with api.database.connect(api.database.admin) as observer:
                    until(lambda: one(observer, waiting) == (1,), "the first call to wait")
                    sent = [pool.submit(api, *request) for request in requests]
                    # They are read and queued while the first one waits, which it does for a second at most.
                    threading.Event().wait(0.3)
            assert held.result().status == 200
            return [future.result() for future in sent]

    return send


def transfer(group, amount: object = 1, key: str | None = None, **members: object) -> tuple:
    body = {"from": group.bob, "to": group.alice, "amount": amount} | members
    return "POST", f"{group.path}/transfer", body, {"Idempotency-Key": key} if key else {}


def test_each_request_has_its_own_outcome(api, group, other, together, admin):
    carol = api("POST", f"{group.path}/participants", {"username": "carol", "amount": 0}).data["id"]
    dave = api("POST", f"{group.path}/participants", {"username": "dave", "amount": 0}).data["id"]
    whale = api("POST", f"{group.path}/participants", {"username": "whale", "amount": 2**256 - 1}).data["id"]
    api(*transfer(group, key="used"))
    answers = together(
        transfer(other),
        transfer(group, 10),
        transfer(group, 10**6),
        transfer(group, 5, to=2**62),
        transfer(group, 5, to=group.bob),
        transfer(group, 5, to=other.bob),
        transfer(group, 1, to=whale),
        transfer(group, 1, key="used"),
        transfer(group, 2, key="used"),
        transfer(group, 3, key="twice"),
        transfer(group, 3, key="twice"),
        (
            "POST",
            f"{group.path}/transfer",
            {"from": group.alice, "to": group.bob, "amount": 20},
            {"Prefer": "amounts=string"},
        ),
        ("POST", f"{other.path}/transfer", {"from": other.alice, "to": other.bob, "amount": 7}),
        transfer(group, 4, metadata={"order": 17}),
    )
    assert [answer.status for answer in answers] == [200, 403, 404, 422, 404, 422, 200, 422, 200, 200, 200, 200, 200]
    assert answers[6].headers["Idempotency-Replayed"] == "true"
    assert answers[7].json["code"] == "idempotency_key_reused"
    assert answers[8].body == answers[9].body
    assert {answers[8].headers.get("Idempotency-Replayed"), answers[9].headers.get("Idempotency-Replayed")} == {
        None,
        "true",
    }
    assert isinstance(answers[10].data["to_participant"]["amount"], str)
    bob = api("GET", f"{group.path}/participants/{group.bob}").data["amount"]
    assert bob == 100 - 1 - 10 - 3 + 20 - 4
    assert [api("GET", f"{group.path}/participants/{of}").data["amount"] for of in (carol, dave)] == [0, 0]
    # The transfers that were made are of one transaction.
    made = [int(answers[number].headers["Ledger-Entry"]) for number in (0, 10, 11, 12)]
    assert one(admin, "select count(distinct xid) from ledger.entries where id = any (%s)", [made]) == (1,)


def test_a_locked_row_delays_only_requests_that_need_it(api, group, other):
    with api.database.connect(api.database.admin, autocommit=False) as holder, ThreadPoolExecutor(8) as pool:
        holder.execute("select from ledger.participants where id = %s for update", [group.bob])
        stuck = [pool.submit(api, *transfer(group)) for _ in range(4)]
        for _ in range(20):
            assert api(*transfer(other)).status == 200
        # They give up after the lock time-out of the test's login, a second.
        assert [problem(future.result(), 503, "busy")["sqlstate"] for future in stuck] == ["55P03"] * 4
    assert api(*transfer(group)).status == 200


def test_a_row_that_is_locked_for_a_moment_is_waited_for(api, group):
    with api.database.connect(api.database.admin, autocommit=False) as holder, ThreadPoolExecutor(1) as pool:
        holder.execute("select from ledger.participants where id = %s for update", [group.bob])
        waiting = pool.submit(api, *transfer(group))
        blocked = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and query ~ 'ledger.transfer'"
        with api.database.connect(api.database.admin) as observer:
            until(lambda: one(observer, blocked) == (1,), "the transfer to wait")
        holder.rollback()
        assert waiting.result().status == 200


def test_a_lost_connection_is_an_unknown_outcome_and_the_next_call_works(api, group, other, admin):
    waiting = "select pid from pg_stat_activity where wait_event_type = 'Lock' and query ~ 'transfer_batch'"
    with ThreadPoolExecutor(1) as pool, api.database.connect(api.database.admin) as observer, admin.transaction():
        admin.execute("lock table ledger.participants in access exclusive mode")
        lost = pool.submit(api, *transfer(group, key="lost"))
        until(lambda: observer.execute(waiting).fetchall(), "the call to wait")
        observer.execute("select pg_terminate_backend(%s)", one(observer, waiting))
        problem(lost.result(), 504, "outcome_unknown")
    assert api(*transfer(other)).status == 200
    assert api(*transfer(group, key="lost")).status == 200
    assert api(*transfer(group, key="lost")).headers["Idempotency-Replayed"] == "true"
    assert api("GET", f"{group.path}/participants/{group.bob}").data["amount"] == 99


def test_requests_in_flight_are_answered_before_the_service_stops(database):
    with database.connect() as ledger:
        (group,) = one(ledger, "select id from ledger.create_group('ETH')")
        alice, bob = (join(ledger, group, name, 1000) for name in ("alice", "bob"))
    body = {"from": bob, "to": alice, "amount": 1}
    with database.connect(database.admin, autocommit=False) as holder, ThreadPoolExecutor(20) as pool:
        with serving(database) as api:
            assert api("POST", f"/api/groups/{group}/transfer", body).status == 200
            holder.execute("lock table ledger.participants in access exclusive mode")
            sent = [pool.submit(api, "POST", f"/api/groups/{group}/transfer", body) for _ in range(20)]
            waiting = (
                "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and query ~ 'transfer_batch'"
            )
            with database.connect(database.admin) as observer:
                until(lambda: one(observer, waiting) == (1,), "a call to wait")
            threading.Event().wait(0.3)
            threading.Timer(0.5, holder.rollback).start()
        answers = [future.result().status for future in sent]
    assert answers == [200] * 20
    with database.connect() as ledger:
        assert one(ledger, "select amount from ledger.get_participant(%s, %s)", [group, bob]) == (979,)


# Values of requests that share a call


@pytest.mark.parametrize(
    "values",
    [
        ["null", "NULL", None, "0"],
        ['"', "\\", '\\"', "{}", ",", " ", "{a,b}", "\\\\n"],
        ['{"a": "\\"}", "b": "\\u00e9é\\n"}', None],
        ["²", "٣", "🦄", "'", "%s", ""],
    ],
)
def test_an_array_returns_its_values_unchanged(admin, values):
    assert one(admin, "select %s::text[]", [array(values)]) == (values,)


def test_an_array_of_nulls_is_null():
    assert array([None, None]) is None


def test_idempotency_keys_with_array_syntax_are_kept(api, group, other, together):
    keys = ["null", "NULL", '"', "\\", "{}", "a,b", "12"]
    answers = together(transfer(other), *(transfer(group, key=key) for key in keys))
    entries = [answer.headers["Ledger-Entry"] for answer in answers]
    assert len(set(entries)) == len(keys)
    again = [api(*transfer(group, key=key)) for key in keys]
    assert [answer.headers["Ledger-Entry"] for answer in again] == entries
    assert api("GET", f"{group.path}/participants/{group.bob}").data["amount"] == 100 - len(keys)


# Reads


def test_reads_that_share_a_call_are_each_answered(api, group, other, admin):
    paths = [f"{group.path}/participants/{group.bob}", f"{other.path}/participants/{other.alice}"]
    unknown = [f"{group.path}/participants/{2**62}", f"{group.path}/participants/{other.alice}"]
    past = f"{group.path}/participants/{group.bob}?at=2000-01-01T00:00:00Z"
    waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and query ~ 'get_participants'"
    with (
        ThreadPoolExecutor(32) as pool,
        api.database.connect(api.database.admin) as observer,
        admin.transaction(),
    ):
        admin.execute("lock table ledger.participants in access exclusive mode")
        held = pool.submit(api, "GET", paths[0])
        until(lambda: one(observer, waiting) == (1,), "the first read to wait")
        sent = [pool.submit(api, "GET", path) for path in paths * 10 + unknown]
        strings = pool.submit(api, "GET", paths[0], None, {"Prefer": "amounts=string"})
        in_the_past = pool.submit(api, "GET", past)
    assert held.result().data == {"username": "bob", "id": group.bob, "group_id": group.id, "amount": 100}
    answers = [read.result() for read in sent]
    assert [answer.data["id"] for answer in answers[:20]] == [group.bob, other.alice] * 10
    assert [problem(answer, 404, "not_found")["code"] for answer in answers[20:]] == ["not_found"] * 2
    assert strings.result().data["amount"] == "100"
    problem(in_the_past.result(), 404, "not_found")


def test_a_read_of_the_past_shares_no_call():
    async def story(batches: CallBatches, database: FakeDatabase) -> None:
        assert await request(batches, at_entry="1") is None
        assert await request(batches, at_time="2026-01-01T00:00:00Z") is None
        assert database.calls == []

    run(story, READ)


def test_reads_are_repeated_one_by_one_after_a_lost_connection():
    async def story(batches: CallBatches, database: FakeDatabase) -> None:
        requests = [request(batches) for _ in range(3)]
        await settle()
        database.calls[0][1].set_exception(ConnectionLost())
        assert [await one_of for one_of in requests] == [None] * 3

    run(story, READ)


# The queue, with a database that answers on command


class FakeDatabase:
    """A database whose batches wait until a test gives them rows, or an error."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, asyncio.Future]] = []
        self.turns: list[str | None] = []  # that each call took
        self.waits: list[str] = []  # for turns, before a call
        self.turn: asyncio.Future | None = None  # that they wait for

    async def call_batch(self, statement: str, parameters: dict, reads: bool, traces: Sequence[Trace] = ()) -> list:
        future = asyncio.get_running_loop().create_future()
        assert ("advisory" in statement) == ("turns" in parameters)
        if "group_id" not in parameters:
            self.waits.append(parameters["turns"])
            return await self.turn if self.turn else []
        self.turns.append(parameters.get("turns"))
        self.calls.append((parameters["group_id"].count(",") + 1, future))
        return await future


@contextmanager
def at_most(monkeypatch: pytest.MonkeyPatch, **bounds: int) -> Iterator[None]:
    for name, value in bounds.items():
        monkeypatch.setattr(batching, name, value)
    yield


def request(batches: CallBatches, **parameters: str | None) -> asyncio.Task:
    given = {argument.parameter: "1" for argument in batches.route.batch_arguments}
    given |= {argument.parameter: None for argument in batches.route.query}
    return asyncio.create_task(batches.call(given | parameters, False, Trace()))


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def run(story: Callable, route: Route = TRANSFER) -> None:
    async def play() -> None:
        database = FakeDatabase()
        await story(CallBatches(route, database, Metrics(share(0), -1)), database)

    asyncio.run(play())


DONE, DEFERRED, LOCKED = ([outcome, b"answer", None, b"7", b"f"] for outcome in (b"done", b"deferred", b"locked"))


def test_a_single_request_is_sent_at_once_and_the_next_call_takes_all_that_queued():
    async def story(batches: CallBatches, database: FakeDatabase) -> None:
        first = request(batches)
        await settle()
        others = [request(batches) for _ in range(5)]
        await settle()
        assert [size for size, _ in database.calls] == [1]
        database.calls[0][1].set_result([DONE])
        assert await first == DONE[1:]
        await settle()
        assert [size for size, _ in database.calls] == [1, 5]
        database.calls[1][1].set_result([DONE, DEFERRED, DONE, DONE, DONE])
        assert [await other for other in others] == [DONE[1:], None, DONE[1:], DONE[1:], DONE[1:]]
        assert batches.caller is None or batches.caller.done()

    run(story)


def test_a_call_takes_a_limited_number_and_a_full_queue_refuses(monkeypatch):
    async def story(batches: CallBatches, database: FakeDatabase) -> None:
        requests = [request(batches) for _ in range(8)]
        await settle()
        # One was refused as the eighth, seven wait for the first call, which took three.
        with pytest.raises(TooManyRequests):
            await requests[7]
        assert [size for size, _ in database.calls] == [3]
        for _ in range(3):
            database.calls[-1][1].set_result([DONE] * database.calls[-1][0])
            await settle()
        assert [size for size, _ in database.calls] == [3, 3, 1]
        assert all([await one_of for one_of in requests[:7]])

    with at_most(monkeypatch, MAX_BATCH=3, MAX_QUEUED=7):
        run(story)


def test_a_client_that_disconnects_before_the_call_is_left_out():
    async def story(batches: CallBatches, database: FakeDatabase) -> None:
        first = request(batches)
        await settle()
        gone, stays = request(batches), request(batches)
        await settle()
        gone.cancel()
        database.calls[0][1].set_result([DONE])
        await settle()
        assert [size for size, _ in database.calls] == [1, 1]
        database.calls[1][1].set_result([DONE])
        assert await stays == await first == DONE[1:]

    run(story)


def test_a_client_that_disconnects_during_the_call_affects_no_other():
    async def story(batches: CallBatches, database: FakeDatabase) -> None:
        gone, stays = request(batches), request(batches)
        await settle()
        gone.cancel()
        await settle()
        database.calls[0][1].set_result([DONE, DONE])
        assert await stays == DONE[1:]

    run(story)


def test_a_deferred_request_is_tried_before_later_ones_and_then_called_alone():
    async def story(batches: CallBatches, database: FakeDatabase) -> None:
        locked, free = request(batches), request(batches)
        await settle()
        database.calls[0][1].set_result([LOCKED, DONE])
        assert await free == DONE[1:]
        for number in range(1, batching.MAX_LOCKED):
            await settle()
            database.calls[number][1].set_result([LOCKED])
        await settle()
        assert not locked.done()
        database.calls[batching.MAX_LOCKED][1].set_result([LOCKED])
        assert await locked is None

    run(story)


def test_a_call_takes_turns_for_popular_participants_after_a_row_was_locked(monkeypatch):
    async def call(batches: CallBatches, database: FakeDatabase, *pairs: tuple[int, int], outcome: list = DONE) -> None:
        """Make one call with transfers from and to these participants."""
        requests = [request(batches, from_id=str(sender), to_id=str(recipient)) for sender, recipient in pairs]
        await settle()
        database.calls[-1][1].set_result([outcome] * len(pairs))
        await settle()
        if outcome == DONE:
            assert [await each for each in requests] == [DONE[1:]] * len(pairs)

    async def story(batches: CallBatches, database: FakeDatabase) -> None:
        popular = [(7, 1), (2, 7), (7, 3)]
        await call(batches, database, *popular)
        assert database.turns == [None]
        await call(batches, database, (9, 5), outcome=LOCKED)
        # The same transfer once more: its row was locked, whichever of the two it was.
        assert database.turns[1:] == [None, "{5,9}"]
        database.calls[-1][1].set_result([DONE])
        await settle()
        await call(batches, database, (7, 1), (2, 7))
        assert database.turns[3:] == [None]
        await call(batches, database, *popular, (2**31 + 4, 2), (2, 2**31 + 4), (2**31 + 4, 3))
        assert database.turns[4:] == ["{2,4,7}"]
        monkeypatch.setattr(batching, "WARY", -1)
        await call(batches, database, *popular)
        assert database.turns[5:] == ["{7}"]
        await call(batches, database, *popular)
        assert database.turns[6:] == [None]
        # A call that follows one in turn.
        assert database.waits == ["{5,9}", "{2,4,7}", "{7}"]

    run(story)


@pytest.mark.parametrize("error", [None, psycopg.errors.LockNotAvailable(), ConnectionLost()])
def test_a_call_takes_what_arrives_while_it_waits_for_its_turn(monkeypatch, error):
    async def story(batches: CallBatches, database: FakeDatabase) -> None:
        monkeypatch.setattr(batching, "WARY", float("inf"))
        batches.wary_until = float("inf")
        database.turn = asyncio.get_running_loop().create_future()
        first = [request(batches) for _ in range(3)]
        await settle()
        second = request(batches)
        await settle()
        database.calls[0][1].set_result([DONE] * 3)
        await settle()
        assert database.waits == ["{1}"]
        third = [request(batches) for _ in range(2)]
        await settle()
        if error:
            database.turn.set_exception(error)
        else:
            database.turn.set_result([])
        await settle()
        assert [size for size, _ in database.calls] == [3, 3]
        assert database.turns == ["{1}", None if error else "{1}"]
        database.calls[1][1].set_result([DONE] * 3)
        assert [await each for each in (*first, second, *third)] == [DONE[1:]] * 6

    run(story)


def test_calls_that_take_turns_find_no_row_locked_by_each_other(api, group, observer):
    statements = {in_turn: batching.statement(TRANSFER, in_turn) for in_turn in (False, True)}

    def call(session: psycopg.Connection, in_turn: bool) -> list[str]:
        parameters = dict.fromkeys(argument.parameter for argument in TRANSFER.batch_arguments)
        legs = {"group_id": [group.id] * 2, "from_id": [group.bob] * 2, "to_id": [group.alice] * 2, "amount": [1, 2]}
        rows = session.execute(statements[in_turn], parameters | legs | {"strings": None, "turns": [7, group.bob]})
        return [outcome for outcome, *_ in rows]

    with (
        api.database.connect(autocommit=False) as first,
        api.database.connect() as second,
    ):
        assert call(first, True) == ["done", "done"]
        assert call(second, False) == ["locked", "locked"]
        with in_background(lambda: call(second, True)) as outcomes:
            wait_until_blocked(observer, second)
            first.commit()
        assert outcomes == [["done", "done"]]
    assert api("GET", f"{group.path}/participants/{group.bob}").data["amount"] == 100 - 2 * (1 + 2)


@pytest.mark.parametrize(
    "error",
    [ConnectionLost(), psycopg.errors.QueryCanceled(), psycopg.OperationalError("away"), ValueError("a bug of ours")],
)
def test_a_failed_call_fails_all_its_requests_and_the_next_one_works(error):
    async def story(batches: CallBatches, database: FakeDatabase) -> None:
        requests = [request(batches) for _ in range(3)]
        await settle()
        database.calls[0][1].set_exception(error)
        for one_of in requests:
            with pytest.raises(type(error)):
                await one_of
        after = request(batches)
        await settle()
        database.calls[1][1].set_result([DONE])
        assert await after == DONE[1:]

    run(story)


def test_an_answer_with_too_few_rows_fails_its_requests():
    async def story(batches: CallBatches, database: FakeDatabase) -> None:
        requests = [request(batches) for _ in range(3)]
        await settle()
        database.calls[0][1].set_result([DONE, DONE])
        assert [await one_of for one_of in requests[:2]] == [DONE[1:]] * 2
        with pytest.raises(ValueError, match="shorter"):
            await requests[2]

    run(story)


@pytest.mark.parametrize(
    "error",
    [psycopg.errors.InternalError_(), psycopg.errors.DeadlockDetected(), psycopg.errors.SerializationFailure()],
)
def test_requests_are_called_one_by_one_after_an_error_that_may_concern_only_some(error):
    async def story(batches: CallBatches, database: FakeDatabase) -> None:
        requests = [request(batches) for _ in range(3)]
        await settle()
        database.calls[0][1].set_exception(error)
        assert [await one_of for one_of in requests] == [None] * 3

    run(story)
