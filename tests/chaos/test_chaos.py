"""make chaos in a short form: the ledger passes, and a build that breaks a promise fails."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from bench.ledgers import served, workspace
from bench.load import Server
from chaos import __main__ as chaos
from chaos import bank
from chaos.faults import FAULTS, ON_CHAIN
from chaos.history import TOO_MUCH, Checkpoint, History, Movement, Verdict, contradictions, judge

STRETCH = 1.0  # seconds, instead of 10
# The faults that end the transactions of both workers or a worker's open requests; each of them twice.
CRASHES = ["backend killed"] * 2
DEATHS = ["worker killed"] * 2


@pytest.fixture(autouse=True)
def clients_are_impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bank, "PATIENCE", 2.0)
    monkeypatch.setattr(chaos, "QUIET", 1.0)


def test_loses_and_doubles_nothing_under_any_fault() -> None:
    with workspace() as folder:
        report = chaos.run(folder, 0, STRETCH)
    assert report.is_right, str(report)
    assert [*report.effects] == [*(name for name in FAULTS if name not in report.left_out), chaos.TOGETHER]
    assert report.left_out.keys() <= {"disk filled", "clock set", *ON_CHAIN}
    answers = report.history
    assert min(len(answers.acknowledged), len(answers.checkpoints), answers.refused, answers.retried, answers.reads) > 0
    assert {movement.kind for movement in answers.acknowledged} == {"join", "deposit", "transfer", "exit"}


# Answers first, and commits half a second later.
ACKNOWLEDGES_TOO_EARLY = """
import asyncio, contextlib
import psycopg
from api.postgres.pools import Database

class Late:
    def __init__(self, pool):
        self.pool = pool

    async def getconn(self, timeout):
        connection = await self.pool.getconn(timeout)
        if not connection.closed:
            await connection.set_autocommit(False)
        return connection

    async def putconn(self, connection):
        async def commit():
            await asyncio.sleep(0.5)
            with contextlib.suppress(psycopg.Error):
                await connection.commit()
                await connection.set_autocommit(True)
            await self.pool.putconn(connection)

        tasks.append(asyncio.create_task(commit()))

async def attempt(self, pool, *arguments):
    return await as_it_is(self, Late(pool) if pool is self.shared else pool, *arguments)

tasks = []
as_it_is, Database.attempt = Database.attempt, attempt
"""

# Makes the transfers, and half a second later notes their keys.
NOTES_KEYS_TOO_LATE = """
import asyncio
from api.http.batching import array
from api.postgres.pools import Database

USED = "select ledger.keys_used(%(group_id)s::bigint[], %(idempotency_key)s::text[])"
NOTE = '''
select ledger.note_keys(
  %(group_id)s::bigint[], %(idempotency_key)s::text[], %(from_id)s::bigint[], %(to_id)s::bigint[],
  %(amount)s::numeric[], %(entry_ids)s::bigint[]
)'''

async def attempt(self, pool, statement, parameters, traces):
    if pool is not self.shared or await as_it_is(self, pool, USED, parameters, traces) != [[b"f"]]:
        return await as_it_is(self, pool, statement, parameters, traces)
    rows = await as_it_is(self, pool, statement, parameters | {"idempotency_key": None}, traces)
    await asyncio.sleep(0.5)
    entries = array([row[3] and row[3].decode() for row in rows])
    await as_it_is(self, pool, NOTE, parameters | {"entry_ids": entries}, traces)
    return rows

as_it_is, Database.attempt = Database.attempt, attempt
"""

KEYS_APART = """
create function ledger.keys_used(group_ids bigint[], keys text[]) returns boolean
language sql stable security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
  select exists (
    select from idempotency_keys as k
    join unnest(keys_used.group_ids, keys_used.keys) as l (group_id, key) on k.group_id = l.group_id and k.key = l.key
  )
$$;

create function ledger.note_keys(
  group_ids bigint[], keys text[], from_ids bigint[], to_ids bigint[], amounts numeric[], entry_ids bigint[]
) returns void
language sql volatile security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
  insert into idempotency_keys (group_id, key, operation, fingerprint, entry_id)
  select
    l.group_id,
    l.key,
    'transfer',
    fingerprint(transfer_request(l.from_id, l.to_id, l.amount, null)),
    l.entry_id
  from unnest(group_ids, keys, from_ids, to_ids, amounts, entry_ids)
    as l (group_id, key, from_id, to_id, amount, entry_id)
  join entries as e on e.group_id = l.group_id and e.id = l.entry_id
$$;
"""


@pytest.fixture
def broken(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every `ledger` process a build with the test's change."""
    (tmp_path / "sitecustomize.py").write_text(request.param)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


@pytest.mark.parametrize("broken", [ACKNOWLEDGES_TOO_EARLY], ids=[""], indirect=True)
def test_an_acknowledgement_before_the_commit_is_found(broken: None) -> None:
    with workspace() as folder:
        report = chaos.run(folder, 0, STRETCH, CRASHES)
    assert report.verdict.lost
    assert not report.is_right


@pytest.mark.parametrize("broken", [NOTES_KEYS_TOO_LATE], ids=[""], indirect=True)
def test_an_idempotency_key_in_another_transaction_than_its_transfer_is_found(broken: None) -> None:
    with workspace() as folder:
        with served(folder / "data") as ledger, ledger.connect() as connection:
            connection.execute(KEYS_APART)
        report = chaos.run(folder, 0, STRETCH, DEATHS)
    assert report.verdict.doubled
    assert not report.verdict.lost
    assert not report.is_right


DONE = ("200 OK", "Idempotency-Replayed: true\r\n")


@pytest.mark.parametrize(
    ("first", "is_wrong"),
    [("503 Service Unavailable", True), ("504 Gateway Timeout", False), (None, False)],
    ids=["nothing was done", "it may have been done", "no answer"],
)
def test_a_request_that_was_refused_was_not_done(first: str | None, is_wrong: bool) -> None:
    history = History()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while answers:
            await reader.readuntil(b"\r\n\r\n")
            status, header = answers.pop(0)
            if status is None:
                break
            writer.write(f"HTTP/1.1 {status}\r\n{header}Content-Length: 2\r\n\r\n{{}}".encode())
        writer.close()
        await writer.wait_closed()

    async def ask() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        async with server:
            client = bank.Client(Server(server.sockets[0].getsockname()[1]), history)
            assert (await client.ask("DELETE", "/api/groups/1")).status == 200
            client.hang_up()
            await asyncio.sleep(0)  # for the connection to be closed

    answers: list[tuple[str | None, str]] = [(first, ""), DONE]
    asyncio.run(ask())
    assert history.retried == 1
    assert bool(history.wrong) is is_wrong


JOINED = Movement(1, 1, "join", None, 1, 100)
PAID = Movement(2, 1, "transfer", 1, 2, 5)


def test_each_acknowledged_write_is_in_the_record_once() -> None:
    assert judge([JOINED, PAID], [PAID, JOINED]) == Verdict([], [], [])
    assert judge([JOINED, PAID], [JOINED]) == Verdict([2], [], [])
    assert judge([JOINED], [JOINED, PAID]) == Verdict([], [2], [])
    assert judge([JOINED, PAID, PAID], [JOINED, PAID]) == Verdict([], [2], [])


@pytest.mark.parametrize("change", [{"amount": 6}, {"sender": 3}, {"recipient": 3}, {"group": 2}, {"kind": "exit"}])
def test_an_acknowledged_write_is_in_the_record_as_its_answer_showed_it(change: dict) -> None:
    assert judge([PAID], [replace(PAID, **change)]).lost == [2]


def test_a_refused_write_is_not_in_the_record() -> None:
    assert judge([], [replace(PAID, amount=TOO_MUCH)]) == Verdict([], [], [2])


FIRST = Checkpoint(1, 1, "0x0a")


@pytest.mark.parametrize(
    ("acknowledged", "made", "found"),
    [
        ([FIRST], [FIRST], 0),
        ([FIRST], [], 1),
        ([], [FIRST], 1),
        ([FIRST, FIRST], [FIRST], 1),
        ([FIRST], [replace(FIRST, header="0x0b")], 2),
    ],
    ids=["as it was", "lost", "acknowledged to nobody", "acknowledged twice", "another one"],
)
def test_each_acknowledged_checkpoint_is_there_once(acknowledged, made, found) -> None:
    assert len(contradictions(acknowledged, made)) == found


NOTHING = Verdict([], [], [])


@pytest.mark.parametrize(
    "report",
    [
        chaos.Report(History(wrong=["a sum"]), {}, {}, NOTHING, ""),
        chaos.Report(History(internal_errors=1), {}, {}, NOTHING, ""),
        chaos.Report(History(), {"backend killed": [chaos.Effect(1, chaos.LONGEST_RECOVERY + 1)]}, {}, NOTHING, ""),
        chaos.Report(History(), {}, {}, NOTHING, "a fault"),
        chaos.Report(History(), {}, {}, NOTHING, "", ["a payment"]),
        chaos.Report(History(), {}, {}, Verdict([1], [], []), ""),
        chaos.Report(History(), {}, {}, Verdict([], [1], []), ""),
        chaos.Report(History(), {}, {}, Verdict([], [], [1]), ""),
    ],
    ids=["a sum", "a 500", "a late recovery", "wrong books", "a wrong vault", "a loss", "a double", "a refused one"],
)
def test_a_single_error_fails_the_run(
    report: chaos.Report, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(chaos, "run", lambda *_: report)
    monkeypatch.setattr("sys.argv", ["chaos"])
    assert chaos.main() == 1
    assert capsys.readouterr().out == f"{report}\n"


def test_a_run_without_errors_succeeds(monkeypatch: pytest.MonkeyPatch) -> None:
    report = chaos.Report(History(), {"backend killed": [chaos.Effect(1, 1.0)]}, {}, NOTHING, "")
    monkeypatch.setattr(chaos, "run", lambda *_: report)
    monkeypatch.setattr("sys.argv", ["chaos"])
    assert chaos.main() == 0
