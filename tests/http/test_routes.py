"""Each route's success: status, headers, and a body with exactly the contract's members in their order."""

import pytest

from api.routes import ROUTES
from tests.support import one


def test_a_group_from_its_creation_to_its_removal(api):
    group = api("POST", "/api/groups", {"name": "ETH"}).data["id"]
    path = f"/api/groups/{group}"
    alice, bob = (
        api("POST", f"{path}/participants", {"username": name, "amount": 100}).data["id"] for name in ("alice", "bob")
    )
    moved = api("POST", f"{path}/transfer", {"from": bob, "to": alice, "amount": 50})
    assert (moved.data["to_participant"]["amount"], moved.data["from_participant"]["amount"]) == (150, 50)
    assert api("GET", f"{path}/total").data == {"group_total": 200}
    assert api("DELETE", path).status == 409
    assert api("DELETE", f"{path}/participants/{alice}").data == {"final_amount": 150}
    assert api("DELETE", f"{path}/participants/{bob}").data == {"final_amount": 50}
    assert api("GET", f"{path}/total").data == {"group_total": 0}
    assert api("DELETE", path).status == 204
    assert api("GET", path).status == 404


def test_health_answers(api):
    answer = api("GET", "/api/health")
    assert (answer.status, answer.body) == (200, b'{"data":{"status":"ok"}}')


def test_creates_a_group_and_returns_its_location(api):
    answer = api("POST", "/api/groups", '{"name": "Ethereum ☃ 🚀"}')
    group = answer.data["id"]
    assert answer.status == 201
    assert answer.headers["Location"] == f"/api/groups/{group}"
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.body == f'{{"data":{{"name":"Ethereum ☃ 🚀","id":{group}}}}}'.encode()
    assert api("GET", answer.headers["Location"]).body == answer.body


def test_names_are_utf_8_whatever_the_login_is_set_to(api):
    for name in ("café", "Ж", "中文"):
        answer = api("POST", "/api/groups", {"name": name})
        assert answer.status == 201
        assert f'"name":"{name}"'.encode() in api("GET", answer.headers["Location"]).body


def test_lists_groups_by_ascending_id(api, new_group):
    made = [new_group() for _ in range(3)]
    listed = api("GET", f"/api/groups?after={made[0].id - 1}").data
    assert [group["id"] for group in listed] == sorted(group["id"] for group in listed)
    assert [{"name": group.name, "id": group.id} for group in made] == [
        group for group in listed if group["id"] in {group.id for group in made}
    ]


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
@pytest.mark.parametrize("body", ['{"name": "%s"}', '{"group": {"name": "%s"}}'])
def test_renames_a_group(api, group, method, body):
    name = f"renamed {group.id} {method}"
    answer = api(method, group.path, body % name)
    assert (answer.status, answer.data) == (200, {"name": name, "id": group.id})
    assert api("GET", group.path).data["name"] == name


def test_joins_and_returns_the_location_and_the_entry(api, group, admin):
    answer = api("POST", f"{group.path}/participants", {"username": "carol", "amount": 7})
    carol = answer.data["id"]
    assert answer.status == 201
    assert answer.headers["Location"] == f"{group.path}/participants/{carol}"
    assert answer.body == b'{"data":{"username":"carol","id":%d,"group_id":%d,"amount":7}}' % (carol, group.id)
    entry = int(answer.headers["Ledger-Entry"])
    record = "select kind, from_id, to_id, amount from ledger.record where group_id = %s and id = %s"
    assert one(admin, record, [group.id, entry]) == ("join", None, carol, 7)
    assert api("GET", answer.headers["Location"]).body == answer.body


def test_lists_the_participants_present(api, group):
    api("DELETE", f"{group.path}/participants/{group.alice}")
    answer = api("GET", f"{group.path}/participants")
    assert answer.body == (b'{"data":[{"username":"bob","id":%d,"group_id":%d,"amount":100}]}' % (group.bob, group.id))


@pytest.mark.parametrize("body", ["null", " null\r\n", b""])
def test_null_counts_as_no_body_where_none_is_needed(api, group, body):
    moved = api("POST", f"{group.path}/transfer", {"from": group.bob, "to": group.alice, "amount": 5})
    path = f"{group.path}/entries/{moved.headers['Ledger-Entry']}/reversal"
    assert api("POST", path, body).status == 201
    for participant, final_amount in ((group.bob, 100), (group.alice, 100)):
        answer = api("DELETE", f"{group.path}/participants/{participant}", body)
        assert (answer.status, answer.data) == (200, {"final_amount": final_amount})
    assert api("DELETE", group.path, body).status == 204


def test_a_list_without_rows_is_an_empty_array(api, group):
    for participant in (group.alice, group.bob):
        api("DELETE", f"{group.path}/participants/{participant}")
    assert api("GET", f"{group.path}/participants").body == b'{"data":[]}'


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
@pytest.mark.parametrize("body", ['{"username": "%s"}', '{"update_params": {"username": "%s"}}'])
def test_renames_a_participant(api, group, method, body):
    path = f"{group.path}/participants/{group.alice}"
    answer = api(method, path, body % "alicia")
    assert answer.status == 200
    assert answer.data == {"username": "alicia", "id": group.alice, "group_id": group.id, "amount": 100}


def test_a_participants_body_may_repeat_the_group_id(api, group):
    path = f"{group.path}/participants"
    assert api("POST", path, {"username": "carol", "amount": 1, "group_id": group.id}).status == 201
    assert api("POST", path, {"username": "dave", "amount": 1, "group_id": str(group.id)}).status == 201
    assert api("PUT", f"{path}/{group.bob}", {"username": "rob", "group_id": group.id}).status == 200


def test_transfers(api, group, admin):
    answer = api("POST", f"{group.path}/transfer", {"from": group.bob, "to": group.alice, "amount": 50})
    assert answer.status == 200
    assert answer.body == (
        b'{"data":{"to_participant":{"username":"alice","id":%d,"group_id":%d,"amount":150},'
        b'"from_participant":{"username":"bob","id":%d,"group_id":%d,"amount":50}}}'
    ) % (group.alice, group.id, group.bob, group.id)
    record = "select kind, from_id, to_id, amount from ledger.record where group_id = %s and id = %s"
    entry = one(admin, record, [group.id, int(answer.headers["Ledger-Entry"])])
    assert entry == ("transfer", group.bob, group.alice, 50)


def test_exits_with_the_final_amount(api, group, admin):
    answer = api("DELETE", f"{group.path}/participants/{group.bob}")
    assert (answer.status, answer.body) == (200, b'{"data":{"final_amount":100}}')
    record = "select kind, from_id, to_id, amount from ledger.record where group_id = %s and id = %s"
    entry = one(admin, record, [group.id, int(answer.headers["Ledger-Entry"])])
    assert entry == ("exit", group.bob, None, 100)
    assert api("GET", f"{group.path}/participants/{group.bob}").status == 404
    assert api("POST", f"{group.path}/participants", {"username": "bob", "amount": 1}).status == 201


def test_removes_an_empty_group_without_a_body(api, group):
    for participant in (group.alice, group.bob):
        api("DELETE", f"{group.path}/participants/{participant}")
    answer = api("DELETE", group.path)
    assert (answer.status, answer.body) == (204, b"")
    assert api("POST", "/api/groups", {"name": group.name}).status == 201


def test_every_get_has_a_head(api, group):
    for path in ("/api/groups", group.path, f"{group.path}/total", "/api/health"):
        get, head = api("GET", path), api("HEAD", path)
        assert (head.status, head.body) == (200, b"")
        assert head.headers["Content-Length"] == str(len(get.body))


def test_options_lists_the_methods(api, group):
    answer = api("OPTIONS", group.path)
    assert (answer.status, answer.headers["Allow"]) == (204, "GET, HEAD, PUT, PATCH, DELETE, OPTIONS")


def test_every_published_function_has_a_route_with_its_parameters(admin):
    published = admin.execute(
        """
        select p.proname, p.proargnames[1:p.pronargs]
        from pg_proc as p
        where p.pronamespace = 'ledger'::regnamespace
          and has_function_privilege('ledger_api', p.oid, 'execute')
        """
    ).fetchall()
    routed = {(route.function, tuple(argument.parameter for argument in route.arguments)) for route in ROUTES}
    routed |= {
        (route.batch_function, tuple(f"{argument.parameter}s" for argument in route.batch_arguments))
        for route in ROUTES
        if route.batch_function
    }
    routed |= {
        (route.minimal_function, tuple(argument.parameter for argument in route.arguments))
        for route in ROUTES
        if route.minimal_function
    }
    # Functions that need no ledger, that a command calls, and that the service calls for its metrics and API keys.
    routed |= {("verify_proof", ("proof", "header", "root")), ("list_newest_checkpoints", ("after", "max_rows"))}
    routed |= {("activity", ()), ("authenticate", ("key_id", "digest")), ("keys_required", ())}
    assert routed == {(name, tuple(parameters or ())) for name, parameters in published}
