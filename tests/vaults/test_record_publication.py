"""record_publication: the steps of a checkpoint at the vault, each once and in order."""

import psycopg
import pytest

from tests.support import refused
from tests.vaults.conftest import chain_hash

STATES = ("accepted", "closed", "vetoed", "abandoned")
# The states that may follow.
STEPS = {"prepared": {"accepted", "vetoed", "abandoned"}, "accepted": {"closed", "vetoed"}}
WAYS = {
    "prepared": (), "accepted": ("accepted",), "closed": ("accepted", "closed"),
    "vetoed": ("vetoed",), "abandoned": ("abandoned",),
}  # fmt: skip


@pytest.mark.parametrize("state", WAYS)
def test_steps(bridge, alice, state):
    bridge.call("prepare_publication")
    for step in WAYS[state]:
        bridge.call("record_publication", 1, step, chain_hash(7), 7)
    for following in STATES:
        if following in STEPS.get(state, ()) or following in WAYS[state]:
            with bridge.session.transaction(force_rollback=True):
                answer = bridge.call("record_publication", 1, following, chain_hash(7), 7)
                assert answer["replayed"] is (following in WAYS[state])
        else:
            bridge.refused("LG013", "record_publication", 1, following, chain_hash(7), 7)


def test_shows_the_transaction_that_published_it_or_ended_it(bridge, alice):
    made = bridge.call("prepare_publication")
    expected = {"number": 1, "header": made["header"]}
    assert bridge.rows("list_publications") == [expected | {"state": "prepared", "transaction": None, "block": None}]
    bridge.call("record_publication", 1, "accepted", chain_hash(7), 7)
    published = {"transaction": chain_hash(7), "block": 7}
    assert bridge.rows("list_publications") == [expected | {"state": "accepted"} | published]
    assert (
        bridge.call("record_publication", 1, "closed", None, None)
        == expected | {"state": "closed", "replayed": False} | published
    )
    bridge.call("prepare_publication")
    bridge.call("record_publication", 2, "vetoed", chain_hash(8), 8)
    assert bridge.rows("list_publications")[1]["transaction"] == chain_hash(8)


def test_an_earlier_step_again_changes_nothing(bridge, alice):
    bridge.call("prepare_publication")
    bridge.call("record_publication", 1, "accepted", chain_hash(7), 7)
    bridge.call("record_publication", 1, "closed", None, None)
    answer = bridge.call("record_publication", 1, "accepted", chain_hash(7), 7)
    assert (answer["state"], answer["replayed"]) == ("closed", True)


def test_refuses_another_transaction(bridge, alice):
    bridge.call("prepare_publication")
    bridge.call("record_publication", 1, "accepted", chain_hash(7), 7)
    for transaction, block in ((chain_hash(8), 7), (chain_hash(7), 8)):
        bridge.refused("LG013", "record_publication", 1, "accepted", transaction, block)


def test_refuses_one_that_was_not_prepared(bridge, alice):
    bridge.refused("LG013", "record_publication", 1, "accepted", chain_hash(7), 7)


def test_refuses_invalid_values(bridge, alice):
    bridge.call("prepare_publication")
    for values in (
        *((1, None, chain_hash(7), 7), (1, "prepared", chain_hash(7), 7), (None, "accepted", chain_hash(7), 7)),
        *((1, "accepted", None, 7), (1, "accepted", "0x7", 7), (1, "accepted", chain_hash(7), None)),
        *((1, "accepted", chain_hash(7), -1), (1, "vetoed", None, None), (1, "closed", "0x7", None)),
    ):
        bridge.refused("LG001", "record_publication", *values)


CHANGES = {
    "back": "state = 'prepared'",
    "transaction": "published_transaction = ended_transaction",
    "number": "number = 2",
    "vetoed": "state = 'vetoed'",
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_no_step_is_taken_back(bridge, alice, admin, change):
    bridge.close(bridge.publish()["number"])
    refused(admin, "23001", f"update ledger.publications set {change}")
    for statement in ("delete from ledger.publications", "truncate ledger.publications"):
        refused(admin, "23001", statement)
    assert admin.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
