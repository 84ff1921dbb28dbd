"""Metadata of an entry: a JSON object of at most 4096 bytes, shown with it from then on."""

import json

import pytest

from tests.functions.conftest import rows
from tests.support import call, one, statement, transfer

FUNCTIONS = ["join_group", "deposit", "transfer", "exit_group", "reverse_transfer"]
MOST = 4096


def of_size(size, character="x"):
    """An object whose text takes that many bytes, however few characters."""
    room = size - len('{"a": ""}')
    width = len(character.encode())
    text = json.dumps({"a": character * (room // width) + "x" * (room % width)}, ensure_ascii=False)
    assert len(text.encode()) == size
    return text


@pytest.fixture(params=FUNCTIONS)
def function(request):
    return request.param


@pytest.fixture
def values(ledger, group, alice, bob):
    """The arguments of each function before its key."""
    return {
        "join_group": [group, "carol", 5],
        "deposit": [group, alice, 5],
        "transfer": [group, alice, bob, 5],
        "exit_group": [group, bob],
        "reverse_transfer": [group, transfer(ledger, group, bob, alice, 1)],
    }


@pytest.fixture
def note(ledger, group, function, values):
    """Call the function with metadata; return those of its entry, and whether it was a replay."""

    def note(metadata, key=None):
        arguments = [*values[function], key, metadata]
        column = "id" if function == "reverse_transfer" else "entry_id"
        query = statement(function, arguments).replace("*", f"{column}, replayed")
        entry, replayed = one(ledger, query, arguments)
        return call(ledger, "get_entry", group, entry)[0][9], replayed

    return note


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"order": 7},
        {"order": "7", "lines": [1, None, {"a": True}], "": {"ключ": "🦄"}},
        {"wei": 2**256 - 1},
        {"quote": "'\"\\%s{}"},
    ],
)
def test_is_shown_in_the_entry(note, metadata):
    assert note(json.dumps(metadata)) == (metadata, False)


def test_is_null_when_none_was_given(note):
    assert note(None) == (None, False)


def test_is_shown_in_lists(ledger, group, alice, bob):
    call(ledger, "transfer", group, alice, bob, 5, None, '{"order": 7}')
    assert [entry[9] for entry in call(ledger, "list_entries", group)] == [None, None, {"order": 7}]
    assert [entry[9] for entry in call(ledger, "list_participant_entries", group, bob)] == [None, {"order": 7}]


def test_belongs_to_one_line_of_a_multi_party_transfer(ledger, group, alice, bob):
    lines = [
        {"from": alice, "to": bob, "amount": 1, "metadata": {"order": 7}},
        {"from": alice, "to": bob, "amount": 2},
        {"from": alice, "to": bob, "amount": 3, "metadata": None},
        {"from": alice, "to": bob, "amount": 4, "metadata": {}},
    ]
    call(ledger, "transfer_all", group, json.dumps(lines))
    shown = [(entry[5], entry[9]) for entry in call(ledger, "list_entries", group, "transfer")]
    assert shown == [(1, {"order": 7}), (2, None), (3, None), (4, {})]


def test_a_reversal_has_its_own_metadata(ledger, group, alice, bob):
    ((_, _, entry),) = call(ledger, "transfer", group, alice, bob, 5, None, '{"order": 7}')
    call(ledger, "reverse_transfer", group, entry)
    assert [e[9] for e in call(ledger, "list_entries", group, "transfer")] == [{"order": 7}, None]


@pytest.mark.parametrize("character", ["x", "é", "🦄"])
def test_may_have_4096_bytes(note, character):
    metadata = of_size(MOST, character)
    assert note(metadata) == (json.loads(metadata), False)


@pytest.mark.parametrize("character", ["x", "é", "🦄"])
def test_refuses_more_bytes(refuses, function, values, character):
    refuses("LG001", ["metadata"], function, *values[function], None, of_size(MOST + 1, character))


@pytest.mark.parametrize("blanks", [1, 5000])
def test_counts_the_bytes_of_the_stored_text(note, blanks):
    assert note('{"a":' + " " * blanks + "1}") == ({"a": 1}, False)


@pytest.mark.parametrize("metadata", ["[]", '[{"order": 7}]', '"order"', "7", "true", "null"])
def test_refuses_json_that_is_no_object(refuses, function, values, metadata):
    refuses("LG001", ["metadata"], function, *values[function], None, metadata)


@pytest.mark.parametrize(
    ("metadata", "refused"), [("[]", True), ('"x"', True), (of_size(MOST), False), (of_size(MOST + 1), True)]
)
def test_a_line_of_a_multi_party_transfer_has_the_same_bounds(refuses, ledger, group, alice, bob, metadata, refused):
    lines = [
        {"from": alice, "to": bob, "amount": 1},
        {"from": alice, "to": bob, "amount": 1, "metadata": json.loads(metadata)},
    ]
    if refused:
        refuses("LG001", ["transfers[1].metadata"], "transfer_all", group, json.dumps(lines))
    else:
        call(ledger, "transfer_all", group, json.dumps(lines))
        assert call(ledger, "list_entries", group)[-1][9] == json.loads(metadata)


@pytest.mark.parametrize(
    ("function", "arguments", "blamed"),
    [
        ("join_group", ["", -1], ["username", "amount"]),
        ("transfer", [1, 1, 0], ["to_id", "amount"]),
        ("exit_group", [None], ["participant_id"]),
        ("reverse_transfer", [None], ["entry_id"]),
    ],
)
def test_is_refused_together_with_other_invalid_values(refuses, group, function, arguments, blamed):
    refuses("LG001", [*blamed, "idempotency_key", "metadata"], function, group, *arguments, " ", "[]")


@pytest.mark.parametrize(
    ("first", "again"),
    [
        (None, None),
        ("{}", "{}"),
        ('{"order": 7, "line": 1}', '{"line":1,\n"order":7}'),
        ('{"order": 1, "order": 7}', '{"order": 7}'),
    ],
)
def test_the_same_metadata_are_the_same_request(ledger, note, first, again):
    noted, replayed = note(first, "key")
    before = rows(ledger)
    assert replayed is False
    assert note(again, "key") == (noted, True)
    assert rows(ledger) == before


@pytest.mark.parametrize(
    ("first", "other"),
    [
        (None, "{}"),
        ("{}", None),
        ('{"order": 7}', None),
        ('{"order": 7}', '{"order": 8}'),
        ('{"order": 7}', '{"order": "7"}'),
        ('{"order": 7}', '{"order": 7, "line": 1}'),
        ('{"order": [1, 2]}', '{"order": [2, 1]}'),
    ],
)
def test_other_metadata_are_another_request(refuses, note, function, values, first, other):
    note(first, "key")
    refuses("LG006", ["idempotency_key"], function, *values[function], "key", other)


def test_other_metadata_of_a_line_are_another_request(refuses, ledger, group, alice, bob):
    def request(*metadatas):
        return json.dumps([{"from": alice, "to": bob, "amount": 1} | metadata for metadata in metadatas])

    noted = {"metadata": {"order": 7}}
    call(ledger, "transfer_all", group, request(noted, {}), "key")
    for other in (request({}, noted), request({}, {}), request(noted, noted), request(noted, {"metadata": {}})):
        refuses("LG006", ["idempotency_key"], "transfer_all", group, other, "key")
    before = rows(ledger)
    call(ledger, "transfer_all", group, request(noted, {"metadata": None}), "key")
    assert rows(ledger) == before
