"""The bridge is killed before and after everything that it does, and goes on as if nothing had happened."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from bridge.chain import Node
from bridge.ledger import Ledger
from tests.bridge.drill import Drill
from tests.bridge.world import PAYER, PUBLISHER, World

WRITES = ("credit_", "exit_requested", "settle_", "reclaim_", "prepare_", "record_", "finish_")


class Killed(BaseException):
    """The bridge's end at this point: nothing of its code runs any more but what closes its session."""


@dataclass
class Killer:
    """Counts what the bridge does, and kills it at one of these points."""

    kill_at: int = 0
    points: int = 0

    def point(self) -> None:
        self.points += 1
        if self.points == self.kill_at:
            raise Killed

    @contextmanager
    def around(self) -> Iterator[None]:
        self.point()
        yield
        self.point()


@pytest.fixture
def killer(monkeypatch: pytest.MonkeyPatch) -> Killer:
    """Kill before and after each transaction is sent, each call that writes, and each commit of several calls."""
    killer = Killer()
    request, rows, together = Node.request, Ledger.rows, Ledger.together

    def killed_request(node: Node, method: str, *parameters: Any) -> Any:
        if method != "eth_sendRawTransaction":
            return request(node, method, *parameters)
        with killer.around():
            return request(node, method, *parameters)

    def killed_rows(ledger: Ledger, function: str, *arguments: object) -> list[Any]:
        if not function.startswith(WRITES):
            return rows(ledger, function, *arguments)
        with killer.around():
            return rows(ledger, function, *arguments)

    def killed_together(ledger: Ledger, calls: Any) -> list[Any]:
        done = together(ledger, calls)
        killer.point()
        return done

    monkeypatch.setattr(Node, "request", killed_request)
    monkeypatch.setattr(Ledger, "rows", killed_rows)
    monkeypatch.setattr(Ledger, "together", killed_together)
    return killer


def test_the_bridge_is_killed_at_every_point_of_the_drill(world: World, killer: Killer) -> None:
    kills = 0

    def bridge() -> None:
        """Run a round to its end, killed at its first point, then at its second, and so on."""
        nonlocal kills
        for killer.kill_at in range(1, 1_000):
            killer.points = 0
            try:
                status = world.bridge()
            except Killed:
                kills += 1
                continue
            assert status == 0
            break
        killer.kill_at = 0

    for step in Drill(world, bridge).steps():
        step()
    # It was killed everywhere, and nothing was sent twice: the publisher has deployed the vault and opened the group.
    assert kills > 100
    assert nonce(world, PUBLISHER.address) == 2 + len(world.states())
    assert nonce(world, PAYER.address) == 2
    query = "select count(*), count(*) filter (where succeeded) from ledger.bridge_transactions"
    assert world.admin.execute(query).fetchall() == [(2 + len(world.states()),) * 2]


def nonce(world: World, sender: str) -> int:
    return int(world.node("eth_getTransactionCount", sender, "latest"), 16)
