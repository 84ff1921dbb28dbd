"""Retries and refusals, step by step and without a connection."""

import json
import logging
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest

import ledger_client
from ledger_client import calls
from ledger_client.errors import Problem
from ledger_client.exchange import FIRST_DELAY, LONGEST_DELAY, Call, Done, Settings, Steps, exchange

HTTP = httpx.Client(base_url="http://ledger.test/behind/")
DEPOSIT = calls.deposit(1, 2, 3, idempotency_key="the-key")
DEPOSITED = httpx.Response(
    201,
    json={"data": {"username": "alice", "id": 2, "group_id": 1, "amount": "103"}},
    headers={"Ledger-Entry": "7", "Idempotency-Replayed": "true"},
)


def refusal(code: str, status: int, headers: dict[str, str] | None = None, **members: object) -> httpx.Response:
    body = {"type": "/", "title": "T", "status": status, "detail": "why", "code": code, **members}
    return httpx.Response(status, json={"errors": {"detail": "T"}} | body, headers=headers)


BUSY = refusal("busy", 503, {"Retry-After": "2"})
UNKNOWN = refusal("outcome_unknown", 504)
ANSWERS = [
    pytest.param(BUSY, ledger_client.Busy, id="busy"),
    pytest.param(UNKNOWN, ledger_client.OutcomeUnknown, id="unknown"),
    pytest.param(httpx.Response(502, text="<h1>Bad gateway</h1>"), ledger_client.UnexpectedAnswer, id="gateway"),
    pytest.param(httpx.ConnectError("refused"), ledger_client.ConnectionFailed, id="refused"),
    pytest.param(httpx.ReadTimeout("late"), ledger_client.ConnectionFailed, id="late"),
    pytest.param(httpx.RemoteProtocolError("cut off"), ledger_client.ConnectionFailed, id="cut-off"),
]


def begin(call: Call, retries: int = 8) -> Steps:
    return exchange(call, Settings(30.0, retries, None), HTTP.build_request)


def give(steps: Steps, answer: httpx.Response | Exception) -> object:
    return steps.throw(answer) if isinstance(answer, Exception) else steps.send(answer)


@pytest.mark.parametrize(("answer", "error"), ANSWERS)
def test_a_write_is_repeated_with_its_key_until_it_is_answered(answer, error):
    steps = begin(DEPOSIT)
    request = next(steps)
    for _ in range(8):
        delay = give(steps, answer)
        assert isinstance(delay, float)
        again = next(steps)
        assert (again.method, again.url, again.content) == (request.method, request.url, request.content)
        assert again.headers["Idempotency-Key"] == request.headers["Idempotency-Key"] == "the-key"
    done = steps.send(DEPOSITED)
    assert isinstance(done, Done)
    assert done.answer.amount == 103
    assert done.answer.receipt == ledger_client.Receipt("the-key", 7, True)


@pytest.mark.parametrize(("answer", "error"), ANSWERS)
@pytest.mark.parametrize("call", [DEPOSIT, calls.get_group(1)], ids=["write", "read"])
def test_an_error_is_raised_once_the_retries_are_used_up(call, answer, error):
    steps = begin(call, retries=1)
    next(steps)
    give(steps, answer)
    next(steps)
    with pytest.raises(error) as raised:
        give(steps, answer)
    assert raised.value.idempotency_key == call.idempotency_key


def test_a_write_without_a_key_is_not_made():
    with pytest.raises(ValueError, match="idempotency key"):
        Call("POST", "/api/groups", lambda answer: None)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 410, 413, 422, 500])
def test_a_refusal_is_not_repeated(status):
    steps = begin(DEPOSIT)
    next(steps)
    with pytest.raises(Problem) as raised:
        steps.send(refusal("a_later_code", status))
    assert (type(raised.value), raised.value.code, raised.value.status) == (Problem, "a_later_code", status)


def test_delays_grow_to_a_bound_and_differ():
    def delays() -> list[float]:
        steps = begin(DEPOSIT, retries=20)
        next(steps)
        found = []
        for _ in range(20):
            found.append(give(steps, UNKNOWN))
            next(steps)
        return found

    first, second = delays(), delays()
    for number, delay in enumerate(first):
        longest = min(FIRST_DELAY * 2**number, LONGEST_DELAY)
        assert longest / 2 <= delay <= longest
    assert first != second


@pytest.mark.parametrize(
    ("header", "least", "most"),
    [
        ("2", 2, 2.1),
        (50, 1, 50.1),
        ("soon", 0, 0.1),
        ("-1", 0, 0.1),
        ("²", 0, 0.1),
        (format_datetime(datetime.now(UTC) - timedelta(days=1), usegmt=True), 0, 0.1),
    ],
)
def test_retry_after_is_waited_for(header, least, most):
    if isinstance(header, int):  # a moment, so many seconds from now
        header = format_datetime(datetime.now(UTC) + timedelta(seconds=header), usegmt=True)
    steps = begin(DEPOSIT)
    next(steps)
    delay = steps.send(refusal("busy", 503, {"Retry-After": header.encode()}))  # type: ignore[dict-item]
    assert least <= delay <= most


def test_a_service_that_asks_for_more_than_a_minute_is_not_asked_again():
    steps = begin(DEPOSIT)
    next(steps)
    with pytest.raises(ledger_client.Unavailable):
        steps.send(refusal("unavailable", 503, {"Retry-After": "3600"}))


def test_a_refusal_has_its_fields_and_names_them():
    steps = begin(DEPOSIT)
    next(steps)
    errors = {"amount": ["exceeds the balance of 1", "is odd"], "to": ["is unknown"]}
    with pytest.raises(ledger_client.InsufficientFunds) as raised:
        steps.send(
            refusal("insufficient_funds", 403, {"X-Request-ID": "r-1"}, sqlstate="LG003", errors=errors, more="ignored")
        )
    problem = raised.value
    assert (problem.fields, problem.sqlstate, problem.request_id) == (errors, "LG003", "r-1")
    assert str(problem) == ("insufficient_funds: why; amount exceeds the balance of 1; amount is odd; to is unknown")


@pytest.mark.parametrize(
    "text", ["", "<html>", "[]", "{}", '{"code": 1}', '{"code": []}', '{"code": "busy", "errors": 1}']
)
def test_an_answer_that_is_not_the_ledgers_is_named(text):
    steps = begin(DEPOSIT)
    next(steps)
    with pytest.raises(ledger_client.UnexpectedAnswer) as raised:
        steps.send(httpx.Response(404, text=text))
    assert (raised.value.status, raised.value.text) == (404, text)


@pytest.mark.parametrize("text", ["", "<html>", "[]", '{"data": {"id": 1}}', '{"data": null}'])
def test_a_success_that_is_not_the_ledgers_is_named(text):
    steps = begin(DEPOSIT)
    next(steps)
    with pytest.raises(ledger_client.UnexpectedAnswer) as raised:
        steps.send(httpx.Response(200, text=text))
    assert raised.value.idempotency_key == "the-key"


def test_amounts_are_sent_as_digits_below_the_path_of_the_url():
    request = next(begin(calls.transfer(1, 2, 3, 2**256 - 1)))
    assert str(request.url) == "http://ledger.test/behind/api/groups/1/transfer"
    assert json.loads(request.content) == {"from": "2", "to": "3", "amount": str(2**256 - 1)}
    assert request.headers["Prefer"] == "amounts=string"


def test_each_call_gets_a_key_of_its_own_that_rises_with_time():
    keys = [calls.deposit(1, 2, 3).idempotency_key or "" for _ in range(100)]
    assert len(set(keys)) == 100
    assert all(key[14] == "7" and key[19] in "89ab" for key in keys)
    assert [key[:13] for key in keys] == sorted(key[:13] for key in keys)


@pytest.mark.parametrize("given", ["1/../2", "1", 1.0, None])
def test_an_id_that_is_no_int_reaches_no_path(given):
    with pytest.raises(TypeError):
        calls.get_group(given)


def test_a_key_is_logged_before_it_is_sent(caplog):
    with caplog.at_level(logging.DEBUG, "ledger_client"):
        next(begin(DEPOSIT))
    assert "the-key" in caplog.text


def test_members_of_a_later_release_are_ignored():
    body = {"data": {"name": "ETH", "id": 1, "colour": "blue"}, "more": True}
    steps = begin(calls.get_group(1))
    next(steps)
    assert steps.send(httpx.Response(200, json=body)) == Done(ledger_client.Group("ETH", 1))


def test_a_url_needs_its_scheme():
    with pytest.raises(ValueError, match="http://"):
        ledger_client.Client("127.0.0.1:4000")
