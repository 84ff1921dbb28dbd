"""The drill: a group from its first deposit to its last withdrawal, which nobody needs the operator for.

Each step is carried out once; between two steps a test may kill the bridge, restore the database or look at it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.bridge.world import DELAY, ETHER, SILENCE, WINDOW, World

Step = Callable[[], None]


@dataclass
class Drill:
    """The steps in their order. `bridge` runs the bridge until it has nothing to do at this block."""

    world: World
    bridge: Callable[[], None]
    mirrored: list[dict[str, Any]] = field(default_factory=list)  # proofs that participants have kept

    def steps(self) -> Iterator[Step]:
        yield self.a_deposit_that_is_reorganized_away_is_not_credited
        yield self.a_final_deposit_is_credited_once
        yield self.others_deposit
        yield self.transfers_and_an_exit
        yield self.the_root_is_published
        yield self.the_root_is_accepted
        yield self.the_exit_is_paid
        yield self.the_exit_is_settled
        yield self.the_window_ends
        yield self.an_exit_is_requested_at_the_vault
        yield self.the_request_is_answered
        yield self.the_request_is_settled
        yield self.the_last_root
        yield self.a_deposit_that_no_root_includes
        yield self.the_operator_vanishes
        yield self.everybody_is_paid
        yield self.the_ledger_is_frozen

    def a_deposit_that_is_reorganized_away_is_not_credited(self) -> None:
        world = self.world
        world.deposit(world.alice, 5 * ETHER)
        self.bridge()
        assert world.balances() == {}
        world.node("anvil_reorg", 1, [])
        world.node.finalize()
        self.bridge()
        assert world.balances() == {}
        assert world.view("held", world.group) == 0

    def a_final_deposit_is_credited_once(self) -> None:
        world = self.world
        world.deposit(world.alice, 10 * ETHER)
        world.node.finalize()
        self.bridge()
        self.bridge()
        assert [*world.balances().values()] == [10 * ETHER]

    def others_deposit(self) -> None:
        world = self.world
        world.deposit(world.bob, 4 * ETHER)
        world.deposit(world.carol, ETHER)
        world.deposit(world.alice, ETHER)
        world.node.finalize()
        self.bridge()
        assert [*world.balances().values()] == [11 * ETHER, 4 * ETHER, ETHER]

    def transfers_and_an_exit(self) -> None:
        world = self.world
        alice, bob = world.participant(world.alice), world.participant(world.bob)
        world.transfer(alice, bob, 3 * ETHER)
        world.leave(bob)

    def the_root_is_published(self) -> None:
        # The root of the deposits is in flight: it has no exit, and the next one waits for the end of its window.
        world = self.world
        world.node.finalize()
        self.bridge()
        world.node.pass_time(DELAY + WINDOW)
        self.bridge()
        world.node.finalize()
        self.bridge()
        assert world.view("latest", world.group)[0] == 2

    def the_root_is_accepted(self) -> None:
        world = self.world
        world.node.finalize()
        self.bridge()
        assert world.states() == ["closed", "accepted"]

    def the_exit_is_paid(self) -> None:
        world = self.world
        before = world.node.balance(world.bob)
        world.node.pass_time(DELAY)
        self.bridge()
        assert world.node.balance(world.bob) - before == 7 * ETHER
        assert world.payouts() == []

    def the_exit_is_settled(self) -> None:
        world = self.world
        world.node.finalize()
        self.bridge()
        assert world.payouts() == [("exit", 7 * ETHER)]

    def the_window_ends(self) -> None:
        world = self.world
        world.node.pass_time(WINDOW)
        self.bridge()
        assert world.states()[1] == "closed"

    def an_exit_is_requested_at_the_vault(self) -> None:
        world = self.world
        carol = world.participant(world.carol)
        world.send(world.carol, "request_exit", *world.leaf(carol, 2))
        world.node.finalize()
        self.bridge()
        assert carol not in world.balances()

    def the_request_is_answered(self) -> None:
        world = self.world
        before = world.node.balance(world.carol)
        for _ in range(4):
            world.node.finalize()
            self.bridge()
        world.node.pass_time(DELAY)
        self.bridge()
        if world.node.balance(world.carol) == before:
            # The root before had to end its window first.
            world.node.pass_time(WINDOW)
            self.bridge()
            world.node.finalize()
            self.bridge()
            world.node.pass_time(DELAY)
            self.bridge()
        assert world.node.balance(world.carol) - before == ETHER

    def the_request_is_settled(self) -> None:
        world = self.world
        world.node.finalize()
        self.bridge()
        assert world.payouts() == [("exit", 7 * ETHER), ("exit", ETHER)]
        world.node.pass_time(WINDOW)
        self.bridge()
        world.node.finalize()
        self.bridge()
        assert world.states()[-1] == "closed"

    def the_last_root(self) -> None:
        world = self.world
        world.deposit(world.bob, 2 * ETHER)
        world.node.finalize()
        self.bridge()
        world.node.pass_time(SILENCE // 4)
        self.bridge()
        world.node.finalize()
        self.bridge()
        assert world.states()[-1] == "accepted"
        alice, bob = world.participant(world.alice), world.participant(world.bob)
        number = len(world.states())
        for participant in (alice, bob):
            header, leaf, siblings = world.leaf(participant, number)
            self.mirrored.append({"arguments": (header, leaf, siblings), "owner": leaf[3], "amount": leaf[4]})
        world.node.pass_time(DELAY + WINDOW)
        self.bridge()
        # What moves after the last root is not in what an emergency pays.
        world.transfer(alice, bob, ETHER)

    def a_deposit_that_no_root_includes(self) -> None:
        world = self.world
        world.deposit(world.carol, 3 * ETHER)
        world.node.finalize()
        self.bridge()

    def the_operator_vanishes(self) -> None:
        world = self.world
        world.node.pass_time(SILENCE)
        world.send(world.bob, "declare_emergency", world.group)

    def everybody_is_paid(self) -> None:
        world = self.world
        for kept in self.mirrored:
            before = world.node.balance(kept["owner"])
            world.send(world.guardian, "withdraw", *kept["arguments"])
            assert world.node.balance(kept["owner"]) - before == kept["amount"]
        world.send(world.guardian, "reclaim", world.group, world.view("deposits", world.group) - 1)
        assert world.view("held", world.group) == 0

    def the_ledger_is_frozen(self) -> None:
        world = self.world
        world.node.finalize()
        self.bridge()
        assert world.payouts()[2:] == [("present", 8 * ETHER), ("present", 2 * ETHER), ("reclaim", 3 * ETHER)]
        assert world.discrepancies() == []
