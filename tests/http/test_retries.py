"""Idempotency-Key: a request that is repeated is done once and answered as the first time, to the byte."""

import random
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.http.client import Service, problem, serving
from tests.support import one, until


def retried(api: Service, method: str, path: str, body: object = None, key: str = "key") -> None:
    """Send the request twice; the second answer is the first again."""
    first, again = (api(method, path, body, {"Idempotency-Key": key}) for _ in range(2))
    assert 200 <= first.status < 300
    assert (again.status, again.body) == (first.status, first.body)
    for name in ("Location", "Ledger-Entry", "Content-Type"):
        assert again.headers.get(name) == first.headers.get(name)
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"


def test_every_change_can_be_repeated(api, group):
    path = f"{group.path}/participants"
    retried(api, "POST", "/api/groups", {"name": f"keyed {group.id}"}, f"create {group.id}".replace(" ", "-"))
    retried(api, "PUT", group.path, {"name": f"renamed {group.id}"}, "1")
    retried(api, "PATCH", group.path, {"name": f"renamed again {group.id}"}, "2")
    retried(api, "POST", path, {"username": "carol", "amount": 2**255}, "3")
    retried(api, "PUT", f"{path}/{group.bob}", {"username": "rob"}, "4")
    retried(api, "POST", f"{group.path}/transfer", {"from": group.bob, "to": group.alice, "amount": 5}, "5")
    carol = api("GET", path).data[2]["id"]
    for number, participant in enumerate((group.alice, group.bob, carol)):
        retried(api, "DELETE", f"{path}/{participant}", key=f"exit-{number}")
    retried(api, "DELETE", group.path, key="6")


def test_a_replay_may_have_amounts_as_strings(api, group):
    body = {"from": group.bob, "to": group.alice, "amount": 5}
    key = {"Idempotency-Key": "key"}
    api("POST", f"{group.path}/transfer", body, key)
    again = api("POST", f"{group.path}/transfer", body, key | {"Prefer": "amounts=string"})
    assert again.data["to_participant"]["amount"] == "105"
    assert again.headers["Idempotency-Replayed"] == "true"


def test_another_request_with_the_idempotency_key_is_refused(api, group):
    body = {"from": group.bob, "to": group.alice, "amount": 5}
    key = {"Idempotency-Key": "key"}
    assert api("POST", f"{group.path}/transfer", body, key).status == 200
    refusal = problem(api("POST", f"{group.path}/transfer", body | {"amount": 6}, key), 422, "idempotency_key_reused")
    assert refusal["sqlstate"] == "LG006"
    assert list(refusal["errors"]) == ["Idempotency-Key"]
    assert api("GET", f"{group.path}/participants/{group.bob}").data["amount"] == 95


@pytest.mark.parametrize("key", ["", "a b", "x" * 256, "\u00e9", "a\tb"])
def test_a_bad_idempotency_key_is_refused_with_the_other_invalid_values(api, group, key):
    body = {"from": group.bob, "to": 0, "amount": 5}
    answer = api("POST", f"{group.path}/transfer", body, {"Idempotency-Key": key})
    assert list(problem(answer, 422, "invalid_value")["errors"]) == ["to", "Idempotency-Key"]
    answer = api("DELETE", f"{group.path}/participants/{group.bob}", headers={"Idempotency-Key": key})
    assert list(problem(answer, 422, "invalid_value")["errors"]) == ["Idempotency-Key"]


def test_a_read_ignores_an_idempotency_key(api, group):
    for _ in range(2):
        answer = api("GET", group.path, headers={"Idempotency-Key": "a b"})
        assert answer.status == 200
        assert "Idempotency-Replayed" not in answer.headers


def test_repeats_at_once_through_two_services_move_money_once(api, group):
    body = {"from": group.bob, "to": group.alice, "amount": 5}
    with serving(api.database) as second, ThreadPoolExecutor(32) as pool:

        def send(number: int) -> tuple[int, bytes]:
            service = (api, second)[number % 2]
            answer = service("POST", f"{group.path}/transfer", body, {"Idempotency-Key": "key"})
            return answer.status, answer.body

        answers = set(pool.map(send, range(200)))
    assert len(answers) == 1
    assert api("GET", f"{group.path}/participants/{group.bob}").data["amount"] == 95


def test_repeating_the_idempotency_key_resolves_an_unknown_outcome(api, group, admin):
    body = {"from": group.bob, "to": group.alice, "amount": 5}
    key = {"Idempotency-Key": "key"}
    waiting = "select pid from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
    with api.database.connect(api.database.admin, autocommit=False) as locked, ThreadPoolExecutor(1) as pool:
        locked.execute("select from ledger.participants where id = %s for update", [group.bob])
        sent = pool.submit(api, "POST", f"{group.path}/transfer", body, key)
        until(lambda: admin.execute(waiting).fetchall(), "the transfer to wait")
        admin.execute("select pg_terminate_backend(%s)", one(admin, waiting))
        problem(sent.result(), 504, "outcome_unknown")
    assert api("POST", f"{group.path}/transfer", body, key).status == 200
    assert api("POST", f"{group.path}/transfer", body, key).headers["Idempotency-Replayed"] == "true"
    assert api("GET", f"{group.path}/participants/{group.bob}").data["amount"] == 95


def test_a_client_that_repeats_until_answered_moves_the_intended_amount(api, group):
    chance = random.Random(1)
    head = (
        b"POST %s/transfer HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Idempotency-Key: %d\r\nContent-Length: %d\r\n\r\n"
    )
    body = b'{"from": %d, "to": %d, "amount": 1}' % (group.bob, group.alice)

    def attempt(number: int) -> bool:
        """Send the whole request or a part of it, and listen for the answer or hang up; whether it was answered."""
        request = head % (group.path.encode(), number, len(body)) + body
        with socket.create_connection(("127.0.0.1", api.port), timeout=60) as connection:
            connection.sendall(request[: chance.choice([len(request)] * 3 + [chance.randrange(len(request))])])
            if chance.random() < 0.5:
                return False
            connection.settimeout(0.2)
            try:
                return connection.recv(4096).startswith(b"HTTP/1.1 200")
            except TimeoutError:
                return False

    for number in range(50):
        until(lambda number=number: attempt(number), "an answer")
    assert api("GET", f"{group.path}/participants/{group.bob}").data["amount"] == 50
