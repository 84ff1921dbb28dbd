"""A root is published under conditions that leave a dishonest publisher no money to take."""

import pytest

from tests.exits.vectors import octets
from tests.vault.vault import (
    DELAY,
    GUARDIAN,
    NO_ROOT,
    NOBODY,
    PUBLISHER,
    SILENCE,
    STRANGER,
    WINDOW,
    Books,
    Vault,
    happened,
    refused,
)

NEXT = DELAY + WINDOW


def test_publishes_a_root(funded: Books) -> None:
    funded.credit()
    root = funded.checkpoint()
    published = funded.vault.send(
        "publish",
        (7, 1, bytes(32), 3, 600, 0, 3, 600, octets(root.header["root"])),
        by=PUBLISHER,
    )
    assert happened(published, "Published") == [
        {
            "group": 7,
            "number": 1,
            "header": octets(root.header["header"]),
            "deposits": 3,
            "credited": 600,
            "settled": 0,
            "leaf_count": 3,
            "total": 600,
            "root": octets(root.header["root"]),
        }
    ]
    shown = (1, octets(root.header["header"]), 3, funded.vault.evm.time)
    assert funded.vault.read("latest", 7) == shown
    assert funded.vault.read("ripe", 7) == (0, bytes(32), 0, 0)
    funded.vault.wait(DELAY - 1)
    assert funded.vault.read("ripe", 7) == (0, bytes(32), 0, 0)
    funded.vault.wait(1)
    assert funded.vault.read("ripe", 7) == shown


def test_the_root_before_is_the_ripe_one_until_the_next_one_is(funded: Books) -> None:
    first = funded.cycle()
    funded.vault.wait(WINDOW)
    second = funded.publish()
    assert funded.vault.read("ripe", 7)[1] == octets(first.header["header"])
    assert funded.vault.read("latest", 7)[1] == octets(second.header["header"])
    funded.vault.wait(DELAY)
    assert funded.vault.read("ripe", 7)[1] == octets(second.header["header"])


@pytest.mark.parametrize("key", [GUARDIAN, STRANGER])
def test_only_the_publisher_publishes(funded: Books, key: str) -> None:
    with refused("publisher"):
        funded.publish(by=key)


def test_refuses_a_group_that_is_not_open(vault: Vault) -> None:
    books = Books(vault)
    with refused("not open"):
        books.publish()
    books.open()
    books.publish()
    vault.wait(NEXT)
    vault.send("close", 7, by=PUBLISHER)
    with refused("not open"):
        books.publish()


def test_refuses_a_second_root_in_flight(funded: Books) -> None:
    funded.publish()
    for wait in (0, DELAY, WINDOW - 1):
        funded.vault.wait(wait)
        with refused("in flight"):
            funded.publish()
    funded.vault.wait(1)
    funded.publish()


@pytest.mark.parametrize("number", [0, 1, 2])
def test_refuses_a_number_that_is_not_above_every_used_one(funded: Books, number: int) -> None:
    funded.publish()
    funded.vault.wait(NEXT)
    funded.publish()
    funded.vault.send("veto", 7, by=GUARDIAN)
    funded.previous = "0x" + funded.vault.read("latest", 7)[1].hex()
    with refused("number"):
        funded.publish(funded.checkpoint(number=number))
    funded.publish(funded.checkpoint(number=3))


def test_refuses_a_number_that_would_use_up_those_that_follow(funded: Books) -> None:
    for number in (2**32 + 1, 2**63, 2**64 - 1):
        with refused("number"):
            funded.publish(funded.checkpoint(number=number))
    funded.publish(funded.checkpoint(number=2**32))
    funded.vault.wait(NEXT)
    funded.publish(funded.checkpoint(number=2**33))


def test_refuses_a_broken_chain(funded: Books) -> None:
    with refused("previous"):
        funded.publish(funded.checkpoint(previous="0x" + "01" * 32))
    funded.publish()
    funded.vault.wait(NEXT)
    with refused("previous"):
        funded.publish(funded.checkpoint(previous=NO_ROOT))
    second = funded.publish()
    funded.vault.send("veto", 7, by=GUARDIAN)
    with refused("previous"):
        funded.publish(funded.checkpoint(previous=second.header["header"]))


def test_refuses_deposits_that_go_back(funded: Books) -> None:
    funded.cycle()
    funded.vault.wait(WINDOW)
    funded.people.pop(3)
    with refused("deposits"):
        funded.publish(funded.checkpoint(deposits=2, credited=300, total=300))


def test_refuses_more_deposits_than_there_are(funded: Books) -> None:
    funded.credit()
    with refused("deposits"):
        funded.publish(funded.checkpoint(deposits=4))


def test_refuses_to_leave_a_deposit_out_for_silence(funded: Books) -> None:
    funded.cycle()
    funded.deposit(1, 50)
    funded.vault.wait(SILENCE - 1)
    late = funded.checkpoint()
    funded.vault.wait(1)
    with refused("deposit left out"):
        funded.publish(late)
    funded.vault.wait(-1)
    funded.publish(late)


def test_looks_at_the_first_deposit_that_is_left_out(funded: Books) -> None:
    funded.cycle()
    funded.deposit(1, 50)
    funded.vault.wait(SILENCE)
    funded.deposit(1, 60)
    with refused("deposit left out"):
        funded.publish()
    funded.people[1][1] += 50
    funded.deposits = 4
    funded.publish()


@pytest.mark.parametrize("credited", [599, 601])
def test_refuses_another_sum_of_deposits(funded: Books, credited: int) -> None:
    funded.credit()
    with refused("credited"):
        funded.publish(funded.checkpoint(credited=credited, total=credited))


@pytest.mark.parametrize("settled", [99, 101])
def test_refuses_another_settled_sum_than_has_been_paid(funded: Books, settled: int) -> None:
    funded.credit()
    funded.exit(1)
    funded.pay(funded.cycle(), 1)
    funded.vault.wait(WINDOW)
    with refused("settled"):
        funded.publish(funded.checkpoint(settled=settled, total=600 - settled))
    funded.publish()


@pytest.mark.parametrize("total", [0, 599, 601, 2**256 - 1])
def test_refuses_another_total_than_the_vault_holds(funded: Books, total: int) -> None:
    funded.credit()
    with refused("total"):
        funded.publish(funded.checkpoint(total=total))


def test_refuses_a_leaf_count_without_proofs(funded: Books, vault: Vault) -> None:
    funded.credit()
    with refused("leaf count"):
        funded.publish(funded.checkpoint(leaf_count=0))
    with refused("leaf count"):
        funded.publish(funded.checkpoint(leaf_count=2**40 + 1))
    empty = Books(vault, group=8).open()
    with refused("leaf count"):
        empty.publish(empty.checkpoint(root="0x" + "01" * 32))
    empty.publish()
    funded.publish(funded.checkpoint(leaf_count=2**40))


def test_publishes_a_root_of_nothing_but_zeros(books: Books) -> None:
    books.people = {1: [NOBODY, 0], 2: [NOBODY, 0]}
    books.publish()


@pytest.mark.parametrize("key", [PUBLISHER, STRANGER])
def test_only_the_guardian_vetoes(funded: Books, key: str) -> None:
    funded.publish()
    with refused("guardian"):
        funded.vault.send("veto", 7, by=key)


def test_a_veto_makes_the_root_before_the_latest_again(funded: Books) -> None:
    first = funded.cycle()
    funded.vault.wait(WINDOW)
    before = funded.vault.read("latest", 7)
    funded.publish()
    vetoed = funded.vault.send("veto", 7, by=GUARDIAN)
    assert happened(vetoed, "Vetoed") == [{"group": 7, "number": 2}]
    assert funded.vault.read("latest", 7) == funded.vault.read("ripe", 7) == before
    funded.previous = first.header["header"]
    funded.publish()


def test_refuses_to_veto_what_is_ripe(funded: Books) -> None:
    with refused("no root"):
        funded.vault.send("veto", 7, by=GUARDIAN)
    funded.publish()
    funded.vault.wait(DELAY - 1)
    funded.vault.send("veto", 7, by=GUARDIAN)
    with refused("no root"):
        funded.vault.send("veto", 7, by=GUARDIAN)
    funded.previous = NO_ROOT
    funded.publish()
    funded.vault.wait(DELAY)
    with refused("ripe"):
        funded.vault.send("veto", 7, by=GUARDIAN)


def test_a_root_is_vetoed_once(funded: Books) -> None:
    """The one before it is ripe."""
    funded.cycle()
    funded.vault.wait(WINDOW)
    funded.publish()
    funded.vault.send("veto", 7, by=GUARDIAN)
    with refused("ripe"):
        funded.vault.send("veto", 7, by=GUARDIAN)
