"""list_newest_checkpoints: which groups need another checkpoint, whatever was in progress at the newest one."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest

from tests.exits.conftest import tamper
from tests.support import Database, call, create, join, one, transfer

CURRENT = "select is_current from ledger.list_newest_checkpoints(%s, 1)"


@pytest.fixture
def is_current(ledger: psycopg.Connection, group: int) -> Callable[[], bool]:
    return lambda: one(ledger, CURRENT, [group - 1])[0]


@pytest.fixture
def alice(ledger: psycopg.Connection, group: int) -> int:
    return join(ledger, group, "alice")


@pytest.fixture
def bob(ledger: psycopg.Connection, group: int) -> int:
    return join(ledger, group, "bob")


def test_has_the_newest_of_each_group(ledger, group, checkpoint):
    other = create(ledger, "BTC")
    checkpoint()
    made = checkpoint()
    found = [row for (row,) in ledger.execute("select to_json(n) from ledger.list_newest_checkpoints() as n")]
    (of_other,) = one(ledger, "select to_json(g) from ledger.get_group(%s) as g", [other])
    assert found[0] == {"group_id": group, "number": 2, "created_at": made["created_at"], "is_current": True}
    assert (found[1]["group_id"], found[1]["number"], found[1]["is_current"]) == (of_other["id"], 0, False)
    assert found[1]["created_at"] < made["created_at"]


def test_pages_by_group(ledger, group):
    groups = [group, *(create(ledger, name) for name in ("BTC", "XMR"))]
    page = "select group_id from ledger.list_newest_checkpoints(%s, %s)"
    assert [row for (row,) in ledger.execute(page, [0, 2])] == groups[:2]
    assert [row for (row,) in ledger.execute(page, [groups[1], 2])] == groups[2:]
    assert [row for (row,) in ledger.execute(page, [None, None])] == groups


def test_a_removed_group_is_listed_while_it_has_exits_to_settle(ledger, group, alice):
    ((_, entry),) = call(ledger, "exit_group", group, alice)
    call(ledger, "remove_group", group)
    count = "select count(*) from ledger.list_newest_checkpoints()"
    assert one(ledger, count) == (1,)
    call(ledger, "settle_exit", group, entry, "0xa")
    assert one(ledger, count) == (0,)


@pytest.mark.parametrize("move", ["join", "transfer", "deposit", "exit", "settle", "bind", "another group"])
def test_is_current_until_something_moves(ledger, group, alice, bob, checkpoint, is_current, move):
    carol = join(ledger, group, "carol", 0)
    ((_, entry),) = call(ledger, "exit_group", group, carol)
    checkpoint()
    assert is_current()
    other = create(ledger, "BTC")
    do = {
        "join": lambda: join(ledger, group, "dave", 0),
        "transfer": lambda: transfer(ledger, group, alice, bob, 1),
        "deposit": lambda: call(ledger, "deposit", group, alice, 1),
        "exit": lambda: call(ledger, "exit_group", group, bob),
        "settle": lambda: call(ledger, "settle_exit", group, entry, "0xa"),
        "bind": lambda: call(ledger, "bind_address", group, alice, f"0x{7:040x}"),
        "another group": lambda: transfer(ledger, other, *(join(ledger, other, name) for name in "ab"), 1),
    }
    do[move]()
    assert is_current() is (move == "another group")
    checkpoint()
    assert is_current()


@pytest.mark.parametrize("later", [False, True])
def test_what_was_in_progress_is_missing_once_it_commits(
    database: Database, ledger, group, alice, bob, checkpoint, is_current, later
):
    """Also where its entry has a lower id than one that the checkpoint includes."""
    with database.connect(autocommit=False) as moving:
        transfer(moving, group, alice, bob, 1)
        if later:
            join(ledger, group, "carol")
        checkpoint()
        assert is_current()
        moving.commit()
    assert not is_current()
    checkpoint()
    assert is_current()


@pytest.mark.parametrize("what", ["settle", "bind"])
def test_a_settlement_or_an_address_in_progress_is_missing_once_it_commits(
    database: Database, ledger, group, alice, bob, checkpoint, is_current, what
):
    ((_, entry),) = call(ledger, "exit_group", group, bob)
    with database.connect(autocommit=False) as moving:
        if what == "settle":
            call(moving, "settle_exit", group, entry, "0xa")
        else:
            call(moving, "bind_address", group, alice, f"0x{7:040x}")
        checkpoint()
        assert is_current()
        moving.commit()
    assert not is_current()


def test_what_was_in_progress_and_rolled_back_is_not_missing(
    database: Database, group, alice, bob, checkpoint, is_current
):
    with database.connect(autocommit=False) as moving:
        transfer(moving, group, alice, bob, 1)
        checkpoint()
        moving.rollback()
    assert is_current()


def test_is_not_current_after_a_restore(admin, group, alice, checkpoint, is_current):
    checkpoint()
    admin.execute("set role ledger_owner")
    admin.execute("select ledger.restart_feed()")
    admin.execute("reset role")
    assert not is_current()
    checkpoint()
    # As another server would have numbered the restored entries.
    tamper(admin, "update ledger.entries set xid = '9000000000000000'")
    assert is_current()


def test_reads_few_rows_however_much_there_is(admin, group, alice, bob, ledger, checkpoint):
    sides = [(alice, bob), (bob, alice)] * 1_000
    transfers = ",".join(f'{{"from": {sender}, "to": {recipient}, "amount": 1}}' for sender, recipient in sides)
    call(ledger, "transfer_all", group, f"[{transfers}]")
    ledger.execute("select from generate_series(1, 1000) as n, ledger.join_group(%s, 'p' || n, 0)", [group])
    checkpoint()
    admin.execute("vacuum analyze")
    for _ in range(2):  # the first time it reads the catalog as well
        ((plan,),) = admin.execute(
            "explain (analyze, buffers, format json) select * from ledger.list_newest_checkpoints()"
        ).fetchall()
    assert plan[0]["Plan"]["Shared Hit Blocks"] + plan[0]["Plan"]["Shared Read Blocks"] < 40
