"""ledger checkpoint --all: which checkpoints it makes, what does not stop it, how it ends, what it logs and counts."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from api.admin import schedule
from api.postgres import sessions
from api.telemetry import textfile
from api.telemetry.checkpoints import OLDEST, CheckpointMetrics, oldest
from tests.running.commands import LEDGER, PATIENCE, command, done, environment, refusal
from tests.support import Database, call, create, join, one, transfer, until

MADE = "select group_id, number from ledger.checkpoints order by 1, 2"
# As ledger.checkpoint() takes it, so that the next checkpoint of the group waits.
HOLD = "select pg_advisory_lock(hashtextextended('', %s))"
RELEASE = "select pg_advisory_unlock_all()"
WAITING = """
select pid from pg_stat_activity
where application_name = 'ledger checkpoint --all' and wait_event_type = 'Lock' and datname = current_database()
"""


@pytest.fixture
def url(database: Database) -> str:
    """The service's login, which is all that a schedule needs."""
    return database.url(database.service)


@pytest.fixture
def admin(database: Database) -> Iterator[psycopg.Connection]:
    with database.connect(database.admin) as connection:
        yield connection


@pytest.fixture
def groups(admin: psycopg.Connection) -> list[int]:
    """Three groups, each with alice and bob."""
    made = [create(admin, name) for name in ("BTC", "ETH", "XMR")]
    for group in made:
        for username in ("alice", "bob"):
            join(admin, group, username)
    return made


def move(admin: psycopg.Connection, group: int) -> None:
    alice, bob = (row[0] for row in admin.execute("select id from ledger.list_participants(%s)", [group]))
    transfer(admin, group, alice, bob, 1)


@dataclass(frozen=True)
class Running:
    """A `ledger checkpoint --all` that runs."""

    process: subprocess.Popen[str]
    output: IO[str]
    errors: IO[str]

    def lines(self, of: IO[str] | None = None) -> list[dict]:
        file = of or self.output
        file.seek(0)
        return [json.loads(line) for line in file.read().splitlines()]

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(10)


@contextmanager
def running(*options: str | Path, url: str) -> Iterator[Running]:
    # Appended to, wherever the test has read up to.
    with tempfile.TemporaryFile("a+") as output, tempfile.TemporaryFile("a+") as errors:
        command = [LEDGER, "checkpoint", "--all", *options]
        process = subprocess.Popen(
            command, env=environment(DATABASE_URL=url), cwd="/", stdout=output, stderr=errors, text=True
        )
        try:
            yield Running(process, output, errors)
        finally:
            process.kill()
            process.wait()


def test_makes_one_of_each_group_and_then_of_those_that_moved(url, admin, groups) -> None:
    first = [json.loads(line) for line in done("checkpoint", "--all", DATABASE_URL=url).splitlines()]
    assert [(line["group_id"], line["number"], line["leaf_count"]) for line in first] == [(g, 1, 2) for g in groups]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"]) for line in first)
    assert all(line["seconds"] > 0 for line in first)
    assert done("checkpoint", "--all", DATABASE_URL=url) == ""
    move(admin, groups[1])
    (line,) = done("checkpoint", "--all", DATABASE_URL=url).splitlines()
    assert (json.loads(line)["group_id"], json.loads(line)["number"]) == (groups[1], 2)
    assert admin.execute("select * from ledger.verify()").fetchall() == []


def test_pages_through_the_groups(url, admin, groups, monkeypatch) -> None:
    monkeypatch.setattr(schedule, "PAGE", 1)
    assert schedule.follow(schedule.Schedule(url, None, None, None))
    assert admin.execute(MADE).fetchall() == [(group, 1) for group in groups]


def test_makes_those_of_a_removed_group_until_its_exits_are_settled(url, admin) -> None:
    group = create(admin, "ETH")
    ((_, entry),) = call(admin, "exit_group", group, join(admin, group, "alice"))
    call(admin, "remove_group", group)
    assert '"leaf_count": 1' in done("checkpoint", "--all", DATABASE_URL=url)
    call(admin, "settle_exit", group, entry, "0xa")
    assert done("checkpoint", "--all", DATABASE_URL=url) == ""


def test_makes_them_again_and_again_and_ends_with_0(url, admin, groups) -> None:
    with running("--every", "1s", url=url) as run:
        until(lambda: len(run.lines()) == 3, "the first round")
        move(admin, groups[2])
        until(lambda: len(run.lines()) == 4, "the next round")
        assert (run.lines()[3]["group_id"], run.lines()[3]["number"]) == (groups[2], 2)
        assert run.stop() == 0
        assert run.lines(run.errors) == []


def test_keeps_the_newest_leaves(database, url, admin, groups) -> None:
    for _ in range(3):
        done("checkpoint", "--all", DATABASE_URL=url)
        move(admin, groups[0])
    done("checkpoint", str(groups[1]), DATABASE_URL=url)
    # Also those of a group that needs no other checkpoint.
    done("checkpoint", "--all", "--keep", "1", LEDGER_ADMIN_URL=database.url(database.admin))
    kept = admin.execute("select group_id, number from ledger.checkpoint_chunks order by 1, 2").fetchall()
    assert kept == [(groups[0], 4), (groups[1], 2), (groups[2], 1)]


def test_the_service_may_delete_no_leaves(url, admin, groups) -> None:
    ended = command("checkpoint", "--all", "--keep", "1", DATABASE_URL=url)
    assert ended.returncode == 1
    assert {json.loads(line)["sqlstate"] for line in ended.stderr.splitlines()} == {"42501"}
    assert admin.execute(MADE).fetchall() == [(group, 1) for group in groups]


def test_a_group_that_is_too_large_does_not_stop_the_others(url, admin, groups, tmp_path) -> None:
    for username in ("carol", "dave"):
        join(admin, groups[1], username, 2**255)
        if username == "carol":
            call(admin, "exit_group", groups[1], one(admin, "select max(id) from ledger.participants")[0])
    file = tmp_path / "ledger.prom"
    ended = command("checkpoint", "--all", "--metrics-file", file, DATABASE_URL=url)
    assert ended.returncode == 1
    (line,) = map(json.loads, ended.stderr.splitlines())
    assert line | {"time": None} == {
        **{"time": None, "level": "error", "group_id": groups[1], "code": "group_too_large", "sqlstate": "LG011"},
        "message": "Group too large",
    }
    assert admin.execute(MADE).fetchall() == [(groups[0], 1), (groups[2], 1)]
    samples = scraped(file)
    assert samples["ledger_checkpoint_failures_total",] == 1
    assert samples["ledger_checkpoint_duration_seconds_count",] == 2
    ((created,),) = admin.execute("select extract(epoch from created_at)::float8 from ledger.groups where name = 'ETH'")
    covered = {group: samples["ledger_checkpoint_covered_timestamp_seconds", ("group", str(group))] for group in groups}
    assert covered[groups[1]] == created < min(covered[groups[0]], covered[groups[2]])


def test_a_lock_that_is_not_released_does_not_stop_the_others(url, admin, groups, monkeypatch, capsys) -> None:
    monkeypatch.setitem(sessions.LIMITS, "lock_timeout", "100ms")
    admin.execute(HOLD, [groups[0]])
    assert not schedule.follow(schedule.Schedule(url, None, None, None))
    assert json.loads(capsys.readouterr().err)["sqlstate"] == "55P03"
    assert admin.execute(MADE).fetchall() == [(group, 1) for group in groups[1:]]


@pytest.mark.parametrize("options", [[], ["--every", "1s"]], ids=["once", "every"])
def test_a_lost_connection_does_not_stop_the_others(url, admin, groups, options) -> None:
    admin.execute(HOLD, [groups[0]])
    with running(*options, url=url) as run:
        until(lambda: admin.execute(WAITING).fetchall(), "the first group to wait")
        admin.execute(f"select pg_terminate_backend(pid) from ({WAITING}) as w")
        until(lambda: len(run.lines()) == 2, "the other groups")
        assert admin.execute(MADE).fetchall() == [(group, 1) for group in groups[1:]]
        (line,) = run.lines(run.errors)
        assert (line["group_id"], line["sqlstate"]) == (groups[0], "57P01")
        admin.execute(RELEASE)
        if options:
            until(lambda: len(run.lines()) == 3, "the first group in the next round")
            assert run.stop() == 0
        else:
            assert run.process.wait(PATIENCE) == 1


def test_goes_on_when_the_database_was_away(database, url, admin, groups) -> None:
    with running("--every", "1s", url=url) as run:
        until(lambda: len(run.lines()) == 3, "the first round")
        admin.execute(f"alter role {database.service} nologin")
        try:
            until(lambda: len(run.lines(run.errors)) >= 2, "two attempts to connect")
        finally:
            admin.execute(f"alter role {database.service} login")
        assert {line["group_id"] for line in run.lines(run.errors)} == {None}
        move(admin, groups[0])
        until(lambda: len(run.lines()) == 4, "a round")
        assert run.stop() == 0, run.lines(run.errors)


def test_a_single_round_says_that_the_database_is_away(tmp_path) -> None:
    url = f"postgresql://nobody@%2F{str(tmp_path)[1:].replace('/', '%2F')}/ledger"
    assert "cannot connect to the database" in refusal("checkpoint", "--all", DATABASE_URL=url)


@pytest.mark.parametrize("options", [[], ["--every", "1h"]], ids=["once", "every"])
def test_a_stop_leaves_no_half_of_a_checkpoint(url, admin, groups, options) -> None:
    admin.execute(HOLD, [groups[1]])
    with running(*options, url=url) as run:
        until(lambda: admin.execute(WAITING).fetchall(), "the second group to wait")
        assert run.stop() == (0 if options else 128 + signal.SIGTERM)
    if options:  # the statement was cancelled before the process ended
        assert admin.execute(WAITING).fetchall() == []
    admin.execute(RELEASE)
    sessions_left = "select count(*) from pg_stat_activity where application_name = 'ledger checkpoint --all'"
    until(lambda: one(admin, sessions_left) == (0,), "the session to end")
    made = admin.execute(MADE).fetchall()
    assert made in ([(groups[0], 1)], [(groups[0], 1), (groups[1], 1)][: 1 if options else 2])
    assert admin.execute("select * from ledger.verify()").fetchall() == []


def test_two_at_once_make_one_checkpoint_of_a_group(url, admin, groups) -> None:
    for group in groups:
        admin.execute(HOLD, [group])
    with running(url=url) as first, running(url=url) as second:
        until(lambda: len(admin.execute(WAITING).fetchall()) == 2, "both to wait")
        admin.execute(RELEASE)
        assert (first.process.wait(PATIENCE), second.process.wait(PATIENCE)) == (0, 0)
        assert first.lines(first.errors) == second.lines(second.errors) == []
        assert sorted(line["group_id"] for line in first.lines() + second.lines()) == groups
    assert admin.execute(MADE).fetchall() == [(group, 1) for group in groups]
    assert admin.execute("select * from ledger.verify()").fetchall() == []


@pytest.mark.parametrize("spelled", ["", "0s", "5", "1d", "-1h", "1.5h", "1 h", "1H", "٣s", "100000s", "1h30m"])
def test_refuses_what_is_no_interval(spelled) -> None:
    words = refusal(
        "checkpoint", "--all", f"--every={spelled}", status=2, DATABASE_URL="postgresql://nowhere.invalid/x"
    )
    assert f"{spelled!r} is not an interval: 30s, 5m or 1h, say" in words


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "give the id of a group, or --all"),
        (["1", "--all"], "give the id of a group, or --all"),
        (["--all", "--idempotency-key", "k"], "--idempotency-key is for the checkpoint of one group"),
        (["1", "--every", "1h"], "--every and --metrics-file go with --all"),
        (["1", "--metrics-file", "x"], "--every and --metrics-file go with --all"),
    ],
)
def test_refuses_options_that_do_not_go_together(options, words) -> None:
    assert words in refusal("checkpoint", *options, DATABASE_URL="postgresql://nowhere.invalid/x")


def test_refuses_a_folder_that_cannot_be_written(url) -> None:
    words = refusal("checkpoint", "--all", "--metrics-file", "/nowhere/ledger.prom", DATABASE_URL=url)
    assert "cannot write into the folder of --metrics-file: /nowhere" in words


def scraped(file: Path) -> dict[tuple, float]:
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(file.read_text())
        for sample in family.samples
    }


def test_writes_what_it_counts(url, admin, groups, tmp_path) -> None:
    file = tmp_path / "ledger.prom"
    with running("--every", "1s", "--metrics-file", file, url=url) as run:
        until(file.exists, "the first round")
        first = scraped(file)
        assert first["ledger_checkpoint_duration_seconds_count",] == 3
        assert first["ledger_checkpoint_duration_seconds_sum",] > 0
        assert first["ledger_checkpoint_failures_total",] == 0
        until(lambda: scraped(file)["ledger_checkpoint_round_timestamp_seconds",] > first[ROUND], "the next round")
        # Groups in which nothing moves are covered as well.
        series = [name for name in first if name[0] == "ledger_checkpoint_covered_timestamp_seconds"]
        assert len(series) == 3
        assert all(scraped(file)[name] > first[name] for name in series)
        assert run.stop() == 0
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


ROUND = ("ledger_checkpoint_round_timestamp_seconds",)


def test_a_file_that_cannot_be_written_stops_nothing(url, admin, groups, tmp_path, capsys) -> None:
    assert schedule.follow(schedule.Schedule(url, None, None, tmp_path / "no" / "ledger.prom"))
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == 3
    assert "No such file or directory" in json.loads(captured.err)["message"]


def test_the_file_can_be_read_and_has_a_bounded_number_of_groups(tmp_path) -> None:
    metrics = CheckpointMetrics()
    metrics.complete(1000.0, oldest((float(1000 - group), group) for group in range(1, 101)))
    before = os.umask(0o077)
    try:
        textfile.write(metrics, tmp_path / "ledger.prom")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "ledger.prom").stat().st_mode) == 0o644
    labels = [
        dict(name[1:])["group"] for name in scraped(tmp_path / "ledger.prom") if len(name) > 1 and name[1][0] == "group"
    ]
    assert sorted(map(int, labels)) == list(range(101 - OLDEST, 101))
