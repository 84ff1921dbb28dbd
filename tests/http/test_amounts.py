"""Amounts are exact in both directions, up to 2^256 - 1; any other value is refused."""

import pytest

from api.http.preferences import prefers
from tests.http.client import problem
from tests.http.test_framing import exchange

LARGEST = 2**256 - 1


@pytest.mark.parametrize("amount", [0, 1, 2**53 + 1, 2**63, 2**64 + 1, 9_300_000_000_000_000_001, LARGEST])
@pytest.mark.parametrize("spelling", ["{}", '"{}"', '"000{}"'])
def test_an_amount_comes_back_to_the_digit(api, group, amount, spelling):
    body = f'{{"username": "carol", "amount": {spelling.format(amount)}}}'
    answer = api("POST", f"{group.path}/participants", body)
    assert answer.status == 201
    assert answer.body.endswith(b'"amount":%d}}' % amount)
    total = api("GET", f"{group.path}/total")
    assert total.body == b'{"data":{"group_total":%d}}' % (amount + 200)


def test_a_total_has_no_bound(api, group):
    for username in ("carol", "dave"):
        api("POST", f"{group.path}/participants", {"username": username, "amount": LARGEST})
    assert api("GET", f"{group.path}/total").data == {"group_total": 2 * LARGEST + 200}


def test_a_transfer_may_fill_the_recipient_but_not_more(api, group):
    carol = api("POST", f"{group.path}/participants", {"username": "carol", "amount": LARGEST - 50}).data["id"]
    body = problem(
        api("POST", f"{group.path}/transfer", {"from": group.alice, "to": carol, "amount": 51}), 422, "invalid_value"
    )
    assert list(body["errors"]) == ["amount"]
    moved = api("POST", f"{group.path}/transfer", {"from": group.alice, "to": carol, "amount": 50})
    assert moved.data["to_participant"]["amount"] == LARGEST


@pytest.mark.parametrize("spelling", ["{:#x}", "0x{:X}", "0x{:064x}"])
@pytest.mark.parametrize("amount", [0, 1, 100, 2**255 + 12345, LARGEST])
def test_an_amount_may_be_a_hex_quantity(api, group, amount, spelling):
    quantity = spelling.format(amount)
    carol = api("POST", f"{group.path}/participants", {"username": "carol", "amount": quantity}).data
    assert carol["amount"] == amount
    dave = api("POST", f"{group.path}/participants", {"username": "dave", "amount": 0}).data["id"]
    if amount:
        body = {"from": carol["id"], "to": dave, "amount": quantity}
        assert api("POST", f"{group.path}/transfer", body).data["to_participant"]["amount"] == amount
        body = {"transfers": [body | {"from": dave, "to": carol["id"]}]}
        assert [entry["amount"] for entry in api("POST", f"{group.path}/transfers", body).data["entries"]] == [amount]


def test_a_repeated_request_may_use_another_spelling_of_its_amount(api, group):
    key = {"Idempotency-Key": "key"}
    body = {"from": group.alice, "to": group.bob, "amount": 16}
    first = api("POST", f"{group.path}/transfer", body, key)
    again = api("POST", f"{group.path}/transfer", body | {"amount": "0x10"}, key)
    assert (again.body, again.headers["Idempotency-Replayed"]) == (first.body, "true")


BAD = ["1.5", "1.0", "1e3", "1E3", "-0", "-1", "true", "false", "[]", "{}", "[1]", '""', '" 1"', '"1 "', '"12abc"']
BAD += [
    '"-5"',
    '"+5"',
    '"1.0"',
    '"1e3"',
    '"0x"',
    '"0xg"',
    '"0X10"',
    '"-0x1"',
    '" 0x1"',
    '"0x1_0"',
    '"0x1.8"',
    '"1_000"',
    '"١"',
    '"１"',
    '"NaN"',
    '"Infinity"',
    '"null"',
]
BAD += [
    str(2**256),
    f'"{2**256}"',
    f'"{2**256:#x}"',
    '"0x' + "f" * 200_000 + '"',
    "1" + "0" * 400,
    '"' + "9" * 10_000 + '"',
    "9" * 200_000,
]


@pytest.mark.parametrize("amount", BAD, ids=lambda amount: amount[:20])
@pytest.mark.usefixtures("unchanged")
def test_a_value_that_is_no_amount_is_refused(api, group, amount):
    joined = api("POST", f"{group.path}/participants", f'{{"username": "carol", "amount": {amount}}}')
    assert list(problem(joined, 422, "invalid_value")["errors"]) == ["amount"]
    moved = api("POST", f"{group.path}/transfer", f'{{"from": {group.bob}, "to": {group.alice}, "amount": {amount}}}')
    assert list(problem(moved, 422, "invalid_value")["errors"]) == ["amount"]


@pytest.mark.parametrize("amount", ["0", '"0"', "null"])
@pytest.mark.usefixtures("unchanged")
def test_a_transfer_is_at_least_1(api, group, amount):
    body = f'{{"from": {group.bob}, "to": {group.alice}, "amount": {amount}}}'
    assert list(problem(api("POST", f"{group.path}/transfer", body), 422, "invalid_value")["errors"]) == ["amount"]


def test_amounts_are_strings_where_the_request_prefers_them(api, group):
    prefer = {"Prefer": "amounts=string"}
    join = api("POST", f"{group.path}/participants", {"username": "carol", "amount": LARGEST}, prefer)
    carol = join.data["id"]
    assert join.data == {"username": "carol", "id": carol, "group_id": group.id, "amount": str(LARGEST)}
    move = {"from": carol, "to": group.bob, "amount": "1"}
    answers = [
        join,
        api("GET", f"{group.path}/participants", headers=prefer),
        api("GET", f"{group.path}/participants/{carol}", headers=prefer),
        api("PUT", f"{group.path}/participants/{carol}", {"username": "caroline"}, prefer),
        api("POST", f"{group.path}/transfer", move, prefer),
        api("GET", f"{group.path}/total", headers=prefer),
        api("DELETE", f"{group.path}/participants/{carol}", headers=prefer),
    ]
    for answer in answers:
        assert answer.headers["Preference-Applied"] == "amounts=string"
        assert answer.headers["Vary"] == ("Accept, Prefer" if answer is answers[1] else "Prefer")
    assert answers[1].data[2]["amount"] == str(LARGEST)
    assert answers[4].data["to_participant"]["amount"] == "101"
    assert answers[4].data["from_participant"]["amount"] == str(LARGEST - 1)
    assert answers[5].data == {"group_total": str(LARGEST + 200)}
    assert answers[6].data == {"final_amount": str(LARGEST - 1)}


@pytest.mark.parametrize(
    "prefer", ["respond-async, amounts=string", 'amounts="string"', "AMOUNTS=String", "amounts=string; x=1"]
)
def test_a_preference_is_found_in_every_spelling_of_rfc_7240(api, group, prefer):
    answer = api("GET", f"{group.path}/total", headers={"Prefer": prefer})
    assert answer.data == {"group_total": "200"}


@pytest.mark.parametrize("prefer", ["amounts=number", "amounts", "return=minimal", "xamounts=string"])
def test_an_unknown_preference_is_not_applied(api, group, prefer):
    answer = api("GET", f"{group.path}/total", headers={"Prefer": prefer})
    assert answer.data == {"group_total": 200}
    assert "Preference-Applied" not in answer.headers


PREFERENCES = {
    "amounts=string, amounts=number": True,
    "amounts=number, amounts=string": False,
    "amounts, amounts=string": False,
    'amounts="", amounts=string': False,
    'x="a, amounts=string"': False,
    'x="a, amounts=number", amounts=string': True,
    'x="\\", amounts=number", amounts=string': True,
    'amounts="str\\ing"': True,
    'amounts = "STRING" ; a=b;c="d, e"': True,
    "x; amounts=string": False,
    "x;amounts=string, amounts=number": False,
    "amounts=string;": True,
    "amounts=string;;a": True,
    "wait=10, respond-async; x, ,,amounts=string": True,
    "a b, amounts=string": True,
    "=x, amounts=string": True,
    'x="unfinished, amounts=string': False,
    "amounts=string x": False,
    "amounts='string'": False,
    "": False,
}


@pytest.mark.parametrize("prefer", PREFERENCES)
def test_the_first_preference_of_a_name_counts(prefer):
    assert prefers([prefer], "amounts", "string") == PREFERENCES[prefer]


def test_several_headers_are_one_list(api, group):
    head = f"GET {group.path}/total HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    for first, second, expected in (("x", "amounts=string", b'"200"'), ("amounts=number", "amounts=string", b"200")):
        (answer,) = exchange(api, f"{head}Prefer: {first}\r\nPrefer: {second}\r\n\r\n".encode())
        assert answer.body == b'{"data":{"group_total":%s}}' % expected


@pytest.mark.parametrize(
    "piece", ['"', '"\\', "a;", "a ; ", "a; ;", "a=", '"\\"', "a,", " ", "\t;", 'a="\\",', "a=b;c="]
)
def test_parsing_a_preference_takes_linear_time(piece):
    """In quadratic time such a header would take minutes."""
    length = 2_000_000
    assert not prefers([piece * (length // len(piece))], "amounts", "string")
