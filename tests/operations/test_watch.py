"""Monitoring: a login that sees no balance can read every value, and each rises when something is wrong."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from tests.operations.guide import Site, block, served
from tests.running.commands import command, environment
from tests.support import in_background, refused, transfer, until

VALUES = block("sql", "oldest transaction, seconds")


@pytest.fixture
def watched(site: Site) -> Site:
    site.psql(block("sql", "create role ledger_watch"), "db", "postgres", "ledger")
    return site


def values(site: Site) -> dict[str, tuple[int, int]]:
    """Return each monitored value and its limit."""
    rows = [line.split("|") for line in site.psql(VALUES, "db", "ledger_watch", "ledger")]
    return {what: (int(value), int(most)) for what, value, most in rows}


def alerts(site: Site) -> list[str]:
    return [what for what, (value, most) in values(site).items() if value > most]


def test_every_value_is_good_on_a_new_server(watched: Site) -> None:
    assert len(values(watched)) == VALUES.count("union all") + 1
    assert alerts(watched) == []
    with watched.connect("db", "ledger_watch") as watch:
        refused(watch, "42501", "select * from ledger.current_participants")


def test_shows_a_blocking_transaction_and_those_that_wait(watched: Site) -> None:
    with watched.connect("db") as holder, watched.connect("db") as waiting, watched.connect("db") as observer:
        holder.execute("begin")
        transfer(holder, 1, 1, 2, 1)
        with in_background(lambda: transfer(waiting, 1, 2, 1, 1)):
            locked = "select count(*) from pg_stat_activity where wait_event_type = 'Lock'"
            until(lambda: observer.execute(locked).fetchone() == (1,), "the second transfer to wait")
            assert values(watched)["sessions that wait for a lock"][0] == 1
            (row,) = watched.psql(block("sql", "as waits_for"), "db", "ledger_watch", "ledger")
            assert row.startswith(f"{waiting.info.backend_pid}|postgres||active|")
            assert row.endswith(f"|{{{holder.info.backend_pid}}}")
            holder.execute("commit")


def test_shows_an_archive_that_cannot_be_written(watched: Site) -> None:
    watched.stop("db")
    with (watched.main("db") / "postgresql.conf").open("a") as settings:
        settings.write("archive_mode = on\narchive_command = 'false'\nmax_prepared_transactions = 2\n")
    watched.start("db")
    with watched.connect("db") as admin:
        admin.execute("create table somewhere (something text)")
        admin.execute("select pg_switch_wal()")
        failed = "select failed_count > 0 from pg_stat_archiver"
        until(lambda: admin.execute(failed).fetchone() == (True,), "a file that was not archived")
        admin.execute("begin")
        admin.execute("insert into somewhere values ('held')")
        admin.execute("prepare transaction 'forgotten'")
        assert alerts(watched) == ["prepared transactions", "archiving fails"]


@pytest.mark.skipif(shutil.which("curl") is None, reason="the look at the health needs curl")
def test_the_health_check_shows_that_the_database_is_away(site: Site) -> None:
    line = block("sh", "@db.example/ledger ledger serve").splitlines()[-1]
    with served(site, line, "db", "--insecure") as service:
        look = ["sh", "-c", block("sh", "--max-time 3").replace("4000", str(service.port))]
        assert subprocess.run(look, env=environment(), stdout=subprocess.DEVNULL).returncode == 0
        site.stop("db", "immediate")
        assert subprocess.run(look, env=environment(), stdout=subprocess.DEVNULL).returncode == 22


def test_verify_shows_wrong_books(site: Site) -> None:
    nightly = site.substituted(block("sh", "ledger verify > /dev/null"), "db")
    ledger = {"PATH": site.path}
    assert command("-c", nightly, program="sh", **ledger).returncode == 0
    with site.connect("db") as admin:
        admin.execute("update ledger.participants set amount = amount + 1 where id = 1")
    assert command("-c", nightly, program="sh", **ledger).returncode == 1


def test_shows_a_full_disk(site: Site) -> None:
    look = block("sh", "df --output")
    used = site.paste(look.replace("[ ", "echo ").replace(" ]", ""), server_user=True).split()
    assert 0 <= int(used[0]) <= 100
    assert used[1:] == ["-lt", "80"]
    wanted = 0 if int(used[0]) < 80 else 1
    done = command("-c", site.substituted(look, "db"), program="sh", PATH=site.path)
    assert done.returncode == wanted
