"""ledger checkpoint, ledger proof and ledger verify-proof: a proof is checked with the header alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.running.commands import command, done
from tests.support import Database, create, join, one


@pytest.fixture
def urls(database: Database) -> dict[str, str]:
    return {"DATABASE_URL": database.url(database.service), "LEDGER_ADMIN_URL": database.url(database.admin)}


@pytest.fixture
def admin(database: Database) -> Iterator[psycopg.Connection]:
    with database.connect(database.admin) as connection:
        yield connection


@pytest.fixture
def group(admin: psycopg.Connection) -> int:
    group = create(admin, "ETH")
    for username in ("alice", "bob"):
        join(admin, group, username, 2**200)
    return group


def test_makes_a_checkpoint_and_a_valid_proof(urls, admin, group, tmp_path: Path) -> None:
    header = json.loads(done("checkpoint", str(group), **urls))["header"]
    ((bob,),) = admin.execute("select id from ledger.list_participants(%s, username => 'bob')", [group])
    file = tmp_path / "proof.json"
    file.write_text(done("proof", str(group), str(bob), **urls))
    shown = done("verify-proof", str(file), "--header", header)
    assert shown == f"participant {bob} of group {group} holds {2**200}: leaf 1 of 2 in checkpoint 1\n"
    assert command("verify-proof", str(file), "--header", "0x" + "12" * 32).returncode == 1
    second = json.loads(done("checkpoint", str(group), **urls))
    assert (second["number"], second["previous"]) == (2, header)
    assert done("proof", str(group), str(bob), "--number", "1", **urls) == file.read_text()


def test_prints_the_services_answer(urls, admin, group) -> None:
    made = done("checkpoint", str(group), **urls)
    (columns,) = one(admin, "select to_json(c) from ledger.get_checkpoint(%s) as c", [group])
    # Only a group with a vault has it.
    assert columns.pop("state") is None
    assert json.loads(made) | {"created_at": None} == columns | {"created_at": None}


def test_an_idempotency_key_makes_one_checkpoint(urls, group) -> None:
    first, again = (done("checkpoint", str(group), "--idempotency-key", "night", **urls) for _ in range(2))
    assert first == again
    assert json.loads(done("checkpoint", str(group), **urls))["number"] == 2


def test_keeps_the_newest_leaves(urls, admin, group) -> None:
    for _ in range(3):
        last = command("checkpoint", str(group), "--keep", "2", **urls)
    assert json.loads(last.stdout)["number"] == 3
    assert last.stderr == "deleted the leaves of 1 checkpoint\n"
    kept = admin.execute("select distinct number from ledger.checkpoint_chunks order by 1").fetchall()
    assert kept == [(2,), (3,)]


@pytest.mark.parametrize("arguments", [["checkpoint", "99"], ["proof", "99", "1"], ["proof", "1", "99"]])
def test_reports_unknown_ids(urls, group, arguments) -> None:
    done("checkpoint", str(group), **urls)
    refused = command(*arguments, **urls)
    assert refused.returncode == 1
    assert refused.stdout == ""
    assert refused.stderr.startswith("ledger: the database refused: ")


def test_verify_checks_checkpoints(urls, admin, group) -> None:
    for _ in range(3):
        done("checkpoint", str(group), **urls)
    assert command("verify", str(group), **urls).returncode == 0
    with admin.transaction():
        admin.execute("set local session_replication_role = replica")
        admin.execute("update ledger.checkpoints set root = sha256(root) where number = 3")
    found = command("verify", str(group), **urls)
    assert found.returncode == 1
    assert f"group {group}: checkpoint: checkpoint 3 has other leaves than its root is of" in found.stdout
