"""Groups with a vault over HTTP: refusals of what the chain decides, and the state of a checkpoint."""

import pytest

from tests.http.client import problem
from tests.vaults.conftest import ALICE, BOB, CHAIN, VAULT, chain_hash


@pytest.fixture
def linked(api, admin) -> str:
    """The path of a group with a vault, in which Alice has 100."""
    group = api("POST", "/api/groups", {"name": "linked"}).data["id"]
    admin.execute("select ledger.link_vault(%s, %s, %s)", [group, CHAIN, VAULT])
    admin.execute("select ledger.credit_deposit(%s, 0, %s, 100, 100, %s, 1)", [group, ALICE, chain_hash(1)])
    yield f"/api/groups/{group}"
    for participant in api("GET", f"/api/groups/{group}/participants").data:
        api("DELETE", f"/api/groups/{group}/participants/{participant['id']}")
    admin.execute("update ledger.groups set name = 'was linked ' || id where id = %s", [group])


def only(api, linked: str) -> int:
    (participant,) = api("GET", f"{linked}/participants").data
    assert participant["username"] == ALICE
    return participant["id"]


def test_a_join_needs_an_address_and_brings_nothing(api, linked):
    joined = api("POST", f"{linked}/participants", {"username": "bob", "amount": 0, "address": BOB})
    assert joined.status == 201
    body = problem(
        api("POST", f"{linked}/participants", {"username": "eve", "amount": 5, "address": BOB}), 409, "vault_linked"
    )
    assert body["sqlstate"] == "LG012"
    assert list(body["errors"]) == ["amount"]
    body = problem(api("POST", f"{linked}/participants", {"username": "eve", "amount": 0}), 409, "vault_linked")
    assert list(body["errors"]) == ["address"]


def test_what_the_chain_decides_is_refused(api, linked):
    alice = only(api, linked)
    for method, path, body in (
        ("POST", f"{linked}/participants/{alice}/deposits", {"amount": 5}),
        ("PUT", f"{linked}/participants/{alice}/address", {"address": BOB}),
        ("POST", f"{linked}/checkpoints", None),
    ):
        assert problem(api(method, path, body), 409, "vault_linked")["sqlstate"] == "LG012"
    entries = f"{linked}/entries"
    api("DELETE", f"{linked}/participants/{alice}")
    (left,) = api("GET", f"{entries}?kind=exit").data
    problem(api("POST", f"{entries}/{left['id']}/settlement", {"reference": "0x5f"}), 409, "vault_linked")
    problem(api("DELETE", linked), 409, "vault_linked")


def test_a_checkpoint_has_its_state(api, linked, admin):
    group, alice = linked.rpartition("/")[2], only(api, linked)
    admin.execute("select ledger.prepare_publication(%s)", [group])
    path = f"{linked}/checkpoints/1"
    assert api("GET", path).data["state"] == "prepared"
    admin.execute("select ledger.record_publication(%s, 1, 'accepted', %s, 5)", [group, chain_hash(5)])
    assert api("GET", path).data["state"] == "accepted"
    assert [row["state"] for row in api("GET", f"{linked}/checkpoints").data] == ["accepted"]
    proof = api("GET", f"{path}/proofs/{alice}").data
    assert proof["checkpoint"]["state"] == "accepted"
    assert proof["leaf"]["exit_entry"] is None
    assert proof["checkpoint"]["vault"] == VAULT.lower()


def test_a_frozen_group_moves_nothing(api, linked, admin):
    group, alice = linked.rpartition("/")[2], only(api, linked)
    bob = api("POST", f"{linked}/participants", {"username": "bob", "amount": 0, "address": BOB}).data["id"]
    admin.execute("select ledger.record_emergency(%s, 0, %s, 5)", [group, chain_hash(5)])
    move = {"from": alice, "to": bob, "amount": 1}
    for answer in (
        api("POST", f"{linked}/transfer", move),
        api("POST", f"{linked}/transfers", {"transfers": [move]}),
        api("DELETE", f"{linked}/participants/{alice}"),
        api("POST", f"{linked}/participants", {"username": "eve", "amount": 0, "address": BOB}),
    ):
        assert problem(answer, 409, "group_frozen")["sqlstate"] == "LG014"
    assert api("GET", f"{linked}/participants/{alice}").data["amount"] == 100
