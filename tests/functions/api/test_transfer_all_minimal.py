"""ledger.transfer_all_minimal: what transfer_all does, without its lines in the answer."""

import json

import pytest

from tests.support import balance, call, one

SUMMARY = "select first_entry_id, last_entry_id, count, replayed from ledger.transfer_all_minimal(%s, %s, %s)"
WHOLE = "select to_json(t) from ledger.transfer_all(%s, %s, %s) as t"


def lines(*moves: tuple[int, int, int]) -> str:
    return json.dumps([{"from": sender, "to": recipient, "amount": amount} for sender, recipient, amount in moves])


@pytest.mark.parametrize("key", [None, "the-key"])
def test_writes_the_entries_of_its_lines(ledger, group, alice, bob, record, key):
    moves = [(alice, bob, 30), (bob, alice, 130), (alice, bob, 1)]
    first, last, count, replayed = one(ledger, SUMMARY, [group, lines(*moves), key])
    written = record()[2:]
    assert [row[1:5] for row in written] == [("transfer", *move) for move in moves]
    assert (first, last, count, replayed) == (written[0][0], written[-1][0], 3, False)
    assert balance(ledger, group, alice) == 199


def test_a_repetition_may_ask_for_the_lines(ledger, group, alice, bob, record):
    request = [group, lines((alice, bob, 1), (bob, alice, 2)), "the-key"]
    first, last, count, _ = one(ledger, SUMMARY, request)
    before = record()
    (answer,) = one(ledger, WHOLE, request)
    assert answer["replayed"]
    assert [entry["id"] for entry in answer["entries"]] == [first, last]
    assert [participant["username"] for participant in answer["participants"]] == ["alice", "bob"]
    assert one(ledger, SUMMARY, request) == (first, last, count, True)
    assert record() == before


def test_a_repetition_may_leave_the_lines_out(ledger, group, alice, bob, record):
    request = [group, lines((alice, bob, 1), (bob, alice, 2)), "the-key"]
    (answer,) = one(ledger, WHOLE, request)
    before = record()
    ids = [entry["id"] for entry in answer["entries"]]
    assert one(ledger, SUMMARY, request) == (ids[0], ids[1], 2, True)
    assert record() == before


def test_refuses_what_transfer_all_refuses(group, alice, bob, refuses):
    for name in ("transfer_all", "transfer_all_minimal"):
        refuses("LG001", ["transfers"], name, group, "[]")
        refuses("LG001", ["transfers[1].to"], name, group, lines((alice, bob, 1), (alice, alice, 1)))
        refuses("LG002", ["transfers[0].to"], name, group, lines((alice, 2**62, 1)))
        refuses("LG003", ["transfers[1].amount"], name, group, lines((alice, bob, 1), (alice, bob, 100)))


def test_an_idempotency_key_serves_one_list(ledger, group, alice, bob, refuses):
    call(ledger, "transfer_all_minimal", group, lines((alice, bob, 1)), "the-key")
    refuses("LG006", ["idempotency_key"], "transfer_all_minimal", group, lines((alice, bob, 2)), "the-key")
