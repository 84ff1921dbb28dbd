"""A name, a key or an entry that another session used after the snapshot was taken: never a bare unique violation.

At READ COMMITTED the answer is the right one. Above it, it is the right one or 40001, after which a client repeats.
"""

from collections.abc import Callable

import psycopg
import pytest
from psycopg import IsolationLevel

from tests.support import call, create, join, one, transfer

EACH = "select outcome from ledger.transfer_batch(%s, %s, %s, %s::numeric[], %s) order by place"

Call = tuple[object, ...]
# For each clash, with ids by name: another session's call, the stale session's call, and its right answer.
CLASHES: dict[str, tuple[Call, Call, str]] = {
    "name-of-a-new-group": (("create_group", "DAI"), ("create_group", "DAI"), "LG005"),
    "name-of-a-renamed-group": (("rename_group", "other", "DAI"), ("rename_group", "group", "DAI"), "LG005"),
    "name-of-a-new-and-a-renamed-group": (("create_group", "DAI"), ("rename_group", "group", "DAI"), "LG005"),
    "username": (("join_group", "group", "eve", 1), ("join_group", "group", "eve", 1), "LG005"),
    "username-of-a-renamed-one": (
        ("rename_participant", "group", "bob", "eve"), ("rename_participant", "group", "carol", "eve"), "LG005"
    ),
    "reversal": (("reverse_transfer", "group", "sent"), ("reverse_transfer", "group", "sent"), "LG007"),
    "settlement": (("settle_exit", "group", "left", "0x1"), ("settle_exit", "group", "left", "0x2"), "LG008"),
    "exit": (("exit_group", "group", "carol"), ("exit_group", "group", "carol"), "LG002"),
    "removal": (("remove_group", "empty"), ("remove_group", "empty"), "LG002"),
    "join-of-a-removed-group": (("remove_group", "empty"), ("join_group", "empty", "eve", 1), "LG002"),
    "key-of-a-new-group": (("create_group", "DAI", "key"), ("create_group", "DAI", "key"), "done"),
    "key-of-a-new-group-of-another-name": (("create_group", "DAI", "key"), ("create_group", "BTC", "key"), "LG006"),
    "key-of-a-renamed-group": (
        ("rename_group", "group", "DAI", "key"), ("rename_group", "group", "DAI", "key"), "done"
    ),
    "key-of-a-rename": (
        ("rename_participant", "group", "bob", "eve", "key"),
        ("rename_participant", "group", "carol", "dan", "key"),
        "LG006",
    ),
    "key-of-a-join": (("join_group", "group", "eve", 1, "key"), ("join_group", "group", "eve", 1, "key"), "done"),
    "key-of-another-join": (
        ("join_group", "group", "eve", 1, "key"), ("join_group", "group", "dan", 1, "key"), "LG006"
    ),
    "key-of-an-exit": (("exit_group", "group", "carol", "key"), ("exit_group", "group", "carol", "key"), "done"),
    "key-of-a-removal": (("remove_group", "empty", "key"), ("remove_group", "empty", "key"), "done"),
    "key-of-a-transfer": (
        ("transfer", "group", "alice", "bob", 1, "key"), ("transfer", "group", "carol", "dora", 1, "key"), "LG006"
    ),
    "key-of-a-reversal": (
        ("reverse_transfer", "group", "sent", "key"), ("reverse_transfer", "group", "sent", "key"), "done"
    ),
    "key-of-a-settlement": (
        ("settle_exit", "group", "left", "0x1", "key"), ("settle_exit", "group", "left", "0x1", "key"), "done"
    ),
    "key-of-another-settlement": (
        ("settle_exit", "group", "left", "0x1", "key"), ("settle_exit", "group", "also_left", "0x1", "key"), "LG006"
    ),
}  # fmt: skip


@pytest.fixture(params=list(IsolationLevel), ids=lambda level: level.name.lower())
def stale(request: pytest.FixtureRequest, session: Callable[..., psycopg.Connection]) -> psycopg.Connection:
    """A session that takes its snapshot at its first statement, or one for each."""
    return session(request.param)


@pytest.fixture
def ids(ledger: psycopg.Connection, group: int, alice: int, bob: int) -> dict[str, int]:
    carol, dora, leaver, other = (join(ledger, group, name) for name in ("carol", "dora", "leaver", "other leaver"))
    left, also_left = (call(ledger, "exit_group", group, who)[0][1] for who in (leaver, other))
    return {
        "group": group, "alice": alice, "bob": bob, "carol": carol, "dora": dora, "left": left, "also_left": also_left,
        "sent": transfer(ledger, group, alice, bob, 1),
        "empty": create(ledger, "empty"), "other": create(ledger, "other"),
    }  # fmt: skip


def is_late(connection: psycopg.Connection) -> bool:
    return connection.isolation_level in (IsolationLevel.REPEATABLE_READ, IsolationLevel.SERIALIZABLE)


def outcome(connection: psycopg.Connection, query: Callable[[], object]) -> object:
    """Return a call's rows, or its SQLSTATE."""
    try:
        returned = query()
        connection.commit()
    except psycopg.Error as error:
        connection.rollback()
        return error.sqlstate
    return returned


@pytest.mark.parametrize("clash", CLASHES)
def test_an_answer_is_right_or_40001(ledger, stale, ids, clash):
    first, second, right = CLASHES[clash]
    first, second = ([values[0], *(ids.get(value, value) for value in values[1:])] for values in (first, second))
    stale.execute("select ledger.health()")
    call(ledger, *first)
    answer = outcome(stale, lambda: "done" if call(stale, *second) is not None else None)
    assert answer in ({right, "40001"} if is_late(stale) else {right})
    # Repeated, it is the right one in any case.
    assert outcome(stale, lambda: "done" if call(stale, *second) is not None else None) == right


@pytest.mark.parametrize("lines", [1, 2, 3])
def test_a_shared_call_with_a_used_key_makes_nothing(ledger, stale, ids, lines):
    stale.execute("select ledger.health()")
    call(ledger, "transfer", ids["group"], ids["alice"], ids["bob"], 1, "key")
    # The participants are others than those of the first transfer, so that only the idempotency key conflicts.
    columns = [[ids[name]] * lines for name in ("group", "carol", "dora")]
    keys = ["key", "other", None][:lines]

    def share() -> list[str]:
        return [row[0] for row in stale.execute(EACH, [*columns, [1] * lines, keys]).fetchall()]

    made = ["deferred", "done", "done"][:lines]
    assert outcome(stale, share) == ("40001" if is_late(stale) else made)
    assert one(ledger, "select amount from ledger.get_participant(%s, %s)", [ids["group"], ids["dora"]]) == (
        100 + (0 if is_late(stale) else lines - 1),
    )
    if is_late(stale):
        assert outcome(stale, share) == made


def test_two_lines_with_one_key_make_one_transfer(stale, ids):
    columns = [[ids[name]] * 2 for name in ("group", "carol", "dora")]
    assert outcome(
        stale, lambda: [row[0] for row in stale.execute(EACH, [*columns, [1, 1], ["key", "key"]]).fetchall()]
    ) == ["done", "deferred"]


def test_an_answer_that_is_not_stored_is_not_returned(admin, ids):
    store = "select ledger_internal.store_answer(%s, 'key', array['transfer'], row(%s::text))"
    admin.execute(store, [ids["group"], "kept"])
    with pytest.raises(psycopg.errors.SerializationFailure):
        admin.execute(store, [ids["group"], "another"])
    assert one(admin, "select answer ->> 'f1' from ledger.idempotency_keys where key = 'key'") == ("kept",)


def test_a_feed_that_has_just_begun_again_is_not_begun_twice(session, database, admin, ids):
    for level in IsolationLevel:
        late = session(level, database.admin)
        late.execute("select ledger.health()")
        (feed,) = one(admin, "select ledger.restart_feed()")
        answer = outcome(late, lambda late=late: one(late, "select ledger.restart_feed()")[0])
        assert answer == ("40001" if is_late(late) else feed + 1)
