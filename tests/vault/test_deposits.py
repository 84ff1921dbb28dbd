"""Groups are opened and closed by the publisher; an open one takes deposits."""

import pytest

from tests.vault.vault import (
    DELAY,
    GUARDIAN,
    MINIMUM,
    NOBODY,
    PUBLISHER,
    STRANGER,
    Books,
    Vault,
    happened,
    person,
    refused,
)


def test_records_deposits_in_their_order(funded: Books) -> None:
    vault = funded.vault
    assert vault.read("deposits", 7) == 3
    assert [vault.read("cumulative", 7, count) for count in range(4)] == [0, 100, 300, 600]
    assert vault.read("deposit_of", 7, 1) == (person(2), 200, vault.evm.time, False)
    assert (vault.read("held", 7), vault.balance) == (600, 600)
    assert vault.read("held", 8) == 0
    made = funded.deposit(1, 40)
    assert happened(made, "Deposit") == [
        {"group": 7, "index": 3, "owner": person(1), "amount": 40, "cumulative": 640},
    ]


def test_refuses_to_read_a_deposit_that_is_not_there(funded: Books) -> None:
    with refused("index"):
        funded.vault.read("deposit_of", 7, 3)


def test_notes_when_a_group_begins_to_hold_something(books: Books) -> None:
    start = books.vault.evm.time
    books.deposit(1, 10)
    books.vault.wait(5)
    books.deposit(1, 10)
    assert books.vault.read("filled_at", 7) == start
    books.credit()
    books.exit(1)
    root = books.cycle()
    books.pay(root, 1)
    assert books.held() == 0
    books.vault.wait(50)
    books.deposit(1, 10)
    assert books.vault.read("filled_at", 7) == start + 5 + DELAY + 50


def test_refuses_a_deposit_below_the_minimum(books: Books) -> None:
    with refused("minimum"):
        books.deposit(1, MINIMUM - 1)
    books.deposit(1, MINIMUM)


def test_refuses_a_deposit_into_a_group_that_is_not_open(books: Books) -> None:
    with refused("not open"):
        books.vault.send("deposit", 8, person(1), value=100)
    books.vault.send("close", 7, by=PUBLISHER)
    with refused("not open"):
        books.deposit(1, 100)


@pytest.mark.parametrize("owner", [NOBODY, "the vault"])
def test_refuses_a_deposit_for_an_owner_that_could_never_be_paid(books: Books, owner: str) -> None:
    with refused("owner"):
        books.vault.send("deposit", 7, books.vault.address if owner == "the vault" else owner, value=100)


def test_takes_no_ether_without_a_deposit(vault: Vault) -> None:
    for data in (b"", b"\x01\x02\x03\x04"):
        assert not vault.evm.call(STRANGER, vault.address, data, value=1).succeeded


def test_no_other_function_takes_ether(funded: Books) -> None:
    with refused(""):
        funded.vault.send("open", 8, by=PUBLISHER, value=1)
    with refused(""):
        funded.vault.send("collect", person(1), value=1)


def test_forced_ether_belongs_to_no_group(funded: Books) -> None:
    funded.vault.evm.fund(funded.vault.address, 605)  # the contract is not asked
    assert (funded.vault.balance, funded.held()) == (605, 600)
    funded.cycle()


def test_opens_a_group_once(vault: Vault) -> None:
    assert vault.read("is_open", 7) is False
    opened = vault.send("open", 7, by=PUBLISHER)
    assert happened(opened, "Opened") == [{"group": 7}]
    assert vault.read("is_open", 7) is True
    with refused("opened before"):
        vault.send("open", 7, by=PUBLISHER)
    closed = vault.send("close", 7, by=PUBLISHER)
    assert happened(closed, "Closed") == [{"group": 7}]
    assert vault.read("is_open", 7) is False
    with refused("opened before"):
        vault.send("open", 7, by=PUBLISHER)
    with refused("not open"):
        vault.send("close", 7, by=PUBLISHER)


@pytest.mark.parametrize("key", [GUARDIAN, STRANGER])
@pytest.mark.parametrize("function", ["open", "close"])
def test_only_the_publisher_opens_and_closes(books: Books, key: str, function: str) -> None:
    with refused("publisher"):
        books.vault.send(function, 7, by=key)


def test_refuses_to_close_a_group_that_holds_something(books: Books) -> None:
    books.deposit(1, 100)
    with refused("holds something"):
        books.vault.send("close", 7, by=PUBLISHER)
    books.credit()
    books.exit(1)
    books.pay(books.cycle(), 1)
    books.vault.send("close", 7, by=PUBLISHER)


def test_closes_a_group_with_a_root_in_flight(books: Books) -> None:
    """It holds nothing, so that the root is worth nothing."""
    root = books.publish()
    books.vault.send("close", 7, by=PUBLISHER)
    books.vault.send("veto", 7, by=GUARDIAN)
    with refused("not open"):
        books.publish(root)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ((PUBLISHER, PUBLISHER, 10, 10, 80, 1), "keys"),
        ((NOBODY, GUARDIAN, 10, 10, 80, 1), "keys"),
        ((PUBLISHER, NOBODY, 10, 10, 80, 1), "keys"),
        ((PUBLISHER, GUARDIAN, 0, 10, 80, 1), "times"),
        ((PUBLISHER, GUARDIAN, 10, 0, 80, 1), "times"),
        ((PUBLISHER, GUARDIAN, 10, 10, 79, 1), "times"),
        ((PUBLISHER, GUARDIAN, 10, 10, 2**32, 1), "times"),
        ((PUBLISHER, GUARDIAN, 2**255, 2**255, 80, 1), ""),
        ((PUBLISHER, GUARDIAN, 2**254, 10, 80, 1), ""),
        ((PUBLISHER, GUARDIAN, 10, 10, 80, 0), "minimum"),
    ],
)
def test_refuses_to_be_deployed_with_other_values(vault: Vault, arguments: tuple, word: str) -> None:
    with refused(word):
        vault.deploy(*arguments)


def test_is_deployed_with_the_tightest_times(vault: Vault) -> None:
    vault.address = vault.deploy(PUBLISHER, GUARDIAN, 10, 10, 80, 1)
    assert [vault.read(name) for name in ("CHAIN_ID", "DELAY", "WINDOW", "SILENCE", "MINIMUM")] == [
        31337,
        10,
        10,
        80,
        1,
    ]
    assert (vault.read("publisher"), vault.read("guardian")) == (PUBLISHER, GUARDIAN)
