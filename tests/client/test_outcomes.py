"""Whether a write that failed may have been done, as the error of the client shows it."""

from collections.abc import Callable

import httpx
import pytest

from ledger_client import Client, ConnectionFailed, InsufficientFunds, LedgerError, UnexpectedAnswer

URL = "http://127.0.0.1:1"
Step = Callable[[httpx.Request], httpx.Response]


def problem(status: int, code: str, **more: str) -> Step:
    body = {"code": code, "status": status, "title": code, "detail": code, "errors": {}, **more}
    headers = {"Retry-After": "3600"} if code == "unavailable" else {}
    return lambda request: httpx.Response(status, json=body, headers=headers)


def lost(error: type[httpx.TransportError]) -> Step:
    def fail(request: httpx.Request) -> httpx.Response:
        raise error("gone")

    return fail


BUSY, UNKNOWN = problem(503, "busy"), problem(504, "outcome_unknown")
REFUSED = problem(403, "insufficient_funds", sqlstate="LG003")
REVOKED = problem(401, "unauthorized")
AWAY = problem(503, "unavailable")  # for an hour


def proxy(status: int) -> Step:
    return lambda request: httpx.Response(status, text="<html>")


def failure(*steps: Step, read: bool = False) -> LedgerError:
    """The error of a call whose attempts end as the steps say."""
    left = iter(steps)
    with Client(URL, retries=len(steps) - 1, transport=httpx.MockTransport(lambda request: next(left)(request))) as it:
        it._sleep = lambda seconds: None
        with pytest.raises(LedgerError) as raised:
            it.get_participant(1, 2) if read else it.deposit(1, 2, 3)
    assert next(left, None) is None
    return raised.value


@pytest.mark.parametrize(
    ("steps", "may_be_done"),
    [
        ((lost(httpx.ConnectError), lost(httpx.ConnectError)), False),
        ((BUSY, lost(httpx.ConnectTimeout)), False),
        ((BUSY, BUSY), False),
        ((lost(httpx.ReadTimeout), lost(httpx.ConnectError)), True),
        ((lost(httpx.RemoteProtocolError), BUSY), True),
        ((UNKNOWN, lost(httpx.ConnectError)), True),
        ((BUSY, UNKNOWN), True),
        ((REVOKED,), False),
        ((lost(httpx.ReadError), REVOKED), True),
        ((AWAY,), False),
        ((lost(httpx.ReadError), AWAY), True),
        ((proxy(404),), False),
        ((lost(httpx.ReadError), proxy(404)), True),
        ((proxy(500),), True),
    ],
)
def test_an_error_shows_whether_an_attempt_may_have_succeeded(steps: tuple[Step, ...], may_be_done: bool) -> None:
    error = failure(*steps)
    assert error.may_be_done is may_be_done
    assert error.idempotency_key
    assert failure(*steps, read=True).may_be_done is False


def test_a_refusal_after_a_lost_attempt_shows_that_nothing_was_done() -> None:
    error = failure(lost(httpx.ReadError), REFUSED)
    assert isinstance(error, InsufficientFunds)
    assert not error.may_be_done


def test_a_connection_that_is_refused_is_named() -> None:
    assert isinstance(failure(lost(httpx.ConnectError)), ConnectionFailed)


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"data": {}}', b'{"data": null}'])
def test_a_success_that_is_not_the_ledgers_is_an_unexpected_answer(body: bytes) -> None:
    error = failure(lambda request: httpx.Response(200, content=body))
    assert isinstance(error, UnexpectedAnswer)
    assert error.may_be_done
