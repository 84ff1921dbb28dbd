"""An address is bound after a check that its owner has signed for the participant."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from eth_account import Account
from eth_account.messages import encode_defunct

from bridge.bind import bind, message
from bridge.halts import Halt, Refusal
from bridge.ledger import Ledger, connect
from tests.bridge.world import BRIDGE, OTHER, PUBLISHER, World, link
from tests.support import one


@pytest.fixture
def ledger(world: World) -> Iterator[Ledger]:
    ledger = connect(world.database.url(BRIDGE))
    yield ledger
    ledger.close()


@pytest.fixture
def participant(world: World) -> int:
    """A participant whose address the web service has bound."""
    query = "select id from ledger.join_group(%s, 'erin', 0, address => %s)"
    return int(one(world.ledger, query, [world.group, OTHER.address])[0])


def signed(text: str, key: bytes = b"\x33" * 32) -> str:
    return bytes(Account.sign_message(encode_defunct(text=text), key).signature).hex()


def proved(world: World) -> list[bool]:
    return [one for (one,) in world.admin.execute("select address_proved from ledger.participants")]


def test_the_message_has_the_domain_and_the_participant(world: World) -> None:
    domain = world.view("domain", world.group)
    assert message(domain, 7) == f"I am participant 7 of a ledger's group.\nDomain: {domain}"


def test_the_owners_signature_binds(world: World, ledger: Ledger, participant: int) -> None:
    assert proved(world) == [False]
    text = message(world.view("domain", world.group), participant)
    assert bind(ledger, world.group, participant, OTHER.address.lower(), signed(text)) == OTHER.address
    assert proved(world) == [True]
    # The deposits of this address are now the participant's.
    world.deposit(world.alice, 10**18)
    world.node.send(OTHER.address, world.vault, "0x" + call_of("deposit", world.group, OTHER.address), 5 * 10**18)
    world.node.finalize()
    assert world.bridge() == 0
    assert world.balances()[participant] == 5 * 10**18


def test_other_signatures_bind_nothing(world: World, ledger: Ledger, participant: int) -> None:
    domain = world.view("domain", world.group)
    other_group = link(world.node, world.database, world.vault, "other")
    for text, key in (
        (message(domain, participant), b"\x11" * 32),
        (message(domain, participant + 1), b"\x33" * 32),
        (message(world.view("domain", other_group), participant), b"\x33" * 32),
        ("something else", b"\x33" * 32),
    ):
        with pytest.raises(Refusal, match="has not signed this message"):
            bind(ledger, world.group, participant, OTHER.address, signed(text, key))
    with pytest.raises(Refusal, match="no signature"):
        bind(ledger, world.group, participant, OTHER.address, "00" * 65)
    assert proved(world) == [False]


def test_another_address_than_the_bound_one_is_refused(world: World, ledger: Ledger, participant: int) -> None:
    text = message(world.view("domain", world.group), participant)
    with pytest.raises(Halt):
        bind(ledger, world.group, participant, PUBLISHER.address, signed(text, b"\x11" * 32))
    assert proved(world) == [False]


def call_of(name: str, *arguments: object) -> str:
    from bridge import contract

    return contract.call_data(name, *arguments)[2:]
