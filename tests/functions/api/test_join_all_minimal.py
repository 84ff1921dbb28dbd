"""ledger.join_all_minimal: what join_all does, without its lines in the answer."""

import json

import pytest

from tests.support import one

SUMMARY = "select first_entry_id, last_entry_id, count, replayed from ledger.join_all_minimal(%s, %s, %s)"
WHOLE = "select to_json(j) from ledger.join_all(%s, %s, %s) as j"
LINES = json.dumps([{"username": "carol", "amount": 5}, {"username": "dave", "amount": 6}])


@pytest.mark.parametrize("key", [None, "the-key"])
def test_writes_the_entries_of_its_lines(ledger, group, record, key):
    first, last, count, replayed = one(ledger, SUMMARY, [group, LINES, key])
    written = record()[-2:]
    assert [(row[1], row[4]) for row in written] == [("join", 5), ("join", 6)]
    assert (first, last, count, replayed) == (written[0][0], written[1][0], 2, False)


def test_a_repetition_may_ask_for_the_lines_or_leave_them_out(ledger, group, record):
    first, last, count, _ = one(ledger, SUMMARY, [group, LINES, "the-key"])
    before = record()
    (answer,) = one(ledger, WHOLE, [group, LINES, "the-key"])
    assert answer["replayed"]
    assert [entry["id"] for entry in answer["entries"]] == [first, last]
    assert [participant["username"] for participant in answer["participants"]] == ["carol", "dave"]
    assert one(ledger, SUMMARY, [group, LINES, "the-key"]) == (first, last, count, True)
    assert record() == before


@pytest.mark.parametrize(
    ("sqlstate", "blamed", "lines"),
    [
        ("LG001", ["participants"], "[]"),
        ("LG001", ["participants[1].amount"], '[{"username": "x", "amount": 1}, {"username": "y", "amount": -1}]'),
        ("LG005", ["participants[1].username"], '[{"username": "x", "amount": 1}, {"username": "alice", "amount": 1}]'),
    ],
)
@pytest.mark.usefixtures("alice")
def test_refuses_what_join_all_refuses(refuses, group, sqlstate, blamed, lines):
    for name in ("join_all", "join_all_minimal"):
        refuses(sqlstate, blamed, name, group, lines)
