"""When the operator is silent, the last ripe root and the deposits that it does not include are paid."""

import pytest

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
    happened,
    person,
    refused,
)


def declare(books: Books, number: int) -> None:
    """Anybody declares the emergency, which pays the root of that number."""
    declared = books.vault.send("declare_emergency", books.group)
    assert happened(declared, "Emergency") == [{"group": books.group, "number": number}]
    assert books.vault.read("emergency", books.group) is True


def pay_all(books: Books, root: Root | None) -> None:
    """Pay every leaf that is unpaid, and return every deposit that is not in the root."""
    for index in range(len(root.leaves) if root else 0):
        if root and not books.vault.read("spent", books.group, root.header["number"], index):
            books.vault.send("withdraw", *root.proof(index))
    for index in range(root.header["deposits"] if root else 0, books.vault.read("deposits", books.group)):
        books.vault.send("reclaim", books.group, index)


def test_pays_everybody_by_the_last_ripe_root(funded: Books) -> None:
    funded.credit()
    funded.transfer(3, 1, 50)
    funded.exit(2)
    root = funded.cycle()
    funded.deposit(4, 70)
    funded.vault.wait(SILENCE - DELAY)
    declare(funded, 1)
    funded.vault.wait(10 * SILENCE)
    pay_all(funded, root)
    assert [funded.vault.evm.balance(person(each)) for each in (1, 2, 3, 4)] == [150, 200, 250, 70]
    assert (funded.held(), funded.vault.balance) == (0, 0)


def test_does_not_pay_again_what_was_paid_before(funded: Books) -> None:
    funded.credit()
    funded.exit(2)
    root = funded.cycle()
    funded.pay(root, 2)
    funded.vault.wait(SILENCE)
    declare(funded, 1)
    with refused("spent"):
        funded.vault.send("withdraw", *root.of(2))
    pay_all(funded, root)
    assert funded.held() == 0


def test_returns_every_deposit_of_a_group_without_a_root(funded: Books) -> None:
    funded.vault.wait(SILENCE)
    declare(funded, 0)
    with refused("header"):
        funded.vault.send(
            "withdraw",
            *funded.checkpoint()
            .altered([{"participant_id": 1, "exit_entry": 0, "owner": STRANGER, "amount": 600}])
            .proof(0),
        )
    returned = funded.vault.send("reclaim", 7, 1)
    assert happened(returned, "Reclaimed") == [{"group": 7, "index": 1, "owner": person(2), "amount": 200}]
    assert funded.vault.read("deposit_of", 7, 1)[3] is True
    funded.vault.send("reclaim", 7, 0)
    funded.vault.send("reclaim", 7, 2)
    assert funded.held() == 0


def test_returns_every_deposit_after_a_vetoed_first_root(funded: Books) -> None:
    funded.credit()
    root = funded.publish()
    funded.vault.send("veto", 7, by=GUARDIAN)
    funded.vault.wait(SILENCE)
    declare(funded, 0)
    with refused("header"):
        funded.vault.send("withdraw", *root.of(1))
    pay_all(funded, None)
    assert funded.held() == 0


@pytest.mark.parametrize("short", [0, 1])
def test_begins_silence_after_the_publication_of_the_last_ripe_root(funded: Books, short: int) -> None:
    funded.cycle()
    funded.vault.wait(SILENCE - DELAY - short)
    if short:
        with refused("not silent"):
            declare(funded, 1)
    else:
        declare(funded, 1)


def test_a_young_root_neither_puts_it_off_nor_is_paid(funded: Books) -> None:
    first = funded.cycle()
    funded.deposit(4, 70)
    funded.vault.wait(SILENCE - DELAY - 1)
    funded.credit()
    funded.transfer(3, 1, 300)
    young = funded.publish()
    funded.vault.wait(1)
    declare(funded, 1)
    funded.vault.wait(DELAY)
    assert funded.vault.read("ripe", 7)[0] == funded.vault.read("latest", 7)[0] == 1
    with refused("header"):
        funded.vault.send("withdraw", *young.of(1))
    pay_all(funded, first)
    assert [funded.vault.evm.balance(person(each)) for each in (1, 2, 3, 4)] == [100, 200, 300, 70]
    assert funded.held() == 0


def test_a_young_first_root_is_not_paid(funded: Books) -> None:
    funded.vault.wait(SILENCE - 1)
    funded.credit()
    funded.publish()
    funded.vault.wait(1)
    declare(funded, 0)
    pay_all(funded, None)
    assert funded.held() == 0


def test_a_ripe_root_puts_it_off(funded: Books) -> None:
    funded.cycle()
    funded.vault.wait(SILENCE - 2 * DELAY)
    funded.cycle()
    with refused("not silent"):
        declare(funded, 1)
    funded.vault.wait(SILENCE - DELAY)
    declare(funded, 2)


def test_refuses_a_group_that_was_just_filled(books: Books) -> None:
    books.cycle()
    books.vault.wait(SILENCE)
    with refused("holds nothing"):
        declare(books, 1)
    books.deposit(1, 10)
    books.vault.wait(SILENCE - 1)
    with refused("not silent"):
        declare(books, 1)
    books.vault.wait(1)
    declare(books, 1)


def test_is_declared_once(funded: Books) -> None:
    funded.vault.wait(SILENCE)
    declare(funded, 0)
    with refused("emergency"):
        declare(funded, 0)


def test_is_of_one_group(funded: Books) -> None:
    other = Books(funded.vault, group=8).open()
    other.deposit(1, 500)
    funded.vault.wait(SILENCE - 1)
    other.cycle()
    funded.vault.wait(1)
    declare(funded, 0)
    with refused("not silent"):
        declare(other, 1)
    with refused("no emergency"):
        other.vault.send("reclaim", 8, 0)
    assert (funded.held(), other.held()) == (600, 500)


def test_nothing_goes_on_in_an_emergency(funded: Books) -> None:
    root = funded.cycle()
    funded.vault.wait(SILENCE)
    declare(funded, 1)
    with refused("emergency"):
        funded.deposit(1, 100)
    with refused("emergency"):
        funded.publish()
    with refused("ripe"):
        funded.vault.send("veto", 7, by=GUARDIAN)
    with refused("emergency"):
        funded.vault.send("request_exit", *root.of(1), by=person(1))
    with refused("holds something"):
        funded.vault.send("close", 7, by=PUBLISHER)
    pay_all(funded, root)
    funded.vault.send("close", 7, by=PUBLISHER)
    assert funded.vault.read("emergency", 7) is True


def test_a_vetoed_root_is_not_followed_by_a_veto_in_an_emergency(funded: Books) -> None:
    funded.vault.wait(SILENCE - 1)
    funded.publish()
    funded.vault.wait(1)
    declare(funded, 0)
    with refused("no root"):
        funded.vault.send("veto", 7, by=GUARDIAN)


def test_refuses_to_reclaim_without_an_emergency(funded: Books) -> None:
    funded.vault.wait(SILENCE)
    with refused("no emergency"):
        funded.vault.send("reclaim", 7, 0)


def test_reclaims_a_deposit_once_and_only_if_it_is_not_credited(funded: Books) -> None:
    funded.cycle()
    funded.deposit(4, 70)
    funded.vault.wait(SILENCE)
    declare(funded, 1)
    with refused("index"):
        funded.vault.send("reclaim", 7, 4)
    with refused("credited"):
        funded.vault.send("reclaim", 7, 2)
    funded.vault.send("reclaim", 7, 3)
    with refused("reclaimed"):
        funded.vault.send("reclaim", 7, 3)
    assert funded.held() == 600


@pytest.fixture
def present(funded: Books) -> tuple[Books, Root]:
    """A group with a ripe root of three present participants."""
    return funded, funded.cycle()


def request(books: Books, root: Root, participant: int, by: int | None = None) -> None:
    books.vault.send("request_exit", *root.of(participant), by=person(by or participant))


def requested(books: Books, participant: int) -> int:
    return books.vault.read("requested", books.group, participant, person(participant))


def declare_of_request(books: Books, participant: int) -> None:
    books.vault.send("declare_emergency_of_request", books.group, participant, person(participant))


def test_an_unanswered_request_is_an_emergency(present: tuple[Books, Root]) -> None:
    books, root = present
    made = books.vault.send("request_exit", *root.of(2), by=person(2))
    assert happened(made, "ExitRequested") == [{"group": 7, "participant_id": 2, "owner": person(2), "number": 1}]
    since = books.vault.evm.time
    assert requested(books, 2) == since
    while books.vault.evm.time + WINDOW + DELAY < since + SILENCE:  # the publisher goes on, and never pays
        books.vault.wait(WINDOW)
        root = books.cycle()
    books.vault.wait(since + SILENCE - 1 - books.vault.evm.time)
    with refused("not silent"):
        declare_of_request(books, 2)
    books.vault.wait(1)
    with refused("not silent"):
        declare(books, 1)
    declare_of_request(books, 2)
    assert books.vault.read("emergency", 7) is True
    pay_all(books, root)
    assert books.held() == 0


def test_a_paid_exit_answers_a_request(present: tuple[Books, Root]) -> None:
    books, root = present
    request(books, root, 2)
    books.vault.wait(WINDOW)
    books.exit(2)
    books.pay(books.cycle(), 2)
    assert requested(books, 2) == 0
    books.vault.wait(SILENCE)
    with refused("no request"):
        declare_of_request(books, 2)


def test_refuses_an_emergency_of_a_request_that_was_not_made(present: tuple[Books, Root]) -> None:
    books, root = present
    request(books, root, 2)
    books.vault.wait(SILENCE)
    with refused("no request"):
        declare_of_request(books, 1)
    with refused("no request"):
        books.vault.send("declare_emergency_of_request", 8, 2, person(2))
    with refused("no request"):
        books.vault.send("declare_emergency_of_request", 7, 2, person(1))


def test_only_the_owner_requests_an_exit_and_once(present: tuple[Books, Root]) -> None:
    books, root = present
    with refused("owner"):
        request(books, root, 2, by=1)
    request(books, root, 2)
    books.vault.wait(10)
    with refused("requested"):
        request(books, root, 2)


def test_refuses_a_request_of_an_exited_participant(funded: Books) -> None:
    funded.credit()
    funded.exit(2)
    root = funded.cycle()
    with refused("exited"):
        request(funded, root, 2)


def test_refuses_a_request_with_a_false_proof(present: tuple[Books, Root]) -> None:
    books, root = present
    header, leaf, proof = root.of(2)
    with refused("root"):
        books.vault.send("request_exit", header, (leaf[0], 9, *leaf[2:]), proof, by=person(2))


def test_a_request_is_made_by_the_last_ripe_root_alone(present: tuple[Books, Root]) -> None:
    books, first = present
    books.vault.wait(WINDOW)
    second = books.publish()
    with refused("header"):
        request(books, second, 1)
    request(books, first, 1)
    books.vault.wait(DELAY)
    with refused("header"):
        request(books, first, 2)
    request(books, second, 2)


def test_refuses_a_request_before_the_first_ripe_root(funded: Books) -> None:
    funded.credit()
    root = funded.publish()
    with refused("header"):
        request(funded, root, 1)
    funded.vault.send("veto", 7, by=GUARDIAN)
    with refused("header"):
        request(funded, root, 1)


def test_a_request_survives_a_veto(present: tuple[Books, Root]) -> None:
    books, root = present
    books.vault.wait(WINDOW)
    previous = books.previous
    books.exit(2)
    books.publish()
    request(books, root, 2)
    books.vault.send("veto", 7, by=GUARDIAN)
    assert requested(books, 2) == books.vault.evm.time
    books.previous = previous
    books.pay(books.cycle(), 2)
    assert requested(books, 2) == 0


def test_a_participant_who_joins_again_may_request_again(present: tuple[Books, Root]) -> None:
    books, root = present
    request(books, root, 2)
    books.vault.wait(WINDOW)
    books.exit(2)
    books.deposit(2, 40)
    root = books.cycle()
    books.pay(root, 2)
    again = 1_000_002
    assert root.header["leaf_count"] == 4
    books.vault.send("request_exit", *root.of(again), by=person(2))
    assert books.vault.read("requested", 7, again, person(2)) == books.vault.evm.time
    assert books.previous != NO_ROOT
