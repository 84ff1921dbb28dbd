"""The attacks that earlier designs lost to."""

import pytest

from tests.vault.receivers import REFUSES
from tests.vault.vault import (
    DELAY,
    GUARDIAN,
    NO_ROOT,
    PUBLISHER,
    SILENCE,
    STRANGER,
    WINDOW,
    Books,
    Root,
    Vault,
    person,
    refused,
)

THIEF = person(666)


def leaf(participant: int, owner: str, amount: int, exit_entry: int = 0) -> dict:
    return {"participant_id": participant, "exit_entry": exit_entry, "owner": owner, "amount": amount}


def pay(vault: Vault, root: Root, index: int) -> None:
    vault.send("withdraw", *root.proof(index))


def test_a_publisher_who_deposits_and_lets_the_deposits_go_back_drains_nothing(funded: Books) -> None:
    """Once paid as a leaf, the deposit would be reclaimed, with another group's money."""
    vault = funded.vault
    theirs = Books(vault, group=8).open()
    theirs.vault.send("deposit", 8, THIEF, value=500)
    theirs.deposits = 1
    first = theirs.checkpoint().altered([leaf(1, THIEF, 500, exit_entry=1)])
    theirs.publish(first)
    vault.wait(DELAY)
    pay(vault, first, 0)
    vault.wait(WINDOW)
    with refused("deposits"):
        theirs.publish(theirs.checkpoint(deposits=0, credited=0, settled=500, total=0))
    theirs.vault.send("deposit", 8, THIEF, value=10)
    vault.wait(SILENCE)
    vault.send("declare_emergency", 8)
    with refused("credited"):
        vault.send("reclaim", 8, 0)
    vault.send("reclaim", 8, 1)
    assert (vault.evm.balance(THIEF), vault.read("held", 8), vault.balance) == (510, 0, 600)


def test_there_is_no_slack_between_paid_and_settled_for_an_accomplice(funded: Books) -> None:
    funded.credit()
    funded.exit(1)
    funded.pay(funded.cycle(), 1)
    funded.vault.wait(WINDOW)
    honest = funded.checkpoint()
    accomplice = honest.altered([*honest.leaves, leaf(9, THIEF, 100, exit_entry=9)])
    for settled in (0, 99):
        with refused("settled"):
            funded.publish(accomplice.altered(settled=settled, total=600 - settled))
    with refused("total"):
        funded.publish(accomplice)


def test_a_twin_leaf_of_nothing_does_not_use_up_the_other_one(funded: Books) -> None:
    funded.credit()
    funded.exit(2)
    root = funded.checkpoint()
    twin = root.altered([root.leaves[0], leaf(2, person(2), 0, exit_entry=8), *root.leaves[1:]])
    funded.publish(twin)
    funded.vault.wait(DELAY)
    pay(funded.vault, twin, 1)
    pay(funded.vault, twin, 2)
    assert funded.vault.evm.balance(person(2)) == 200


@pytest.fixture
def request_of_2(funded: Books) -> Books:
    """The participant 2 has requested an exit; the first root is over."""
    root = funded.cycle()
    funded.vault.send("request_exit", *root.of(2), by=person(2))
    funded.vault.wait(WINDOW)
    return funded


def requested(books: Books) -> int:
    return books.vault.read("requested", 7, 2, person(2))


@pytest.mark.parametrize(
    "false",
    [leaf(2, THIEF, 0, exit_entry=8), leaf(9, person(2), 0, exit_entry=8)],
    ids=["of another owner", "of another participant"],
)
def test_a_twin_leaf_of_nothing_does_not_answer_a_request(request_of_2: Books, false: dict) -> None:
    books, since = request_of_2, requested(request_of_2)
    root = books.checkpoint()
    root = books.publish(root.altered([*root.leaves, false]))
    books.vault.wait(DELAY)
    pay(books.vault, root, 3)
    assert requested(books) == since


def test_twins_of_the_same_owner_answer_a_request_until_their_root_is_shown(request_of_2: Books) -> None:
    """The publisher pays the exit of 0, and keeps the participant as present with everything else."""
    books, since = request_of_2, requested(request_of_2)
    vault = books.vault
    for round_ in range(3):
        root = books.checkpoint()
        twins = [leaf(2, person(2), 0, exit_entry=8), leaf(2, person(2), 0, exit_entry=9)]
        root = books.publish(root.altered([*root.leaves, *twins]))
        vault.wait(DELAY)
        pay(vault, root, 3)
        assert requested(books) == 0
        vault.wait(10)
        vault.send("request_exit", *root.proof(1), by=person(2))
        assert requested(books) == since
        pay(vault, root, 4)
        assert requested(books) == since, f"a second twin of the same root answered in round {round_}"
        vault.wait(WINDOW)
    vault.wait(since + SILENCE - vault.evm.time)
    vault.send("declare_emergency_of_request", 7, 2, person(2))
    pay(vault, root, 1)
    assert vault.evm.balance(person(2)) == 200


def test_a_true_answer_is_not_taken_back(request_of_2: Books) -> None:
    """The exited participant has no leaf as present; one who joins again is another one."""
    books = request_of_2
    books.exit(2)
    root = books.cycle()
    books.pay(root, 2)
    with refused("exited"):
        books.vault.send("request_exit", *root.of(2), by=person(2))
    assert requested(books) == 0


def test_a_next_root_fits_after_a_veto_at_any_time(funded: Books) -> None:
    funded.credit()
    funded.exit(1)
    for paid in (False, True):
        root = funded.cycle()
        if not paid:
            funded.pay(root, 1)
        funded.vault.wait(WINDOW)
        previous = funded.previous
        funded.publish()
        funded.vault.wait(DELAY - 1)
        funded.vault.send("veto", 7, by=GUARDIAN)
        funded.previous = previous
    funded.publish()


def test_a_checkpoint_made_too_early_is_refused_and_a_later_one_fits(funded: Books) -> None:
    funded.credit()
    funded.exit(1)
    root = funded.cycle()
    early = funded.checkpoint()
    funded.pay(root, 1)
    with refused("in flight"):
        funded.publish(early)
    funded.vault.wait(WINDOW)
    with refused("settled"):
        funded.publish(early)
    funded.publish()


def test_no_deposit_is_left_out_for_weeks(funded: Books) -> None:
    """Two SILENCE after the deposit it is in a root or is returned."""
    vault = funded.vault
    start = vault.evm.time
    while vault.evm.time < start + SILENCE:
        empty = funded.publish()  # of no deposit at all
        vault.wait(DELAY + WINDOW)
    assert empty.header["total"] == 0
    with refused("deposit left out"):
        funded.publish()
    vault.wait(start + 2 * SILENCE - vault.evm.time)
    vault.send("declare_emergency", 7)
    for index in range(3):
        vault.send("reclaim", 7, index)
    assert funded.held() == 0


def test_withheld_proofs_with_a_root_always_in_flight_keep_no_request_away(funded: Books) -> None:
    """The participant knows the first root alone. All others are withheld, and vetoed."""
    vault, known = funded.vault, funded.cycle()
    vault.wait(WINDOW)
    since = 0
    while not since or vault.evm.time < since + SILENCE:
        funded.publish(funded.checkpoint().altered([leaf(1, THIEF, 600, exit_entry=1)]))
        if not since:
            vault.send("request_exit", *known.of(2), by=person(2))
            since = vault.evm.time
        vault.wait(DELAY - 1)
        vault.send("veto", 7, by=GUARDIAN)
        funded.previous = known.header["header"]
    vault.send("declare_emergency_of_request", 7, 2, person(2))
    for index in range(3):
        pay(vault, known, index)
    assert [vault.evm.balance(person(each)) for each in (1, 2, 3)] == [100, 200, 300]


def test_a_stolen_key_cannot_keep_the_emergency_away_with_roots_that_are_vetoed(funded: Books) -> None:
    vault, known = funded.vault, funded.cycle()
    published = vault.evm.time - DELAY
    vault.wait(WINDOW)
    while vault.evm.time < published + SILENCE:
        with refused("not silent"):
            vault.send("declare_emergency", 7)
        funded.publish(funded.checkpoint().altered([leaf(1, THIEF, 600)]))
        vault.wait(min(DELAY - 1, published + SILENCE - vault.evm.time))
        vault.send("veto", 7, by=GUARDIAN)
        funded.previous = known.header["header"]
    vault.send("declare_emergency", 7)
    pay(vault, known, 1)
    assert vault.evm.balance(person(2)) == 200


def test_a_stolen_key_cannot_use_up_the_numbers(funded: Books) -> None:
    """Vetoed ones are not used again: after 2^64 - 1 nobody could publish."""
    for number in (2**64 - 1, 2**63):
        with refused("number"):
            funded.publish(funded.checkpoint(number=number))


def test_a_stranger_cannot_end_an_idle_group(books: Books) -> None:
    books.cycle()
    books.vault.wait(10 * SILENCE)
    with refused("holds nothing"):
        books.vault.send("declare_emergency", 7)
    books.deposit(5, 10, by=STRANGER)
    books.vault.wait(SILENCE - 1)
    with refused("not silent"):
        books.vault.send("declare_emergency", 7)
    books.cycle()
    with refused("not silent"):
        books.vault.send("declare_emergency", 7)


def test_a_request_of_somebody_without_money_cannot_end_an_empty_group(books: Books) -> None:
    books.people = {1: [person(1), 0]}
    root = books.cycle()
    books.vault.send("request_exit", *root.of(1), by=person(1))
    books.vault.wait(SILENCE)
    with refused("holds nothing"):
        books.vault.send("declare_emergency_of_request", 7, 1, person(1))
    books.vault.wait(WINDOW)
    books.exit(1)
    books.pay(books.cycle(), 1)
    assert books.vault.read("requested", 7, 1, person(1)) == 0


def test_a_receiver_that_refuses_ether_in_an_emergency_stops_nobody(funded: Books) -> None:
    vault = funded.vault
    vault.evm.put_code(person(1), REFUSES)
    vault.wait(SILENCE)
    vault.send("declare_emergency", 7)
    for index in range(3):
        vault.send("reclaim", 7, index)
    assert [vault.evm.balance(person(each)) for each in (1, 2, 3)] == [0, 200, 300]
    assert (funded.held(), vault.read("owed", person(1)), vault.balance) == (0, 100, 100)


def test_a_root_that_pays_the_thief_takes_one_group_at_most(funded: Books) -> None:
    other = Books(funded.vault, group=8).open()
    other.deposit(4, 1_000)
    root = other.cycle()
    funded.credit()
    theft = funded.publish(funded.checkpoint().altered([leaf(1, THIEF, 600, exit_entry=1)]))
    funded.vault.wait(DELAY)
    pay(funded.vault, theft, 0)
    assert (funded.vault.evm.balance(THIEF), funded.vault.balance) == (600, 1_000)
    assert root.header["total"] == other.held() == 1_000


def test_the_vault_as_an_owner_harms_nobody(funded: Books) -> None:
    funded.credit()
    vault = funded.vault
    root = funded.checkpoint()
    root = funded.publish(root.altered([leaf(1, vault.address, 600, exit_entry=1)]))
    vault.wait(DELAY)
    pay(vault, root, 0)
    assert (vault.read("owed", vault.address), funded.held(), vault.balance) == (600, 0, 600)
    with refused("refused"):
        vault.send("collect", vault.address)


def test_a_new_account_and_a_contract_are_paid_alike(funded: Books) -> None:
    funded.credit()
    vault = funded.vault
    vault.evm.put_code(person(2), b"\x00")
    for participant in (1, 2):
        funded.exit(participant)
    root = funded.cycle()
    for participant in (1, 2):
        funded.pay(root, participant)
    assert [vault.evm.balance(person(each)) for each in (1, 2)] == [100, 200]
    assert funded.previous != NO_ROOT
    assert vault.read("publisher") == PUBLISHER
