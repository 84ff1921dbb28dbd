"""reset drops the ledger with all that it holds and migrates anew, whole or not at all."""

import signal

import psycopg
import pytest

from api import embedded, migrate
from tests.migrations.steps import NAMES, contents, fingerprint_of, locks, marked, put_data_in, python
from tests.support import Database

DIE_WITHIN = """
import os, signal, sys
from api import migrate

migrate.Backend.unmark_one = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
migrate.reset(sys.argv[1])
"""


@pytest.fixture
def conninfo(template, empty: Database) -> str:
    return empty.url(embedded.ADMIN)


def test_leaves_an_empty_ledger(conninfo):
    migrate.migrate(conninfo)
    fresh, nothing = fingerprint_of(conninfo), contents(conninfo)
    put_data_in(conninfo)
    migrate.reset(conninfo)
    assert (fingerprint_of(conninfo), contents(conninfo)) == (fresh, nothing)
    assert (marked(conninfo), locks(conninfo)) == (NAMES, 0)


def test_works_before_the_first_migration_and_twice(conninfo):
    migrate.reset(conninfo)
    migrate.reset(conninfo)
    assert marked(conninfo) == NAMES


def test_drops_everything_or_nothing(conninfo, monkeypatch):
    migrate.migrate(conninfo)
    put_data_in(conninfo)
    before = fingerprint_of(conninfo), contents(conninfo), marked(conninfo)

    def fail(*_):
        raise psycopg.errors.DiskFull

    with monkeypatch.context() as patch:
        patch.setattr(migrate.Backend, "unmark_one", fail)
        with pytest.raises(psycopg.errors.DiskFull):
            migrate.reset(conninfo)
    assert (fingerprint_of(conninfo), contents(conninfo), marked(conninfo)) == before

    run = python(DIE_WITHIN, conninfo)
    run.communicate(timeout=60)
    assert run.returncode == -signal.SIGKILL
    assert migrate.migrate(conninfo) == []
    assert (fingerprint_of(conninfo), contents(conninfo), marked(conninfo)) == before
