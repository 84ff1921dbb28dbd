"""Leaves are paid once, to their owners, in the window of the latest root alone."""

import pytest

from tests.vault.vault import (
    DELAY,
    GUARDIAN,
    NO_ROOT,
    NOBODY,
    PUBLISHER,
    SILENCE,
    WINDOW,
    Books,
    Vault,
    happened,
    person,
    refused,
)


@pytest.fixture
def exited(funded: Books) -> Books:
    """The participants 1 and 3 of the group have exited, with 150 and 250."""
    funded.credit()
    funded.transfer(3, 1, 50)
    funded.exit(1)
    funded.exit(3)
    return funded


def test_pays_an_exit_to_its_owner(exited: Books) -> None:
    root = exited.cycle()
    paid = exited.pay(root, 1)
    assert exited.vault.evm.balance(person(1)) == 150
    assert happened(paid, "Paid") == [
        {"group": 7, "number": 1, "index": 0, "participant_id": 1, "exit_entry": 1, "owner": person(1), "amount": 150},
    ]
    assert (exited.held(), exited.vault.read("paid", 7), exited.vault.balance) == (450, 150, 450)
    assert exited.vault.read("spent", 7, 1, 0) is True
    assert exited.vault.read("spent", 7, 1, 2) is False


def test_pays_a_leaf_once(exited: Books) -> None:
    root = exited.cycle()
    exited.pay(root, 1)
    with refused("spent"):
        exited.vault.send("withdraw", *root.of(1))
    exited.pay(root, 3)
    assert exited.held() == 200


def test_pays_an_exit_of_a_later_root_that_was_not_paid_before(exited: Books) -> None:
    exited.cycle()
    exited.vault.wait(WINDOW)
    exited.pay(exited.cycle(), 1)
    assert exited.vault.evm.balance(person(1)) == 150


def test_pays_nothing_for_a_leaf_of_nothing(books: Books) -> None:
    books.people = {1: [person(1), 0]}
    books.exit(1)
    root = books.cycle()
    assert happened(books.pay(root, 1), "Paid")[0]["amount"] == 0
    with refused("spent"):
        books.vault.send("withdraw", *root.of(1))


@pytest.mark.parametrize(
    ("wait", "word"),
    [(0, "young"), (DELAY - 1, "young"), (DELAY + WINDOW, "expired"), (DELAY + WINDOW + SILENCE, "expired")],
)
def test_refuses_a_root_out_of_its_window(exited: Books, wait: int, word: str) -> None:
    root = exited.publish()
    exited.vault.wait(wait)
    with refused(word):
        exited.pay(root, 1)


@pytest.mark.parametrize("wait", [DELAY, DELAY + WINDOW - 1])
def test_pays_from_the_first_to_the_last_second_of_the_window(exited: Books, wait: int) -> None:
    root = exited.publish()
    exited.vault.wait(wait)
    exited.pay(root, 1)


def test_refuses_a_vetoed_root(exited: Books) -> None:
    root = exited.publish()
    exited.vault.send("veto", 7, by=GUARDIAN)
    exited.vault.wait(DELAY)
    with refused("header"):
        exited.pay(root, 1)


def test_refuses_an_older_root(exited: Books) -> None:
    first = exited.cycle()
    exited.vault.wait(WINDOW)
    exited.cycle()
    with refused("header"):
        exited.pay(first, 1)


def test_refuses_the_root_before_while_the_latest_is_young(exited: Books) -> None:
    first = exited.cycle()
    exited.vault.wait(WINDOW)
    exited.publish()
    with refused("header"):
        exited.pay(first, 1)


def test_refuses_the_root_before_a_vetoed_one(exited: Books) -> None:
    first = exited.cycle()
    exited.vault.wait(WINDOW)
    exited.publish()
    exited.vault.send("veto", 7, by=GUARDIAN)
    with refused("expired"):
        exited.pay(first, 1)


def test_refuses_a_group_without_a_root(exited: Books) -> None:
    root = exited.checkpoint()
    with refused("header"):
        exited.pay(root, 1)


def test_refuses_a_present_participant(exited: Books) -> None:
    root = exited.cycle()
    with refused("present"):
        exited.vault.send("withdraw", *root.of(2))


def test_refuses_a_leaf_without_an_owner(exited: Books) -> None:
    exited.exits[1]["owner"] = NOBODY
    root = exited.cycle()
    with refused("owner"):
        exited.pay(root, 1)


def test_refuses_the_proof_of_another_group(exited: Books, vault: Vault) -> None:
    other = Books(vault, group=8).open()
    for participant in (1, 2, 3):
        other.deposit(participant, 100 * participant)
    other.credit()
    other.exit(1)
    theirs, root = other.cycle(), exited.cycle()
    header, leaf, proof = theirs.of(1)
    with refused("header"):
        vault.send("withdraw", (7, *header[1:]), leaf, proof)
    with refused("root"):
        vault.send("withdraw", root.of(1)[0], leaf, proof)
    assert (vault.read("held", 7), vault.read("held", 8)) == (600, 600)


def test_refuses_the_proof_of_another_vault_or_chain(exited: Books) -> None:
    vault, root = exited.vault, exited.cycle()
    for place in ({"chain_id": 1}, {"vault": vault.deploy()}):
        other = root.altered(**place).altered(root.leaves)
        assert other.header["header"] != root.header["header"]
        header, leaf, proof = other.of(1)
        with refused("header"):
            vault.send("withdraw", header, leaf, proof)
        with refused("root"):
            vault.send("withdraw", root.of(1)[0], leaf, proof)


def test_pays_many_and_skips_those_that_are_paid(exited: Books) -> None:
    root = exited.cycle()
    exited.pay(root, 1)
    header = root.of(1)[0]
    leaves, proofs = zip(*(root.of(participant)[1:] for participant in (1, 3, 3)), strict=True)
    paid = exited.vault.send("withdraw_many", header, leaves, proofs)
    assert [each["participant_id"] for each in happened(paid, "Paid")] == [3]
    assert exited.vault.evm.balance(person(1)) == 150
    assert exited.vault.evm.balance(person(3)) == 250
    assert exited.held() == 200
    exited.vault.send("withdraw_many", header, [], [])


def test_pays_none_of_many_if_one_is_refused(exited: Books) -> None:
    root = exited.cycle()
    header = root.of(1)[0]
    leaves, proofs = zip(*(root.of(participant)[1:] for participant in (1, 2)), strict=True)
    with refused("present"):
        exited.vault.send("withdraw_many", header, leaves, proofs)
    with refused("proofs"):
        exited.vault.send("withdraw_many", header, leaves, proofs[:1])
    assert exited.held() == 600


@pytest.mark.parametrize(("wait", "word"), [(DELAY - 1, "young"), (DELAY + WINDOW, "expired")])
def test_pays_many_in_the_window_alone(exited: Books, wait: int, word: str) -> None:
    root = exited.publish()
    exited.vault.wait(wait)
    header, leaf, proof = root.of(1)
    with refused(word):
        exited.vault.send("withdraw_many", header, [leaf], [proof])


def test_pays_sixty_four_at_once(books: Books) -> None:
    for participant in range(1, 66):
        books.deposit(participant, 1_000 + participant)
    books.credit()
    for participant in range(1, 66):
        books.exit(participant)
    root = books.cycle()
    header = root.of(1)[0]
    leaves, proofs = zip(*(root.proof(index)[1:] for index in range(65)), strict=True)
    with refused(""):
        books.vault.send("withdraw_many", header, leaves, proofs)
    paid = books.vault.send("withdraw_many", header, leaves[:64], proofs[:64])
    assert len(happened(paid, "Paid")) == 64
    assert books.held() == 1_065


def test_paid_stands_still_while_a_root_is_in_flight(exited: Books) -> None:
    """What settles a root is known before the next one is made."""
    first = exited.cycle()
    exited.pay(first, 1)
    exited.vault.wait(WINDOW)
    second = exited.publish()
    for root, word in ((first, "header"), (second, "young")):
        with refused(word):
            exited.vault.send("withdraw", *root.of(3))
    assert exited.vault.read("paid", 7) == 150


def test_a_number_that_was_vetoed_leaves_nothing_spent(exited: Books) -> None:
    exited.publish()
    exited.vault.send("veto", 7, by=GUARDIAN)
    exited.previous = NO_ROOT
    exited.pay(exited.cycle(), 1)
    assert exited.vault.evm.balance(person(1)) == 150
    assert exited.vault.read("publisher") == PUBLISHER
