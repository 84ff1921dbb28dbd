"""`ledger import`: files of participants and transfers, sent to a running service."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from api.admin import files, importing
from ledger_client import ConnectionFailed
from tests.running.commands import Service, serving
from tests.support import Database, call, create, join

ADDRESS = "0x" + "ab" * 20


@pytest.fixture
def service(database: Database) -> Iterator[Service]:
    with serving(DATABASE_URL=database.url(database.service)) as service:
        yield service


@pytest.fixture
def ledger(database: Database) -> Iterator[psycopg.Connection]:
    with database.connect() as ledger:
        yield ledger


@pytest.fixture
def imports(service: Service, tmp_path: Path, capsys) -> Callable[..., tuple[int, str, list[str]]]:
    """Import a text as a file; the exit status, what was printed, and the lines of errors."""

    def run(name: str, text: str, group: int, decimals: int = 0) -> tuple[int, str, list[str]]:
        path = tmp_path / name
        path.write_text(text)
        status = importing.run(path, group, None, decimals, f"http://{service.host}:{service.port}", None)
        printed = capsys.readouterr()
        return status, printed.out.strip(), printed.err.splitlines()

    return run


def participants(ledger: psycopg.Connection, group: int) -> list[tuple[str, int]]:
    return [(row[0], row[3]) for row in call(ledger, "list_participants", group)]


def lines(*values: dict) -> str:
    return "".join(f"{json.dumps(each)}\n" for each in values)


def test_imports_every_format_and_a_second_run_changes_nothing(ledger, imports, monkeypatch):
    monkeypatch.setattr(importing, "MAX_LINES", 2)
    group = create(ledger, "ETH")
    join(ledger, group, "before", 7)
    texts = {
        "people.csv": 'username,amount,address,metadata\r\n"a ""b"",c",1.5,,"{""x"": 1}"\r\n\r\nd,2,'
        f"{ADDRESS},\r\ne,0.01,,\r\n",
        "moves.csv": 'from,to,amount\n"a ""b"",c",d,1\n"a ""b"",c",before,0.5\ne,d,0.01\n',
        "all.ndjson": lines(
            {"from": "f", "to": "before", "amount": 2, "metadata": {"n": 5}}, {"username": "f", "amount": "0x100"}
        ),
        "genesis.json": json.dumps(
            {"config": {}, "alloc": {"cd" * 20: {"balance": "0x10"}, ADDRESS[:-1] + "c": {"balance": "5"}}}
        ),
    }
    expected = [
        ('a "b",c', 0),
        ("before", 7 + 50 + 200),
        ("d", 301),
        ("e", 0),
        ("f", 256 - 200),
        ("0x" + "cd" * 20, 16),
        (ADDRESS[:-1] + "c", 500),
    ]
    for again in (False, True):
        for name, text in texts.items():
            status, printed, _ = imports(name, text, group, 2)
            assert status == 0
            assert (" 0 new, " in printed) == again
        assert sorted(participants(ledger, group)) == sorted(expected)
    entries = call(ledger, "list_entries", group)
    assert len(entries) == 7 + 4


def test_checks_the_whole_file_first(ledger, imports):
    group = create(ledger, "ETH")
    text = lines(
        {"username": "good", "amount": 1},
        {"username": "", "amount": -1},
        {"username": "good", "amount": 1.5, "x": 1},
        {"username": "good", "amount": 2},
        {"from": "good", "to": "nobody", "amount": 0},
        {"from": "good", "to": "good", "amount": 1},
        {"username": "h", "amount": str(2**256), "address": "0x1"},
        {"username": "i", "amount": 1, "metadata": {"x": "x" * 4096}},
    )
    status, _, errors = imports("bad.ndjson", f"{text}[1]\n{{\n", group)
    assert status == importing.REFUSED
    assert {int(line.split()[1].rstrip(":")) for line in errors[:-1]} == {2, 3, 4, 5, 6, 7, 8, 9, 10}
    assert errors[-1].endswith("nothing was sent")
    assert participants(ledger, group) == []
    status, _, errors = imports("moves.ndjson", lines({"from": "x", "to": "y", "amount": 1}), group)
    assert (status, len(errors)) == (importing.REFUSED, 3)


def test_reports_at_most_100_errors(ledger, imports):
    status, _, errors = imports("bad.csv", "username,amount\n" + "x,-1\n" * 300, create(ledger, "ETH"))
    assert status == importing.REFUSED
    assert len(errors) == files.MAX_ERRORS + 1
    assert "300 errors, 200 not shown" in errors[-1]


def test_reports_the_lines_that_the_service_refuses(ledger, imports, monkeypatch):
    monkeypatch.setattr(importing, "MAX_LINES", 2)
    group = create(ledger, "ETH")
    join(ledger, group, "d")
    rows = ["username,amount", "a,1", "b,2", "c,3", "d,4", "e,5", ""]
    status, _, errors = imports("people.csv", "\n".join(rows), group)
    assert status == importing.REFUSED
    assert errors[0] == "line 5: username: has already been taken"
    assert [name for name, _ in participants(ledger, group)] == ["d", "a", "b"]
    # Once it is corrected the rest follows, and nothing is there twice.
    rows[4] = "dd,4"
    assert imports("people.csv", "\n".join(rows), group)[1].endswith("3 new, 2 from before")
    assert [name for name, _ in participants(ledger, group)] == ["d", "a", "b", "c", "dd", "e"]
    move = lines(*[{"from": "a", "to": "b", "amount": 1}] * 2)
    assert imports("moves.ndjson", move, group)[2][0] == "line 2: amount: exceeds the balance of 0"


def test_goes_on_where_it_was_interrupted(ledger, imports, monkeypatch):
    monkeypatch.setattr(importing, "MAX_LINES", 2)
    group, post = create(ledger, "ETH"), importing.post
    text = "username,amount\n" + "".join(f"p{number},1\n" for number in range(7))
    sent = []

    def interrupted(*given):
        if len(sent) == 2:
            # As if the answer had been lost.
            post(*given)
            raise ConnectionFailed("gone", None)
        sent.append(given)
        return post(*given)

    monkeypatch.setattr(importing, "post", interrupted)
    assert imports("people.csv", text, group)[0] == importing.UNAVAILABLE
    monkeypatch.setattr(importing, "post", post)
    assert imports("people.csv", text, group)[1].endswith("1 new, 6 from before")
    assert len(participants(ledger, group)) == 7


def test_a_service_that_is_away_has_a_status_of_its_own(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(importing, "RETRIES", 0)
    path = tmp_path / "people.csv"
    path.write_text("username,amount\na,1\n")
    assert importing.run(path, 1, None, 0, "http://127.0.0.1:1", None) == importing.UNAVAILABLE
    assert "goes on" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("people.txt", "username,amount\na,1\n"),
        ("people.csv", ""),
        ("people.csv", "username,amount\n"),
        ("people.csv", "name,amount\na,1\n"),
        ("people.csv", 'username,amount\n"a,1\n'),
        ("genesis.json", "[]"),
        ("genesis.json", "{"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(files.UnreadableFileError):
        files.read(path, None, 0)


def test_a_file_that_is_not_there_is_refused(tmp_path, capsys):
    path = tmp_path / "people.csv"
    assert importing.run(path, 1, None, 0, "http://127.0.0.1:1", None) == importing.REFUSED
    assert capsys.readouterr().err == f"ledger: cannot read {path}: No such file or directory\n"


@pytest.mark.parametrize(
    ("value", "decimals", "amount"),
    [
        ("1.5", 18, 15 * 10**17),
        ("1.50", 1, 15),
        ("007", 0, 7),
        (5, 2, 500),
        ("0xff", 18, 255),
        (str(2**256 - 1), 0, 2**256 - 1),
        ("0.000000000000000001", 18, 1),
    ],
)
def test_reads_amounts_exactly(value, decimals, amount):
    assert files.parse_amount(value, decimals) == amount


@pytest.mark.parametrize(
    ("value", "decimals"),
    [("1.5", 0), ("1.25", 1), ("1e5", 0), ("-1", 0), (" 1", 0), ("", 0), (True, 0), (None, 0), ("1,5", 1)],
)
def test_refuses_other_amounts(value, decimals):
    assert isinstance(files.parse_amount(value, decimals), str)


def test_a_list_is_never_larger_than_the_service_takes(monkeypatch):
    large = [
        files.Line(number, {"username": "x", "amount": "1", "metadata": {"n": "y" * 4000}}) for number in range(3000)
    ]
    lists = list(importing.chunks(large))
    assert [line for chunk in lists for line in chunk] == large
    assert max(sum(len(importing.written(line.values)) for line in chunk) for chunk in lists) <= importing.MAX_BYTES
