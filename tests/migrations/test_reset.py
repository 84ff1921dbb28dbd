"""reset drops the ledger with all its rows and migrates again, completely or not at all."""

import signal

import psycopg
import pytest

from api.postgres import migrate
from tests.migrations.steps import NAMES, contents, fingerprint_of, locks, marked, put_data_in, python
from tests.support import refused

DIE_BEFORE_MIGRATING = """
import os, signal, sys
from api.postgres import migrate

migrate.migrate = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
migrate.reset(sys.argv[1])
"""
DIE_WITHIN = """
import os, signal, sys
from api.postgres import migrate

migrate.Backend.unmark_one = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
migrate.reset(sys.argv[1])
"""


def test_leaves_an_empty_ledger(migrated):
    conninfo = migrated.url(migrated.admin)
    fresh, nothing = fingerprint_of(conninfo), contents(conninfo)
    put_data_in(conninfo)
    migrate.reset(conninfo)
    left = contents(conninfo)
    feeds, first_feeds = left.pop("feeds"), nothing.pop("feeds")
    # There was an API key: a revoked one remains, so that one is still required.
    (key,) = left.pop("api_keys")
    assert key["revoked_at"] is not None
    del left["api_keys_id_seq"], nothing["api_keys"], nothing["api_keys_id_seq"]
    assert (fingerprint_of(conninfo), left) == (fresh, nothing)
    assert len(feeds) == len(first_feeds)
    assert (marked(conninfo), locks(conninfo)) == (NAMES, 0)


def drop_by_hand(conninfo: str) -> None:
    """Drop the ledger as an administrator would without `ledger reset`."""
    with psycopg.connect(conninfo, autocommit=True) as database:
        database.execute("drop schema ledger, ledger_internal cascade")
        database.execute("delete from _yoyo_migration")
    migrate.migrate(conninfo)


@pytest.mark.parametrize("same_number", [False, True])
@pytest.mark.parametrize("reset", [migrate.reset, drop_by_hand])
def test_ends_the_feed(migrated, reset, same_number):
    conninfo = migrated.url(migrated.admin)
    put_data_in(conninfo)
    with psycopg.connect(conninfo, autocommit=True) as database:
        cursors = [row[0] for row in database.execute("select cursor from ledger.read_feed()")]
        count = len(cursors)
        cursors += database.execute("select ledger.feed_end()").fetchone() or ()
        refused(database, "LG009", "select * from ledger.read_feed(%s)", [f"1-{cursors[0].partition('-')[2]}"])
    reset(conninfo)
    # Entry ids begin again, so a cursor from before it would skip as many entries as it had read.
    put_data_in(conninfo)
    with psycopg.connect(conninfo, autocommit=True) as database:
        now = [row[0] for row in database.execute("select cursor from ledger.read_feed()")]
        assert len(now) == count > 10
        assert len(cursors) == count + 1
        numbers = {cursor.partition("-")[0] for cursor in now}
        assert numbers != {cursor.partition("-")[0] for cursor in cursors}
        for cursor in cursors:
            if same_number:  # were the same number drawn again, the transactions would still be known as older
                cursor = f"{min(numbers)}-{cursor.partition('-')[2]}"
            refused(database, "LG009", "select * from ledger.read_feed(%s)", [cursor])


def test_works_before_the_first_migration_and_twice(conninfo):
    migrate.reset(conninfo)
    migrate.reset(conninfo)
    assert marked(conninfo) == NAMES


def test_api_keys_stay_required_after_a_run_killed_after_the_drop(migrated):
    conninfo = migrated.url(migrated.admin)
    put_data_in(conninfo)
    run = python(DIE_BEFORE_MIGRATING, conninfo)
    run.communicate(timeout=60)
    assert run.returncode == -signal.SIGKILL
    for again in (migrate.migrate, migrate.migrate, migrate.reset):
        again(conninfo)
        with psycopg.connect(conninfo) as admin:
            assert admin.execute("select ledger.keys_required(), count(*) from ledger.api_keys").fetchone() == (True, 1)


def test_requires_no_api_keys_where_there_were_none(migrated):
    conninfo = migrated.url(migrated.admin)
    migrate.reset(conninfo)
    with psycopg.connect(conninfo) as admin:
        assert admin.execute("select ledger.keys_required()").fetchone() == (False,)


def test_drops_everything_or_nothing(migrated, monkeypatch):
    conninfo = migrated.url(migrated.admin)
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
