"""Names have one spelling (NFC), older names are kept as they are, and every change of a name is recorded."""

import psycopg
import pytest

from tests.functions.conftest import behind
from tests.support import call, create, join, one, refused

COMPOSED, DECOMPOSED = "caf\u00e9", "cafe\u0301"
# A Greek letter with three marks: one character in NFC, four in NFD, and two of many mixed spellings.
GREEK, GREEK_DECOMPOSED, GREEK_MIXED = "\u1f82", "\u03b1\u0313\u0300\u0345", "\u1f00\u0300\u0345"


@pytest.fixture
def older(ledger: psycopg.Connection):
    """Give a group or participant a name as an earlier release stored it."""

    def older(name: str, group: int, participant: int | None = None) -> None:
        with behind(ledger):
            if participant is None:
                ledger.execute("update ledger.groups set name = %s where id = %s", [name, group])
            else:
                ledger.execute(
                    "update ledger.participants set username = %s where group_id = %s and id = %s",
                    [name, group, participant],
                )

    return older


@pytest.fixture
def renames(ledger: psycopg.Connection, shared):
    """The record of changed names, as a reader sees it."""

    def renames() -> list[tuple]:
        with behind(ledger):
            ledger.execute("set local role ledger_reader")
            found = ledger.execute(
                "select group_id, participant_id, old_name, new_name from ledger.renames order by id"
            ).fetchall()
            ledger.execute("reset role")
        return found

    return renames


# One spelling.


def test_a_new_name_is_composed(ledger, group, bob):
    assert call(ledger, "create_group", DECOMPOSED)[0][0] == COMPOSED
    assert call(ledger, "rename_group", group, GREEK_DECOMPOSED) == [(GREEK, group)]
    assert call(ledger, "join_group", group, DECOMPOSED, 1)[0][0] == COMPOSED
    assert call(ledger, "rename_participant", group, bob, GREEK_MIXED)[0][0] == GREEK


def test_two_spellings_are_one_name(refuses, ledger, group, alice, bob):
    create(ledger, COMPOSED)
    join(ledger, group, DECOMPOSED)
    refuses("LG005", ["name"], "create_group", DECOMPOSED)
    refuses("LG005", ["name"], "rename_group", group, DECOMPOSED)
    refuses("LG005", ["username"], "join_group", group, COMPOSED, 1)
    refuses("LG005", ["username"], "rename_participant", group, bob, DECOMPOSED)


def test_the_length_is_that_of_the_composed_name(ledger):
    name = GREEK_DECOMPOSED * 255
    assert call(ledger, "create_group", name)[0][0] == GREEK * 255
    assert refused(ledger, "LG001", "select ledger.create_group(%s)", [f"{name}x"]).message_detail == (
        "name: must have at most 255 characters"
    )


# Names from before.


@pytest.mark.parametrize("name", [DECOMPOSED, GREEK_MIXED, "bo\u200bb", "\u202ebob", "\u3164", "x\u3164"])
def test_an_older_name_stays_as_it_is(ledger, group, alice, bob, older, name):
    older(name, group)
    older(name, group, bob)
    call(ledger, "transfer", group, alice, bob, 1)
    assert call(ledger, "get_group", group) == [(name, group)]
    assert call(ledger, "get_participant", group, bob) == [(name, bob, group, 101)]


@pytest.mark.parametrize("asked", [COMPOSED, DECOMPOSED])
@pytest.mark.parametrize("stored", [COMPOSED, DECOMPOSED])
def test_an_older_name_is_taken_in_either_spelling(refuses, ledger, group, alice, bob, neighbour, older, stored, asked):
    other = create(ledger, "other")
    older(stored, group)
    older(stored, group, alice)
    refuses("LG005", ["name"], "create_group", asked)
    refuses("LG005", ["name"], "rename_group", other, asked)
    refuses("LG005", ["username"], "join_group", group, asked, 1)
    refuses("LG005", ["username"], "rename_participant", group, bob, asked)


def test_an_older_name_can_be_changed_to_its_composed_spelling(ledger, group, alice, older, renames):
    older(DECOMPOSED, group)
    older(DECOMPOSED, group, alice)
    assert call(ledger, "rename_group", group, DECOMPOSED) == [(COMPOSED, group)]
    assert call(ledger, "rename_participant", group, alice, COMPOSED) == [(COMPOSED, alice, group, 100)]
    assert renames() == [(group, None, DECOMPOSED, COMPOSED), (group, alice, DECOMPOSED, COMPOSED)]


def test_an_older_name_is_free_after_a_rename(ledger, group, alice, older):
    older(DECOMPOSED, group, alice)
    call(ledger, "rename_participant", group, alice, "alice")
    join(ledger, group, COMPOSED)


# Requests from before.


@pytest.mark.parametrize("name", [DECOMPOSED, COMPOSED, "bo\u200bb", "\u202ebob", "\u3164"])
def test_a_request_of_an_earlier_release_gets_its_stored_answer(ledger, refuses, group, bob, name):
    """The request and the answer were stored when names were not composed."""
    requests = {
        "create_group": (0, [name], ["create_group", name], {"name": name, "id": group}),
        "rename_group": (group, [group, name], ["rename_group", name], {"name": name, "id": group}),
        "join_group": (
            group,
            [group, name, 7],
            ["join_group", name, "7"],
            {"username": name, "id": bob, "group_id": group, "amount": 7, "entry_id": 1},
        ),
        "rename_participant": (
            group,
            [group, bob, name],
            ["rename_participant", str(bob), name],
            {"username": name, "id": bob, "group_id": group, "amount": 100},
        ),
    }
    with behind(ledger):
        for function, (of, _, request, answer) in requests.items():
            ledger.execute(
                "insert into ledger.idempotency_keys (group_id, key, operation, fingerprint, answer) "
                "values (%s, %s, %s, ledger_internal.fingerprint(%s), %s)",
                [of, function, function, request, psycopg.types.json.Json(answer | {"replayed": False})],
            )
    for function, (_, arguments, _, answer) in requests.items():
        query = f"select to_json(r) from ledger.{function}({', '.join(['%s'] * len(arguments))}, %s) as r"
        assert one(ledger, query, [*arguments, function]) == (answer | {"replayed": True},)
    if name not in (COMPOSED, DECOMPOSED):
        refuses("LG001", ["name"], "create_group", name, "another-key")
        refuses("LG001", ["username"], "join_group", group, name, 7, "another-key")
        refuses("LG001", ["username", "amount"], "join_group", group, name, -7, "join_group")
        refuses("LG001", ["username"], "join_group", group, f"{name}{name}", 7, "join_group")


def test_a_repeated_request_must_have_the_same_bytes(refuses, ledger, group):
    first = one(ledger, "select id from ledger.join_group(%s, %s, 5, 'key')", [group, DECOMPOSED])
    query = "select id from ledger.join_group(%s, %s, 5, 'key') where replayed"
    assert one(ledger, query, [group, DECOMPOSED]) == first
    refuses("LG006", ["idempotency_key"], "join_group", group, COMPOSED, 5, "key")


# The record of renames.


def test_a_rename_is_recorded(ledger, group, alice, bob, renames):
    call(ledger, "rename_group", group, "ETC")
    call(ledger, "rename_participant", group, bob, "robert")
    call(ledger, "rename_participant", group, bob, "bob")
    call(ledger, "exit_group", group, bob)
    assert renames() == [
        (group, None, "ETH", "ETC"),
        (group, bob, "bob", "robert"),
        (group, bob, "robert", "bob"),
    ]
    with behind(ledger):
        assert one(ledger, "select bool_and(changed_at between now() and clock_timestamp()) from ledger.renames") == (
            True,
        )


def test_a_rename_to_the_same_name_is_not_recorded(ledger, refuses, group, alice, bob, renames):
    call(ledger, "rename_group", group, "ETH")
    call(ledger, "rename_participant", group, bob, "bob")
    refuses("LG005", ["name"], "rename_group", group, "Neighbour")
    refuses("LG005", ["username"], "rename_participant", group, bob, "alice")
    assert renames() == []


def test_a_repeated_rename_is_recorded_once(ledger, group, bob, renames):
    for _ in range(2):
        call(ledger, "rename_group", group, "ETC", "one")
        call(ledger, "rename_participant", group, bob, "robert", "another")
    assert renames() == [(group, None, "ETH", "ETC"), (group, bob, "bob", "robert")]


# The owner of a name.


def test_a_conflict_names_the_owner_of_the_name(ledger, group, alice, bob, neighbour, older):
    def said(query: str, *arguments: object) -> str:
        return refused(ledger, "LG005", f"select ledger.{query}", arguments).message_primary

    assert said("create_group('Neighbour')") == f'name "Neighbour" is taken by group {neighbour}'
    assert said("rename_group(%s, 'Neighbour')", group) == f'name "Neighbour" is taken by group {neighbour}'
    assert said("join_group(%s, 'bob', 1)", group) == f'username "bob" is taken by participant {bob}'
    assert said("rename_participant(%s, %s, 'bob')", group, alice) == f'username "bob" is taken by participant {bob}'
    older(DECOMPOSED, group, bob)
    assert said("join_group(%s, %s, 1)", group, COMPOSED) == f'username "{COMPOSED}" is taken by participant {bob}'
