"""Addresses on the main network: bound once, by PUT, by a join or by an exit."""

import pytest

from tests.http.client import problem

ADDRESS = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
OTHER = "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359"


def test_binds_an_address_and_shows_it(api, group):
    path = f"{group.path}/participants/{group.alice}"
    assert api("GET", f"{path}/address").body == b'{"data":{"address":null}}'
    answer = api("PUT", f"{path}/address", {"address": ADDRESS.lower()})
    assert (answer.status, answer.body) == (200, b'{"data":{"address":"%s"}}' % ADDRESS.encode())
    assert api("GET", f"{path}/address").body == answer.body
    assert api("PUT", f"{path}/address", {"address": ADDRESS}).body == answer.body
    assert list(api("GET", path).data) == ["username", "id", "group_id", "amount"]


def test_a_second_address_and_a_taken_one_are_conflicts(api, group):
    paths = [f"{group.path}/participants/{participant}/address" for participant in (group.alice, group.bob)]
    api("PUT", paths[0], {"address": ADDRESS})
    for path, address in ((paths[0], OTHER), (paths[1], ADDRESS)):
        refusal = problem(api("PUT", path, {"address": address}), 409, "address_bound")
        assert (refusal["sqlstate"], list(refusal["errors"])) == ("LG010", ["address"])
    joined = api("POST", f"{group.path}/participants", {"username": "carol", "amount": 1, "address": ADDRESS})
    problem(joined, 409, "address_bound")
    problem(api("DELETE", f"{group.path}/participants/{group.bob}", {"address": ADDRESS}), 409, "address_bound")
    assert api("GET", paths[1]).data == {"address": None}


def test_a_join_and_an_exit_take_an_address(api, group):
    joined = api("POST", f"{group.path}/participants", {"username": "carol", "amount": 1, "address": ADDRESS})
    assert (joined.status, list(joined.data)) == (201, ["username", "id", "group_id", "amount"])
    path = joined.headers["Location"]
    assert api("GET", f"{path}/address").data == {"address": ADDRESS}
    assert api("DELETE", path, {"address": ADDRESS}).data == {"final_amount": 1}
    assert api("DELETE", f"{group.path}/participants/{group.bob}", {"address": ADDRESS}).data == {"final_amount": 100}
    problem(api("GET", f"{path}/address"), 404, "not_found")


def test_null_means_no_address(api, group):
    joined = api("POST", f"{group.path}/participants", {"username": "carol", "amount": 1, "address": None})
    assert api("GET", f"{joined.headers['Location']}/address").data == {"address": None}
    assert api("DELETE", joined.headers["Location"], {"address": None}).status == 200


@pytest.mark.parametrize(
    "address",
    ["", "0x", "bob", ADDRESS[:-1], ADDRESS + "0", ADDRESS[:-1] + "D", "0x" + "0" * 40, 7, True, [ADDRESS], "a\0b"],
)
def test_refuses_a_bad_address(api, group, unchanged, address):
    path = f"{group.path}/participants"
    for method, url, body in (
        ("PUT", f"{path}/{group.alice}/address", {}),
        ("POST", path, {"username": "carol", "amount": 1}),
        ("DELETE", f"{path}/{group.alice}", {}),
    ):
        refusal = problem(api(method, url, {**body, "address": address}), 422, "invalid_value")
        assert list(refusal["errors"]) == ["address"]


def test_a_binding_without_an_address_is_refused(api, group, unchanged):
    path = f"{group.path}/participants/{group.alice}/address"
    for body in ("{}", '{"address": null}'):
        assert list(problem(api("PUT", path, body), 422, "invalid_value")["errors"]) == ["address"]


def test_refuses_unknown_groups_and_participants(api, group, other, unchanged):
    for path in (f"{other.path}/participants/{group.alice}", f"{group.path}/participants/0"):
        problem(api("PUT", f"{path}/address", {"address": ADDRESS}), 404, "not_found")
        problem(api("GET", f"{path}/address"), 404, "not_found")


def test_a_repeated_request_gets_the_same_answer(api, group):
    path = f"{group.path}/participants/{group.alice}/address"
    first = api("PUT", path, {"address": ADDRESS}, headers={"Idempotency-Key": "bind"})
    again = api("PUT", path, {"address": ADDRESS.lower()}, headers={"Idempotency-Key": "bind"})
    assert (again.body, again.headers["Idempotency-Replayed"]) == (first.body, "true")
