"""A key is replaced by both keys together."""

import pytest

from tests.vault.vault import DELAY, GUARDIAN, NOBODY, PUBLISHER, STRANGER, Books, Vault, happened, refused

NEW, OTHER = "0x" + "d4" * 20, "0x" + "e5" * 20
KEYS = {"publisher": PUBLISHER, "guardian": GUARDIAN}


@pytest.mark.parametrize("role", KEYS)
@pytest.mark.parametrize(("first", "second"), [(PUBLISHER, GUARDIAN), (GUARDIAN, PUBLISHER)])
def test_one_proposes_and_the_other_accepts(vault: Vault, role: str, first: str, second: str) -> None:
    proposed = vault.send(f"propose_{role}", NEW, by=first)
    is_guardian = role == "guardian"
    assert happened(proposed, "KeyProposed") == [{"is_guardian": is_guardian, "key": NEW, "by": first}]
    with refused("proposal"):
        vault.send(f"accept_{role}", NEW, by=first)
    with refused("key"):
        vault.send(f"accept_{role}", NEW, by=STRANGER)
    with refused("key"):
        vault.send(f"accept_{role}", NEW, by=NEW)
    accepted = vault.send(f"accept_{role}", NEW, by=second)
    assert happened(accepted, "KeyAccepted") == [{"is_guardian": is_guardian, "key": NEW, "by": second}]
    assert {each: vault.read(each) for each in KEYS} == KEYS | {role: NEW}


@pytest.mark.parametrize("role", KEYS)
def test_only_the_two_keys_propose(vault: Vault, role: str) -> None:
    with refused("key"):
        vault.send(f"propose_{role}", NEW, by=STRANGER)


@pytest.mark.parametrize("role", KEYS)
def test_refuses_what_was_not_proposed(vault: Vault, role: str) -> None:
    with refused("proposal"):
        vault.send(f"accept_{role}", NEW, by=PUBLISHER)
    with refused("proposal"):
        vault.send(f"accept_{role}", NOBODY, by=PUBLISHER)
    other = "guardian" if role == "publisher" else "publisher"
    vault.send(f"propose_{other}", NEW, by=GUARDIAN)
    with refused("proposal"):
        vault.send(f"accept_{role}", NEW, by=PUBLISHER)


@pytest.mark.parametrize("role", KEYS)
@pytest.mark.parametrize(("key", "word"), [(NOBODY, "proposal"), (PUBLISHER, "keys"), (GUARDIAN, "keys")])
def test_the_keys_stay_two(vault: Vault, role: str, key: str, word: str) -> None:
    vault.send(f"propose_{role}", key, by=PUBLISHER)
    with refused(word):
        vault.send(f"accept_{role}", key, by=GUARDIAN)


def test_a_stolen_key_cannot_overwrite_the_proposal_of_the_other_key(vault: Vault) -> None:
    vault.send("propose_publisher", NEW, by=GUARDIAN)
    vault.send("propose_publisher", OTHER, by=PUBLISHER)  # the thief
    vault.send("accept_publisher", NEW, by=PUBLISHER)  # the operator
    assert vault.read("publisher") == NEW


def test_a_proposal_is_accepted_once(vault: Vault) -> None:
    """The publisher cannot go back to a key that the guardian has accepted a year ago."""
    vault.send("propose_publisher", NEW, by=GUARDIAN)
    vault.send("accept_publisher", NEW, by=PUBLISHER)
    vault.send("propose_publisher", OTHER, by=GUARDIAN)
    vault.send("accept_publisher", OTHER, by=NEW)
    with refused("proposal"):
        vault.send("accept_publisher", NEW, by=OTHER)


def test_a_proposal_cannot_be_exchanged_just_before_its_acceptance(vault: Vault) -> None:
    vault.send("propose_publisher", NEW, by=GUARDIAN)
    vault.send("propose_publisher", OTHER, by=GUARDIAN)
    with refused("proposal"):
        vault.send("accept_publisher", NEW, by=PUBLISHER)


def test_an_operator_with_an_old_and_a_new_key_cannot_replace_the_guardian(vault: Vault) -> None:
    """The old key proposes the guardian, and the new one would accept."""
    vault.send("propose_publisher", NEW, by=PUBLISHER)
    vault.send("propose_guardian", OTHER, by=PUBLISHER)
    vault.send("accept_publisher", NEW, by=GUARDIAN)
    for key in (NEW, PUBLISHER):
        with pytest.raises(Exception, match=r"^(proposal|key)$"):
            vault.send("accept_guardian", OTHER, by=key)
    with refused("proposal"):
        vault.send("accept_guardian", OTHER, by=GUARDIAN)
    assert vault.read("guardian") == GUARDIAN


def test_an_old_key_can_do_nothing(funded: Books) -> None:
    vault = funded.vault
    for role, key in KEYS.items():
        vault.send(
            f"propose_{role}", NEW if role == "publisher" else OTHER, by=PUBLISHER if role == "publisher" else NEW
        )
        vault.send(f"accept_{role}", NEW if role == "publisher" else OTHER, by=GUARDIAN)
        with refused("key"):
            vault.send(f"propose_{role}", STRANGER, by=key)
    with refused("publisher"):
        funded.publish()
    funded.publish(by=NEW)
    with refused("guardian"):
        vault.send("veto", 7, by=GUARDIAN)
    vault.send("veto", 7, by=OTHER)
    vault.wait(DELAY)
