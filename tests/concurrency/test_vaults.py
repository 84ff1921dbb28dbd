"""Reports of the bridge beside clients and each other: a group is linked or frozen for all of them at one moment."""

from collections.abc import Callable

import psycopg
import pytest
from psycopg import IsolationLevel

from tests.support import balance, call, create, in_background, one, until, wait_until_blocked
from tests.vaults.conftest import ALICE, BOB, CHAIN, VAULT, chain_hash

BOTH = pytest.mark.parametrize("commits", [True, False], ids=["kept", "undone"])
BRIDGE = "ledger_test_bridge"
FREEZE = (0, chain_hash(9), 9)


@pytest.fixture
def linked(admin, ledger) -> int:
    """A group with a vault."""
    group = create(ledger, "Linked")
    call(admin, "link_vault", group, CHAIN, VAULT)
    return group


def credit(group: int, index: int, owner: str, amount: int, cumulative: int) -> tuple:
    return ("credit_deposit", group, index, owner, amount, cumulative, chain_hash(index + 1), index + 1)


@pytest.fixture
def alice(admin, linked) -> int:
    return call(admin, *credit(linked, 0, ALICE, 100, 100))[0][0]


@pytest.fixture
def bob(admin, linked, alice) -> int:
    return call(admin, *credit(linked, 1, BOB, 50, 150))[0][0]


@pytest.fixture
def present(admin, linked) -> Callable[[], list[tuple[str, int]]]:
    def read() -> list[tuple[str, int]]:
        query = "select username, amount from ledger.current_participants where group_id = %s order by id"
        return [(username, int(amount)) for username, amount in admin.execute(query, [linked])]

    return read


# A group gets its vault


@pytest.mark.parametrize(("commits", "outcome"), [(True, "LG013"), (False, "done")], ids=["kept", "undone"])
def test_a_link_waits_for_a_join(session, overlap, level, group, commits, outcome):
    join, link = ("join_group", group, "eve", 5), ("link_vault", group, CHAIN, VAULT)
    assert overlap(session(level), join, session(role=BRIDGE), link, commits=commits) == outcome


@pytest.mark.parametrize(("commits", "outcome"), [(True, "LG012"), (False, "done")], ids=["kept", "undone"])
def test_a_join_waits_for_a_link(session, overlap, level, group, commits, outcome):
    join, link = ("join_group", group, "eve", 5), ("link_vault", group, CHAIN, VAULT)
    assert overlap(session(role=BRIDGE), link, session(level), join, commits=commits) == outcome


@pytest.mark.parametrize("late_call", [("join_group", "eve", 5), ("checkpoint",)], ids=["join", "checkpoint"])
def test_a_snapshot_from_before_a_link(session, attempt, level, admin, group, late_call):
    late = session(level)
    call(late, "get_group", group)
    call(admin, "link_vault", group, CHAIN, VAULT)
    name, *arguments = late_call
    assert attempt(late, name, group, *arguments) == "LG012"


@pytest.mark.parametrize(("commits", "outcome"), [(True, "LG013"), (False, "done")], ids=["kept", "undone"])
def test_a_link_waits_for_a_checkpoint(session, overlap, level, group, commits, outcome):
    checkpoint, link = ("checkpoint", group), ("link_vault", group, CHAIN, VAULT)
    assert overlap(session(level), checkpoint, session(role=BRIDGE), link, commits=commits) == outcome


def test_a_group_is_linked_at_read_committed_only(session, attempt, group):
    for level in (IsolationLevel.REPEATABLE_READ, IsolationLevel.SERIALIZABLE):
        assert attempt(session(level, BRIDGE), "link_vault", group, CHAIN, VAULT) == "55000"


def test_two_links_make_one(session, overlap, admin, group):
    link = ("link_vault", group, CHAIN, VAULT)
    assert overlap(session(role=BRIDGE), link, session(role=BRIDGE), link) == "done"
    assert one(admin, "select count(*) from ledger.vaults where group_id = %s", [group]) == (1,)


# Credits


@BOTH
def test_a_credit_waits_for_an_exit(session, overlap, level, linked, alice, present, commits):
    leave, deposit = ("exit_group", linked, alice), credit(linked, 1, ALICE, 5, 105)
    assert overlap(session(level), leave, session(level, BRIDGE), deposit, commits=commits) == "done"
    assert present() == [(ALICE, 5 if commits else 105)]


@BOTH
def test_an_exit_waits_for_a_credit_and_takes_it_out(session, overlap, level, linked, alice, admin, commits):
    leave, deposit = ("exit_group", linked, alice), credit(linked, 1, ALICE, 5, 105)
    assert overlap(session(level, BRIDGE), deposit, session(level), leave, commits=commits) == "done"
    query = "select amount from ledger.record where group_id = %s and kind = 'exit'"
    assert one(admin, query, [linked]) == (105 if commits else 100,)


@BOTH
def test_the_same_deposit_is_credited_once(session, overlap, level, linked, present, commits):
    deposit = credit(linked, 0, ALICE, 5, 5)
    assert overlap(session(level, BRIDGE), deposit, session(level, BRIDGE), deposit, commits=commits) == "done"
    assert present() == [(ALICE, 5)]


def test_a_credit_and_a_transfer_are_both_made(session, overlap, level, linked, alice, bob, present):
    deposit, transfer = credit(linked, 2, ALICE, 5, 155), ("transfer", linked, alice, bob, 105)
    assert overlap(session(level, BRIDGE), deposit, session(level), transfer) == "done"
    assert present() == [(ALICE, 0), (BOB, 155)]


def test_a_credit_waits_for_a_username(session, overlap, level, linked, present):
    join, deposit = ("join_group", linked, ALICE, 0, None, None, BOB), credit(linked, 0, ALICE, 5, 5)
    assert overlap(session(level), join, session(level, BRIDGE), deposit) == "done"
    (_, credited) = names = present()
    assert names[0] == (ALICE, 0)
    assert credited[0].startswith(f"{ALICE} ")
    assert credited[1] == 5


@pytest.mark.parametrize(("commits", "outcome"), [(True, "LG010"), (False, "done")], ids=["kept", "undone"])
def test_a_proof_waits_for_a_credit_to_the_address(session, overlap, level, ledger, linked, commits, outcome):
    (mallory,) = one(ledger, "select id from ledger.join_group(%s, 'mallory', 0, address => %s)", [linked, ALICE])
    deposit, proof = credit(linked, 0, ALICE, 5, 5), ("bind_proved_address", linked, mallory, ALICE)
    assert overlap(session(level, BRIDGE), deposit, session(level, BRIDGE), proof, commits=commits) == outcome


# An emergency


@BOTH
def test_an_emergency_waits_for_a_transfer(session, overlap, level, ledger, linked, alice, bob, commits):
    transfer, freeze = ("transfer", linked, alice, bob, 10), ("record_emergency", linked, *FREEZE)
    assert overlap(session(level), transfer, session(level, BRIDGE), freeze, commits=commits) == "done"
    assert balance(ledger, linked, alice) == (90 if commits else 100)
    with pytest.raises(psycopg.Error) as raised:
        call(ledger, "transfer", linked, alice, bob, 1)
    assert raised.value.sqlstate == "LG014"


MOVEMENTS = {
    "transfer": lambda group, alice, bob: ("transfer", group, alice, bob, 10),
    "list": lambda group, alice, bob: ("transfer_all", group, f'[{{"from": {alice}, "to": {bob}, "amount": 10}}]'),
    "exit": lambda group, alice, bob: ("exit_group", group, alice),
    "join": lambda group, alice, bob: ("join_group", group, "eve", 0, None, None, BOB),
}


@pytest.mark.parametrize(("commits", "outcome"), [(True, "LG014"), (False, "done")], ids=["kept", "undone"])
@pytest.mark.parametrize("movement", MOVEMENTS.values(), ids=MOVEMENTS.keys())
def test_every_movement_waits_for_an_emergency(session, overlap, level, linked, alice, bob, movement, commits, outcome):
    freeze = ("record_emergency", linked, *FREEZE)
    later = movement(linked, alice, bob)
    assert overlap(session(level, BRIDGE), freeze, session(level), later, commits=commits) == outcome


@pytest.mark.parametrize("movement", MOVEMENTS.values(), ids=MOVEMENTS.keys())
def test_a_snapshot_from_before_an_emergency_moves_nothing(
    session, attempt, level, admin, linked, alice, bob, movement
):
    late = session(level)
    call(late, "get_participant", linked, alice)
    call(admin, "record_emergency", linked, *FREEZE)
    assert attempt(late, *movement(linked, alice, bob)) == "LG014"


def test_a_credit_waits_for_an_emergency(session, overlap, level, linked, alice):
    freeze, deposit = ("record_emergency", linked, *FREEZE), credit(linked, 1, BOB, 5, 105)
    assert overlap(session(level, BRIDGE), freeze, session(level, BRIDGE), deposit) == "LG014"


@pytest.mark.parametrize("movement", ["exit", "join"])
def test_an_emergency_waits_for_other_movements(session, overlap, level, admin, linked, alice, bob, movement):
    earlier, freeze = MOVEMENTS[movement](linked, alice, bob), ("record_emergency", linked, *FREEZE)
    assert overlap(session(level), earlier, session(level, BRIDGE), freeze) == "done"
    query = "select count(*) from ledger.participants where group_id = %s and exited_at is null and frozen_at is null"
    assert one(admin, query, [linked]) == (0,)


def test_shared_calls_defer_what_an_emergency_has_locked(session, admin, linked, alice, bob):
    freezing, serving = session(role=BRIDGE), session()
    call(freezing, "record_emergency", linked, *FREEZE)
    lines = ([linked] * 2, [alice, bob], [bob, alice], [1, 1])
    query = "select outcome from ledger.transfer_batch(%s, %s, %s, %s)"
    assert serving.execute(query, lines).fetchall() == [("locked",)] * 2
    freezing.commit()
    serving.rollback()
    assert serving.execute(query, lines).fetchall() == [("deferred",)] * 2


# Payouts and publications


@BOTH
def test_the_same_payout_settles_once(session, overlap, level, admin, linked, alice, commits):
    (entry,) = one(admin, "select entry_id from ledger.exit_group(%s, %s)", [linked, alice])
    settle = ("settle_payout", linked, alice, entry, ALICE, 100, chain_hash(7), 7, 0)
    assert overlap(session(level, BRIDGE), settle, session(level, BRIDGE), settle, commits=commits) == "done"
    assert one(admin, "select count(*), sum(amount) from ledger.payouts") == (1, 100)


def test_two_payouts_of_one_exit(session, overlap, level, admin, linked, alice):
    (entry,) = one(admin, "select entry_id from ledger.exit_group(%s, %s)", [linked, alice])
    settle = ("settle_payout", linked, alice, entry, ALICE, 100, chain_hash(7), 7)
    assert overlap(session(level, BRIDGE), (*settle, 0), session(level, BRIDGE), (*settle, 1)) == "LG013"


@BOTH
def test_a_publication_is_prepared_once(session, overlap, level, admin, linked, alice, commits):
    prepare = ("prepare_publication", linked)
    assert overlap(session(level, BRIDGE), prepare, session(level, BRIDGE), prepare, commits=commits) == "done"
    assert one(admin, "select count(*) from ledger.publications") == (1,)
    assert one(admin, "select count(*) from ledger.checkpoints") == (1,)


def test_an_emergency_waits_for_a_publication(session, overlap, level, admin, linked, alice):
    prepare, freeze = ("prepare_publication", linked), ("record_emergency", linked, *FREEZE)
    assert overlap(session(level, BRIDGE), prepare, session(level, BRIDGE), freeze) == "done"


def test_a_publication_waits_for_an_emergency(session, overlap, level, linked, alice):
    prepare, freeze = ("prepare_publication", linked), ("record_emergency", linked, *FREEZE)
    assert overlap(session(level, BRIDGE), freeze, session(level, BRIDGE), prepare) == "LG014"


def test_a_publication_takes_no_lock_from_transfers(session, ledger, linked, alice, bob):
    preparing = session(role=BRIDGE)
    call(preparing, "prepare_publication", linked)
    call(ledger, "transfer", linked, alice, bob, 1)
    preparing.commit()


def test_a_step_is_recorded_once(session, overlap, level, admin, linked, alice):
    call(admin, "prepare_publication", linked)
    accept = ("record_publication", linked, 1, "accepted", chain_hash(7), 7)
    assert overlap(session(level, BRIDGE), accept, session(level, BRIDGE), accept) == "done"
    veto = ("record_publication", linked, 1, "vetoed", chain_hash(8), 8)
    close = ("record_publication", linked, 1, "closed", None, None)
    assert overlap(session(level, BRIDGE), veto, session(level, BRIDGE), close) == "LG013"


# A process that is killed

KILLED = {
    "credit": lambda group, alice: credit(group, 2, ALICE, 5, 155),
    "emergency": lambda group, alice: ("record_emergency", group, *FREEZE),
    "publication": lambda group, alice: ("prepare_publication", group),
    "request": lambda group, alice: ("exit_requested", group, alice, ALICE, chain_hash(7), 7),
}


@pytest.mark.parametrize("killed", KILLED.values(), ids=KILLED.keys())
def test_what_a_killed_process_began_was_not_done(session, admin, ledger, linked, alice, bob, killed):
    working = session(role=BRIDGE)
    call(working, *killed(linked, alice))
    pid = working.info.backend_pid
    admin.execute("select pg_terminate_backend(%s)", [pid])
    gone = "select count(*) from pg_stat_activity where pid = %s"
    until(lambda: one(admin, gone, [pid]) == (0,), "the session to end")
    call(ledger, "transfer", linked, alice, bob, 1)
    assert call(admin, *killed(linked, alice))
    assert one(admin, "select count(*) from ledger.verify()") == (0,)


def test_a_call_that_waits_for_a_killed_one_goes_on(session, attempt, admin, linked, alice):
    working, waiting = session(role=BRIDGE), session(role=BRIDGE)
    call(working, *credit(linked, 1, BOB, 5, 105))
    with in_background(lambda: attempt(waiting, *credit(linked, 1, BOB, 5, 105))) as outcome:
        wait_until_blocked(admin, waiting)
        admin.execute("select pg_terminate_backend(%s)", [working.info.backend_pid])
    assert outcome == ["done"]
    assert one(admin, "select count(*) from ledger.vault_deposits") == (2,)
