"""The README's tables say what the code says, and its tours work when pasted."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import psycopg
import pytest

from api import embedded
from api.cli import COMMANDS, EPILOG
from api.docs import DESCRIPTION, DOCS
from api.errors import PROBLEMS
from api.log import Log
from api.metrics import ASKED, KEPT
from api.routes import ROUTES
from tests.http.client import Service, serving
from tests.support import Database

README = (Path(__file__).parent.parent / "README.md").read_text()


def table(first_column: str) -> list[list[str]]:
    """The rows of the table with that first column."""
    lines = README.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"| {first_column} |"))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def block(language: str, containing: str) -> str:
    """The block of code in that language that contains the text."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    (found,) = (text for name, text in blocks if name == language and containing in text)
    return found


def test_every_route_is_documented_with_its_function_and_status():
    documented = [(row[0], row[2].strip("`"), int(row[3][:3])) for row in table("Route")]
    routes = [(re.sub("<([a-z_]+)>", r":\1", route.path), route) for route in ROUTES]
    assert documented == [
        (f"{', '.join(route.methods)} {path}", route.function, route.status) for path, route in routes
    ]


def test_the_pages_are_documented():
    assert all(f"`GET {page}`" in README for page in ("/", "/api", DESCRIPTION, DOCS))


def test_every_error_is_documented_with_its_status():
    documented = [(row[0].strip("`"), int(row[1])) for row in table("code")]
    assert documented == [(code, status) for code, (status, _) in PROBLEMS.items()]


def test_every_function_is_documented_with_its_parameters_and_refusals(owner: psycopg.Connection):
    documented = {row[0].strip("`"): row[2] for row in table("Function")}
    rows = owner.execute(
        """
        select
          format('%s(%s)', p.proname, array_to_string(p.proargnames[1:p.pronargs], ', ')),
          coalesce((regexp_match(obj_description(p.oid, 'pg_proc'), 'Raises ([LG0-9, ]+)\\.'))[1], '')
        from pg_proc as p
        where p.pronamespace = 'ledger'::regnamespace
          and has_function_privilege('ledger_api', p.oid, 'execute')
        """
    ).fetchall()
    assert documented == dict(rows)


def test_every_command_and_setting_is_documented():
    assert [row[0].split()[1].strip("`") for row in table("Command")] == list(COMMANDS)
    settings = {name for row in table("Variable") for name in re.findall("[A-Z_]+", row[0])}
    assert settings == {name for line in EPILOG.splitlines() for name in re.findall("[A-Z_]+", line[:20])}


def test_every_metric_is_documented_as_it_is_told():
    documented = [(row[0].strip("`"), row[1], row[2], row[3]) for row in table("Metric")]
    told = [(metric.name, metric.kind, ", ".join(metric.labels), metric.meaning) for metric in (*KEPT, *ASKED)]
    assert documented == told


def test_the_line_of_the_log_is_as_it_is_written():
    shown = block("json", '"request_id"')
    example = json.loads(shown)
    log = Log(example["worker"], True, 0, lambda lines: None)
    kind = tuple(example[name] for name in ("route", "method", "status", "code", "sqlstate"))
    who = (example[name] for name in ("request_id", "backend_pid", "batch", "principal"))
    line = log.line((0.0, *who, kind, example["milliseconds"] / 1000))
    assert line.decode()[len('{"time":"') + 24 :] == shown[len('{"time":"') + 24 :]


needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="the tours in curl need curl")


@needs_curl
def test_the_tour_in_curl_works_when_pasted(database):
    with serving(database) as service:
        script = block("sh", '"ETH"').replace("127.0.0.1:4000", f"127.0.0.1:{service.port}")
        said = subprocess.run(["sh", "-e", "-c", script], capture_output=True, text=True, check=True).stdout
    assert '"to_participant":{"username":"alice","id":1,"group_id":1,"amount":150}' in said
    assert '"from_participant":{"username":"bob","id":2,"group_id":1,"amount":50}' in said
    for part in (
        '{"group_total":200}',
        '"status":403',
        '"status":409',
        '{"final_amount":150}',
        '{"final_amount":50}',
    ):
        assert part in said
    assert "HTTP/1.1 204" in said


def pasted_in_curl(service: Service, *parts: str) -> str:
    """What blocks of the README say when they are pasted one after the other, after the tour's first lines."""
    names = "".join(block("sh", '"ETH"').splitlines(keepends=True)[:4])
    script = (names + "".join(block("sh", part) for part in parts)).replace(
        "127.0.0.1:4000", f"127.0.0.1:{service.port}"
    )
    return subprocess.run(["sh", "-e", "-c", script], capture_output=True, text=True, check=True).stdout


def pasted_in_psql(database: Database, *parts: str) -> tuple[list[str], list[str]]:
    """The lines that blocks of the README print when they are pasted one after the other, and the SQLSTATEs."""
    psql = [embedded.binaries() / "psql", "-At", "--set=VERBOSITY=verbose", database.url(database.admin)]
    script = "".join(block("sql", part) for part in parts)
    told = subprocess.run(psql, input=script, capture_output=True, text=True, check=True)
    return told.stdout.splitlines(), re.findall(r"ERROR:  (\w+):", told.stderr)


@needs_curl
def test_a_retry_in_curl_works_when_pasted(database):
    with serving(database) as service:
        said = pasted_in_curl(service, "Idempotency-Key")
    first, again, refused = re.split("(?=HTTP/1.1 )", said)[1:]
    assert first.startswith("HTTP/1.1 201")
    assert "Idempotency-Replayed" not in first
    assert "Idempotency-Replayed: true" in again
    assert first.splitlines()[-1] == again.splitlines()[-1]
    assert '"code":"idempotency_key_reused"' in refused


def test_a_retry_in_psql_works_when_pasted(database):
    assert pasted_in_psql(database, "idempotency_key") == (["carol|1|1|100|1|f", "carol|1|1|100|1|t"], ["LG006"])


@needs_curl
def test_history_and_what_follows_in_curl_work_when_pasted(database):
    with serving(database) as service:
        said = pasted_in_curl(service, '"History"', "lines=", "reversal", "next=")
    moved, newest, joined, chosen, past, total, many, refused, reversal, left, settled, rest, feed = map(
        json.loads, said.splitlines()
    )
    assert [participant["amount"] for participant in moved["data"].values()] == [130, 70]
    assert [(entry["kind"], entry["metadata"]) for entry in newest["data"]] == [("transfer", {"order": 17})]
    assert [(entry["kind"], entry["metadata"]) for entry in joined["data"]] == [("join", {"transaction": "0x1b"})]
    assert chosen["data"] == newest["data"]
    assert (past["data"]["amount"], total["data"]) == (100, {"group_total": 200})
    assert [entry["to_amount"] for entry in many["data"]["entries"]] == [200, 200]
    assert [participant["amount"] for participant in many["data"]["participants"]] == [200, 0]
    assert list(refused["errors"]) == ["transfers[1].amount"]
    assert reversal["data"]["reverses"] == reversal["data"]["id"] - 1
    assert left["data"] == {"final_amount": 200}
    assert settled["data"]["reference"] == "0x5f"
    assert rest["data"] == []
    # What comes last may have to wait for a transaction of another database.
    ids = [entry["id"] for entry in feed["data"]]
    assert ids
    assert ids == [3, 4, 5, 6, 7][: len(ids)]


def test_history_and_what_follows_in_psql_work_when_pasted(database):
    told, refused = pasted_in_psql(
        database, "'History in psql'", "ledger.transfer_all(", "ledger.reverse_transfer(", "ledger.read_feed("
    )
    assert told[:-1] == [
        "transfer|30|70|130",
        "join|100",
        '30|{"order": 17}',
        "100",
        "200",
        '{"(4,1,2,70,0,200)","(5,2,1,200,0,200)"}|{"(dave,1,1,200)","(erin,2,1,0)"}',
        "200|t",
        "1",
        "0x5f",
        "0",
    ]
    assert re.fullmatch(r"\d+-\d+-1\|join\|100", told[-1])
    assert refused == []


def test_the_tour_in_psql_works_when_pasted(database):
    script = block("sql", "'BTC'")
    psql = [embedded.binaries() / "psql", "-At", "--set=VERBOSITY=verbose", database.url(database.admin)]
    told = subprocess.run(psql, input=script, capture_output=True, text=True, check=True)
    assert told.stdout.splitlines() == [
        "(alice,1,1,150)|(bob,2,1,50)|3|f",
        "200",
        "150",
        "50",
        "f",
        "join||1|100||100",
        "join||2|100||100",
        "transfer|2|1|50|50|150",
        "exit|1||150|0|",
        "exit|2||50|0|",
    ]
    assert re.findall(r"ERROR:  (\w+):", told.stderr) == ["LG003", "LG004"]
    shown = [line for line in block("", "ERROR:").splitlines() if not line.startswith("ERROR")]
    assert all(line in told.stderr.splitlines() for line in shown)
