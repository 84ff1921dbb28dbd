"""Writes through lost answers, unknown outcomes and a service that is killed: money moves once."""

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

import ledger_client
from ledger_client import Client, Group, Participant
from tests.http.client import Service
from tests.running.commands import free_port, serving
from tests.support import Database, one, until

WAITING = "select pid from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"


class Line(httpx.BaseTransport):
    """A connection that keeps the requests, and loses the answers to as many writes as it is set to."""

    def __init__(self) -> None:
        self.real = httpx.HTTPTransport()
        self.requests: list[httpx.Request] = []
        self.losses = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        response = self.real.handle_request(request)
        if self.losses and request.method != "GET":
            self.losses -= 1
            response.read()
            raise httpx.ReadError("the answer is lost", request=request)
        return response

    def close(self) -> None:
        self.real.close()


@pytest.fixture
def line() -> Line:
    return Line()


@pytest.fixture
def client(url: str, line: Line) -> Iterator[Client]:
    with Client(url, transport=line) as client:
        yield client


def test_each_write_is_done_once_although_its_answer_is_lost(client: Client, line: Line) -> None:
    def lost(write, *arguments, **more):
        """The result of a write whose first answer is lost."""
        line.losses = 1
        line.requests.clear()
        result = write(*arguments, **more)
        first, second = line.requests
        assert first.headers["Idempotency-Key"] == second.headers["Idempotency-Key"]
        receipt = getattr(result, "receipt", result)
        assert receipt.replayed
        assert receipt.idempotency_key == first.headers["Idempotency-Key"]
        return result

    group = lost(client.create_group, "lost answers")
    alice = lost(client.join_group, group.id, "alice", 100)
    bob = lost(client.join_group, group.id, "bob", 100)
    assert lost(client.deposit, group.id, alice.id, 5).amount == 105
    moved = lost(client.transfer, group.id, alice.id, bob.id, 5)
    assert (moved.from_participant.amount, moved.to_participant.amount) == (100, 105)
    lines = [ledger_client.TransferLine(bob.id, alice.id, 1)] * 3
    assert [each.to_amount for each in lost(client.transfer_all, group.id, lines).entries] == [101, 102, 103]
    assert lost(client.reverse_transfer, group.id, moved.receipt.entry_id).to_amount == 108
    lost(client.rename_participant, group.id, bob.id, "bert")
    lost(client.bind_address, group.id, bob.id, "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed")
    lost(client.rename_group, group.id, "lost answers, renamed")
    lost(client.checkpoint, group.id)
    left = lost(client.exit_group, group.id, bob.id)
    assert left.final_amount == 97
    lost(client.settle_exit, group.id, left.receipt.entry_id, "0x5f")
    assert lost(client.exit_group, group.id, alice.id).final_amount == 108
    lost(client.remove_group, group.id)
    # The group's entries outlive it.
    kinds = [each.kind for each in client.list_entries(group.id)]
    assert kinds == ["join", "join", "deposit", *["transfer"] * 5, "exit", "exit"]


def test_an_unknown_outcome_is_repeated_with_its_key(
    client: Client, line: Line, service: Service, group: Group, alice: Participant, bob: Participant
) -> None:
    line.requests.clear()
    database = service.database
    with (
        database.connect(database.admin) as admin,
        database.connect(database.admin, autocommit=False) as locked,
        ThreadPoolExecutor(1) as pool,
    ):
        locked.execute("select from ledger.participants where group_id = %s and id = %s for update", [group.id, bob.id])
        moving = pool.submit(client.transfer, group.id, bob.id, alice.id, 5)
        until(lambda: admin.execute(WAITING).fetchall(), "the transfer to wait")
        admin.execute("select pg_terminate_backend(%s)", one(admin, WAITING))
        until(lambda: len(line.requests) > 1, "the transfer to be repeated")
        locked.rollback()
        moved = moving.result()
    assert (moved.from_participant.amount, moved.to_participant.amount) == (95, 105)
    assert {request.headers["Idempotency-Key"] for request in line.requests} == {moved.receipt.idempotency_key}


def test_a_client_that_does_not_repeat_can_be_followed_by_one_that_does(
    url: str, client: Client, group: Group, alice: Participant, bob: Participant
) -> None:
    broken = Line()
    broken.losses = 1
    with Client(url, retries=0, transport=broken) as first, pytest.raises(ledger_client.ConnectionFailed) as failed:
        first.transfer(group.id, bob.id, alice.id, 5)
    key = failed.value.idempotency_key
    assert key
    moved = client.transfer(group.id, bob.id, alice.id, 5, idempotency_key=key)
    assert moved.receipt.replayed
    assert client.get_participant(group.id, bob.id).amount == 95
    with pytest.raises(ledger_client.IdempotencyKeyReused):
        client.transfer(group.id, bob.id, alice.id, 6, idempotency_key=key)


def test_transfers_through_killed_services_move_money_once(database: Database) -> None:
    with database.connect(database.admin) as admin:
        (secret,) = one(admin, "select secret from ledger.create_api_key('test', 'admin')")
    settings = {"DATABASE_URL": database.url(database.service), "PORT": str(free_port())}
    moved: list[int] = []
    stopped = False
    with Client(f"http://127.0.0.1:{settings['PORT']}", secret, retries=40) as client:

        def move(group: int, sender: int, recipient: int) -> None:
            while not stopped:
                moved.append(client.transfer(group, sender, recipient, 1).receipt.entry_id or 0)

        with ThreadPoolExecutor(4) as pool:
            try:
                with serving(**settings) as service:
                    group = client.create_group("killed services").id
                    rich = client.join_group(group, "rich", 10**6).id
                    others = [client.join_group(group, f"other {number}", 0).id for number in range(4)]
                    moving = [pool.submit(move, group, rich, other) for other in others]
                    until(lambda: len(moved) > 20, "transfers")
                    for pid in service.pids:
                        os.kill(pid, signal.SIGKILL)
                    assert service.process.wait(60) == -signal.SIGKILL
                before = len(moved)
                with serving(**settings):
                    until(lambda: len(moved) > before + 20, "transfers after the kill")
                    stopped = True
                    for each in moving:
                        each.result()
                    assert client.get_participant(group, rich).amount == 10**6 - len(moved)
                    assert sorted(moved) == [each.id for each in client.list_entries(group, kind="transfer")]
                    with (
                        Client(f"http://127.0.0.1:{settings['PORT']}", secret[:-1]) as stranger,
                        pytest.raises(ledger_client.Unauthorized),
                    ):
                        stranger.get_group(group)
            finally:
                stopped = True


def test_a_service_that_is_not_there_is_named(url: str) -> None:
    with Client(f"http://127.0.0.1:{free_port()}", retries=1) as client, pytest.raises(ledger_client.ConnectionFailed):
        client.health()
