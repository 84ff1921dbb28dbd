"""Transactions in a full mempool: nonce gaps, underpriced ones, the fee's ceiling, and what a restart finds."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bridge.chain import Chain, Node
from bridge.ledger import Ledger, connect
from bridge.run import say
from bridge.signer import GWEI, Fees
from bridge.transactions import Outbox, decode
from tests.anvil import Anvil
from tests.bridge.world import BRIDGE, DELAY, ETHER, PAYER, PUBLISHER, WINDOW, World

Events = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def events(capsys: pytest.CaptureFixture[str]) -> Events:
    """What the bridge has logged since the last look."""

    def events() -> list[dict[str, Any]]:
        output = capsys.readouterr()
        return [json.loads(line) for line in (output.out + output.err).splitlines()]

    return events


@pytest.fixture
def due(world: World) -> Iterator[World]:
    """A world in which a root is due and no transaction is mined."""
    world.deposit(world.alice, ETHER)
    world.node.finalize()
    world.node("evm_setAutomine", False)
    yield world
    world.node("evm_setAutomine", True)


@pytest.fixture
def ledger(world: World) -> Iterator[Ledger]:
    ledger = connect(world.database.url(BRIDGE))
    yield ledger
    ledger.close()


def outbox(world: World, ledger: Ledger, **options: Any) -> Outbox:
    settings = {"ceiling": 500 * GWEI} | options
    return Outbox(Chain(Node(world.node.url)), ledger, PUBLISHER, 31337, say=say, **settings)


def raws(world: World) -> list[tuple[int, str]]:
    """Return the nonce and the hash of each open transaction of the publisher."""
    query = "select nonce, raw from ledger.list_transactions(%s, %s)"
    with world.database.connect(BRIDGE) as session:
        return [(nonce, decode(raw).hash) for nonce, raw in session.execute(query, [31337, PUBLISHER.address])]


def pool(node: Anvil, owner: str = PUBLISHER.address) -> dict[int, dict[str, Any]]:
    """Return the transactions of the publisher, or of another one, that wait to be mined, by nonce."""
    found = {sender.lower(): ones for sender, ones in node("txpool_content")["pending"].items()}
    return {int(nonce): one for nonce, one in found.get(owner.lower(), {}).items()}


def finish(world: World) -> None:
    """Have everything mined and followed."""
    world.node("evm_setAutomine", True)
    world.node.finalize()
    world.settle_down(1)


def test_a_transaction_is_recorded_before_it_is_sent(due: World) -> None:
    assert due.bridge() == 0
    ((nonce, name),) = raws(due)
    assert pool(due.node)[nonce]["hash"] == name
    finish(due)
    assert due.states() == ["accepted"]
    assert raws(due) == []


def test_one_that_the_mempool_has_lost_is_sent_again_as_it_is(due: World, events: Events) -> None:
    assert due.bridge() == 0
    sent = raws(due)
    due.node("anvil_dropAllTransactions")
    assert due.bridge() == 0
    assert raws(due) == sent
    assert [one["hash"] for one in pool(due.node).values()] == [sent[0][1]]
    assert "transaction_sent_again" in [event["event"] for event in events()]
    finish(due)
    assert due.states() == ["accepted"]


def test_one_that_pays_too_little_is_replaced_by_one_with_a_higher_fee(due: World, events: Events) -> None:
    assert due.bridge() == 0
    ((nonce, first),) = raws(due)
    fee = int(pool(due.node)[nonce]["maxFeePerGas"], 16)
    due.node("anvil_setNextBlockBaseFeePerGas", hex(3 * fee))
    due.node.mine()
    assert due.bridge() == 0
    ((again, second),) = raws(due)
    assert again == nonce
    assert second != first
    replaced = pool(due.node)[nonce]
    assert replaced["hash"] == second
    assert int(replaced["maxFeePerGas"], 16) > 3 * fee
    assert "transaction_replaced" in [event["event"] for event in events()]
    finish(due)
    assert due.states() == ["accepted"]


def test_one_that_waits_for_long_is_replaced(due: World, ledger: Ledger) -> None:
    assert due.bridge() == 0
    ((nonce, first),) = raws(due)
    impatient = outbox(due, ledger, patience=-1.0)
    final = impatient.chain.final()
    impatient.settle(final, lambda row: True)
    ((again, second),) = raws(due)
    assert (again, pool(due.node)[nonce]["hash"]) == (nonce, second)
    assert second != first


def test_an_underpriced_replacement_is_raised_until_it_is_taken(due: World, ledger: Ledger) -> None:
    assert due.bridge() == 0
    ((nonce, _),) = raws(due)
    # The mempool has a replacement with four times the fee, which a restored database does not have.
    box = outbox(due, ledger)
    (row,) = box.open()
    signed = decode(row.raw)
    fees = Fees(4 * signed.fees.most, 4 * signed.fees.tip)
    assert box.deliver(box.signer.sign(nonce, signed.to, signed.data, signed.gas, fees)) == "sent"
    assert box.deliver(row.raw) == "underpriced"
    assert due.bridge() == 0
    ((again, second),) = raws(due)
    assert (again, pool(due.node)[nonce]["hash"]) == (nonce, second)
    assert int(pool(due.node)[nonce]["maxFeePerGas"], 16) > fees.most
    finish(due)
    assert due.states() == ["accepted"]


def test_no_fee_exceeds_the_ceiling(due: World, events: Events) -> None:
    assert due.bridge() == 0
    ((nonce, first),) = raws(due)
    fee = int(pool(due.node)[nonce]["maxFeePerGas"], 16)
    due.node("anvil_setNextBlockBaseFeePerGas", hex(3 * fee))
    due.node.mine()
    due.options["ceiling"] = fee
    events()
    assert due.bridge() == 0
    assert raws(due) == [(nonce, first)]
    assert "fee_ceiling" in [event["event"] for event in events()]
    # It goes on once fees fall, or the ceiling is raised.
    del due.options["ceiling"]
    assert due.bridge() == 0
    finish(due)
    assert due.states() == ["accepted"]


def test_nothing_is_sent_while_fees_exceed_the_ceiling(due: World, events: Events) -> None:
    due.options["ceiling"] = 1
    assert due.bridge() == 0
    assert raws(due) == []
    assert pool(due.node) == {}
    assert "fee_ceiling" in [event["event"] for event in events()]


def test_a_missing_nonce_is_used_up(due: World, ledger: Ledger, events: Events) -> None:
    assert due.bridge() == 0
    ((nonce, _),) = raws(due)
    box = outbox(due, ledger)
    (row,) = box.open()
    signed = decode(row.raw)
    # One above the next was recorded, and what was to be between them never was.
    box.record(nonce + 2, due.group, "publish", 1, box.signer.sign(nonce + 2, signed.to, "0x", 21_000, signed.fees))
    assert due.bridge() == 0
    assert [one for one, _ in raws(due)] == [nonce, nonce + 1, nonce + 2]
    assert sorted(pool(due.node)) == [nonce, nonce + 1, nonce + 2]
    assert "nonce_gap" in [event["event"] for event in events()]
    finish(due)
    assert raws(due) == []
    assert due.states() == ["accepted"]


def test_a_replaced_transaction_that_was_mined_all_the_same_is_found(due: World, ledger: Ledger) -> None:
    assert due.bridge() == 0
    ((nonce, first),) = raws(due)
    box = outbox(due, ledger)
    (row,) = box.open()
    signed = decode(row.raw)
    raw = box.signer.sign(nonce, signed.to, signed.data, signed.gas, Fees(2 * signed.fees.most, 2 * signed.fees.tip))
    # Recorded, and killed before it was sent.
    box.record(nonce, due.group, "publish", 1, raw)
    finish(due)
    query = "select transaction, succeeded from ledger.bridge_transactions"
    assert due.admin.execute(query).fetchall() == [(bytes.fromhex(first[2:]), True)]


def test_a_transaction_of_the_same_key_from_elsewhere_is_waited_for(due: World) -> None:
    # As `ledger vault open` sends it.
    nonce = int(due.node("eth_getTransactionCount", PUBLISHER.address, "latest"), 16)
    due.node(
        "eth_sendTransaction", {"from": PUBLISHER.address, "to": PUBLISHER.address, "value": "0x0", "nonce": hex(nonce)}
    )
    assert due.bridge() == 1
    assert raws(due) == []
    assert due.states() == []
    finish(due)
    due.settle_down(1)
    assert due.states() == ["accepted"]


def test_a_nonce_that_another_transaction_has_used_is_given_up(due: World, events: Events) -> None:
    assert due.bridge() == 0
    ((nonce, _),) = raws(due)
    due.node("anvil_dropAllTransactions")
    other = {"from": PUBLISHER.address, "to": PUBLISHER.address, "value": "0x0", "nonce": hex(nonce)}
    due.node("eth_sendTransaction", other)
    finish(due)
    due.settle_down(1)
    assert "nonce_used_elsewhere" in [event["event"] for event in events()]
    assert due.states() == ["accepted"]
    query = "select nonce, succeeded from ledger.bridge_transactions order by nonce"
    assert due.admin.execute(query).fetchall() == [(nonce, False), (nonce + 1, True)]


def test_a_payment_that_missed_its_window_is_replaced_by_nothing(world: World) -> None:
    world.deposit(world.alice, ETHER)
    world.node.finalize()
    assert world.bridge() == 0
    world.leave(world.participant(world.alice))
    world.settle_down(2)
    world.node.pass_time(DELAY + WINDOW)
    world.settle_down(2)
    world.node.pass_time(DELAY)
    world.node("evm_setAutomine", False)
    assert world.bridge() == 0
    world.node("anvil_dropAllTransactions")
    world.node.pass_time(WINDOW)
    world.bridge()
    (waiting,) = pool(world.node, PAYER.address).values()
    assert waiting["to"].lower() == PAYER.address.lower()
    world.node("evm_setAutomine", True)
    world.node.finalize()
    world.settle_down(2)
    assert world.payouts() == []
    # The next root has the exit again, and it is paid.
    world.node.pass_time(DELAY)
    world.settle_down(1)
    assert world.payouts() == [("exit", ETHER)]


def test_a_root_that_was_reorganized_away_is_sent_again(world: World) -> None:
    world.deposit(world.alice, ETHER)
    world.node.finalize()
    assert world.bridge() == 0
    assert world.view("latest", world.group)[0] == 1
    world.node("anvil_reorg", 1, [])
    world.node("anvil_dropAllTransactions")
    assert world.view("latest", world.group)[0] == 0
    world.settle_down(2)
    assert world.states() == ["accepted"]
    assert world.view("latest", world.group)[0] == 1
