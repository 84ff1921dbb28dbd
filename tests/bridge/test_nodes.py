"""Nodes that lie, leave out, keep silent or go back: the bridge halts or waits, and records nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bridge import contract
from bridge.chain import Chain, Node
from bridge.halts import EXIT_STATUS, Halt, Later
from bridge.ledger import connect
from bridge.metrics import BridgeMetrics
from bridge.run import Bridge
from tests.anvil import FINAL
from tests.bridge.proxy import Proxy, Refusal, Silence, proxying
from tests.bridge.world import BRIDGE, DELAY, ETHER, WINDOW, World

RECORD = """
select
  (select array_agg(v.followed_block) from ledger.vaults as v),
  (select count(*) from ledger.vault_deposits),
  (select count(*) from ledger.payouts),
  (select count(*) from ledger.entries),
  (select count(*) from ledger.checkpoints),
  (select count(*) from ledger.bridge_transactions)
"""


@pytest.fixture
def proxy(world: World) -> Iterator[Proxy]:
    """The node that the bridge asks."""
    with proxying(world.node.url) as proxy:
        world.rpc = proxy.url
        yield proxy


@pytest.fixture
def halts(world: World, capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    def halts() -> str:
        """Run a round that must halt and record nothing; return the reason."""
        before = world.admin.execute(RECORD).fetchall()
        capsys.readouterr()
        assert world.bridge() == EXIT_STATUS
        assert world.admin.execute(RECORD).fetchall() == before
        line = json.loads(capsys.readouterr().err.splitlines()[-1])
        assert (line["event"], line["level"]) == ("halted", "error")
        return str(line["reason"])

    return halts


def waits(world: World) -> None:
    """Run a round that must end without having recorded anything."""
    before = world.admin.execute(RECORD).fetchall()
    assert world.bridge() == 1
    assert world.admin.execute(RECORD).fetchall() == before


def topic(name: str) -> str:
    return next(topic for topic, event in contract.events().items() if event.name == name)


def without(name: str) -> Callable[[str, list[Any], Any], Any]:
    """Leave out the last event of a name."""

    def alter(method: str, parameters: list[Any], result: Any) -> Any:
        if method != "eth_getLogs":
            return result
        last = max((place for place, log in enumerate(result) if log["topics"][0] == topic(name)), default=None)
        return [log for place, log in enumerate(result) if place != last]

    return alter


def test_a_deposit_that_a_node_leaves_out(world: World, proxy: Proxy, halts: Callable[[], str]) -> None:
    world.deposit(world.alice, ETHER)
    world.deposit(world.bob, ETHER)
    world.node.finalize()
    proxy.alter = without("Deposit")
    assert halts() == "inconsistent"
    # It was the node: another one is believed.
    proxy.alter = lambda method, parameters, result: result
    assert world.bridge() == 0
    assert len(world.balances()) == 2


def test_an_amount_that_a_node_changes(world: World, proxy: Proxy, halts: Callable[[], str]) -> None:
    world.deposit(world.alice, ETHER)
    world.node.finalize()

    def alter(method: str, parameters: list[Any], result: Any) -> Any:
        if method == "eth_getLogs":
            for log in result:
                log["data"] = log["data"].replace(f"{ETHER:064x}", f"{2 * ETHER:064x}")
        return result

    proxy.alter = alter
    assert halts() == "inconsistent"


def test_a_root_that_a_node_leaves_out(world: World, proxy: Proxy, halts: Callable[[], str]) -> None:
    world.deposit(world.alice, ETHER)
    world.node.finalize()
    assert world.bridge() == 0
    assert world.states() == ["prepared"]
    world.node.finalize()
    proxy.alter = without("Published")
    assert halts() == "inconsistent"


def test_a_payment_that_a_node_leaves_out(world: World, proxy: Proxy, halts: Callable[[], str]) -> None:
    world.deposit(world.alice, ETHER)
    world.node.finalize()
    world.settle_down(2)
    world.leave(world.participant(world.alice))
    world.node.pass_time(DELAY + WINDOW)
    world.settle_down(2)
    world.node.pass_time(DELAY)
    assert world.bridge() == 0
    world.node.finalize()
    proxy.alter = without("Paid")
    assert halts() == "inconsistent"
    proxy.alter = lambda method, parameters, result: result
    assert world.bridge() == 0
    assert world.payouts() == [("exit", ETHER)]


def test_an_emergency_that_a_node_leaves_out(world: World, proxy: Proxy, halts: Callable[[], str]) -> None:
    world.deposit(world.alice, ETHER)
    world.node.pass_time(14_400)
    world.send(world.bob, "declare_emergency", world.group)
    world.node.finalize()
    proxy.alter = without("Emergency")
    assert halts() == "inconsistent"


def test_a_request_that_one_of_two_nodes_leaves_out(world: World, proxy: Proxy, halts: Callable[[], str]) -> None:
    world.deposit(world.alice, ETHER)
    world.node.finalize()
    world.settle_down()
    world.node.pass_time(DELAY)
    world.send(world.alice, "request_exit", *world.leaf(world.participant(world.alice)))
    world.node.finalize()
    world.check = world.node.url
    proxy.alter = without("ExitRequested")
    assert halts() == "nodes_differ"


@pytest.mark.parametrize("method", ["eth_call", "eth_getCode", "eth_getLogs"])
def test_two_nodes_that_differ(world: World, proxy: Proxy, halts: Callable[[], str], method: str) -> None:
    world.deposit(world.alice, ETHER)
    world.node.finalize()
    world.check = world.node.url

    def alter(asked: str, parameters: list[Any], result: Any) -> Any:
        if asked != method:
            return result
        return result[:-1] if isinstance(result, list) else result[:-2] + ("00" if result[-2:] != "00" else "01")

    proxy.alter = alter
    assert halts() == "nodes_differ"


def test_a_second_node_that_is_behind_sets_the_pace(world: World, proxy: Proxy) -> None:
    behind = world.node.number() - FINAL
    world.deposit(world.alice, ETHER)
    world.node.finalize()
    world.check = world.node.url

    def alter(method: str, parameters: list[Any], result: Any) -> Any:
        if method == "eth_getBlockByNumber" and parameters[0] == "finalized":
            return world.node("eth_getBlockByNumber", hex(behind), False)
        return result

    proxy.alter = alter
    assert world.bridge() == 0
    assert world.balances() == {}
    proxy.alter = lambda method, parameters, result: result
    assert world.bridge() == 0
    assert len(world.balances()) == 1


def test_a_final_block_above_the_newest_one(world: World, proxy: Proxy) -> None:
    world.deposit(world.alice, ETHER)

    def alter(method: str, parameters: list[Any], result: Any) -> Any:
        if method == "eth_getBlockByNumber" and parameters[0] == "finalized":
            return result | {"number": hex(world.node.number() + 10)}
        return result

    proxy.alter = alter
    waits(world)


def test_a_head_that_no_other_node_has(world: World, proxy: Proxy, halts: Callable[[], str]) -> None:
    world.deposit(world.alice, ETHER)
    world.node.finalize()
    world.check = world.node.url

    def alter(method: str, parameters: list[Any], result: Any) -> Any:
        if method == "eth_getBlockByNumber":
            return result | {"hash": "0x" + "ab" * 32}
        return result

    proxy.alter = alter
    assert halts() == "nodes_differ"


def test_a_block_that_changes_during_the_reads(world: World, proxy: Proxy, halts: Callable[[], str]) -> None:
    world.deposit(world.alice, ETHER)
    world.node.finalize()
    changed = False

    def alter(method: str, parameters: list[Any], result: Any) -> Any:
        nonlocal changed
        changed = changed or method == "eth_getLogs"
        if changed and method == "eth_getBlockByNumber":
            return result | {"hash": "0x" + "ab" * 32}
        return result

    proxy.alter = alter
    assert halts() == "reorganized"


def test_another_block_than_the_one_that_was_asked_for(world: World, proxy: Proxy, halts: Callable[[], str]) -> None:
    world.node.finalize()
    world.bridge()
    world.node.finalize()

    def alter(method: str, parameters: list[Any], result: Any) -> Any:
        if method == "eth_getBlockByNumber" and parameters[0].startswith("0x"):
            return result | {"number": hex(int(result["number"], 16) - 1)}
        return result

    proxy.alter = alter
    assert halts() == "inconsistent"


def test_a_node_that_goes_back(world: World, proxy: Proxy) -> None:
    world.deposit(world.alice, ETHER)
    world.node.finalize()
    assert world.bridge() == 0
    back = world.node.number() - FINAL - 2

    def alter(method: str, parameters: list[Any], result: Any) -> Any:
        if method == "eth_getBlockByNumber" and parameters[0] == "finalized":
            return world.node("eth_getBlockByNumber", hex(back), False)
        return result

    proxy.alter = alter
    waits(world)


def test_a_chain_that_is_reorganized_below_the_cursor(world: World, halts: Callable[[], str]) -> None:
    world.deposit(world.alice, ETHER)
    world.node.finalize()
    assert world.bridge() == 0
    world.node("anvil_reorg", FINAL + 2, [])
    world.deposit(world.bob, ETHER)
    world.node.finalize()
    assert halts() == "reorganized"
    assert halts() == "reorganized"
    assert len(world.balances()) == 1


@pytest.mark.parametrize("method", ["eth_getLogs", "eth_call", "eth_getBlockByNumber", "eth_chainId"])
def test_a_node_that_does_not_answer_in_time(world: World, proxy: Proxy, method: str) -> None:
    world.deposit(world.alice, ETHER)
    world.node.finalize()

    def alter(asked: str, parameters: list[Any], result: Any) -> Any:
        if asked == method:
            raise Silence
        return result

    proxy.alter = alter
    world.options["chain"] = Chain(Node(proxy.url, timeout=0.5))
    waits(world)
    proxy.alter = lambda asked, parameters, result: result
    world.options.clear()
    assert world.bridge() == 0
    assert len(world.balances()) == 1


def test_a_transaction_whose_sending_is_not_answered_is_sent_once(world: World, proxy: Proxy) -> None:
    world.deposit(world.alice, ETHER)
    world.node.finalize()

    def alter(method: str, parameters: list[Any], result: Any) -> Any:
        if method == "eth_sendRawTransaction":
            raise Silence
        return result

    proxy.alter = alter
    world.options["chain"] = Chain(Node(proxy.url, timeout=0.5))
    assert world.bridge() == 1
    proxy.alter = lambda method, parameters, result: result
    world.options.clear()
    world.settle_down()
    assert world.states() == ["accepted"]
    assert world.admin.execute("select nonce, succeeded from ledger.bridge_transactions").fetchall() == [(2, True)]


def test_a_chain_id_that_changes(world: World, proxy: Proxy) -> None:
    world.deposit(world.alice, ETHER)
    world.node.finalize()
    session = connect(world.database.url(BRIDGE))
    try:
        bridge = Bridge(world.plan(), session, BridgeMetrics())
        proxy.alter = lambda method, parameters, result: "0x1" if method == "eth_chainId" else result
        with pytest.raises(Halt) as raised:
            bridge.round()
        assert raised.value.reason == "wrong_chain"
    finally:
        session.close()
    assert world.balances() == {}


def test_a_vault_of_another_chain(world: World, proxy: Proxy, halts: Callable[[], str]) -> None:
    chain_id = contract.call_data("CHAIN_ID")

    def alter(method: str, parameters: list[Any], result: Any) -> Any:
        if method == "eth_call" and parameters[0]["data"] == chain_id:
            return "0x" + f"{1:064x}"
        return result

    proxy.alter = alter
    assert halts() == "wrong_chain"


def test_another_contract_in_the_vaults_place(world: World, proxy: Proxy, halts: Callable[[], str]) -> None:
    proxy.alter = lambda method, parameters, result: result[:-400] if method == "eth_getCode" else result
    assert halts() == "wrong_code"


def test_ranges_of_logs_that_are_too_long_are_divided(world: World, proxy: Proxy) -> None:
    for _ in range(3):
        world.deposit(world.alice, ETHER)
        world.node.mine(10)
    asked = []

    def alter(method: str, parameters: list[Any], result: Any) -> Any:
        if method == "eth_getLogs":
            span = int(parameters[0]["toBlock"], 16) - int(parameters[0]["fromBlock"], 16) + 1
            if span > 5:
                raise Refusal("query returned more than 10000 results")
            asked.append(span)
        return result

    proxy.alter = alter
    assert world.bridge() == 0
    assert [*world.balances().values()] == [3 * ETHER]
    assert len(asked) > 5


@pytest.mark.parametrize("answer", [None, [], "0x", {"number": "0x1"}, {"number": "x", "hash": "y", "timestamp": "z"}])
def test_blocks_that_are_none(proxy: Proxy, answer: object) -> None:
    proxy.alter = lambda method, parameters, result: answer
    with pytest.raises(Later):
        Node(proxy.url).final(None)
