"""The database is restored to each step of the drill while the chain has moved on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from bridge import contract, ledger, run
from bridge.adopt import adopt, ids
from bridge.contract import Log
from bridge.halts import EXIT_STATUS, Refusal
from bridge.ledger import connect
from tests.bridge.drill import Drill
from tests.bridge.world import BRIDGE, ETHER, PUBLISHER, SILENCE, World
from tests.conftest import Server
from tests.support import Database

RESTORED = "ledger_restored"
MOVED = """
select
  (select coalesce(sum(amount), 0) from ledger.participants),
  (select count(*) from ledger.entries),
  (select count(*) from ledger.vault_deposits),
  (select count(*) from ledger.payouts),
  (select count(*) from ledger.settlements where settled_at is not null)
"""


@dataclass
class Backups:
    """A copy of the database after each step; one of them can be restored at a time."""

    cloning: psycopg.Connection
    server: Server
    original: str
    taken: list[str]

    def take(self, world: World) -> None:
        world.disconnect()
        name = f"ledger_backup_{len(self.taken)}"
        self.copy(self.original, name)
        self.taken.append(name)

    def restore(self, world: World, step: int) -> World:
        """Return the world with the database as it was after a step."""
        self.drop(RESTORED)
        self.copy(self.taken[step], RESTORED)
        return replace(world, database=self.server.database(RESTORED), sessions={})

    def copy(self, name: str, to: str) -> None:
        query = sql.SQL("create database {} template {}").format(sql.Identifier(to), sql.Identifier(name))
        self.cloning.execute(query)

    def drop(self, name: str) -> None:
        self.cloning.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))


@pytest.fixture
def backups(cloning: psycopg.Connection, server: Server, database: Database) -> Iterator[Backups]:
    backups = Backups(cloning, server, "ledger_test", [])
    yield backups
    for name in [*backups.taken, RESTORED]:
        backups.drop(name)


def reverted(world: World, try_it: Callable[[], None]) -> None:
    """Do something and leave the chain as it was."""
    state = world.node("evm_snapshot")
    try_it()
    assert world.node("evm_revert", state)


def roots(world: World) -> set[bytes]:
    """Return the headers of the checkpoints that a database has."""
    return {header for (header,) in world.admin.execute("select header from ledger.checkpoints")}


def final_root(world: World) -> bytes:
    """Return the header of the latest root at the newest final block, zeros for none."""
    data = contract.call_data("latest", world.group)
    answer = world.node("eth_call", {"to": world.vault, "data": data}, "finalized")
    return bytes.fromhex(contract.returned("latest", answer)[1][2:])


def test_a_restore_to_any_step_halts_where_the_chain_is_ahead(world: World, backups: Backups) -> None:
    halts = 0

    def compare(step: int) -> None:
        """Restore to a step, and let the bridge run."""
        nonlocal halts
        restored = backups.restore(world, step)
        ahead = final_root(restored) not in roots(restored) | {bytes(32)}
        before = restored.admin.execute(MOVED).fetchall()
        status = restored.bridge()
        if ahead:
            halts += 1
            assert status == EXIT_STATUS
            assert restored.admin.execute(MOVED).fetchall() == before
        else:
            # It has seen nothing that a restore lost, or waits until it does.
            assert status in (0, 1)
            assert restored.discrepancies() == []
        restored.disconnect()

    for number, step in enumerate(Drill(world, lambda: passes(world)).steps()):
        step()
        if number % 2 == 0:
            for earlier in range(len(backups.taken)):
                reverted(world, lambda earlier=earlier: compare(earlier))  # type: ignore[misc]
        backups.take(world)
    assert halts > 20


def passes(world: World) -> None:
    assert world.bridge() == 0


def test_after_adopt_the_drill_goes_on_from_any_step(world: World, backups: Backups, tmp_path: Path) -> None:
    drill = Drill(world, lambda: passes(world))
    steps = [*drill.steps()]
    last = steps.index(drill.the_last_root) + 1
    for step in steps[:last]:
        step()
        backups.take(world)
    mirrored = tmp_path / "snapshot.json"
    mirrored.write_text(json.dumps(world.snapshot(len(world.states()))))
    payouts = world.payouts()
    adopted = 0

    def go_on(step: int) -> None:
        """Restore to a step, adopt, and carry out the rest of the drill."""
        nonlocal adopted
        restored = backups.restore(world, step)
        known = final_root(restored) in roots(restored)
        said = adopt_all(restored, mirrored)
        assert ("nothing to adopt" in said) == known
        adopted += not known
        assert restored.bridge() == 0
        assert sorted(restored.payouts()) == sorted(payouts)
        assert restored.discrepancies() == []
        assert adopt_all(restored, mirrored).startswith("nothing to adopt")
        rest = Drill(restored, lambda: passes(restored), drill.mirrored)
        for later in [*rest.steps()][last:]:
            later()
        restored.disconnect()

    for step in range(last):
        reverted(world, lambda step=step: go_on(step))  # type: ignore[misc]
    assert adopted > 8


def test_a_root_that_was_vetoed_after_the_adopted_one_has_used_its_number(
    world: World, backups: Backups, tmp_path: Path
) -> None:
    world.deposit(world.alice, ETHER)
    world.node.finalize()
    world.settle_down(2)
    world.node.pass_time(SILENCE // 4)
    backups.take(world)
    world.settle_down(2)
    (tmp_path / "snapshot.json").write_text(json.dumps(world.snapshot(2)))
    world.node.pass_time(SILENCE // 4)
    world.settle_down(2)
    assert world.states() == ["closed", "closed", "accepted"]
    world.send(world.guardian, "veto", world.group)
    world.node.finalize()
    restored = backups.restore(world, 0)
    assert adopt_all(restored, tmp_path / "snapshot.json").startswith(f"group {world.group} has adopted root 2")
    restored.node.pass_time(SILENCE // 4)
    restored.settle_down(2)
    assert restored.view("latest", world.group)[0] == 4
    assert restored.states()[-2:] == ["closed", "accepted"]
    assert restored.discrepancies() == []
    restored.disconnect()


def test_ids_above_those_of_a_snapshot_and_of_the_events_are_given() -> None:
    leaves: list[dict[str, Any]] = [
        {"participant_id": 7, "exit_entry": None},
        {"participant_id": 9, "exit_entry": 20},
    ]
    paid = Log("Paid", {"participant_id": 12, "exit_entry": 31}, 1, "0x", 0, "0x")
    requested = Log("ExitRequested", {"participant_id": 13}, 1, "0x", 1, "0x")
    assert ids(leaves, []) == (9, 20)
    assert ids(leaves, [paid, requested]) == (13, 31)
    assert ids([], []) == (0, 0)


def adopt_all(world: World, snapshot: Path) -> str:
    with closing(connect(world.database.url(BRIDGE))) as session:
        return adopt(run.nodes(world.node.url, None, None), session, world.group, snapshot, 0)


def test_adopt_waits_for_no_bridge(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "PATIENCE", 0.1)
    with closing(connect(world.database.url(BRIDGE))) as session:
        assert session.lock(31337, PUBLISHER.address)
        with pytest.raises(Refusal, match="stop it first"):
            adopt_all(world, tmp_path / "snapshot.json")
    assert adopt_all(world, tmp_path / "snapshot.json").startswith("nothing to adopt")


def test_another_snapshot_is_not_adopted(world: World, backups: Backups, tmp_path: Path) -> None:
    drill = Drill(world, lambda: passes(world))
    steps: list[Callable[[], Any]] = [*drill.steps()]
    for step in steps[: steps.index(drill.the_last_root) + 1]:
        step()
        backups.take(world)
    forged = world.snapshot(len(world.states()))
    older = world.snapshot(1)
    forged["leaves"][0]["amount"], forged["leaves"][1]["amount"] = (
        forged["leaves"][1]["amount"],
        forged["leaves"][0]["amount"],
    )
    restored = backups.restore(world, 2)
    file = tmp_path / "snapshot.json"
    before = restored.admin.execute(MOVED).fetchall()
    for snapshot in (forged, older):
        file.write_text(json.dumps(snapshot))
        with pytest.raises(Exception, match="is not the snapshot"):
            adopt_all(restored, file)
    assert restored.admin.execute(MOVED).fetchall() == before
    restored.disconnect()
