"""Every block of the guide is run by a test, and its time-outs fit together and equal the code's."""

from __future__ import annotations

import ast
from pathlib import Path

from api.http.app import KEEP_ALIVE_TIMEOUT, REQUEST_TIMEOUT, RESPONSE_TIMEOUT
from api.http.protocol import ANSWER_TIMEOUT
from api.http.values import MAX_WAIT
from api.postgres.pools import CALL_TIMEOUT, HEALTH_TIMEOUT, WAIT_TIMEOUT
from api.server.settings import GRACE
from tests.operations.guide import BLOCK, GUIDE, number


def test_every_block_is_run_by_a_test() -> None:
    chosen = [
        tuple(ast.literal_eval(argument) for argument in call.args)
        for file in Path(__file__).parent.glob("*.py")
        for call in ast.walk(ast.parse(file.read_text()))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "block"
        if all(isinstance(argument, ast.Constant) for argument in call.args)
    ]
    blocks = BLOCK.findall(GUIDE.read_text())
    assert len(blocks) > 20
    assert [
        text
        for language, text in blocks
        if not any(language == name and containing in text for name, containing in chosen)
    ] == []


def test_time_outs_along_the_way_fit_together() -> None:
    """Each hop nearer to the client waits longer, and the service never closes a connection that a proxy may reuse."""
    balancer = number(r"idle time-out (\d+) seconds")
    read = number(r"proxy_read_timeout (\d+)s")
    # Connections: the proxy's end closes them.
    assert number(r"keepalive_timeout (\d+)s") < KEEP_ALIVE_TIMEOUT
    assert balancer < KEEP_ALIVE_TIMEOUT
    # Answers: the service gives up before those in front of it, and after any call and any wait for the feed.
    assert min(balancer, read) > RESPONSE_TIMEOUT
    assert MAX_WAIT + 4 * (WAIT_TIMEOUT + CALL_TIMEOUT) <= RESPONSE_TIMEOUT
    assert min(balancer, read) > ANSWER_TIMEOUT
    # Requests: nginx gives a pause of the client's up before the service gives up the request.
    assert max(number(r"client_header_timeout (\d+)s"), number(r"client_body_timeout (\d+)s")) < REQUEST_TIMEOUT
    # The text equals the code.
    assert number(r"gives an answer within (\d+) seconds") == RESPONSE_TIMEOUT
    assert number(r"keeps an idle connection for (\d+)") == KEEP_ALIVE_TIMEOUT


def test_a_stop_fits_the_balancers_time_outs() -> None:
    interval, patience = number(r"every (\d+) seconds, time-out"), number(r"time-out (\d+), two failures")
    assert patience > HEALTH_TIMEOUT
    assert number(r"`LEDGER_DRAIN=(\d+)`") > 2 * interval + patience
    assert number(r"(\d+) seconds for requests in hand when") > GRACE
    assert number(r"Keep `statement_timeout` below (\d+) seconds") == CALL_TIMEOUT
