"""Checkpoints and proofs over HTTP: a served proof can be checked by any client."""

import json

import pytest

from api.proofs.verify_proof import read, verify
from tests.http.client import problem
from tests.support import one


def test_makes_a_checkpoint_and_returns_its_location(api, group):
    answer = api("POST", f"{group.path}/checkpoints")
    assert answer.status == 201
    made = answer.data
    assert list(made) == [
        *("group_id", "number", "chain_id", "vault", "previous", "deposits", "credited", "settled"),
        *("leaf_count", "total", "root", "header", "seal", "created_at"),
    ]
    assert (made["group_id"], made["number"], made["deposits"], made["total"]) == (group.id, 1, 2, 200)
    assert answer.headers["Location"] == f"{group.path}/checkpoints/1"
    assert api("GET", answer.headers["Location"]).data == made
    assert api("POST", f"{group.path}/checkpoints", {}).data["previous"] == made["header"]


def test_lists_checkpoints_in_pages(api, group):
    made = [api("POST", f"{group.path}/checkpoints").data for _ in range(3)]
    page = api("GET", f"{group.path}/checkpoints?limit=2")
    assert page.data == made[:2]
    assert page.json["next"] == f"{group.path}/checkpoints?limit=2&after=2"
    last = api("GET", page.json["next"])
    assert last.data == made[2:]
    assert "next" not in last.json


def test_lists_leaves_in_pages(api, group):
    api("POST", f"{group.path}/checkpoints")
    page = api("GET", f"{group.path}/checkpoints/1/leaves?limit=1")
    assert page.data == [
        {"index": 0, "participant_id": group.alice, "exit_entry": None, "owner": "0x" + "00" * 20, "amount": 100}
    ]
    rest = api("GET", page.json["next"])
    assert [(leaf["index"], leaf["participant_id"]) for leaf in rest.data] == [(1, group.bob)]
    assert "next" not in rest.json


@pytest.mark.parametrize("prefer", [{}, {"Prefer": "amounts=string"}])
def test_a_served_proof_is_valid(api, group, admin, prefer):
    header = api("POST", f"{group.path}/checkpoints").data["header"]
    answer = api("GET", f"{group.path}/checkpoints/1/proofs/{group.bob}", headers=prefer)
    assert f"participant {group.bob} of group {group.id} holds 100" in verify(read(answer.body.decode()), header)
    query = "select ledger.verify_proof(%s::jsonb -> 'data', %s)"
    assert one(admin, query, [answer.body.decode(), header]) == (True,)
    kind = str if prefer else int
    checkpoint, leaf, (sibling,) = answer.data["checkpoint"], answer.data["leaf"], answer.data["siblings"]
    amounts = [leaf["amount"], sibling["sum"], *(checkpoint[name] for name in ("credited", "settled", "total"))]
    assert [type(amount) for amount in amounts] == [kind] * 5
    assert [type(checkpoint[name]) for name in ("number", "chain_id", "deposits", "leaf_count")] == [int] * 4


def test_a_proof_without_siblings_has_an_empty_list(api, group):
    api("DELETE", f"{group.path}/participants/{group.alice}")
    entry = api("DELETE", f"{group.path}/participants/{group.bob}").headers["Ledger-Entry"]
    api("POST", f"{group.path}/entries/{int(entry) - 1}/settlement", {"reference": "0xa"})
    api("POST", f"{group.path}/checkpoints")
    answer = api("GET", f"{group.path}/checkpoints/1/proofs/{group.bob}")
    assert answer.data["siblings"] == []
    assert answer.data["leaf"]["exit_entry"] == int(entry)
    assert verify(answer.data)


def test_a_repeated_request_makes_one_checkpoint(api, group):
    key = {"Idempotency-Key": "checkpoint"}
    first = api("POST", f"{group.path}/checkpoints", headers=key)
    api("POST", f"{group.path}/participants", {"username": "carol", "amount": 1})
    again = api("POST", f"{group.path}/checkpoints", headers=key)
    assert (again.status, again.body) == (201, first.body)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.headers["Location"] == first.headers["Location"]
    assert len(api("GET", f"{group.path}/checkpoints").data) == 1


def test_refuses_unknown_groups_and_participants(api, group):
    api("POST", f"{group.path}/checkpoints")
    for path in (
        *("2", "0", "x", "2/leaves", f"2/proofs/{group.alice}"),
        *(f"1/proofs/{group.bob + 9}", "1/proofs/x", f"1/proofs/{2**63}"),
    ):
        problem(api("GET", f"{group.path}/checkpoints/{path}"), 404, "not_found")
    for method, path in (("POST", "checkpoints"), ("GET", "checkpoints"), ("GET", "checkpoints/1")):
        problem(api(method, f"/api/groups/{2**62}/{path}"), 404, "not_found")


def test_refuses_a_group_whose_total_is_too_large_for_a_checkpoint(api, group):
    api("POST", f"{group.path}/participants", {"username": "carol", "amount": str(2**256 - 200)})
    answer = api("POST", f"{group.path}/checkpoints")
    body = problem(answer, 409, "group_too_large")
    assert body["sqlstate"] == "LG011"
    assert api("GET", f"{group.path}/checkpoints").data == []


def test_refuses_after_a_restore_until_the_feed_is_restarted(api, admin, group):
    admin.execute("set session_replication_role = replica")
    change = "update ledger.feeds set system_identifier = system_identifier %s 1"
    admin.execute(change % "-")
    try:
        body = problem(api("POST", f"{group.path}/checkpoints"), 410, "cursor_expired")
    finally:
        admin.execute(change % "+")
    assert body["sqlstate"] == "LG009"
    assert api("GET", f"{group.path}/checkpoints").data == []


def test_amounts_are_exact(api, group):
    api("POST", f"{group.path}/participants", {"username": "carol", "amount": str(2**255 + 1)})
    made = api("POST", f"{group.path}/checkpoints")
    assert made.data["total"] == 2**255 + 201
    assert json.loads(made.body)["data"]["total"] == 2**255 + 201
