"""link_vault: once, and only a group in which nothing has happened."""

from decimal import Decimal

import pytest

from tests.support import create, one
from tests.vaults.conftest import ALICE, BOB, CHAIN, VAULT, Bridge


@pytest.fixture
def unlinked(session, group) -> Bridge:
    return Bridge(session, group)


def test_links_an_empty_group(unlinked, group):
    linked = unlinked.call("link_vault", CHAIN, VAULT)
    assert linked["replayed"] is False
    assert (linked["group_id"], linked["chain_id"], linked["vault"]) == (group, CHAIN, VAULT)
    assert (linked["deposits"], linked["cumulative"], linked["settled"]) == (0, 0, 0)
    assert (linked["emergency"], linked["closed"], linked["next_number"]) == (False, False, 1)
    assert linked["accepted_number"] is None
    assert {key: linked[key] for key in linked if key != "replayed"} == unlinked.call("get_vault")


def test_the_domain_is_that_of_the_checkpoints(unlinked, admin, group):
    domain = unlinked.call("link_vault", CHAIN, VAULT)["domain"]
    query = "select '0x' || encode(ledger_internal.domain_hash(%s, ledger_internal.parse_address(%s), %s), 'hex')"
    assert one(admin, query, [CHAIN, VAULT, group]) == (domain,)


def test_again_changes_nothing(unlinked):
    unlinked.call("link_vault", CHAIN, VAULT)
    assert unlinked.call("link_vault", CHAIN, VAULT.lower())["replayed"] is True
    unlinked.refused("LG013", "link_vault", CHAIN + 1, VAULT)
    unlinked.refused("LG013", "link_vault", CHAIN, ALICE)


@pytest.mark.parametrize("chain", [1, 2**64, 2**256 - 1])
def test_chains_of_any_number(unlinked, chain):
    assert unlinked.call("link_vault", chain, VAULT)["chain_id"] == chain


def test_refuses_a_group_with_an_entry(unlinked, ledger, group):
    ledger.execute("select ledger.join_group(%s, 'alice', 0)", [group])
    assert "entries" in unlinked.refused("LG013", "link_vault", CHAIN, VAULT).message_primary


def test_refuses_a_group_with_a_checkpoint(unlinked, ledger, group):
    ledger.execute("select ledger.checkpoint(%s)", [group])
    unlinked.refused("LG013", "link_vault", CHAIN, VAULT)


def test_refuses_invalid_values(unlinked, group):
    for values in (
        (0, VAULT),
        (None, VAULT),
        (Decimal("1.5"), VAULT),
        (CHAIN, "0x1"),
        (CHAIN, None),
        (CHAIN, "0x" + "00" * 20),
    ):
        unlinked.refused("LG001", "link_vault", *values)


def test_refuses_a_group_that_does_not_exist(session, ledger, group):
    Bridge(session, group + 9).refused("LG002", "link_vault", CHAIN, VAULT)
    removed = create(ledger, "gone")
    ledger.execute("select ledger.remove_group(%s)", [removed])
    Bridge(session, removed).refused("LG002", "link_vault", CHAIN, VAULT)


def test_list_vaults_has_linked_groups_only(unlinked, session, ledger, group):
    assert session.execute("select * from ledger.list_vaults()").fetchall() == []
    unlinked.call("link_vault", CHAIN, VAULT)
    other = Bridge(session, create(ledger, "BTC"))
    other.call("link_vault", 1, BOB)
    query = "select group_id, chain_id, vault from ledger.list_vaults()"
    assert session.execute(query).fetchall() == [(group, CHAIN, VAULT), (other.group, 1, BOB)]


def test_get_vault_of_a_group_without_one(unlinked, session, group):
    unlinked.refused("LG013", "get_vault")
    Bridge(session, group + 9).refused("LG002", "get_vault")
