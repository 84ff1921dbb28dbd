"""record_progress, record_closing, record_transaction, list_transactions, last_nonce, finish_transaction, raise_ids."""

import psycopg
import pytest

from tests.support import one, refused
from tests.vaults.conftest import ALICE, BOB, CHAIN, chain_hash


def test_progress_never_goes_back(bridge):
    assert bridge.call("record_progress", 5, chain_hash(5)) == {"replayed": False}
    assert bridge.call("record_progress", 5, chain_hash(5)) == {"replayed": True}
    assert bridge.call("record_progress", 9, chain_hash(9)) == {"replayed": False}
    for block, number in ((8, 8), (5, 5), (9, 8)):
        bridge.refused("LG013", "record_progress", block, chain_hash(number))
    status = bridge.call("get_vault")
    assert (status["followed_block"], status["followed_hash"]) == (9, chain_hash(9))
    for values in ((None, chain_hash(9)), (-1, chain_hash(9)), (10, None), (10, "0x9")):
        bridge.refused("LG001", "record_progress", *values)


def test_a_closing_is_recorded_once(bridge):
    assert bridge.call("record_closing", chain_hash(5), 5) == {"replayed": False}
    assert bridge.call("record_closing", chain_hash(5), 5) == {"replayed": True}
    bridge.refused("LG013", "record_closing", chain_hash(6), 5)
    assert bridge.call("get_vault")["closed"] is True


def test_a_closing_needs_all_money_paid(bridge, alice, ledger, group):
    bridge.refused("LG013", "record_closing", chain_hash(5), 5)
    ledger.execute("select ledger.exit_group(%s, %s)", [group, alice])
    bridge.close(bridge.publish()["number"])
    bridge.call("record_closing", chain_hash(5), 5)


def test_a_frozen_group_may_be_closed(bridge, alice):
    bridge.freeze(0)
    bridge.call("reclaim_deposit", 0, ALICE, 100, *bridge.mined())
    bridge.call("record_closing", chain_hash(5), 5)


def record(bridge, nonce=0, purpose="publish", number=1, raw="0xab", sender=ALICE, chain=CHAIN):
    query = "select replayed from ledger.record_transaction(%s, %s, %s, %s, %s, %s, %s)"
    return one(bridge.session, query, [chain, sender, nonce, bridge.group, purpose, number, raw])[0]


def listed(bridge, sender=ALICE):
    query = "select nonce, purpose, number, raw, replacements from ledger.list_transactions(%s, %s)"
    return bridge.session.execute(query, [CHAIN, sender]).fetchall()


def finish(bridge, nonce, transaction=1, block=5, succeeded=True):
    query = "select replayed from ledger.finish_transaction(%s, %s, %s, %s, %s, %s)"
    return one(bridge.session, query, [CHAIN, ALICE, nonce, chain_hash(transaction), block, succeeded])[0]


@pytest.fixture
def prepared(bridge, alice):
    bridge.call("prepare_publication")
    return bridge


def test_transactions_are_listed_until_they_are_finished(prepared):
    assert record(prepared, 1, "withdraw", raw="0xCD") is False
    assert record(prepared, 0) is False
    assert listed(prepared) == [(0, "publish", 1, "0xab", 0), (1, "withdraw", 1, "0xcd", 0)]
    assert listed(prepared, BOB) == []
    assert finish(prepared, 0) is False
    assert finish(prepared, 0) is True
    assert [row[0] for row in listed(prepared)] == [1]


def test_a_replacement_takes_the_place_of_the_last_one(prepared):
    record(prepared)
    assert record(prepared) is True
    assert record(prepared, raw="0xac") is False
    assert record(prepared, raw="0xad") is False
    assert record(prepared, raw="0xAD") is True
    assert listed(prepared) == [(0, "publish", 1, "0xad", 2)]


def test_a_nonce_is_for_one_purpose(prepared, session, ledger):
    record(prepared)
    for other in ({"purpose": "withdraw"}, {"number": 2}):
        with pytest.raises(psycopg.Error) as raised:
            record(prepared, **other)
        assert raised.value.sqlstate == "LG013"
    record(prepared, sender=BOB)
    with pytest.raises(psycopg.Error) as raised:
        record(prepared, nonce=1, chain=CHAIN + 1)
    assert raised.value.sqlstate == "LG013"


def test_a_finished_one_is_final(prepared, admin):
    record(prepared)
    finish(prepared, 0, succeeded=False)
    assert record(prepared) is True
    query = "select ledger.record_transaction(%s, %s, 0, %s, 'publish', 1, '0xff')"
    refused(prepared.session, "LG013", query, [CHAIN, ALICE, prepared.group])
    query = "select ledger.finish_transaction(%s, %s, 0, %s, %s, %s)"
    for transaction, block, succeeded in ((2, 5, False), (1, 6, False), (1, 5, True)):
        refused(prepared.session, "LG013", query, [CHAIN, ALICE, chain_hash(transaction), block, succeeded])
    refused(admin, "23001", "update ledger.bridge_transactions set succeeded = true")
    refused(admin, "23001", "delete from ledger.bridge_transactions")


def test_one_that_was_not_recorded_is_refused(prepared):
    query = "select ledger.finish_transaction(%s, %s, 7, %s, 5, true)"
    refused(prepared.session, "LG013", query, [CHAIN, ALICE, chain_hash(1)])


@pytest.mark.parametrize(
    "change", [{"nonce": -1}, {"purpose": "steal"}, {"number": None}, {"raw": "0x"}, {"raw": "0xabc"}, {"raw": None}]
)
def test_refuses_invalid_transactions(prepared, change):
    with pytest.raises(psycopg.Error) as raised:
        record(prepared, **change)
    assert raised.value.sqlstate == "LG001"


def test_ids_are_raised_and_never_go_back(bridge, claim, session, ledger, group, admin):
    query = "select replayed from ledger.raise_ids(%s, %s)"
    assert one(session, query, [500, 900]) == (False,)
    assert one(session, query, [500, 900]) == (True,)
    assert one(session, query, [1, 1]) == (True,)
    assert claim("alice", ALICE) == 501
    assert one(admin, "select id from ledger.record where group_id = %s", [group]) == (901,)
    assert one(session, query, [600, 1]) == (False,)
    assert claim("bob", BOB) == 601
    refused(session, "LG001", query, [-1, 1])
    refused(session, "LG001", query, [2**62, 1])


CHANGES = {
    "vault": "update ledger.vaults set vault = decode(repeat('11', 20), 'hex')",
    "progress": "update ledger.vaults set followed_block = 1",
    "no-progress": "update ledger.vaults set followed_block = null, followed_hash = null",
    "thaw": """
        update ledger.vaults
        set emergency_number = null, emergency_transaction = null, emergency_block = null, frozen_at = null
    """,
    "vaults": "delete from ledger.vaults",
    "deposit": "update ledger.vault_deposits set amount = amount + 1",
    "deposits": "delete from ledger.vault_deposits",
    "payout": "update ledger.payouts set amount = amount",
    "payouts": "truncate ledger.payouts",
    "request": "delete from ledger.exit_requests",
    "adoption": "delete from ledger.adoptions",
    "root": "delete from ledger.unknown_roots",
}


@pytest.mark.parametrize("statement", CHANGES.values(), ids=CHANGES.keys())
def test_what_is_recorded_stays(bridge, alice, admin, statement):
    bridge.call("record_progress", 5, chain_hash(5))
    bridge.call("exit_requested", alice, ALICE, chain_hash(9), 9)
    bridge.close(bridge.publish()["number"])
    bridge.freeze(1)
    bridge.call("record_unknown_root", 9, chain_hash(8), chain_hash(9), 9)
    refused(admin, "23001", statement)


def test_a_replaced_transaction_is_kept(prepared):
    query = "select raws, replacements from ledger.list_transactions(%s, %s)"
    for raw in ("0x01", "0x02", "0x02", "0x03"):
        record(prepared, raw=raw)
    assert one(prepared.session, query, [CHAIN, ALICE]) == (["0x01", "0x02", "0x03"], 2)


def test_the_last_nonce_is_that_of_a_sender_on_a_chain(prepared):
    query = "select nonce from ledger.last_nonce(%s, %s)"
    assert one(prepared.session, query, [CHAIN, ALICE]) == (None,)
    for nonce in (3, 9, 4):
        record(prepared, nonce=nonce, raw=f"0x0{nonce}")
    record(prepared, nonce=11, sender=BOB)
    finish(prepared, 9)
    assert one(prepared.session, query, [CHAIN, ALICE]) == (9,)
    assert one(prepared.session, query, [CHAIN + 1, ALICE]) == (None,)
    for values in ((None, ALICE), (CHAIN, None), (CHAIN, "0x12")):
        refused(prepared.session, "LG001", query, values)
