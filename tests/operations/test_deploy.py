"""A deployment: a migration that gives up, old code beside new, and the way back."""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from yoyo.migrations import MigrationList

from api import migrate
from chaos.machine import MissingError
from chaos.release import NEWEST, code_before
from tests.operations.guide import Site, answer, block
from tests.running.commands import refusal, serving
from tests.support import faults, one, until

YOYO_APPLY = block("sh", "yoyo apply")


def test_a_migration_that_gave_up_is_tried_again(site: Site) -> None:
    with migrate.locked(site.url("db", "ledger_admin")) as backend:
        # The first of these needs a lock that nobody else may have.
        later = MigrationList([migration for migration in migrate.shipped() if migration.id >= "0006"])
        backend.rollback_migrations(backend.to_rollback(later))
    # The pause between two tries ends when the test says so.
    stubs = site.folder / "stubs"
    stubs.mkdir()
    os.mkfifo(stubs / "end")
    (stubs / "sleep").write_text(f"#!/bin/sh\n: > {stubs}/begun\nread -r _ < {stubs}/end\n")
    (stubs / "sleep").chmod(0o755)
    with ThreadPoolExecutor(1) as pool, site.connect("db") as reader:
        with reader.transaction():
            reader.execute("select count(*) from ledger.entries")
            said = pool.submit(site.paste, block("sh", "tries=5"), PATH=f"{stubs}:{site.path}")
            until(lambda: (stubs / "begun").exists() or said.done(), "the migration to give up")
        assert not said.done()
        (stubs / "end").write_text("\n")
    assert said.result().splitlines()[-2:] == [
        f"applied {NEWEST}",
        "0 faults in 1 group (entries: 3, participants: 2, idempotency keys: 0)",
    ]


@pytest.fixture(scope="module")
def old_code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The code of before the newest migration, out of the repository's history."""
    try:
        return code_before(tmp_path_factory.mktemp("releases") / "old")
    except MissingError as missing:
        pytest.skip(str(missing))


def test_old_code_goes_on_beside_new_code_on_the_newer_schema(site: Site, old_code: Path) -> None:
    url = site.url("db", "ledger_service")
    module = ("-P", "-m", "api.cli", "serve", "--insecure")
    with (
        serving(*module, program=Path(sys.executable), DATABASE_URL=url, PYTHONPATH=old_code) as old,
        serving(DATABASE_URL=url) as new,
    ):
        assert f"PYTHONPATH={old_code}\0".encode() in Path(f"/proc/{old.workers[0]}/environ").read_bytes()
        for service in (old, new, old):
            answer(service, "POST", "/api/groups/1/transfer", {"from": 1, "to": 2, "amount": 1})
        for service in (old, new):
            assert answer(service, "GET", "/api/groups/1/participants/1")["amount"] == 67
            assert answer(service, "GET", "/api/groups/1/total") == {"group_total": 200}
    with site.connect("db") as admin:
        assert faults(admin) == []


def test_the_way_back_and_forth_again(site: Site) -> None:
    said = site.paste(block("sh", "yoyo rollback"))
    assert [line.split()[1] for line in said.splitlines() if line.startswith("U ")] == [NEWEST]
    with site.connect("db") as admin:
        # And further, to where this code cannot go.
        while one(admin, "select count(*) from _yoyo_migration where migration_id = '0013.api-keys'")[0]:
            site.paste(block("sh", "yoyo rollback"))
        assert faults(admin) == []
        assert one(admin, "select count(*) from ledger.entries")[0] == 3
    assert "the database is not migrated" in refusal("serve", DATABASE_URL=site.url("db", "ledger_service"))
    site.paste(YOYO_APPLY)
    with serving(DATABASE_URL=site.url("db", "ledger_service")) as service:
        assert answer(service, "GET", "/api/groups/1/total") == {"group_total": 200}
