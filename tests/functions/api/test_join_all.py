"""ledger.join_all: many joins in one step, all of them in their order, or none."""

import json
from collections.abc import Callable

import psycopg
import pytest

from tests.functions.conftest import BAD_NAMES, GOOD_NAMES, behind
from tests.support import balance, call, create, discrepancies, join, one

LARGEST = 2**256 - 1
ADDRESS = "0x" + "ab" * 20
OTHER_ADDRESS = "0x" + "cd" * 20
CHECKSUMMED = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"  # from EIP-55

NOT_LISTS = ["null", "{}", '{"username": "alice", "amount": 1}', '"[]"', "1", "true"]
NOT_OBJECTS = [None, 5, "alice", True, [], [{"username": "alice", "amount": 1}]]
NOT_TEXTS = [5, True, False, [], {}, ["alice"]]
BAD_AMOUNTS = [None, "", True, 1.5, "1.5", "5.0", "1e2", " 5", "5\n", "+5", -1, "-1", "0x10", "NaN", {}, [5], 2**256]
BAD_ADDRESSES = [
    5,
    "",
    "0x",
    "ab" * 20,
    "0x" + "ab" * 19,
    "0x" + "0" * 40,
    CHECKSUMMED.replace("A", "a"),
    ADDRESS + "\n",
]
BAD_METADATA = [5, "{}", True, [{}], {"note": "x" * 4085}]

Joins = Callable[..., dict]


def line(username: object, amount: object = 100, **others: object) -> dict[str, object]:
    return {"username": username, "amount": amount, **others}


def named(at: int, member: str = "username") -> str:
    return f"participants[{at}].{member}"


@pytest.fixture
def joins(ledger: psycopg.Connection, group: int) -> Joins:
    """Make the joins in the group; the answer as JSON."""

    def make(*lines: object, key: str | None = None) -> dict:
        return one(ledger, "select to_json(j) from ledger.join_all(%s, %s, %s) as j", [group, json.dumps(lines), key])[
            0
        ]

    return make


@pytest.fixture
def refuses_lines(refuses, group: int) -> Callable[..., None]:
    """Call with lines that must be refused for these fields and leave every row as it was."""

    def check(sqlstate: str, blamed: list[str], *lines: object, key: str | None = None) -> None:
        refuses(sqlstate, blamed, "join_all", group, json.dumps(lines), key)

    return check


def verified(ledger: psycopg.Connection) -> list[tuple]:
    """The discrepancies that the tests and the ledger itself find."""
    with behind(ledger):
        return [*discrepancies(ledger), *ledger.execute("select * from ledger.verify()").fetchall()]


# Joins.


def test_joins_each_line_in_order(ledger, group, record, joins):
    answer = joins(line("carol", 30), line("alice", 0), line("bob", "7"))
    ids = [participant["id"] for participant in answer["participants"]]
    assert ids == sorted(ids)
    assert [row[1:] for row in record()] == [
        ("join", None, participant, amount, None, amount) for participant, amount in zip(ids, [30, 0, 7], strict=True)
    ]
    assert answer == {
        "entries": [{"id": row[0], "to_id": row[3], "amount": row[4]} for row in record()],
        "participants": [
            {"username": username, "id": participant, "group_id": group, "amount": amount}
            for username, participant, amount in zip(["carol", "alice", "bob"], ids, [30, 0, 7], strict=True)
        ],
        "replayed": False,
    }
    assert call(ledger, "list_participants", group) == [
        (participant["username"], participant["id"], group, participant["amount"])
        for participant in answer["participants"]
    ]
    assert call(ledger, "group_total", group) == [(37,)]
    assert verified(ledger) == []


def test_writes_what_single_joins_write(ledger, group, joins):
    many, other = [*map(line, "ab"), line("c", 5, metadata={"n": 1}, address=ADDRESS)], create(ledger, "Other")
    joins(*many)
    for each in many:
        query = "select from ledger.join_group(%s, %s, %s, metadata => %s, address => %s)"
        given = [each["username"], each["amount"], json.dumps(each["metadata"]) if "metadata" in each else None]
        ledger.execute(query, [other, *given, each.get("address")])
    with behind(ledger):
        tables = {
            "participants": "username, amount, exited_at, address, address_proved, moved_at = joined_at",
            "entries": "kind, from_id, amount, from_amount, to_amount, metadata, reverses",
            "group_total_history": "slot, total, participant_id",
        }
        for table, names in tables.items():
            order = "entry_id" if table == "group_total_history" else "id"
            query = f"select {names} from ledger.{table} where group_id = %s order by {order}"
            assert ledger.execute(query, [group]).fetchall() == ledger.execute(query, [other]).fetchall()


def test_all_entries_have_one_time_and_total_at_each_of_them(ledger, group, alice, joins):
    entries = [entry["id"] for entry in joins(line("b", 1), line("c", 2), line("d", 4))["entries"]]
    with behind(ledger):
        query = "select count(distinct created_at) from ledger.entries where id = any (%s)"
        assert one(ledger, query, [entries]) == (1,)
        query = "select bool_and(joined_at = moved_at), count(distinct joined_at) from ledger.participants"
        assert one(ledger, f"{query} where group_id = %s and id <> %s", [group, alice]) == (True, 1)
    totals = [one(ledger, "select ledger.group_total(%s, at_entry => %s)", [group, entry])[0] for entry in entries]
    assert totals == [101, 103, 107]


def test_the_feed_has_them_in_the_order_of_the_lines(ledger, group):
    # A transaction's own entries are not in the feed yet: compared by transaction and id, as the feed is.
    lines = json.dumps([line(name) for name in "zyxabc"])
    ledger.execute("select from ledger.join_all(%s, %s)", [group, lines])
    with behind(ledger):
        query = """
            select p.username
            from ledger.entries as e
            join ledger.participants as p on p.group_id = e.group_id and p.id = e.to_id
            where e.group_id = %s
            order by e.xid, e.id
        """
        assert [username for (username,) in ledger.execute(query, [group])] == list("zyxabc")


@pytest.mark.parametrize("amount", [0, 1, LARGEST, str(LARGEST), f"{'0' * 200}5"])
def test_takes_any_whole_deposit_below_2_256(ledger, group, record, joins, amount):
    joins(line("alice", amount))
    assert [str(row[4]) for row in record()] == [str(int(amount))]


@pytest.mark.parametrize("name", GOOD_NAMES.values(), ids=GOOD_NAMES.keys())
def test_keeps_every_character_of_a_username(ledger, group, joins, name):
    (participant,) = joins(line(name))["participants"]
    assert participant["username"] == name
    assert call(ledger, "list_participants", group, 0, 10) == [(name, participant["id"], group, 100)]


def test_a_username_is_composed(joins, refuses_lines):
    (participant,) = joins(line("Zoe\u0308"))["participants"]
    assert participant["username"] == "Zo\u00eb"
    refuses_lines("LG005", [named(1)], line("a"), line("Zo\u00eb"))


def test_binds_addresses(ledger, group, joins):
    answer = joins(line("a", address=ADDRESS), line("b"), line("c", address=CHECKSUMMED), line("d", address=None))
    shown = [
        one(ledger, "select lower(address) from ledger.get_address(%s, %s)", [group, participant["id"]])[0]
        for participant in answer["participants"]
    ]
    assert shown == [ADDRESS, None, CHECKSUMMED.lower(), None]


def test_records_the_metadata_of_each_line(ledger, group, joins):
    given = [{"metadata": {"invoice": 7}}, {}, {"metadata": None}, {"metadata": {}}]
    answer = joins(*(line(f"p{at}", **one) for at, one in enumerate(given)))
    shown = [
        one(ledger, "select metadata from ledger.get_entry(%s, %s)", [group, entry["id"]])[0]
        for entry in answer["entries"]
    ]
    assert shown == [{"invoice": 7}, None, None, {}]


def test_takes_10000_lines(ledger, group):
    lines = [line(f"participant {number}", number) for number in range(10_000)]
    query = "select cardinality(participants), (participants[9999]).amount from ledger.join_all(%s, %s, 'key')"
    assert one(ledger, query, [group, json.dumps(lines)]) == (10_000, 9998)
    assert call(ledger, "group_total", group) == [(sum(range(10_000)),)]


# Usernames and addresses that are taken.


@pytest.mark.parametrize("at", [0, 1, 2])
def test_refuses_a_taken_username(alice, refuses_lines, at):
    lines = [line("x"), line("y"), line("z")]
    lines[at] = line("alice")
    refuses_lines("LG005", [named(at)], *lines)


def test_refuses_a_username_that_an_earlier_line_has(refuses_lines):
    refuses_lines("LG005", [named(2)], line("x"), line("y"), line("x", 5))
    refuses_lines("LG005", [named(1)], line("x"), line("x"), line("x"))
    refuses_lines("LG005", [named(2)], line("z"), line("Zoe\u0308"), line("Zo\u00eb"))


def test_blames_the_first_line_that_a_single_join_would_be_refused_for(alice, bob, refuses_lines):
    refuses_lines("LG005", [named(1)], line("x"), line("alice"), line("x"), line("bob"))
    refuses_lines("LG005", [named(1)], line("x"), line("x"), line("alice"))
    refuses_lines("LG005", [named(0)], line("bob"), line("alice"))
    # In the order of the usernames the second of these addresses would come first.
    refuses_lines("LG010", [named(1, "address")], line("z", address=ADDRESS), line("a", address=ADDRESS), line("alice"))
    refuses_lines("LG005", [named(0)], line("alice", address=ADDRESS), line("a", address=ADDRESS))


def test_refuses_a_taken_address(ledger, group, alice, refuses_lines):
    call(ledger, "bind_address", group, alice, ADDRESS)
    refuses_lines("LG010", [named(1, "address")], line("x", address=OTHER_ADDRESS), line("y", address=ADDRESS))
    refuses_lines("LG010", [named(0, "address")], line("alice", address=ADDRESS))
    refuses_lines("LG010", [named(1, "address")], line("x", address=OTHER_ADDRESS), line("y", address=OTHER_ADDRESS))


def test_what_a_former_participant_had_is_free(ledger, group, alice, joins):
    call(ledger, "bind_address", group, alice, ADDRESS)
    call(ledger, "exit_group", group, alice)
    (participant,) = joins(line("alice", address=ADDRESS))["participants"]
    assert participant["id"] > alice


def test_a_username_is_taken_in_its_own_group_only(ledger, group, alice):
    other = create(ledger, "DAI")
    ledger.execute("select from ledger.join_all(%s, %s)", [other, json.dumps([line("alice"), line("bob")])])
    assert balance(ledger, group, alice) == 100


# Invalid values.


@pytest.mark.parametrize("participants", NOT_LISTS)
def test_refuses_what_is_not_a_list(refuses, group, participants):
    refuses("LG001", ["participants"], "join_all", group, participants)


@pytest.mark.parametrize("count", [0, 10_001])
def test_refuses_no_line_and_more_than_10000(refuses_lines, count):
    refuses_lines("LG001", ["participants"], *[line("alice")] * count)


def test_names_every_bad_argument_at_once(refuses):
    refuses("LG001", ["group_id", "participants", "idempotency_key"], "join_all", None, None, "a b")


@pytest.mark.parametrize("bad", NOT_OBJECTS)
def test_refuses_a_line_that_is_no_object(refuses_lines, bad):
    refuses_lines("LG001", ["participants[1]"], line("x"), bad, line("y"))


@pytest.mark.parametrize("bad", [*BAD_NAMES.values(), *NOT_TEXTS])
def test_refuses_a_bad_username(refuses_lines, bad):
    refuses_lines("LG001", [named(1)], line("x"), line(bad), line("y"))


@pytest.mark.parametrize("bad", BAD_AMOUNTS)
def test_refuses_a_bad_amount(refuses_lines, bad):
    refuses_lines("LG001", [named(1, "amount")], line("x"), line("y", bad), line("z"))


@pytest.mark.parametrize("bad", BAD_ADDRESSES)
def test_refuses_a_bad_address(refuses_lines, bad):
    refuses_lines("LG001", [named(1, "address")], line("x"), line("y", address=bad), line("z"))


@pytest.mark.parametrize("bad", BAD_METADATA)
def test_refuses_bad_metadata(refuses_lines, bad):
    refuses_lines("LG001", [named(1, "metadata")], line("x"), line("y", metadata=bad), line("z"))


@pytest.mark.parametrize("member", ["group_id", "Amount", "", "🦄"])
def test_refuses_an_unknown_member(refuses_lines, member):
    refuses_lines("LG001", [named(1, member)], line("x"), line("y", **{member: None}))


@pytest.mark.parametrize("missing", ["username", "amount"])
def test_refuses_a_line_without_a_member(refuses_lines, missing):
    refuses_lines("LG001", [named(0, missing)], {name: value for name, value in line("x").items() if name != missing})


def test_names_every_invalid_value_of_every_line_at_once(alice, refuses_lines):
    blamed = [named(0), named(0, "amount"), "participants[2]", named(3, "address"), named(3, "metadata")]
    refuses_lines("LG001", blamed, line("", -1), line("alice"), 5, line("x", address="0x", metadata=[]))


def test_names_at_most_100_fields(refuses_lines):
    refuses_lines("LG001", [named(at) for at in range(100)], *[line("")] * 200)


def test_refuses_an_unknown_group(ledger, refuses, group, stranger):
    refuses("LG002", ["group_id"], "join_all", stranger, json.dumps([line("alice")]))
    call(ledger, "remove_group", group)
    refuses("LG002", ["group_id"], "join_all", group, json.dumps([line("alice")]))


# Repeated requests.


def test_a_repeated_request_gets_its_answer_and_changes_nothing(ledger, group, record, joins):
    lines = [line("Zoe\u0308", 3, metadata={"a": 1}), line("b", "4", address=CHECKSUMMED)]
    answer = joins(*lines, key="key")
    ledger.execute("select from ledger.rename_participant(%s, %s, 'renamed')", [group, answer["participants"][0]["id"]])
    assert joins(*lines, key="key") == answer | {"replayed": True}
    # The same values in another spelling are the same request.
    again = [line("Zo\u00eb", "3", metadata={"a": 1}), line("b", 4, address=CHECKSUMMED.lower())]
    assert joins(*again, key="key") == answer | {"replayed": True}
    assert len(record()) == 2
    assert verified(ledger) == []


@pytest.mark.parametrize(
    "other",
    [
        [line("a"), line("b", 1)],
        [line("a")],
        [line("b"), line("a")],
        [line("a"), line("b", metadata={})],
        [line("a"), line("b", address=ADDRESS)],
        [line("a", address=None), line("B")],
    ],
)
def test_a_key_belongs_to_one_request(joins, refuses_lines, other):
    joins(line("a"), line("b"), key="key")
    refuses_lines("LG006", ["idempotency_key"], *other, key="key")


def test_a_refused_request_does_not_use_its_key(alice, joins, refuses_lines):
    refuses_lines("LG005", [named(1)], line("x"), line("alice"), key="key")
    assert joins(line("x"), key="key")["replayed"] is False


# verify.


def test_verify_finds_an_answer_that_contradicts_the_record(ledger, group, joins):
    joins(line("a", 1), line("b", 2, address=ADDRESS), key="key")
    join(ledger, group, "c")
    assert verified(ledger) == []
    damages = {
        "other amount": "replace(answer::text, '\"amount\":2', '\"amount\":3')::json",
        "other name": "replace(answer::text, '\"a\"', '\"z\"')::json",
        "no participant": "(answer::jsonb || '{\"participants\": []}')::json",
        "no entry": "(answer::jsonb || '{\"entries\": []}')::json",
        "no list": '(answer::jsonb || \'{"entries": 5, "participants": "x"}\')::json',
    }
    for damaged in damages.values():
        with ledger.transaction() as undone:
            with behind(ledger):
                ledger.execute("set session_replication_role = replica")
                ledger.execute(f"update ledger.idempotency_keys set answer = {damaged} where key = 'key'")
                ledger.execute("set session_replication_role = origin")
            assert {row[3] for row in verified(ledger)} == {"idempotency key"}, damaged
            raise psycopg.Rollback(undone)
    assert verified(ledger) == []


def test_verify_knows_an_address_that_was_bound_later(ledger, group, joins):
    first, _ = joins(line("a", 1), line("b", 2, address=ADDRESS), key="key")["participants"]
    with behind(ledger):
        # As in a later transaction.
        query = "update ledger.participants set address = %s, address_xid = '3' where id = %s"
        ledger.execute(query, [bytes.fromhex(OTHER_ADDRESS[2:]), first["id"]])
        assert ledger.execute("select * from ledger_internal.verify_keys(%s, '', null)", [group]).fetchall() == []
