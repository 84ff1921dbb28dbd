"""A hostile receiver harms nobody but itself."""

from collections.abc import Callable

import pytest

from tests.vault.receivers import (
    ACCEPTS,
    BURNS,
    REFUSES,
    RETURNS_98_KB,
    REVERTS_WITH_98_KB,
    calls_back,
)
from tests.vault.vault import SILENCE, Books, Root, encoded, happened, person, refused

HOSTILE = {
    "refuses": REFUSES,
    "burns all gas": BURNS,
    "reverts with 98 KB": REVERTS_WITH_98_KB,
}


@pytest.fixture
def exited(funded: Books) -> tuple[Books, Root]:
    """All three have exited, and the root is ripe."""
    funded.credit()
    for participant in (1, 2, 3):
        funded.exit(participant)
    return funded, funded.cycle()


def pay_many(books: Books, root: Root) -> object:
    leaves, proofs = zip(*(root.proof(index)[1:] for index in range(len(root.leaves))), strict=True)
    return books.vault.send("withdraw_many", root.proof(0)[0], leaves, proofs)


@pytest.mark.parametrize("code", HOSTILE.values(), ids=HOSTILE)
def test_what_is_refused_is_kept_for_the_owner(exited: tuple[Books, Root], code: bytes) -> None:
    books, root = exited
    vault = books.vault
    vault.evm.put_code(person(1), code)
    paid = pay_many(books, root)
    assert len(happened(paid, "Paid")) == 3
    assert happened(paid, "Owed") == [{"owner": person(1), "amount": 100}]
    assert [vault.evm.balance(person(each)) for each in (1, 2, 3)] == [0, 200, 300]
    assert (vault.read("owed", person(1)), books.held(), vault.balance) == (100, 0, 100)
    with refused("spent"):
        vault.send("withdraw", *root.of(1))
    with refused("refused"):
        vault.send("collect", person(1), gas=300_000)
    assert vault.read("owed", person(1)) == 100
    vault.evm.put_code(person(1), ACCEPTS)
    collected = vault.send("collect", person(1))
    assert happened(collected, "Collected") == [{"owner": person(1), "amount": 100}]
    assert (vault.evm.balance(person(1)), vault.read("owed", person(1)), vault.balance) == (100, 0, 0)
    with refused("nothing owed"):
        vault.send("collect", person(1))


def test_a_long_return_costs_the_caller_little(exited: tuple[Books, Root]) -> None:
    books, root = exited
    books.vault.evm.put_code(person(1), RETURNS_98_KB)
    books.pay(root, 1)
    assert books.vault.evm.balance(person(1)) == 100


def test_a_receiver_that_needs_more_gas_collects(exited: tuple[Books, Root]) -> None:
    books, root = exited
    vault = books.vault
    vault.evm.put_code(person(1), bytes.fromhex("60015f55 6001600155"))  # two words of storage: 44,000 gas
    assert happened(books.pay(root, 1), "Owed") == [{"owner": person(1), "amount": 100}]
    vault.send("collect", person(1))
    assert vault.evm.balance(person(1)) == 100


def test_a_receiver_that_refuses_its_deposit_has_it_kept(funded: Books) -> None:
    vault = funded.vault
    vault.evm.put_code(person(1), REFUSES)
    vault.wait(SILENCE)
    vault.send("declare_emergency", 7)
    for index in range(3):
        vault.send("reclaim", 7, index)
    assert (vault.read("owed", person(1)), funded.held()) == (100, 0)
    with refused("reclaimed"):
        vault.send("reclaim", 7, 0)


def test_a_receiver_that_refuses_has_its_request_answered(funded: Books) -> None:
    vault, root = funded.vault, funded.cycle()
    vault.send("request_exit", *root.of(1), by=person(1))
    vault.evm.put_code(person(1), REFUSES)
    vault.wait(SILENCE // 2)
    funded.exit(1)
    funded.pay(funded.cycle(), 1)
    vault.wait(SILENCE)
    with refused("no request"):
        vault.send("declare_emergency_of_request", 7, 1, person(1))


CALLS: dict[str, Callable[[Root], bytes]] = {
    "the same leaf": lambda root: encoded("withdraw", *root.of(1)),
    "another leaf": lambda root: encoded("withdraw", *root.of(2)),
    "many leaves": lambda root: encoded("withdraw_many", root.of(2)[0], [root.of(2)[1]], [root.of(2)[2]]),
    "a deposit": lambda root: encoded("reclaim", 7, 3),
    "what is owed": lambda root: encoded("collect", person(1)),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("payment", ["withdraw", "reclaim", "collect"])
def test_a_receiver_cannot_have_itself_paid_in_the_middle_of_a_payment(
    funded: Books, call: Callable[[Root], bytes], payment: str
) -> None:
    vault, root = funded.vault, funded.cycle()
    funded.deposit(1, 70)
    vault.wait(SILENCE)
    vault.send("declare_emergency", 7)
    if payment == "collect":
        vault.evm.put_code(person(1), REFUSES)
        vault.send("withdraw", *root.of(1))
    vault.evm.put_code(person(1), calls_back(call(root)))
    arguments = {"withdraw": root.of(1), "reclaim": (7, 3), "collect": (person(1),)}[payment]
    outcome = vault.send(payment, *arguments)
    assert [topics for address, topics, _ in outcome.logs if address == person(1)] == [(bytes(32),)]
    amount = 70 if payment == "reclaim" else 100
    assert vault.evm.balance(person(1)) == amount
    assert (vault.balance, funded.held(), vault.read("owed", person(1))) == (670 - amount, 670 - amount, 0)


def test_a_caller_with_little_gas_cannot_make_a_payment_fail(exited: tuple[Books, Root]) -> None:
    books, root = exited
    vault = books.vault
    # It takes 30,000 gas all but: a log with 3 KB.
    vault.evm.put_code(person(1), bytes.fromhex("610c005fa0"))
    words = set()
    for gas in range(60_000, 320_000, 4_000):
        outcome = vault.evm.call(person(9), vault.address, encoded("withdraw", *root.of(1)), gas=gas)
        if outcome.succeeded:
            assert vault.read("owed", person(1)) == 0
            assert vault.evm.balance(person(1)) == 100
            break
        words.add(outcome.output[68:].strip(b"\0"))
    else:
        pytest.fail("it never succeeds")
    assert b"gas" in words
