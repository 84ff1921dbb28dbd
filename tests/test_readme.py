"""The README's tables say what the code says, and its tours work when pasted."""

import re
import shutil
import subprocess
from pathlib import Path

import psycopg
import pytest

from api import embedded
from api.cli import COMMANDS, EPILOG
from api.errors import PROBLEMS
from api.routes import ROUTES
from tests.http.client import serving

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


@pytest.mark.skipif(shutil.which("curl") is None, reason="the tour in curl needs curl")
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


@pytest.mark.skipif(shutil.which("curl") is None, reason="the tour in curl needs curl")
def test_a_retry_in_curl_works_when_pasted(database):
    with serving(database) as service:
        names = "".join(block("sh", '"ETH"').splitlines(keepends=True)[:4])
        script = (names + block("sh", "Idempotency-Key")).replace("127.0.0.1:4000", f"127.0.0.1:{service.port}")
        said = subprocess.run(["sh", "-e", "-c", script], capture_output=True, text=True, check=True).stdout
    first, again, refused = re.split("(?=HTTP/1.1 )", said)[1:]
    assert first.startswith("HTTP/1.1 201")
    assert "Idempotency-Replayed" not in first
    assert "Idempotency-Replayed: true" in again
    assert first.splitlines()[-1] == again.splitlines()[-1]
    assert '"code":"idempotency_key_reused"' in refused


def test_a_retry_in_psql_works_when_pasted(database):
    psql = [embedded.binaries() / "psql", "-At", "--set=VERBOSITY=verbose", database.url(database.admin)]
    script = block("sql", "idempotency_key")
    told = subprocess.run(psql, input=script, capture_output=True, text=True, check=True)
    assert told.stdout.splitlines() == ["carol|1|1|100|1|f", "carol|1|1|100|1|t"]
    assert re.findall(r"ERROR:  (\w+):", told.stderr) == ["LG006"]


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
