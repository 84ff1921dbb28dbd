"""A deployment: a migration that gives up, old code beside new, and a roll-back."""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from chaos import release
from tests.migrations.steps import EXAMPLE, NAMES
from tests.operations.guide import Site, answer, block
from tests.running.commands import serving
from tests.support import discrepancies, one, until

YOYO_APPLY = block("sh", "yoyo apply")


@pytest.fixture(scope="module")
def after(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The code of a release that has one more migration."""
    return release.code_after(tmp_path_factory.mktemp("releases") / "after")


@pytest.fixture
def programs(after: Path, site: Site) -> Path:
    """A folder with the command `ledger` of that release."""
    programs = site.folder / "programs"
    programs.mkdir()
    command = f'#!/bin/sh\nPYTHONPATH={after} exec {sys.executable} -P -m api.cli "$@"\n'
    (programs / "ledger").write_text(command)
    (programs / "ledger").chmod(0o755)
    return programs


def test_a_migration_that_gave_up_can_be_repeated(site: Site, programs: Path) -> None:
    # The pause between two tries ends when the test says so.
    os.mkfifo(programs / "end")
    (programs / "sleep").write_text(f"#!/bin/sh\n: > {programs}/begun\nread -r _ < {programs}/end\n")
    (programs / "sleep").chmod(0o755)
    with ThreadPoolExecutor(1) as pool, site.connect("db") as reader:
        with reader.transaction():
            # The migration needs a lock that no other session may have.
            reader.execute("select count(*) from ledger.groups")
            said = pool.submit(site.paste, block("sh", "tries=5"), PATH=f"{programs}:{site.path}")
            until(lambda: (programs / "begun").exists() or said.done(), "the migration to give up")
        assert not said.done()
        (programs / "end").write_text("\n")
    assert said.result().splitlines()[-2:] == [
        f"applied {EXAMPLE}",
        "0 discrepancies in 1 group (entries: 3, participants: 2, idempotency keys: 0)",
    ]


def test_old_code_works_beside_new_code_on_the_newer_schema(site: Site, after: Path) -> None:
    release.migrate(after, site.url("db", "ledger_admin"))
    url = site.url("db", "ledger_service")
    module = ("-P", "-m", "api.cli", "serve", "--insecure")
    with (
        serving(DATABASE_URL=url) as old,
        serving(*module, program=Path(sys.executable), DATABASE_URL=url, PYTHONPATH=after) as new,
    ):
        assert f"PYTHONPATH={after}\0".encode() in Path(f"/proc/{new.workers[0]}/environ").read_bytes()
        for service in (old, new, old):
            answer(service, "POST", "/api/groups/1/transfer", {"from": 1, "to": 2, "amount": 1})
        for service in (old, new):
            assert answer(service, "GET", "/api/groups/1/participants/1")["amount"] == 67
            assert answer(service, "GET", "/api/groups/1/total") == {"group_total": 200}
    with site.connect("db") as admin:
        assert discrepancies(admin) == []


def test_rolls_back_and_deploys_again(site: Site, after: Path, programs: Path) -> None:
    site.paste(block("sh", "tries=5"), PATH=f"{programs}:{site.path}")
    said = site.paste(block("sh", "yoyo rollback"), checkout=after)
    assert [line.split()[1] for line in said.splitlines() if line.startswith("U ")] == [EXAMPLE]
    with site.connect("db") as admin:
        assert discrepancies(admin) == []
        assert one(admin, "select count(*) from ledger.entries")[0] == 3
    with serving(DATABASE_URL=site.url("db", "ledger_service")) as service:
        assert answer(service, "GET", "/api/groups/1/total") == {"group_total": 200}
    site.paste(YOYO_APPLY, checkout=after)
    with site.connect("db") as admin:
        assert one(admin, "select count(note) from ledger.groups") == (0,)


def test_the_first_migration_is_not_rolled_back_while_there_is_a_group(site: Site) -> None:
    for _ in NAMES[1:]:  # the later ones: they have no rows yet
        site.paste(block("sh", "yoyo rollback"))
    with pytest.raises(AssertionError, match="the ledger is not empty"):
        site.paste(block("sh", "yoyo rollback"))
    with site.connect("db") as admin:
        assert one(admin, "select count(*) from ledger.entries")[0] == 3
