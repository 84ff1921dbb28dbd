"""`ledger guardian`: vetoes what is withheld or unclean, and nothing else."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account

from bridge.chain import Node
from bridge.guardian import FETCHES, Guardian, Mirror, Watched
from bridge.guardian_metrics import GuardianMetrics
from bridge.halts import Later
from bridge.record import Record
from bridge.signer import Signer
from bridge.sources import Missing, Source, read_source
from tests.anvil import Anvil, running
from tests.bridge.operator import DELAY, ETHER, GUARDIAN_KEY, WINDOW, Operator, deploy
from tests.support import until

GROUPS = itertools.count(1)
LARGEST = 1 << 20


@pytest.fixture(scope="module")
def anvil() -> Iterator[Anvil]:
    with running() as node:
        yield node


@pytest.fixture(scope="module")
def vault(anvil: Anvil) -> str:
    return deploy(anvil)


@pytest.fixture
def operator(anvil: Anvil, vault: str, tmp_path: Path) -> Operator:
    """An operator of a group of the test's own."""
    (tmp_path / "served").mkdir()
    return Operator(anvil, vault, next(GROUPS), tmp_path / "served")


class Watch:
    """A guardian of one group, and what it has said."""

    def __init__(self, anvil: Anvil, operator: Operator, folder: Path, source: Source, **changed: Any) -> None:
        self.lines: list[dict[str, Any]] = []
        self.node = Node(anvil.url)
        chain_id = self.node.chain_id()
        self.record = Record(folder / "guardian.sqlite", chain_id, operator.vault)
        self.operator = operator
        self.guardian = Guardian(
            self.node,
            Signer(self.node, Account.from_key(GUARDIAN_KEY), chain_id, 500 * 10**9),
            Watched(operator.vault, chain_id, DELAY, frozenset([operator.group]), 0, None),
            Mirror(source, folder, changed.get("keep", 10), changed.get("largest", LARGEST)),
            self.record,
            GuardianMetrics(),
            lambda event, level=None, **values: self.lines.append({"event": event, "level": level, **values}),
        )
        self.folder = folder

    def __call__(self) -> None:
        """Look at the chain once, after what was begun before has ended."""
        self.wait()
        self.guardian.round()
        self.wait()

    def wait(self) -> None:
        attempts = self.guardian.attempts.values()
        until(lambda: all(each.ended_at is not None for each in list(attempts)), "the attempts to end")

    def rounds(self, count: int = 3) -> None:
        for _ in range(count):
            self()

    def retry(self) -> None:
        """Forget that an attempt has just failed, so that the next one need not wait."""
        for attempt in self.guardian.attempts.values():
            if attempt.ended_at is not None:
                attempt.ended_at -= 1_000

    def outcomes(self) -> list[tuple[int, str]]:
        return [(line["number"], line["outcome"]) for line in self.lines if line["event"] == "root"]

    def reason(self) -> str:
        return [line for line in self.lines if line["event"] == "root"][-1]["reason"]

    def mirrored(self) -> list[str]:
        return sorted(file.name for file in (self.folder / str(self.operator.group)).glob("*"))

    @property
    def latest(self) -> int:
        return self.operator.view("latest", self.operator.group)[0]


@pytest.fixture
def guard(anvil: Anvil, operator: Operator, tmp_path: Path) -> Iterator[Callable[..., Watch]]:
    """Make a guardian of the group; `folder` lets one go on where another was killed."""
    made: list[Watch] = []

    def make(url: str | None = None, **changed: Any) -> Watch:
        folder = tmp_path / "kept"
        folder.mkdir(exist_ok=True)
        made.append(Watch(anvil, operator, folder, read_source(url or f"file://{operator.served}", None), **changed))
        return made[-1]

    yield make
    for watch in made:
        watch.wait()
        watch.record.close()


def test_keeps_the_snapshot_of_a_clean_root_and_lets_it_ripen(operator, guard):
    operator.deposit(5 * ETHER)
    snapshot = operator.publish([operator.leaf(1, 3 * ETHER), operator.leaf(2, 2 * ETHER, owner=3)])
    watch = guard()
    watch.rounds()
    assert watch.outcomes() == [(1, "clean")]
    assert watch.latest == 1
    assert watch.mirrored() == ["1.json"]
    assert json.loads((watch.folder / str(operator.group) / "1.json").read_text()) == snapshot
    operator.node.pass_time(DELAY)
    operator.node.finalize()
    watch.rounds()
    assert watch.outcomes() == [(1, "clean")]
    assert watch.guardian.roots() == []
    assert watch.guardian.metrics.unchecked == 0
    assert all(line["level"] is None for line in watch.lines)


def test_vetoes_a_root_whose_snapshot_is_withheld_but_only_in_the_end(operator, guard):
    operator.deposit(ETHER)
    operator.cycle([operator.leaf(1, ETHER)])
    watch = guard()
    watch.rounds()
    operator.publish([operator.leaf(1, ETHER)], serve=False)
    watch.rounds()
    watch.retry()
    watch.rounds()
    assert watch.latest == 2  # it may still come
    operator.node.pass_time(DELAY // 2)
    watch.retry()
    watch.rounds()
    assert watch.outcomes() == [(1, "clean"), (2, "withheld")]
    assert "No such file" in watch.reason()
    assert watch.latest == 1
    assert watch.guardian.metrics.vetoes == 1
    watch.rounds()
    assert watch.guardian.metrics.vetoes == 1
    operator.node.finalize()
    watch.rounds()
    assert watch.guardian.roots() == []


def test_a_snapshot_that_comes_late_but_in_time_is_enough(operator, guard):
    operator.deposit(ETHER)
    snapshot = operator.publish([operator.leaf(1, ETHER)], serve=False)
    watch = guard()
    watch.rounds()
    operator.node.pass_time(DELAY // 2 - 60)
    operator.serve(snapshot)
    watch.retry()
    watch.rounds()
    operator.node.pass_time(DELAY // 4)
    watch.rounds()
    assert watch.outcomes() == [(1, "clean")]
    assert watch.latest == 1


UNCLEAN = {
    "a participant twice": lambda o: [o.leaf(1, ETHER), o.leaf(1, ETHER)],
    "ids that descend": lambda o: [o.leaf(2, ETHER), o.leaf(1, ETHER)],
    "more than the total": lambda o: [o.leaf(1, ETHER), o.leaf(2, 2 * ETHER)],
    "less than the total": lambda o: [o.leaf(1, ETHER)],
    "an id of 2^63": lambda o: [o.leaf(2**63, 2 * ETHER)],
}


@pytest.mark.parametrize("name", UNCLEAN)
def test_vetoes_a_root_with_leaves_that_are_not_clean(operator, guard, name):
    operator.deposit(2 * ETHER)
    operator.publish(UNCLEAN[name](operator))
    watch = guard()
    watch.rounds()
    operator.node.pass_time(DELAY // 2)
    watch.retry()
    watch.rounds()
    assert watch.outcomes() == [(1, "withheld")]
    assert watch.latest == 0


def test_vetoes_another_snapshot_than_that_of_the_header(operator, guard):
    operator.deposit(ETHER)
    operator.publish([operator.leaf(1, ETHER)], serve=False)
    operator.serve(operator.snapshot([operator.leaf(1, ETHER, owner=3)], number=1))
    watch = guard()
    watch.rounds()
    assert watch.latest == 1
    operator.node.pass_time(DELAY // 2)
    watch.retry()
    watch.rounds()
    assert watch.latest == 0
    assert "not the one with that header" in watch.reason()


def test_vetoes_an_exit_that_was_paid_before(operator, guard):
    operator.deposit(3 * ETHER)
    operator.deposit(ETHER, owner=3)
    watch = guard()
    operator.publish([operator.leaf(1, 3 * ETHER, exit_entry=7), operator.leaf(2, ETHER, owner=3)])
    watch.rounds()
    operator.node.pass_time(DELAY)
    operator.withdraw(1)
    operator.node.pass_time(WINDOW)
    operator.deposit(3 * ETHER, owner=4)
    # The total fits: what another participant has deposited is to pay the exit once more.
    operator.publish([operator.leaf(1, 3 * ETHER, exit_entry=7), operator.leaf(2, ETHER, owner=3)])
    watch.rounds()
    assert watch.outcomes() == [(1, "clean"), (2, "unclean")]
    assert watch.reason() == "the exit of participant 1 in entry 7 was paid before"
    assert watch.latest == 1
    assert watch.mirrored() == ["1.json", "2.unclean.json"]


def test_reads_a_long_way_in_steps(operator, guard, monkeypatch):
    monkeypatch.setattr("bridge.guardian.STEP", 3)
    operator.deposit(ETHER)
    operator.publish([operator.leaf(1, ETHER)])
    operator.node.finalize()
    watch = guard()
    logs = watch.node.logs
    asked: list[tuple[int, int]] = []

    def fails(vault: str, first: int, last: int) -> Any:
        asked.append((first, last))
        if len(asked) == 3:
            raise Later("it is away")
        return logs(vault, first, last)

    monkeypatch.setattr(watch.node, "logs", fails)
    with pytest.raises(Later):
        watch.guardian.round()
    watch.rounds()
    final = operator.node.number() - 4
    steps = [(first, min(first + 2, final)) for first in range(0, final + 1, 3)]
    assert asked[: len(steps) + 1] == [*steps[:3], *steps[2:]]
    assert watch.outcomes() == [(1, "clean")]


def test_knows_a_payment_of_before_it_was_started(operator, guard):
    operator.deposit(3 * ETHER)
    operator.cycle([operator.leaf(1, 3 * ETHER, exit_entry=7)], pay=(1,))
    operator.deposit(3 * ETHER, owner=4)
    operator.publish([operator.leaf(1, 3 * ETHER, exit_entry=7)])
    watch = guard()
    watch.rounds()
    assert (2, "unclean") in watch.outcomes()
    assert watch.latest == 1


def test_knows_a_payment_that_is_not_final_yet(operator, guard):
    operator.deposit(3 * ETHER)
    operator.deposit(ETHER, owner=3)
    watch = guard()
    operator.publish([operator.leaf(1, 3 * ETHER, exit_entry=7), operator.leaf(2, ETHER, owner=3)])
    watch.rounds()
    operator.node.pass_time(DELAY)
    operator.withdraw(1)
    operator.node("evm_increaseTime", WINDOW)
    operator.deposit(3 * ETHER, owner=4)
    operator.publish([operator.leaf(1, 3 * ETHER, exit_entry=7), operator.leaf(2, ETHER, owner=3)])
    watch.rounds()
    assert watch.outcomes() == [(1, "clean"), (2, "unclean")]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda o: [o.leaf(2, 3 * ETHER, owner=3)], "the exit of participant 1 in entry 7 is gone, and was not paid"),
        (
            lambda o: [o.leaf(1, ETHER, exit_entry=7), o.leaf(2, 2 * ETHER, owner=3)],
            "the exit of participant 1 in entry 7 was changed, and was not paid",
        ),
        (
            lambda o: [o.leaf(1, 2 * ETHER), o.leaf(2, ETHER, owner=3)],
            "the exit of participant 1 in entry 7 was changed, and was not paid",
        ),
        (
            lambda o: [o.leaf(1, 2 * ETHER, exit_entry=7), o.leaf(2, ETHER, owner=4)],
            "participant 2 has another address than before",
        ),
    ],
)
def test_vetoes_what_no_honest_operator_changes(operator, guard, change, reason):
    operator.deposit(3 * ETHER)
    watch = guard()
    operator.publish([operator.leaf(1, 2 * ETHER, exit_entry=7), operator.leaf(2, ETHER, owner=3)])
    watch.rounds()
    operator.node.pass_time(DELAY + WINDOW)
    operator.publish(change(operator))
    watch.rounds()
    assert watch.outcomes() == [(1, "clean"), (2, "unclean")]
    assert watch.reason() == reason
    assert watch.latest == 1


def test_takes_what_an_honest_operator_changes(operator, guard):
    """Balances, new participants, new exits, exits with nothing that are gone, and exits that were paid."""
    operator.deposit(6 * ETHER)
    watch = guard()
    operator.publish(
        [
            operator.leaf(1, 2 * ETHER, exit_entry=7),
            operator.leaf(2, ETHER, owner=3),
            operator.leaf(3, 0, owner=4, exit_entry=8),
            operator.leaf(4, 3 * ETHER, owner=5, exit_entry=9),
        ]
    )
    watch.rounds()
    operator.node.pass_time(DELAY)
    operator.withdraw(1)
    operator.node.pass_time(WINDOW)
    operator.deposit(ETHER, owner=2)
    operator.publish(
        [
            operator.leaf(2, ETHER // 2, owner=3, exit_entry=11),
            operator.leaf(4, 3 * ETHER, owner=5, exit_entry=9),
            operator.leaf(5, ETHER * 3 // 2),
        ]
    )
    watch.rounds()
    assert watch.outcomes() == [(1, "clean"), (2, "clean")]
    assert watch.latest == 2


def test_a_changed_mirror_makes_no_root_unclean(operator, guard):
    operator.deposit(ETHER)
    watch = guard()
    operator.publish([operator.leaf(1, ETHER)])
    watch.rounds()
    operator.node.pass_time(DELAY + WINDOW)
    kept = watch.folder / str(operator.group) / "1.json"
    kept.write_text(kept.read_text().replace(operator.node.accounts[2].lower(), operator.node.accounts[3].lower()))
    operator.publish([operator.leaf(1, ETHER)])
    watch.rounds()
    assert watch.outcomes()[-1] == (2, "clean")
    assert "other root" in watch.reason()
    assert watch.latest == 2


def test_goes_on_where_it_was_killed(operator, guard):
    operator.deposit(ETHER)
    operator.publish([operator.leaf(1, ETHER)], serve=False)
    watch = guard()
    watch.rounds()
    wanted_at = watch.guardian.roots()[0].wanted_at
    operator.node.pass_time(DELAY * 5 // 8)
    # Another process: it has to try once itself before it calls anything withheld.
    again = guard()
    again.guardian.round()
    assert again.outcomes() == []
    assert again.guardian.roots()[0].wanted_at == wanted_at
    again.rounds()
    assert again.outcomes() == [(1, "withheld")]
    # And another one before the veto was seen: the record says what is to be done.
    third = guard()
    third.rounds()
    assert third.latest == 0
    assert third.outcomes() == []


def test_a_decision_survives_a_kill_before_the_veto(operator, guard, monkeypatch):
    operator.deposit(ETHER)
    operator.publish([operator.leaf(1, ETHER)], serve=False)
    watch = guard()
    watch.rounds()
    operator.node.pass_time(DELAY // 2)
    watch.retry()
    monkeypatch.setattr(watch.guardian, "send_vetoes", lambda *_: None)
    watch.rounds()
    assert watch.latest == 1
    again = guard()
    again.rounds(1)
    assert again.latest == 0


def test_a_guardian_that_was_away_does_not_veto_what_it_can_get(operator, guard):
    operator.deposit(ETHER)
    operator.publish([operator.leaf(1, ETHER)])
    operator.node.pass_time(DELAY - 60)
    watch = guard()
    watch.rounds()
    assert watch.outcomes() == [(1, "clean")]
    assert watch.latest == 1


def test_a_guardian_that_was_away_vetoes_what_it_cannot_get(operator, guard):
    operator.deposit(ETHER)
    operator.publish([operator.leaf(1, ETHER)], serve=False)
    operator.node.pass_time(DELAY - 60)
    watch = guard()
    watch.rounds()
    assert watch.outcomes() == [(1, "withheld")]
    assert watch.latest == 0


def test_reports_a_root_that_became_ripe_without_a_check_and_still_mirrors_it(operator, guard):
    operator.deposit(ETHER)
    snapshot = operator.publish([operator.leaf(1, ETHER)], serve=False)
    operator.node.pass_time(DELAY)
    watch = guard()
    watch.rounds()
    assert next(line["event"] for line in watch.lines if line["level"]) == "ripe_without_check"
    assert watch.guardian.metrics.unchecked == 1
    assert watch.latest == 1
    operator.serve(snapshot)
    operator.node.finalize()
    watch.retry()
    watch.rounds()
    assert watch.outcomes() == [(1, "clean")]
    assert watch.mirrored() == ["1.json"]
    assert watch.guardian.metrics.unchecked == 1
    assert watch.guardian.roots() == []


def test_a_node_that_is_away_is_no_reason_for_a_veto(operator, guard, monkeypatch):
    operator.deposit(ETHER)
    snapshot = operator.publish([operator.leaf(1, ETHER)], serve=False)
    watch = guard()
    watch.rounds()
    request = watch.node.request

    def away(method: str, *parameters: Any) -> Any:
        raise Later("it does not answer")

    monkeypatch.setattr(watch.node, "request", away)
    operator.node.pass_time(DELAY * 3 // 4)
    watch.retry()
    for _ in range(3):
        with pytest.raises(Later):
            watch.guardian.round()
    operator.serve(snapshot)
    monkeypatch.setattr(watch.node, "request", request)
    # What failed before the node was away does not count as what was tried since: the source is asked once more.
    watch.rounds()
    assert watch.latest == 1
    assert watch.outcomes() == [(1, "clean")]


def test_a_node_that_leaves_out_payments_decides_nothing(operator, guard, monkeypatch):
    operator.deposit(3 * ETHER)
    operator.cycle([operator.leaf(1, 3 * ETHER, exit_entry=7)], pay=(1,))
    operator.deposit(3 * ETHER, owner=4)
    operator.publish([operator.leaf(1, 3 * ETHER, exit_entry=7)])
    watch = guard()
    logs = watch.node.logs
    monkeypatch.setattr(watch.node, "logs", lambda *arguments: [log for log in logs(*arguments) if log.name != "Paid"])
    with pytest.raises(Later, match="of 3000000000000000000"):
        watch.guardian.round()
    assert watch.outcomes() == []


def test_the_slow_sources_of_other_groups_keep_no_root_from_being_tried(operator, guard, monkeypatch):
    monkeypatch.setattr("bridge.guardian.FETCHES", 0)
    operator.deposit(ETHER)
    operator.publish([operator.leaf(1, ETHER)])
    watch = guard()
    watch.rounds()
    assert watch.outcomes() == []
    operator.node.pass_time(DELAY // 2)
    watch.rounds()
    assert watch.outcomes() == [(1, "clean")]
    assert watch.latest == 1


def flooded(anvil: Anvil, vault: str, operator: Operator, watch: Watch) -> tuple[list[Operator], Operator]:
    """More groups without money than there are attempts at once, and at last one with money; a root of each."""
    garbage = [operator, *(Operator(anvil, vault, next(GROUPS), operator.served) for _ in range(2 * FETCHES))]
    victim = Operator(anvil, vault, next(GROUPS), operator.served)
    victim.deposit(ETHER)
    for each in garbage:
        each.publish([], serve=False)
    victim.publish([victim.leaf(1, ETHER)], serve=False)
    groups = frozenset(each.group for each in [*garbage, victim])
    watch.guardian.watched = replace(watch.guardian.watched, groups=groups)
    return garbage, victim


def test_sources_that_drip_keep_no_root_from_its_last_attempt(anvil, vault, operator, guard, monkeypatch):
    """They answer at once at first, so that each root was tried, and never end from half of the delay on."""
    watch = guard()
    garbage, victim = flooded(anvil, vault, operator, watch)
    late, released = threading.Event(), threading.Event()

    def fetch(_: Source, group: int, *__: Any) -> None:
        if late.is_set() and group != victim.group:
            released.wait()
        raise Missing("it is not there")

    monkeypatch.setattr("bridge.guardian.fetch", fetch)
    watch.rounds(4)
    attempts = watch.guardian.attempts
    assert len(attempts) == len(garbage) + 1
    late.set()
    try:
        anvil.pass_time(DELAY // 2)
        watch.guardian.round()
        until(lambda: attempts[victim.previous].ended_at is not None, "the last attempt at the root to end")
        watch.guardian.round()
        decided = [(line["group_id"], line["outcome"]) for line in watch.lines if line["event"] == "root"]
        assert decided == [(victim.group, "withheld")]
        assert victim.view("latest", victim.group)[0] == 0
        assert all(attempts[each.previous].ended_at is None for each in garbage)
    finally:
        released.set()


def test_vetoes_the_root_of_most_money_first(anvil, vault, operator, guard):
    watch = guard()
    _, victim = flooded(anvil, vault, operator, watch)
    anvil.pass_time(DELAY - 60)
    watch.rounds()
    sent = [line["header"] for line in watch.lines if line["event"] == "transaction"]
    assert len(sent) == 2 * FETCHES + 2
    assert sent[0] == victim.previous


def test_a_group_that_has_to_wait_does_not_keep_others_waiting(anvil, vault, operator, guard, monkeypatch):
    other = Operator(anvil, vault, next(GROUPS), operator.served)
    for each in (operator, other):
        each.deposit(ETHER)
        each.publish([each.leaf(1, ETHER)])
    watch = guard()
    watch.guardian.watched = replace(watch.guardian.watched, groups=frozenset([operator.group, other.group]))
    paid = watch.guardian.paid

    def left_out(group: int, *rest: Any) -> Any:
        if group == operator.group:
            raise Later("payments are left out")
        return paid(group, *rest)

    monkeypatch.setattr(watch.guardian, "paid", left_out)
    for _ in range(3):
        watch.wait()
        with pytest.raises(Later, match="left out"):
            watch.guardian.round()
    assert [line["group_id"] for line in watch.lines if line["event"] == "root"] == [other.group]


def test_finds_a_root_that_the_node_leaves_out_of_the_events(operator, guard, monkeypatch):
    operator.deposit(ETHER)
    operator.publish([operator.leaf(1, ETHER), operator.leaf(1, 0)])
    operator.node.pass_time(DELAY - 60)
    watch = guard()
    monkeypatch.setattr(watch.node, "logs", lambda *_: [])
    watch.rounds()
    assert watch.outcomes() == [(1, "withheld")]
    assert watch.latest == 0


def test_a_reorganization_of_a_payment_does_not_make_the_exit_unclean(operator, guard):
    operator.deposit(3 * ETHER)
    watch = guard()
    operator.publish([operator.leaf(1, 3 * ETHER, exit_entry=7)])
    watch.rounds()
    operator.node.pass_time(DELAY)
    kept = operator.node("evm_snapshot")
    operator.withdraw(1)
    watch.rounds()
    operator.node("evm_revert", kept)
    operator.settled = 0
    operator.node.pass_time(WINDOW)
    operator.publish([operator.leaf(1, 3 * ETHER, exit_entry=7)])
    watch.rounds()
    assert watch.outcomes() == [(1, "clean"), (2, "clean")]
    assert watch.latest == 2


def test_a_full_disk_is_no_reason_for_a_veto(operator, guard):
    operator.deposit(ETHER)
    operator.publish([operator.leaf(1, ETHER)])
    operator.node.pass_time(DELAY - 60)
    watch = guard(largest=1 << 62)
    watch.rounds()
    assert watch.latest == 1
    assert watch.outcomes() == []
    assert "bytes are free" in str(watch.lines)


def test_a_lack_of_threads_is_no_reason_for_a_veto(operator, guard, monkeypatch):
    operator.deposit(ETHER)
    operator.publish([operator.leaf(1, ETHER)])
    operator.node.pass_time(DELAY - 60)
    watch = guard()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        watch.rounds()
    assert (watch.latest, watch.outcomes()) == (1, [])
    watch.retry()
    watch.rounds()
    assert watch.outcomes() == [(1, "clean")]


def no_thread(thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def test_a_snapshot_that_is_too_large_is_withheld(operator, guard):
    operator.deposit(ETHER)
    operator.publish([operator.leaf(1, ETHER)])
    operator.node.pass_time(DELAY - 60)
    watch = guard(largest=100)
    watch.rounds()
    assert watch.outcomes() == [(1, "withheld")]
    assert "more than 100 bytes" in watch.reason()
    assert watch.latest == 0


def test_keeps_the_newest_snapshots_alone(operator, guard):
    operator.deposit(ETHER)
    watch = guard(keep=3)
    for _ in range(5):
        operator.publish([operator.leaf(1, ETHER)])
        watch.rounds()
        operator.node.pass_time(DELAY + WINDOW)
    assert watch.mirrored() == ["3.json", "4.json", "5.json"]
