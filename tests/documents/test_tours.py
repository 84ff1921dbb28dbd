"""The documents' tours work when pasted, and their examples equal the service's answers."""

import code
import contextlib
import io
import json
import os
import re
import shutil
import subprocess

import pytest

from api.postgres import embedded, migrate
from api.proofs import verify_proof
from tests.documents.pages import ROOT, block
from tests.http.client import Service, serving
from tests.running.commands import LEDGER, environment
from tests.support import Database, create, join, transfer

needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="the tours in curl need curl")


def in_shell(script: str, service: Service, **settings: str) -> str:
    """Run a script that sends requests to the service, and return its output."""
    script = script.replace("127.0.0.1:4000", f"127.0.0.1:{service.port}")
    env = environment(PATH=f"{LEDGER.parent}:{os.environ['PATH']}", **settings)
    return subprocess.run(["sh", "-e", "-c", script], env=env, capture_output=True, text=True, check=True).stdout


def in_psql(database: Database, script: str) -> subprocess.CompletedProcess[str]:
    """Run a script in psql, and return its output."""
    psql = [embedded.binaries() / "psql", "-At", "--set=VERBOSITY=verbose", database.url(database.admin)]
    return subprocess.run(psql, input=script, capture_output=True, text=True, check=True)


def sqlstates(printed: subprocess.CompletedProcess[str]) -> list[str]:
    return re.findall(r"ERROR:  (\w+):", printed.stderr)


@needs_curl
def test_the_readme_in_curl_works_when_pasted(database):
    with serving(database) as service:
        moved, left = map(json.loads, in_shell(block("README", "sh", '"Demo"'), service).splitlines())
    assert [participant["amount"] for participant in moved["data"].values()] == [150, 50]
    assert left == {"data": {"final_amount": 150}}


def test_the_readme_in_psql_works_when_pasted(database):
    printed = in_psql(database, block("README", "sql", "'Demo in psql'"))
    assert printed.stdout.splitlines() == [
        "(alice,1,1,150)|(bob,2,1,50)|3|f",
        "200",
        "150",
        "join||1|100||100",
        "join||2|100||100",
        "transfer|2|1|50|50|150",
        "exit|1||150|0|",
    ]
    assert sqlstates(printed) == ["LG003"]


def in_python(script: str, service: Service) -> list[str]:
    """Run a script of the Python client, and return the lines of its output."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(script.replace("127.0.0.1:4000", f"127.0.0.1:{service.port}"), {"__name__": "__main__"})
    return printed.getvalue().splitlines()


def test_the_client_in_python_works_when_pasted(database, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the place in the feed is a file
    with serving(database) as service:
        moved, refused = in_python(block("client/README", "python", "Demo in Python"), service)
        retried = in_python(block("client", "python", "Retries in Python"), service)
        in_python(block("client", "python", "download_entries"), service)
        feed = in_python(block("client", "python", "FilePlace"), service)
        rest = in_python(block("client", "python", "FilePlace"), service)
        present = in_python(block("client", "python", "asyncio"), service)
    assert re.fullmatch(r"150 [0-9a-f-]{36}", moved)
    assert refused == ("insufficient_funds: participant 2 has 50, cannot send 500; amount exceeds the balance of 50")
    assert retried == ["100 False", "100 True"]
    # The last entries may have to wait for a transaction of another database.
    everything = ["1 1 join 100", "1 2 join 100", "1 3 transfer 50", "2 4 join 100"]
    assert (feed + rest) == everything[: len(feed + rest)]
    assert feed
    assert [line.split(",")[2] for line in (tmp_path / "entries.csv").read_text().splitlines()] == [
        *("kind", "join", "join", "transfer")
    ]
    assert present == ["['alice', 'bob', 'carol']"]


@needs_curl
def test_the_tour_in_curl_works_when_pasted(database):
    with serving(database) as service:
        printed = in_shell(block("tutorial", "sh", '"ETH"'), service)
    assert '"to_participant":{"username":"alice","id":1,"group_id":1,"amount":150}' in printed
    assert '"from_participant":{"username":"bob","id":2,"group_id":1,"amount":50}' in printed
    for part in (
        '{"group_total":200}',
        '"status":403',
        '"status":409',
        '{"final_amount":150}',
        '{"final_amount":50}',
    ):
        assert part in printed
    assert "HTTP/1.1 204" in printed


def pasted_in_curl(service: Service, *blocks: str) -> str:
    """Return the output of the tutorial's blocks, pasted after the first lines of its first tour."""
    names = "".join(block("tutorial", "sh", '"ETH"').splitlines(keepends=True)[:4])
    return in_shell(names + "".join(blocks), service)


def pasted_in_psql(database: Database, *blocks: str) -> tuple[list[str], list[str]]:
    """The lines that blocks of the tutorial print when they are pasted one after the other, and the SQLSTATEs."""
    printed = in_psql(database, "".join(blocks))
    return printed.stdout.splitlines(), sqlstates(printed)


@needs_curl
def test_a_retry_in_curl_works_when_pasted(database):
    with serving(database) as service:
        printed = pasted_in_curl(service, block("tutorial", "sh", "Idempotency-Key"))
    first, again, refused = re.split("(?=HTTP/1.1 )", printed)[1:]
    assert first.startswith("HTTP/1.1 201")
    assert "Idempotency-Replayed" not in first
    assert "Idempotency-Replayed: true" in again
    assert first.splitlines()[-1] == again.splitlines()[-1]
    assert '"code":"idempotency_key_reused"' in refused


def test_a_retry_in_psql_works_when_pasted(database):
    assert pasted_in_psql(database, block("tutorial", "sql", "idempotency_key")) == (
        ["carol|1|1|100|1|f", "carol|1|1|100|1|t"],
        ["LG006"],
    )


@needs_curl
def test_history_and_what_follows_in_curl_work_when_pasted(database):
    with serving(database) as service:
        printed = pasted_in_curl(
            service,
            block("tutorial", "sh", '"History"'),
            block("tutorial", "sh", "lines="),
            block("tutorial", "sh", "reversal"),
            block("tutorial", "sh", "deposits"),
            block("tutorial", "sh", "next="),
        )
    moved, newest, joined, chosen, past, total, many, refused, reversal, left, settled, rest, *more, feed = map(
        json.loads, printed.splitlines()
    )
    deposited, bound, taken, shown = more
    assert [participant["amount"] for participant in moved["data"].values()] == [130, 70]
    assert [(entry["kind"], entry["metadata"]) for entry in newest["data"]] == [("transfer", {"order": 17})]
    assert [(entry["kind"], entry["metadata"]) for entry in joined["data"]] == [("join", {"transaction": "0x1b"})]
    assert chosen["data"] == newest["data"]
    assert (past["data"]["amount"], total["data"]) == (100, {"group_total": 200})
    assert [entry["to_amount"] for entry in many["data"]["entries"]] == [200, 200]
    assert [participant["amount"] for participant in many["data"]["participants"]] == [200, 0]
    assert list(refused["errors"]) == ["transfers[1].amount"]
    assert reversal["data"]["reverses"] == many["data"]["entries"][-1]["id"]
    assert left["data"] == {"final_amount": 200}
    assert settled["data"]["reference"] == "0x5f"
    assert rest["data"] == []
    assert deposited["data"]["amount"] == 25
    assert bound == shown == {"data": {"address": "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"}}
    assert (taken["status"], taken["code"]) == (409, "address_bound")
    # The last entry may have to wait for a transaction of another database.
    ids = [entry["id"] for entry in feed["data"]]
    assert ids
    assert ids == [3, 4, 5, 6, 7, 8][: len(ids)]


def test_history_and_what_follows_in_psql_work_when_pasted(database):
    printed, refused = pasted_in_psql(
        database,
        block("tutorial", "sql", "'History in psql'"),
        block("tutorial", "sql", "ledger.transfer_all("),
        block("tutorial", "sql", "ledger.reverse_transfer("),
        block("tutorial", "sql", "ledger.deposit("),
        block("tutorial", "sql", "ledger.read_feed("),
    )
    assert printed[:-1] == [
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
        "25",
        "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
        "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
    ]
    assert re.fullmatch(r"\d+-\d+-1\|join\|100", printed[-1])
    assert refused == ["LG010"]


def test_the_tour_in_psql_works_when_pasted(database):
    printed = in_psql(database, block("tutorial", "sql", "'BTC'"))
    assert printed.stdout.splitlines() == [
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
    assert sqlstates(printed) == ["LG003", "LG004"]
    shown = [line for line in block("tutorial", "", "ERROR:").splitlines() if not line.startswith("ERROR")]
    assert all(line in printed.stderr.splitlines() for line in shown)


def test_a_call_in_sql_works_as_it_is_shown(database):
    with database.connect() as ledger:
        group = create(ledger, "Shown")
        assert (group, join(ledger, group, "alice"), join(ledger, group, "bob")) == (1, 1, 2)
    assert in_psql(database, block("sql-api", "sql", "ledger.transfer(")).stdout == "(alice,1,1,150)|(bob,2,1,50)|3|f\n"


def test_a_statement_is_read_as_it_is_shown(database):
    with database.connect() as ledger:
        group = create(ledger, "ETH")
        for username in ("alice", "bob"):
            join(ledger, group, username)
        transfer(ledger, group, 2, 1, 30)
    lines = [
        line.split("|") for line in in_psql(database, block("sql-api", "sql", "get_statement")).stdout.splitlines()
    ]
    assert [line[:2] + line[3:] for line in lines] == [
        ["2", "join", "", "", "100", "100", ""],
        ["3", "transfer", "1", "alice", "-30", "70", ""],
    ]


def test_a_proof_is_verified_as_it_is_shown(database):
    with database.connect() as ledger:
        group = create(ledger, "ETH")
        for username in ("alice", "bob"):
            join(ledger, group, username)
        ledger.execute("select ledger.checkpoint(%s)", [group])
    assert in_psql(database, block("sql-api", "sql", "verify_proof")).stdout == "t\n"


def test_the_bytes_of_a_proof_are_those_that_its_verifier_shows():
    shown = [line.strip() for line in block("http-api", "", "domain = H").splitlines()]
    assert len(shown) == 5
    assert set(shown) <= {line.strip() for line in (verify_proof.__doc__ or "").splitlines()}


def test_a_refusal_is_answered_as_it_is_shown(database):
    with database.connect() as ledger:
        group = create(ledger, "Shown")
        assert (group, join(ledger, group, "alice"), join(ledger, group, "bob")) == (1, 1, 2)
    with serving(database) as service:
        answer = service("POST", "/api/groups/1/transfer", {"from": 2, "to": 1, "amount": 150})
    shown = json.loads(block("http-api", "json", "problems"))
    assert list(answer.json.items()) == list(shown.items())


@needs_curl
def test_an_api_key_is_created_used_and_revoked_as_it_is_shown(database):
    with database.connect() as ledger:
        create(ledger, "Shown")
    make, use, *rest = block("security", "sh", "ledger key").splitlines(keepends=True)
    admin = database.url(database.admin)
    with serving(database) as service:
        secret = in_shell(make, service, LEDGER_ADMIN_URL=admin).strip()
        assert re.fullmatch(r"ledger_1_\w+", secret)
        use = use.replace("curl", "curl -s").replace("ledger_1_…", secret)
        assert json.loads(in_shell(use, service)) == {"data": {"name": "Shown", "id": 1}}
        assert len(in_shell("".join(rest), service, LEDGER_ADMIN_URL=admin).splitlines()) == 2


def test_a_migration_is_rolled_back_as_it_is_shown(database):
    env = environment(PATH=f"{LEDGER.parent}:{os.environ['PATH']}", LEDGER_ADMIN_URL=database.url(database.admin))
    script = block("CONTRIBUTING", "sh", "yoyo rollback")

    def pasted(part: str) -> str:
        return subprocess.run(
            ["sh", "-e", "-c", part], cwd=ROOT, env=env, capture_output=True, text=True, check=True
        ).stdout

    listed, rolled_back = script.splitlines()
    newest = max(
        path.name.removesuffix(".sql") for path in ROOT.glob("db/migrations/*.sql") if "rollback" not in path.name
    )
    assert re.search(rf"^A\s+{re.escape(newest)}", pasted(listed), re.MULTILINE)
    pasted(rolled_back)
    assert re.search(rf"^U\s+{re.escape(newest)}", pasted(listed), re.MULTILINE)
    assert migrate.migrate(database.url(database.admin)) == [newest]


def test_the_tutorial_in_commands_works_when_pasted(database):
    with serving(database) as service:
        printed = in_shell(
            "".join(
                (
                    block("README", "sh", "'Demo in commands'"),
                    block("tutorial", "sh", "ledger group create DAI"),
                    block("tutorial", "sh", "'Retries in commands'"),
                    block("tutorial", "sh", "ledger group create Diary"),
                    block("tutorial", "sh", "ledger transfers"),
                    block("tutorial", "sh", "ledger reverse"),
                    block("tutorial", "sh", "ledger deposit"),
                    block("tutorial", "sh", "ledger watch"),
                )
            ),
            service,
            LEDGER_URL=f"http://127.0.0.1:{service.port}",
        )
    lines = [line.split() for line in printed.splitlines()]
    statuses = [line[-1] for line in lines if line[:2] == ["exit", "status"]]
    assert statuses == ["6", "5", "5", "6", "5"]
    assert [line[1] for line in lines if line[0] in ("group_total", "final_amount")] == ["150", "200", "150", "50"]
    assert ["replayed", "True"] in lines
    assert ["closing", "70"] in lines
    assert [line[-1] for line in lines if line[0] == "amount"][-2:] == ["25", "25"]
    assert ["address", "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"] in lines
    assert ["reference", "0x5f"] in lines
    assert lines[-1][5:7] == ["deposit", "25"]


def pasted_in_python(service: Service, *given: str) -> list[str]:
    """The lines that blocks print when they are pasted, one after the other, into one session of Python."""
    session = code.InteractiveConsole()
    printed, complained = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(complained):
        for line in "".join(given).replace("127.0.0.1:4000", f"127.0.0.1:{service.port}").splitlines():
            is_open = session.push(line)
    assert not is_open, "a compound statement needs an empty line after it"
    assert complained.getvalue() == ""
    return printed.getvalue().splitlines()


def test_the_tours_in_python_work_when_pasted(database):
    with serving(database) as service:
        moved, left = pasted_in_python(service, block("README", "python", "Client("))
        printed = pasted_in_python(
            service,
            block("tutorial", "python", '"UNI"'),
            block("tutorial", "python", "Retries of the client"),
            block("tutorial", "python", '"Log"'),
            block("tutorial", "python", "transfer_all"),
            block("tutorial", "python", "reverse_transfer"),
            block("tutorial", "python", "ledger.deposit("),
            block("tutorial", "python", "ledger.feed("),
        )
    assert moved.startswith("Transfer(to_participant=Participant(username='alice', id=1, group_id=1, amount=150), from")
    assert left == "Exit(final_amount=150)"
    present, transferred, *first = printed[:8]
    assert present.count("amount=100") == 2
    assert [int(amount) for amount in re.findall("amount=([0-9]+)", transferred)] == [150, 50]
    total, overdrawn, not_empty, *exits, removed = first
    assert (total, exits) == ("200", ["Exit(final_amount=150)", "Exit(final_amount=50)"])
    assert overdrawn.startswith("insufficient_funds: participant 4 has 50, cannot send 500")
    assert not_empty.startswith("group_not_empty: ")
    assert removed.startswith("Receipt(idempotency_key='")
    joined, again, reused, only, paid, newest, *rest = printed[8:]
    carol = "Participant(username='carol', id=5, group_id=3, amount=100) Receipt(idempotency_key='8e03978e', entry_id="
    assert joined.startswith(carol)
    assert (joined.endswith("replayed=False)"), again) == (True, joined.replace("=False)", "=True)"))
    assert reused.startswith("idempotency_key_reused: ")
    assert only == "100"
    assert re.findall("amount=([0-9]+)", paid) == ["130", "70"]
    assert newest.startswith("Entry(id=")
    assert "kind='transfer', from_id=6, to_id=7, amount=30, from_amount=70, to_amount=130" in newest
    history, many, undone, bound, feed = rest[:5], rest[5:9], rest[9:12], rest[12:16], rest[16:]
    assert history == ["[100]", "[30]", "100", "200", "[(100, 100), (-30, 70)]"]
    assert many == ["[(0, 200), (0, 200)]", "[200, 0]", "{'transfers[1].amount': ['exceeds the balance of 70']}", "200"]
    assert undone == ["True", "0x5f", "[]"]
    assert (bound[0], bound[1]) == ("25", bound[3])
    assert bound[1] == "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
    assert bound[2].startswith("address_bound: ")
    # The last entries may have to wait for a transaction of another database.
    everything = ["join 100", "join 100", "transfer 30", "transfer 70", "transfer 200", "transfer 200", "exit 200"]
    assert feed == [*everything, "deposit 25"][: len(feed)]


def test_import_and_export_work_when_pasted(database, tmp_path):
    with serving(database) as service:
        with database.connect() as ledger:
            assert create(ledger, "ETH") == 1
        script = f"cd {tmp_path}\n{block('files', 'sh', 'ledger import')}{block('files', 'sh', 'ledger export')}"
        printed = in_shell(script, service, LEDGER_ADMIN_URL=database.url(database.admin))
    assert printed.splitlines() == [
        "2 participants and 0 transfers are in group 1: 2 new, 0 from before",
        "0 participants and 1 transfer are in group 1: 1 new, 0 from before",
    ]
    head, *lines = map(json.loads, (tmp_path / "group.ndjson").read_text().splitlines())
    assert (head["name"], head["total"]) == ("ETH", "3500000000000000000")
    assert [line["type"] for line in lines] == ["participant"] * 2 + ["entry"] * 3 + ["end"]
