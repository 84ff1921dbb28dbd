"""Idempotency keys: a repeated request is done once and answered as the first time."""

import psycopg
import pytest

from tests.functions.conftest import rows
from tests.support import call, create, fields, join, one, refused, statement

# A call of each function that takes a key, and the same call with another value.
CALLS = {
    "create_group": (["Another"], ["Yet another"]),
    "rename_group": (["group", "Renamed"], ["group", "Renamed again"]),
    "remove_group": (["empty_group"], None),
    "join_group": (["group", "carol", 5], ["group", "carol", 6]),
    "deposit": (["group", "alice", 5], ["group", "alice", 6]),
    "bind_address": (["group", "alice", "0x" + "1" * 40], ["group", "alice", "0x" + "2" * 40]),
    "rename_participant": (["group", "alice", "alicia"], ["group", "alice", "alix"]),
    "exit_group": (["group", "alice"], ["group", "bob"]),
    "transfer": (["group", "bob", "alice", 5], ["group", "bob", "alice", 6]),
}


@pytest.fixture(params=CALLS)
def function(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def same(request: pytest.FixtureRequest, function: str, alice: int, bob: int) -> list[object]:
    return [value_of(request, value) for value in CALLS[function][0]]


@pytest.fixture
def different(request: pytest.FixtureRequest, function: str) -> list[object] | None:
    values = CALLS[function][1]
    return values and [value_of(request, value) for value in values]


def value_of(request: pytest.FixtureRequest, value: object) -> object:
    return request.getfixturevalue(value) if value in ("group", "empty_group", "alice", "bob") else value


def answer(ledger: psycopg.Connection, function: str, *arguments: object) -> tuple:
    """Return the function's answer: (all but the last column, replayed)."""
    row = one(ledger, statement(function, arguments), arguments)
    return row[:-1], row[-1]


def test_a_repeated_request_is_done_once_and_gets_the_same_answer(ledger, function, same):
    first = answer(ledger, function, *same, "key")
    before = rows(ledger)
    again = answer(ledger, function, *same, "key")
    assert first[1] is False
    assert again == (first[0], True)
    assert rows(ledger) == before


def test_a_call_without_an_idempotency_key_is_no_replay(ledger, function, same):
    assert answer(ledger, function, *same)[1] is False


def test_another_request_with_the_idempotency_key_is_refused(ledger, function, same, different, refuses):
    if different is None:
        different, function_of_other = [same[0], "Other"], "rename_group"
    else:
        function_of_other = function
    call(ledger, function, *same, "key")
    refuses("LG006", ["idempotency_key"], function_of_other, *different, "key")


def test_another_operation_with_the_idempotency_key_is_refused(ledger, group, alice, bob, refuses):
    call(ledger, "transfer", group, alice, bob, 5, "key")
    refuses("LG006", ["idempotency_key"], "exit_group", group, alice, "key")
    refuses("LG006", ["idempotency_key"], "transfer", group, bob, alice, 5, "key")


@pytest.mark.parametrize("key", ["", " ", "a b", "a\n", "é", "x" * 256, "\u007f", "a\t"])
def test_an_idempotency_key_that_is_not_visible_ascii_is_refused(function, same, key, refuses):
    refuses("LG001", ["idempotency_key"], function, *same, key)


@pytest.mark.parametrize("key", ["!", "~", "x" * 255, '"8e03978e-40d5-43dd-bc93-6894a57f9324"', "';--"])
def test_an_idempotency_key_of_visible_ascii_is_accepted(ledger, function, same, key):
    first, _ = answer(ledger, function, *same, key)
    assert answer(ledger, function, *same, key) == (first, True)


def test_an_idempotency_key_belongs_to_its_group(ledger, group, alice, bob):
    other = create(ledger, "Other")
    carol, dave = join(ledger, other, "carol", 10), join(ledger, other, "dave", 10)
    assert answer(ledger, "transfer", group, alice, bob, 5, "key")[1] is False
    assert answer(ledger, "transfer", other, carol, dave, 5, "key")[1] is False
    assert answer(ledger, "create_group", "Third", "key")[1] is False


def test_an_amount_is_the_same_in_every_spelling(ledger, group, alice, bob):
    first, _ = answer(ledger, "transfer", group, alice, bob, 5, "key")
    query = "select * from ledger.transfer(%s, %s, %s, 5.000, 'key')"
    assert one(ledger, query, [group, alice, bob])[:-1] == first


def test_the_first_answer_is_repeated_after_everything_has_changed(ledger, group, alice, bob):
    joined = answer(ledger, "join_group", group, "carol", 7, "join")
    carol = joined[0][1]
    moved = answer(ledger, "transfer", group, carol, alice, 5, "move")
    call(ledger, "rename_participant", group, carol, "caroline")
    call(ledger, "transfer", group, alice, bob, 3)
    left = answer(ledger, "exit_group", group, carol, "exit")
    call(ledger, "exit_group", group, alice)
    call(ledger, "exit_group", group, bob)
    removed = answer(ledger, "remove_group", group, "remove")
    assert answer(ledger, "join_group", group, "carol", 7, "join") == (joined[0], True)
    assert answer(ledger, "transfer", group, carol, alice, 5, "move") == (moved[0], True)
    assert answer(ledger, "exit_group", group, carol, "exit") == (left[0], True)
    assert answer(ledger, "remove_group", group, "remove") == (removed[0], True)


def test_a_transfer_is_answered_with_the_usernames_of_its_time(ledger, group, alice, bob):
    def make(key: str) -> tuple:
        columns = [[group] * 2, [bob, alice], [alice, bob], [1, 1], [f"{key}-listed", None]]
        one(ledger, "select count(*) from ledger.transfer_batch(%s, %s, %s, %s, %s)", columns)
        return answer(ledger, "transfer", group, alice, bob, 5, key)

    made = [make("0")]
    for number, (renamed, username) in enumerate(
        [(alice, "alicia"), (bob, "robert"), (alice, "alix"), (bob, "bob")], 1
    ):
        call(ledger, "rename_participant", group, renamed, username)
        made.append(make(str(number)))
    call(ledger, "rename_participant", group, alice, "last")
    call(ledger, "exit_group", group, alice)
    call(ledger, "join_group", group, "alice", 1)
    again = [answer(ledger, "transfer", group, alice, bob, 5, str(number)) for number in range(5)]
    assert again == [(first[0], True) for first in made]
    query = """
        select (from_participant).username, (to_participant).username
        from ledger.transfer(%s, %s, %s, 1, %s)
    """
    names = [one(ledger, query, [group, bob, alice, f"{number}-listed"]) for number in range(5)]
    assert names == [("bob", "alice"), ("bob", "alicia"), ("robert", "alicia"), ("robert", "alix"), ("bob", "alix")]


def test_an_answer_whose_entry_is_gone_is_refused(ledger, owner, group, alice, bob):
    call(ledger, "transfer", group, alice, bob, 5, "key")
    owner.execute("reset session authorization")
    owner.execute("set local session_replication_role = replica")
    owner.execute("update ledger.idempotency_keys set entry_id = entry_id + 1000000")
    assert refused(ledger, "XX001", "select ledger.transfer(%s, %s, %s, 5, 'key')", [group, alice, bob]).message_hint


def test_the_largest_balances_are_repeated_exactly(ledger, group):
    rich = answer(ledger, "join_group", group, "rich", 2**256 - 1, "key")
    assert rich[0][3] == 2**256 - 1
    assert answer(ledger, "join_group", group, "rich", 2**256 - 1, "key") == (rich[0], True)


def test_a_refused_request_leaves_its_idempotency_key_free(ledger, group, alice, bob):
    refused(ledger, "LG003", "select ledger.transfer(%s, %s, %s, 1000, 'key')", [group, alice, bob])
    assert answer(ledger, "transfer", group, alice, bob, 10, "key")[1] is False


def test_a_bad_idempotency_key_is_named_with_the_other_invalid_values(ledger, group, alice):
    diag = refused(ledger, "LG001", "select ledger.transfer(%s, %s, null, 0, 'a b')", [group, alice])
    assert sorted(fields(diag)) == ["amount", "idempotency_key", "to_id"]
