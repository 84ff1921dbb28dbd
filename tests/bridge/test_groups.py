"""When a group gets a root, which exits are paid, and what vetoes, requests and emergencies do."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from bridge import contract, follow, publish, run
from bridge.halts import EXIT_STATUS, Later
from bridge.ledger import Call, Ledger, connect
from bridge.metrics import SHOWN
from tests.bridge.test_transactions import Events, events  # noqa: F401
from tests.bridge.world import BRIDGE, DELAY, ETHER, OTHER, PUBLISHER, SILENCE, WINDOW, World, link
from tests.support import one

CYCLE = DELAY + WINDOW


def started(world: World, *owners: str) -> list[int]:
    """Have owners deposit an ether each, and publish the first root; return their participants."""
    for owner in owners:
        world.deposit(owner, ETHER)
    world.node.finalize()
    world.settle_down(2)
    assert world.states() == ["accepted"]
    return [world.participant(owner) for owner in owners]


def test_a_group_that_holds_nothing_gets_no_root(world: World) -> None:
    world.settle_down(2)
    world.node.pass_time(SILENCE)
    world.settle_down(2)
    assert world.states() == []


def test_a_group_that_holds_something_gets_four_roots_in_a_silence(world: World) -> None:
    started(world, world.alice)
    world.node.pass_time(CYCLE)
    world.settle_down(1)
    assert world.states() == ["closed"]
    world.node.pass_time(SILENCE // 4 - CYCLE)
    world.settle_down(2)
    assert world.states() == ["closed", "accepted"]


def test_an_exit_is_paid_at_once_and_the_group_then_rests(world: World) -> None:
    (alice,) = started(world, world.alice)
    world.leave(alice)
    world.node.pass_time(CYCLE)
    world.settle_down(2)
    world.node.pass_time(DELAY)
    world.settle_down(2)
    assert world.payouts() == [("exit", ETHER)]
    world.node.pass_time(WINDOW)
    world.settle_down(1)
    world.node.pass_time(SILENCE)
    world.settle_down(2)
    assert world.states() == ["closed", "closed"]
    assert world.discrepancies() == []


def test_exits_below_the_least_amount_are_left_to_others(world: World) -> None:
    alice, bob = started(world, world.alice, world.bob)
    world.options["pay_from"] = ETHER + 1
    world.transfer(alice, bob, 1)
    world.leave(alice)
    world.node.pass_time(CYCLE)
    world.settle_down(1)
    # No root for it alone before its time.
    assert world.states() == ["closed"]
    world.leave(bob)
    world.settle_down(2)
    world.node.pass_time(DELAY)
    world.settle_down(1)
    assert world.payouts() == [("exit", ETHER + 1)]
    world.send(world.guardian, "withdraw", *world.leaf(alice, 2))
    world.node.finalize()
    world.settle_down(1)
    assert sorted(world.payouts()) == [("exit", ETHER - 1), ("exit", ETHER + 1)]


def test_a_requested_exit_is_paid_whatever_its_amount(world: World) -> None:
    alice, bob = started(world, world.alice, world.bob)
    world.options["pay_from"] = 10 * ETHER
    world.transfer(alice, bob, ETHER)
    world.node.pass_time(DELAY)
    world.send(world.alice, "request_exit", *world.leaf(alice, 1))
    world.node.finalize()
    world.settle_down(1)
    world.node.pass_time(WINDOW)
    world.settle_down(2)
    world.node.pass_time(DELAY)
    world.settle_down(1)
    assert world.payouts() == [("exit", 0)]
    assert world.view("requested", world.group, alice, world.alice) == 0


def test_an_exit_of_nothing_is_settled_once_no_request_can_follow(world: World) -> None:
    alice, bob = started(world, world.alice, world.bob)
    world.transfer(alice, bob, ETHER)
    world.leave(alice)
    world.settle_down(1)
    assert world.payouts() == []
    world.node.pass_time(SILENCE // 4)
    world.settle_down(2)
    assert (world.payouts(), world.states()) == ([], ["closed", "accepted"])
    # As long as the root before is ripe, it could be requested; then nothing is paid on the chain.
    nonce = world.node("eth_getTransactionCount", run_payer(world), "latest")
    world.node.pass_time(CYCLE)
    world.settle_down(1)
    assert world.payouts() == [("exit", 0)]
    assert world.node("eth_getTransactionCount", run_payer(world), "latest") == nonce
    assert world.discrepancies() == []


def test_exits_of_nothing_are_settled_some_in_a_round(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publish, "SETTLED", 1)
    alice, bob, carol = started(world, world.alice, world.bob, world.carol)
    for leaving in (alice, carol):
        world.transfer(leaving, bob, ETHER)
        world.leave(leaving)
    world.settle_down(1)
    world.node.pass_time(SILENCE // 4)
    world.settle_down(2)
    world.node.pass_time(CYCLE)
    world.node.finalize()
    settled = []
    for _ in range(2):
        assert world.bridge() == 0
        settled.append((world.payouts(), world.states()))
    assert settled == [([("exit", 0)], ["closed", "accepted"]), ([("exit", 0)] * 2, ["closed", "closed"])]


def run_payer(world: World) -> str:
    payer = world.plan().payer
    assert payer is not None
    return str(payer.address)


def test_an_exit_of_nothing_that_is_requested_after_it_is_paid_on_the_chain(world: World) -> None:
    # Nothing could ever answer the request, and the group would end, if the exit had been settled at once.
    alice, bob = started(world, world.alice, world.bob)
    world.transfer(alice, bob, ETHER)
    world.leave(alice)
    world.settle_down(1)
    world.node.pass_time(DELAY)
    world.send(world.alice, "request_exit", *world.leaf(alice, 1))
    world.node.finalize()
    world.settle_down(1)
    world.node.pass_time(WINDOW)
    world.settle_down(2)
    world.node.pass_time(DELAY)
    world.settle_down(1)
    assert world.payouts() == [("exit", 0)]
    assert world.view("requested", world.group, alice, world.alice) == 0


def test_a_requested_exit_of_nothing_waits_for_its_payment(world: World) -> None:
    alice, bob = started(world, world.alice, world.bob)
    world.transfer(alice, bob, ETHER)
    world.node.pass_time(DELAY)
    world.send(world.alice, "request_exit", *world.leaf(alice, 1))
    world.node.finalize()
    world.options["payer"] = None
    world.settle_down(1)
    world.node.pass_time(WINDOW)
    world.settle_down(2)
    world.node.pass_time(CYCLE)
    world.settle_down(1)
    # Its window is over, and nobody has paid it.
    assert world.states()[:2] == ["closed", "closed"]
    assert world.payouts() == []
    del world.options["payer"]
    world.settle_down(2)
    world.node.pass_time(DELAY)
    world.settle_down(1)
    assert world.payouts() == [("exit", 0)]
    assert world.view("requested", world.group, alice, world.alice) == 0


def test_an_exit_of_nothing_that_anybody_withdraws_is_settled_by_it(world: World) -> None:
    alice, bob = started(world, world.alice, world.bob)
    world.transfer(alice, bob, ETHER)
    world.leave(alice)
    world.node.pass_time(SILENCE // 4)
    world.settle_down(2)
    world.node.pass_time(DELAY)
    world.send(world.guardian, "withdraw", *world.leaf(alice, 2))
    world.node.finalize()
    world.settle_down(1)
    assert world.payouts() == [("exit", 0)]
    world.node.pass_time(WINDOW)
    world.settle_down(1)
    assert world.states()[:2] == ["closed", "closed"]


def test_an_emergency_pays_an_exit_of_nothing_that_was_settled_without_a_payment(world: World) -> None:
    alice, bob = started(world, world.alice, world.bob)
    world.transfer(alice, bob, ETHER)
    world.leave(alice)
    world.node.pass_time(SILENCE // 4)
    world.settle_down(2)
    world.node.pass_time(CYCLE)
    world.settle_down(1)
    assert world.payouts() == [("exit", 0)]
    proofs = [world.leaf(alice, 2), world.leaf(bob, 2)]
    world.node.pass_time(SILENCE)
    world.send(world.bob, "declare_emergency", world.group)
    for proof in proofs:
        world.send(world.guardian, "withdraw", *proof)
    world.node.finalize()
    world.settle_down(1)
    assert sorted(world.payouts()) == [("exit", 0), ("present", 2 * ETHER)]
    assert world.discrepancies() == []


def test_many_exits_are_paid_in_few_transactions(world: World) -> None:
    owners = [f"0x{number:040x}" for number in range(0xABC00, 0xABC00 + 20)]
    for owner in owners:
        world.send(world.alice, "deposit", world.group, owner, value=ETHER)
    world.node.finalize()
    world.settle_down(2)
    for owner in owners:
        world.leave(world.participant(owner))
    world.node.pass_time(CYCLE)
    world.settle_down(2)
    world.node.pass_time(DELAY)
    world.settle_down(1)
    assert world.payouts() == [("exit", ETHER)] * 20
    assert {world.node.balance(owner) for owner in owners} == {ETHER}
    query = "select count(*) from ledger.bridge_transactions where purpose = 'withdraw'"
    assert one(world.admin, query) == (2,)
    assert world.discrepancies() == []


def test_an_exit_that_somebody_else_pays_is_not_paid_again(world: World, events: Events) -> None:  # noqa: F811
    (alice,) = started(world, world.alice)
    world.leave(alice)
    world.node.pass_time(CYCLE)
    world.settle_down(2)
    world.node.pass_time(DELAY)
    world.send(world.guardian, "withdraw", *world.leaf(alice, 2))
    world.settle_down(1)
    assert world.payouts() == [("exit", ETHER)]
    assert one(world.admin, "select count(*) from ledger.bridge_transactions where purpose = 'withdraw'") == (0,)
    assert "payment_refused" not in [event["event"] for event in events()]


def test_without_a_payer_exits_are_left_to_others(world: World) -> None:
    world.options["payer"] = None
    (alice,) = started(world, world.alice)
    world.leave(alice)
    world.node.pass_time(CYCLE)
    world.settle_down(2)
    world.node.pass_time(DELAY)
    world.settle_down(1)
    assert world.payouts() == []
    world.send(world.alice, "withdraw", *world.leaf(alice, 2))
    world.node.finalize()
    world.settle_down(1)
    assert world.payouts() == [("exit", ETHER)]


def test_after_a_veto_the_next_root_follows_the_last_accepted_one(world: World) -> None:
    (alice,) = started(world, world.alice)
    world.leave(alice)
    world.node.pass_time(CYCLE)
    world.settle_down(2)
    assert world.states() == ["closed", "accepted"]
    world.send(world.guardian, "veto", world.group)
    world.node.finalize()
    world.settle_down(1)
    # Not at once, or a veto would cost a root in each block.
    assert world.states() == ["closed", "vetoed"]
    world.node.pass_time(CYCLE)
    world.settle_down(2)
    assert world.states() == ["closed", "vetoed", "accepted"]
    world.node.pass_time(DELAY)
    world.settle_down(1)
    assert world.payouts() == [("exit", ETHER)]
    assert world.discrepancies() == []


def test_a_checkpoint_that_waited_for_too_long_is_abandoned(world: World, events: Events) -> None:  # noqa: F811
    started(world, world.alice)
    world.node.pass_time(SILENCE // 4)
    world.settle_down(1)
    # The next one was prepared and never sent, and a deposit came that it does not include.
    with world.database.connect(BRIDGE) as session:
        if world.states() == ["closed"]:
            session.execute("select ledger.prepare_publication(%s)", [world.group])
    assert world.states()[-1] in ("prepared", "accepted")
    if world.states()[-1] == "accepted":
        world.node.pass_time(CYCLE)
        run_once_without_root(world)
        with world.database.connect(BRIDGE) as session:
            session.execute("select ledger.prepare_publication(%s)", [world.group])
    world.deposit(world.bob, ETHER)
    world.node.pass_time(SILENCE)
    world.settle_down(3)
    assert "publication_abandoned" in [event["event"] for event in events()]
    assert world.states()[-2:] == ["abandoned", "accepted"]
    assert world.discrepancies() == []


def run_once_without_root(world: World) -> None:
    assert world.bridge() == 0
    assert world.states()[-1] == "closed"


def test_a_closed_group_is_recorded(world: World) -> None:
    world.settle_down(1)
    world.send(PUBLISHER.address, "close", world.group)
    world.node.finalize()
    world.settle_down(1)
    world.ledger.execute("select ledger.remove_group(%s)", [world.group])


def test_each_group_has_its_own_roots(world: World) -> None:
    other = link(world.node, world.database, world.vault, "other")
    world.deposit(world.alice, ETHER)
    world.deposit(world.bob, 2 * ETHER, other)
    world.node.finalize()
    world.settle_down(2)
    query = "select group_id, number, state from ledger.publications order by 1, 2"
    assert world.admin.execute(query).fetchall() == [(world.group, 1, "accepted"), (other, 1, "accepted")]
    assert world.view("latest", world.group)[0] == world.view("latest", other)[0] == 1


def test_a_group_that_is_linked_later_is_followed_from_its_first_block(world: World) -> None:
    world.settle_down(1)
    world.node.send(PUBLISHER.address, world.vault, contract.call_data("open", world.group + 1))
    world.deposit(world.bob, 2 * ETHER, world.group + 1)
    world.node.finalize()
    assert world.bridge() == 0
    with world.database.connect() as ledger, world.database.connect(BRIDGE) as bridge:
        (other,) = one(ledger, "select id from ledger.create_group('other')")
        assert other == world.group + 1
        bridge.execute("select ledger.link_vault(%s, %s, %s)", [other, 31337, world.vault])
    assert world.bridge() == 0
    query = "select amount from ledger.participants where group_id = %s"
    assert one(world.admin, query, [other]) == (2 * ETHER,)


def halted(world: World, capsys: pytest.CaptureFixture[str], **options: Any) -> dict[str, Any]:
    capsys.readouterr()
    assert world.bridge(**options) == EXIT_STATUS
    line: dict[str, Any] = json.loads(capsys.readouterr().err.splitlines()[-1])
    assert line["event"] == "halted"
    return line


def test_another_publisher_halts(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert halted(world, capsys, publisher=OTHER)["reason"] == "wrong_key"


def test_another_guardian_halts(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert halted(world, capsys, guardian=OTHER.address)["reason"] == "wrong_key"
    guardian = contract.plain(world.guardian)
    assert world.bridge(guardian=guardian) == 0


def test_the_publisher_does_not_pay(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert halted(world, capsys, payer=PUBLISHER)["reason"] == "wrong_key"


def test_a_rotated_publisher_halts(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert world.bridge() == 0
    world.send(PUBLISHER.address, "propose_publisher", OTHER.address)
    world.send(world.guardian, "accept_publisher", OTHER.address)
    world.node.finalize()
    assert halted(world, capsys)["reason"] == "wrong_key"
    assert world.bridge(publisher=OTHER) == 0


def test_a_root_that_was_published_from_elsewhere_halts(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    started(world, world.alice)
    world.node.pass_time(CYCLE)
    forge(world, 9)
    world.node.finalize()
    assert halted(world, capsys)["reason"] == "chain_ahead"
    # As soon as the guardian has vetoed it, it has no effect, and has used its number.
    world.send(world.guardian, "veto", world.group)
    world.node.finalize()
    capsys.readouterr()
    assert world.bridge() == 0
    (said,) = (line for line in lines(capsys) if line["event"] == "unknown_root")
    assert (said["level"], said["group_id"], said["number"]) == ("error", world.group, 9)
    world.node.pass_time(SILENCE // 4)
    world.settle_down(2)
    assert (world.states(), world.view("latest", world.group)[0]) == (["closed", "accepted"], 10)
    assert world.discrepancies() == []


def forge(world: World, number: int) -> None:
    """Publish a root with another number and a stolen key."""
    header = world.leaf(world.participant(world.alice), 1)[0]
    assert isinstance(header, tuple)
    latest = bytes.fromhex(world.view("latest", world.group)[1][2:])
    world.send(PUBLISHER.address, "publish", (header[0], number, latest, *header[3:]))


def test_a_crash_between_an_unknown_root_and_its_veto(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    started(world, world.alice)
    world.node.pass_time(CYCLE)
    forge(world, 2)
    world.send(world.guardian, "veto", world.group)
    world.deposit(world.bob, ETHER)
    world.node.finalize()
    together, calls = Ledger.together, []

    def crash(session: Ledger, batch: list[Call]) -> list[Any]:
        calls.append([call.function for call in batch])
        if "credit_deposit" in calls[-1]:
            raise Later("the database is away")
        return together(session, batch)

    # A transaction for each event.
    monkeypatch.setattr(follow, "BATCH", 1)
    monkeypatch.setattr(Ledger, "together", crash)
    assert world.bridge() == 1
    assert calls[-2:] == [["record_unknown_root", "record_progress"], ["credit_deposit", "record_progress"]]
    monkeypatch.setattr(Ledger, "together", together)
    assert world.bridge() == 0
    assert world.participant(world.bob)


def test_an_unknown_root_with_the_number_of_a_prepared_one(world: World) -> None:
    world.transfer(*started(world, world.alice, world.bob), 1)
    world.node.pass_time(CYCLE)
    run_once_without_root(world)
    with world.database.connect(BRIDGE) as session:
        (number,) = one(session, "select number from ledger.prepare_publication(%s)", [world.group])
    forge(world, number)
    world.send(world.guardian, "veto", world.group)
    world.node.finalize()
    world.node.pass_time(SILENCE // 4)
    world.settle_down(3)
    assert world.states() == ["closed", "abandoned", "accepted"]
    assert world.discrepancies() == []


def test_an_emergency_beside_a_young_root_pays_the_ripe_one(world: World) -> None:
    alice, bob = started(world, world.alice, world.bob)
    world.node.pass_time(SILENCE - DELAY // 2)
    world.transfer(alice, bob, ETHER // 2)
    world.settle_down(2)
    assert world.states() == ["closed", "accepted"]
    world.node.pass_time(DELAY // 2)
    world.send(world.alice, "declare_emergency", world.group)
    world.node.finalize()
    for _ in range(2):
        assert world.bridge() == 0
    assert world.states() == ["closed", "vetoed"]
    for participant in (alice, bob):
        world.send(world.guardian, "withdraw", *world.leaf(participant))
    world.node.finalize()
    assert world.bridge() == 0
    assert world.payouts() == [("present", ETHER)] * 2
    assert world.view("held", world.group) == 0
    assert world.discrepancies() == []


def test_an_unknown_root_that_an_emergency_drops(world: World) -> None:
    (alice,) = started(world, world.alice)
    world.node.pass_time(SILENCE - DELAY // 2)
    forge(world, 5)
    world.node.pass_time(DELAY // 2)
    world.send(world.alice, "declare_emergency", world.group)
    world.node.finalize()
    for _ in range(2):
        assert world.bridge() == 0
    world.send(world.alice, "withdraw", *world.leaf(alice))
    world.node.finalize()
    assert world.bridge() == 0
    assert world.payouts() == [("present", ETHER)]
    assert world.discrepancies() == []


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    output = capsys.readouterr()
    return [json.loads(line) for line in (output.out + output.err).splitlines()]


def test_two_bridges_do_not_work_at_once(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.ledger.PATIENCE", 1)
    first = run.start(world.plan(), run.BridgeMetrics())
    assert first is not None
    try:
        capsys.readouterr()
        assert world.bridge() == 1
        assert json.loads(capsys.readouterr().out.splitlines()[-1])["event"] == "waiting"
    finally:
        first.ledger.close()
    assert world.bridge() == 0


def test_commits_are_durable_whatever_the_login_has_set(world: World) -> None:
    world.admin.execute(f"alter role {BRIDGE} set synchronous_commit = off")
    try:
        session = connect(world.database.url(BRIDGE))
        assert session.session.execute("show synchronous_commit").fetchall() == [("on",)]
        session.close()
    finally:
        world.admin.execute(f"alter role {BRIDGE} reset synchronous_commit")


def test_the_metrics_have_what_the_alerts_need(world: World, tmp_path: Any, metrics_of: Callable[[Any], Any]) -> None:
    file = tmp_path / "bridge.prom"
    world.options["metrics_file"] = file
    (alice,) = started(world, world.alice)
    world.node.pass_time(DELAY)
    world.send(world.alice, "request_exit", *world.leaf(alice, 1))
    world.node.finalize()
    assert world.bridge() == 0
    numbers = metrics_of(file)
    published = world.view("ripe", world.group)[3]
    assert numbers["ledger_bridge_ripe_root_timestamp_seconds", str(world.group)] == published
    assert numbers["ledger_bridge_silence_timestamp_seconds", str(world.group)] == published + SILENCE
    assert numbers["ledger_bridge_open_requests", ""] == numbers["ledger_bridge_open_exits", ""] == 1
    assert numbers["ledger_bridge_lag_blocks", ""] == 4
    assert 99 < numbers["ledger_bridge_balance_ether", "publisher"] < 100
    assert numbers["ledger_bridge_balance_ether", "payer"] == 100
    assert numbers["ledger_bridge_halted", ""] == 0
    assert numbers["ledger_bridge_round_timestamp_seconds", ""] > 0
    assert world.bridge(publisher=OTHER) == EXIT_STATUS
    assert metrics_of(file)["ledger_bridge_halted", "wrong_key"] == 1


@pytest.fixture
def metrics_of() -> Callable[[Any], dict[tuple[str, str], float]]:
    def read(file: Any) -> dict[tuple[str, str], float]:
        families = [*text_string_to_metric_families(file.read_text())]
        assert {family.name for family in families} == {metric.name.removesuffix("_total") for metric in SHOWN}
        samples = [sample for family in families for sample in family.samples]
        return {(sample.name, next(iter(sample.labels.values()), "")): sample.value for sample in samples}

    return read
