"""ledger verify: it checks everything once, range by range, and reports discrepancies and an exit status."""

from __future__ import annotations

import argparse
import re
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import psycopg
import pytest

from api import cli
from api.admin import progress, verify
from tests.running.commands import command, done, refusal
from tests.support import Database, call, create, join, one, transfer

# Corruptions that no constraint and no trigger prevents any more; the database is the test's own.
EVERYTHING_WRONG = """
set session_replication_role = replica;
alter table ledger.entries drop constraint entries_are_valid;
alter domain ledger.sha_256 drop constraint sha_256_length;
-- One fault each: an entry that reverses itself, a participant who joined at another time, a key without a fingerprint.
update ledger.entries set reverses = id;
update ledger.participants set joined_at = joined_at - interval '1 hour';
update ledger.idempotency_keys set fingerprint = '';
"""
JOINED_EARLIER = "update ledger.participants set joined_at = joined_at - interval '1 hour' where id = %s"


@pytest.fixture
def urls(database: Database) -> dict[str, str]:
    """The settings of a deployment: two logins to one database."""
    return {"DATABASE_URL": database.url(database.service), "LEDGER_ADMIN_URL": database.url(database.admin)}


@pytest.fixture
def ids(database: Database) -> dict[str, int]:
    """A group of alice, bob and carol, who has left; and a removed group, which dora had joined."""
    with database.connect() as ledger:
        group, removed = create(ledger, "ETH"), one(ledger, "select id from ledger.create_group('old', 'create')")[0]
        alice, bob, carol = (join(ledger, group, name) for name in ("alice", "bob", "carol"))
        dora = join(ledger, removed, "dora")
        for number in range(9):
            call(ledger, "transfer", group, alice, bob, 1, f"key-{number}")
            transfer(ledger, group, bob, carol, 1)
        call(ledger, "exit_group", group, carol)
        call(ledger, "exit_group", removed, dora)
        call(ledger, "remove_group", removed)
        return {"group": group, "removed": removed, "alice": alice, "dora": dora}


@pytest.fixture
def admin(database: Database) -> Iterator[psycopg.Connection]:
    with database.connect(database.admin) as connection:
        yield connection


def corrupt(admin: psycopg.Connection, participant: int) -> None:
    admin.execute(JOINED_EARLIER, [participant])


# exit status and words


def test_the_exit_status_for_sound_books_is_0(urls, ids):
    verified = "0 discrepancies in 2 groups (entries: 24, participants: 4, idempotency keys: 10)\n"
    assert done("verify", **urls) == verified


def test_a_ledger_without_a_group_is_sound(urls):
    assert done("verify", **urls) == "0 discrepancies in 0 groups (entries: 0, participants: 0, idempotency keys: 0)\n"


def test_a_discrepancy_is_printed_and_the_exit_status_is_1(urls, ids, admin):
    corrupt(admin, ids["alice"])
    result = command("verify", **urls)
    assert result.returncode == 1
    discrepancy, summary = result.stdout.splitlines()
    assert discrepancy.startswith(f"group {ids['group']}, participant {ids['alice']}: presence time: joined at ")
    assert summary == "1 discrepancy in 2 groups (entries: 24, participants: 4, idempotency keys: 10)"
    assert result.stderr == ""


def test_a_removed_group_is_verified_too(urls, ids, admin):
    corrupt(admin, ids["dora"])
    result = command("verify", **urls)
    assert result.returncode == 1
    assert result.stdout.startswith(f"group {ids['removed']}, participant {ids['dora']}: ")


def test_one_group_is_verified_alone(urls, ids, admin):
    corrupt(admin, ids["dora"])
    assert done("verify", str(ids["group"]), **urls).startswith(
        "0 discrepancies in 1 group (entries: 22, participants: 3, idempotency keys: 9)"
    )
    result = command("verify", str(ids["removed"]), **urls)
    assert result.returncode == 1
    assert result.stdout.endswith("1 discrepancy in 1 group (entries: 2, participants: 1, idempotency keys: 0)\n")


@pytest.mark.parametrize("group", ["7777", str(2**63 - 1)])
def test_an_unknown_group_is_refused(group, urls, ids):
    assert f"there is no group {group}" in refusal("verify", group, **urls)


@pytest.mark.parametrize("group", ["0", "-1", "x", "", "1.0", "1e3", "１", str(2**63), "9" * 30, "0" * 30 + "1"])
def test_a_malformed_id_is_refused(group, urls):
    refusal("verify", group, status=2, **urls)


def test_a_database_that_is_not_migrated_is_refused(template, empty):
    for settings in ({}, {"LEDGER_ADMIN_URL": empty.url(empty.admin)}):
        words = refusal("verify", **({"DATABASE_URL": empty.url(empty.admin)} | settings))
        assert "not migrated" in words
        assert "ledger migrate" in words


def test_a_login_without_the_right_is_refused(urls, ids):
    assert "permission denied" in refusal("verify", DATABASE_URL=urls["DATABASE_URL"])


# rows of no group


def test_rows_of_an_unknown_group_are_found(urls, ids, admin):
    admin.execute("set session_replication_role = replica")
    admin.execute("delete from ledger.groups where id = %s", [ids["removed"]])
    admin.execute("update ledger.idempotency_keys set group_id = 2000000 where key = 'key-3'")
    result = command("verify", **urls)
    assert result.returncode == 1
    assert result.stdout.splitlines() == [
        f"group {ids['removed']}: group: there is no such group, and it has "
        "entries: 2, participants: 1, settlements: 1, shards: 8, totals: 2",
        "group 2000000: group: there is no such group, and it has idempotency keys: 1",
        "new groups: idempotency key: the key create has an answer to create_group that contradicts the record",
        "3 discrepancies in 1 group (entries: 22, participants: 3, idempotency keys: 9)",
    ]


@pytest.mark.parametrize("size", [1, 5, 1_000_000])
def test_ids_that_two_groups_share_are_found(size, database, ids, admin, monkeypatch):
    monkeypatch.setattr(verify, "LARGEST_SIZE", size)
    admin.execute("set session_replication_role = replica")
    admin.execute("alter table ledger.participants alter column id set generated by default")
    for table, column in (("participants", "id"), ("entries", "from_id"), ("entries", "to_id")):
        admin.execute(f"update ledger.{table} set {column} = %s where {column} = %s", [ids["alice"], ids["dora"]])
    admin.execute("alter sequence ledger.entries_id_seq restart with 100000000")  # a gap must not make it loop forever
    steps = [step for step in verify.verify(database.url(database.admin)) if step.part == "ids"]
    assert [(found.group_id, found.participant_id, found.kind) for step in steps for found in step.discrepancies] == [
        (ids["group"], ids["alice"], "participant id"),
        (ids["removed"], ids["alice"], "participant id"),
    ]
    assert len(steps) < 40


def test_a_schema_that_differs_is_found(urls, ids, admin):
    admin.execute("grant execute on function ledger_internal.execute_transfer to ledger_reader")
    result = command("verify", **urls)
    assert result.returncode == 1
    difference, summary = result.stdout.splitlines()
    assert difference.startswith(
        "schema: function ledger_internal.execute_transfer(bigint,bigint,bigint,numeric,jsonb,bigint) has another "
    )
    assert summary.startswith("1 discrepancy in 2 groups (")
    # The verification of a group does not depend on the schema.
    assert done("verify", str(ids["group"]), **urls).startswith("0 discrepancies in 1 group (")


def test_a_schema_of_another_release_is_not_compared(urls, ids, admin):
    admin.execute("grant execute on function ledger_internal.execute_transfer to ledger_reader")
    admin.execute("update _yoyo_migration set migration_id = '9999.x' where migration_id = '0001.baseline'")
    result = command("verify", **urls)
    assert result.returncode == 0
    assert result.stdout.startswith("0 discrepancies in 2 groups (")
    assert result.stderr == (
        "ledger: the schema was not compared with this release's: the database lacks 0001.baseline\n"
    )
    # A change that is wrong in every release is found.
    admin.execute("alter table ledger.entries disable trigger all")
    result = command("verify", **urls)
    assert result.returncode == 1
    assert "schema: trigger entries_are_permanent of ledger.entries is disabled\n" in result.stdout


def test_verifies_the_embedded_database(data: Path):
    assert done("verify", LEDGER_DATA=data).startswith("0 discrepancies in 2 groups (")


# ranges


def keys(admin: psycopg.Connection) -> Counter[tuple[str, int, object]]:
    """Return everything that can be checked: part, group, key."""
    return Counter(
        (part, *row)
        for part, table, key in (
            ("entries", "entries", "id"),
            ("participants", "participants", "id"),
            ("idempotency keys", "idempotency_keys", "key"),
        )
        for row in admin.execute(f"select group_id, {key} from ledger.{table}").fetchall()
    )


def found(steps: list[verify.Step]) -> Counter[tuple[str, int, object]]:
    """Count the reported discrepancies: part, group, key."""
    return Counter(
        (
            step.part,
            discrepancy.group_id,
            discrepancy.entry_id or discrepancy.participant_id or discrepancy.detail.split("the key ")[1][:-19],
        )
        for step in steps
        for discrepancy in step.discrepancies
        if step.part != "schema"
    )


@pytest.mark.parametrize("size", [1, 2, 3, 4, 9, 10, 11, 21, 22, 23, 1000])
def test_everything_is_verified_once_for_every_size_of_ranges(size, database, admin, ids, monkeypatch):
    monkeypatch.setattr(verify, "LARGEST_SIZE", size)
    admin.execute(EVERYTHING_WRONG)
    steps = list(verify.verify(database.url(database.admin)))
    assert found(steps) == keys(admin)
    # Two constraints are gone.
    assert [len(step.discrepancies) for step in steps if step.part == "schema"] == [2]
    assert max(step.rows for step in steps) == min(size, 22)
    for part in ("entries", "participants", "idempotency keys"):
        assert sum(step.rows for step in steps if step.part == part) == sum(
            number for (name, *_), number in keys(admin).items() if name == part
        )
        for before, after in pairwise(step for step in steps if step.part == part):
            assert (before.group, before.last) < (after.group, after.last)


@pytest.mark.parametrize(
    ("seconds", "first", "sizes"),
    [
        (3600.0, 1, [1, 2, 4, 8, 7]),  # as long as it is quick, twice as many
        (3600.0, 5, [5, 10, 7]),
        (0.0, 8, [8, 4, 2, 1, 1, 1, 1, 1, 1, 1, 1]),  # when it is slow, half of them
    ],
)
def test_the_size_of_a_range_adapts_to_its_time(seconds, first, sizes, database, ids, monkeypatch):
    monkeypatch.setattr(verify, "RANGE_SECONDS", seconds)
    monkeypatch.setattr(verify, "FIRST_SIZE", first)
    steps = list(verify.verify(database.url(database.admin), ids["group"]))
    assert [step.rows for step in steps if step.part == "entries"] == sizes


def test_each_range_is_its_own_transaction(database, admin, ids, monkeypatch):
    monkeypatch.setattr(verify, "LARGEST_SIZE", 5)
    for step in verify.verify(database.url(database.admin)):
        assert step.rows <= 5
        kept = "select backend_xmin from pg_stat_activity where application_name = 'ledger verify'"
        assert one(admin, kept) == (None,)


# progress


@pytest.mark.parametrize(("seconds", "expected"), [(-1.0, 13), (3600.0, 0)])
def test_prints_its_progress_from_time_to_time(seconds, expected, urls, ids, monkeypatch, capsys):
    monkeypatch.setattr(progress, "SECONDS", seconds)
    for name, value in urls.items():
        monkeypatch.setenv(name, value)
    assert cli.run_verify(argparse.Namespace(group=None, against=None)) == 0
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == expected
    assert all(f"; group {ids['group']}: " in line or f"; group {ids['removed']}: " in line for line in lines[6:])
    assert all(re.match(r"[0-9]+( of [0-9,]+)? rows, [0-9,]+ a second", line) for line in lines)
