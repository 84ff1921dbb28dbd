"""A site whose database was set up as the guide says, once; each test gets a copy of it."""

from __future__ import annotations

import itertools
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import VERSION
from tests.operations.guide import Site, block, initialise, sited
from tests.support import create, join, transfer

NUMBERS = itertools.count()


@pytest.fixture(scope="session")
def ground() -> Iterator[Path]:
    """A short path: the name of a Unix socket has 107 bytes at most."""
    with tempfile.TemporaryDirectory(prefix="ledger-") as path:
        Path(path).chmod(0o755)
        yield Path(path)


@pytest.fixture(scope="session")
def managed(ground: Path) -> Iterator[Site]:
    """The site of "PostgreSQL and its roles": its server runs, with an administrator who is no superuser."""
    with sited(ground / "managed", VERSION) as site:
        initialise(site)
        with site.connect("db", database="postgres") as superuser:
            superuser.execute("create role administrator login createrole createdb")
        site.psql(block("sql", "create database"), "db", "administrator", "postgres")
        site.paste(block("sh", "ledger migrate\n"))
        site.psql(block("sql", "create role ledger_service"), "db", "ledger_admin", "ledger")
        with site.connect("db") as admin:
            group = create(admin, "ETH")
            alice, bob = join(admin, group, "alice"), join(admin, group, "bob")
            transfer(admin, group, alice, bob, 30)
        yield site


@pytest.fixture(scope="session")
def original(managed: Site, ground: Path) -> Path:
    """The files of that server, at rest."""
    copy = ground / "original"
    managed.stop("db")
    subprocess.run(["cp", "-a", managed.folder / "db", copy], check=True)
    managed.start("db")
    return copy


@contextmanager
def copied(original: Path, ground: Path) -> Iterator[Site]:
    """A site of its own with a copy of those files, its server running."""
    with sited(ground / f"site{next(NUMBERS)}", VERSION) as site:
        subprocess.run(["cp", "-a", original, site.folder / "db"], check=True)
        site.start("db")
        yield site


@pytest.fixture
def site(original: Path, ground: Path) -> Iterator[Site]:
    """A site of the test's own, its server running: group 1 with alice (1), who has 70, and bob (2), who has 130."""
    with copied(original, ground) as site:
        yield site


@pytest.fixture(autouse=True)
def no_other_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands of these tests connect only where the guide says."""
    monkeypatch.setenv("LEDGER_DATA", "/nonexistent")
