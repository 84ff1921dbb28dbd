"""Backups and restores: to a moment, from a dump, and the feed after each."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.conftest import VERSION
from tests.operations.conftest import copied
from tests.operations.guide import Site, block, initialise, served, sited
from tests.running.commands import done, refusal
from tests.support import one, refused, transfer, until

ADDRESS = "0x" + "ab" * 20
RESTART = block("sh", "@restored.example/ledger\nledger verify\n")


def feed(connection: psycopg.Connection, after: str | None = None) -> list[tuple[str, int]]:
    """Return the cursors and ids of the entries after a cursor, once the feed has all of them."""
    return connection.execute("select cursor, id from ledger.read_feed(%s)", [after]).fetchall()


def test_a_restore_to_a_moment_brings_that_state_back(site: Site) -> None:
    site.paste(block("sh", "archive_command"), server_user=True)
    with site.connect("db") as admin:
        kept = transfer(admin, 1, 1, 2, 5)
        site.paste(block("sh", "> /backup/moment"), server_user=True)
        lost = [transfer(admin, 1, 1, 2, 20) for _ in range(3)]
        cursor, newest = feed(admin)[-1]
        assert newest == lost[-1]
        switched = site.paste(block("sh", "pg_switch_wal"), server_user=True).splitlines()[0]
        archived = "select last_archived_wal >= %s and failed_count = 0 from pg_stat_archiver"
        until(lambda: one(admin, archived, [switched])[0], "the archive")
    site.stop("db", "immediate")

    site.prepare("restored")
    site.paste(block("sh", "recovery_target_time"), "restored", server_user=True)
    with site.connect("restored") as admin:
        last = "select id, amount, from_amount, to_amount from ledger.record order by id desc limit 1"
        assert one(admin, last) == (kept, 5, 65, 135)
        # The guide warns of this: the cursor of a lost entry skips new ones.
        again = [transfer(admin, 1, 1, 2, 1) for _ in range(5)]
        assert again[0] not in [entry for _, entry in feed(admin, cursor)]
    assert site.paste(RESTART, "restored").startswith("0 discrepancies in 1 group (entries: 9, ")
    with site.connect("restored") as admin:
        refused(admin, "LG009", "select * from ledger.read_feed(%s)", [cursor])
        assert [entry for _, entry in feed(admin)] == [1, 2, 3, kept, *again]


@pytest.fixture(scope="module")
def restored_once(original: Path, ground: Path) -> Iterator[Path]:
    """The folder of a site with a new server into which the dump of the first went, both at rest.

    Alice has an address, and there is a checkpoint; the first server has numbered more transactions than the new one.
    """
    with copied(original, ground) as site:
        with site.connect("db") as admin:
            admin.execute("do $$ begin for i in 1 .. 20000 loop perform pg_current_xact_id(); commit; end loop; end $$")
            admin.execute("select ledger.bind_address(1, 1, %s)", [ADDRESS])
            admin.execute("select ledger.checkpoint(1)")
        site.run("install", "-d", site.folder / "backup")
        site.paste(block("sh", "pg_dumpall"), server_user=True)
        site.stop("db")
        initialise(site, "restored")
        site.paste(block("sh", "pg_restore"), "restored", server_user=True)
        site.stop("restored")
        yield site.folder


@pytest.fixture
def restored(restored_once: Path, ground: Path) -> Iterator[Site]:
    """A copy of that site, in which the new server runs."""
    with sited(ground / "restored", VERSION) as site:
        for name in ("backup", "restored"):
            subprocess.run(["cp", "-a", restored_once / name, site.folder / name], check=True)
        site.start("restored")
        yield site


def test_a_dump_is_the_whole_ledger(restored: Site) -> None:
    with restored.connect("restored") as admin:
        assert one(admin, "select array_agg(id order by id) from ledger.record") == ([1, 2, 3],)
        refused(admin, "LG009", "select * from ledger.read_feed()")
    assert restored.paste(RESTART, "restored").startswith("0 discrepancies in 1 group (entries: 3, ")
    with restored.connect("restored") as admin:
        assert [entry for _, entry in feed(admin)] == [1, 2, 3]
        # The logins came with their passwords and settings.
        login = "select rolpassword, rolconnlimit from pg_authid where rolname = 'ledger_service'"
        password, limit = one(admin, login)
        assert password.startswith("SCRAM-SHA-256")
        assert limit == 40
    assert done("migrate", LEDGER_ADMIN_URL=restored.url("restored", "ledger_admin")) == "nothing to apply\n"
    line = block("sh", "@db.example/ledger ledger serve").replace("db.example", "restored.example").splitlines()[-1]
    with served(restored, line, "restored", "--insecure") as service:
        assert service.answers()


def test_checkpoints_go_on_after_a_dump_was_restored(restored: Site) -> None:
    leaves = "select array_agg(l order by index) from ledger.list_leaves(1, %s) as l"
    with restored.connect("restored") as admin:
        assert refused(admin, "LG009", "select ledger.checkpoint(1)").column_name == "group_id"
        restored.paste(RESTART, "restored")
        assert one(admin, "select number from ledger.checkpoint(1)") == (2,)
        expected = one(admin, leaves, [2])
        assert one(admin, "select owner from ledger.list_leaves(1, 2) limit 1") == (ADDRESS,)
        admin.execute("select ledger.checkpoint(1)")
        assert one(admin, "select ledger.drop_checkpoint_chunks(1, 1)") == (1,)
        assert one(admin, leaves, [2]) == one(admin, leaves, [1]) == expected
    assert restored.paste(RESTART, "restored").startswith("0 discrepancies in 1 group ")


def test_a_dump_restored_into_a_database_made_by_hand_lacks_its_rights(restored: Site) -> None:
    with restored.connect("restored", database="postgres") as admin:
        admin.execute("drop database ledger")
        admin.execute("create database ledger owner ledger_admin")
    restored.run(
        "pg_restore",
        "--exit-on-error",
        f"--dbname={restored.url('restored', 'postgres')}",
        restored.folder / "backup" / "ledger.dump",
    )
    url = restored.url("restored", "ledger_service")
    assert "may make temporary tables" in refusal("serve", DATABASE_URL=url)
    with restored.connect("restored", "ledger_admin") as owner:
        owner.execute("revoke connect, temporary on database ledger from public")
        owner.execute("grant connect on database ledger to ledger_service")
    assert "there is no API key" in refusal("serve", DATABASE_URL=url)
