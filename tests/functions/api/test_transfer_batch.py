"""ledger.transfer_batch: transfers of many requests in one call, except those that would have to wait."""

from decimal import Decimal

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.functions.conftest import TOO_LONG, behind, left_as_it_is, rows
from tests.support import balance, call, create, join, one, refused, transfer

CALL = """
select outcome, (to_participant).amount, (from_participant).amount, entry_id
from ledger.transfer_batch(%s, %s, %s, %s::numeric[], %s, %s::jsonb[])
order by place
"""


def each(ledger: psycopg.Connection, *lines: tuple, keys: list | None = None, metadatas: list | None = None) -> list:
    """Return the outcome, both balances and the entry of each line (group, from, to, amount)."""
    columns = [list(column) for column in zip(*lines, strict=True)] if lines else [[], [], [], []]
    columns[3] = [None if amount is None else Decimal(amount) for amount in columns[3]]
    documents = metadatas and [None if metadata is None else Jsonb(metadata) for metadata in metadatas]
    return ledger.execute(CALL, [*columns, keys, documents]).fetchall()


def outcomes(ledger: psycopg.Connection, *lines: tuple, **options: list) -> list[str]:
    return [row[0] for row in each(ledger, *lines, **options)]


@pytest.fixture
def carol(ledger, group):
    return join(ledger, group, "carol", 0)


@pytest.fixture
def dave(ledger, group):
    return join(ledger, group, "dave", 0)


def test_makes_each_line_in_order(ledger, group, alice, bob, carol, dave, record):
    # A chain: each line spends the money of the one before.
    made = each(ledger, (group, alice, bob, 100), (group, bob, carol, 200), (group, carol, dave, 150))
    assert [row[:3] for row in made] == [("done", 200, 0), ("done", 200, 0), ("done", 150, 50)]
    entries = [row[3] for row in made]
    assert entries == sorted(entries)
    assert record()[4:] == [
        (entries[0], "transfer", alice, bob, 100, 0, 200),
        (entries[1], "transfer", bob, carol, 200, 0, 200),
        (entries[2], "transfer", carol, dave, 150, 50, 150),
    ]
    assert [balance(ledger, group, participant) for participant in (alice, bob, carol, dave)] == [0, 0, 50, 150]


def test_answers_as_transfer_does(ledger, group, alice, bob):
    query = "select to_participant, from_participant from ledger.{}"
    by_itself = one(ledger, query.format("transfer(%s, %s, %s, 5)"), [group, alice, bob])
    transfer(ledger, group, bob, alice, 5)
    together = one(ledger, query.format("transfer_batch(%s, %s, %s, array[5.000])"), [[group], [alice], [bob]])
    assert together == by_itself


def test_serves_both_directions_and_several_groups(ledger, group, alice, bob):
    other = create(ledger, "Other")
    erin, frank = join(ledger, other, "erin", 10), join(ledger, other, "frank", 0)
    lines = [(group, alice, bob, 10), (other, erin, frank, 10), (group, bob, alice, 110), (other, frank, erin, 1)]
    assert [row[:3] for row in each(ledger, *lines)] == [
        ("done", 110, 90),
        ("done", 10, 0),
        ("done", 200, 0),
        ("done", 1, 9),
    ]


def test_defers_lines_that_transfer_refuses_and_makes_the_others(ledger, group, alice, bob, neighbour, refuses):
    whale = join(ledger, group, "whale", 2**256 - 1)
    left = {
        (group, alice, bob, 101): "LG003",
        (group, alice, whale, 1): "LG001",
        (group, alice, 2**62, 1): "LG002",
        (group, 2**62, alice, 1): "LG002",
        (neighbour, alice, bob, 1): "LG002",
        (2**62, alice, bob, 1): "LG002",
        (group, alice, alice, 1): "LG001",
        (group, alice, bob, 0): "LG001",
        (group, alice, bob, -1): "LG001",
        (group, alice, bob, Decimal("1.5")): "LG001",
        (group, alice, bob, Decimal("NaN")): "LG001",
        (group, alice, bob, 2**256): "LG001",
        (group, alice, bob, None): "LG001",
        (None, alice, bob, 1): "LG001",
        (group, None, bob, 1): "LG001",
        (group, alice, None, 1): "LG001",
    }
    for line, sqlstate in left.items():
        refused(ledger, sqlstate, "select ledger.transfer(%s, %s, %s, %s)", line)
    lines = [line for bad in left for line in (bad, (group, bob, alice, 1))]
    made = outcomes(ledger, *lines)
    assert made == ["deferred", "done"] * len(left)
    assert balance(ledger, group, bob) == 100 - len(left)


def test_a_single_line_has_the_same_outcome_as_among_others(ledger, group, alice, bob, carol, neighbour):
    call(ledger, "exit_group", group, carol)
    call(ledger, "transfer", group, alice, bob, 1, "used")
    whale = join(ledger, group, "whale", 2**256 - 1)
    other = create(ledger, "Other")
    companion = (other, join(ledger, other, "erin", 10), join(ledger, other, "frank", 0), 1)
    good = (group, alice, bob, 5)
    cases = [
        *(
            (line, None, None)
            for line in (good, (group, bob, alice, 101), (group, whale, carol, 1), (group, 2**62, bob, 1))
        ),
        *(
            (line, None, None)
            for line in ((group, alice, bob, 1000), (group, alice, whale, 1), (neighbour, alice, bob, 1))
        ),
        *((line, None, None) for line in ((group, alice, alice, 1), (None, alice, bob, 1), (group, None, bob, 1))),
        *(
            ((group, alice, bob, amount), None, None)
            for amount in (None, 0, -1, "1.5", "5.00", "NaN", 2**256, 2**256 - 1)
        ),
        *((good, key, None) for key in ("new", "used", "", "a b", "é", TOO_LONG)),
        *((good, "key", metadata) for metadata in ({"order": 1}, {}, [1], {"long": TOO_LONG * 20})),
    ]
    for line, key, metadata in cases:
        came = []
        for company in ([], [companion]):
            with ledger.transaction(force_rollback=True):
                lines = [line, *company]
                nothing = [None] * len(company)
                made = each(ledger, *lines, keys=[key, *nothing], metadatas=[metadata, *nothing])
                assert [row[0] for row in made[1:]] == ["done"] * len(company)
                written = ledger.execute(
                    "select kind, from_id, to_id, amount, from_amount, to_amount, metadata"
                    " from ledger.list_entries(%s, newest_first => true, max_rows => 1)",
                    [group],
                ).fetchall()
                replayed = key in ("new", "key") and made[0][0] == "done"
                repeat = "select replayed from ledger.transfer(%s, %s, %s, %s, %s, %s)"
                if replayed:
                    assert one(ledger, repeat, [*line, key, None if metadata is None else Jsonb(metadata)]) == (True,)
                came.append((made[0][:3], written))
        assert came[0] == came[1], (line, key, metadata)


def test_a_deferred_line_changes_nothing(ledger, group, alice, bob):
    before = rows(ledger)
    assert outcomes(ledger, (group, alice, bob, 101), (group, alice, 2**62, 1)) == ["deferred", "deferred"]
    assert outcomes(ledger, (group, alice, bob, 101), keys=["key"]) == ["deferred"]
    assert rows(ledger) == before


def test_a_participant_who_left_is_missing(ledger, group, alice, bob, carol):
    call(ledger, "exit_group", group, carol)
    assert outcomes(ledger, (group, alice, carol, 1), (group, alice, bob, 1)) == ["deferred", "done"]


def test_money_that_a_deferred_line_lacked_stays_available(ledger, group, alice, bob):
    assert outcomes(ledger, (group, bob, alice, 150), (group, alice, bob, 50), (group, bob, alice, 150)) == [
        "deferred",
        "done",
        "done",
    ]


def test_moves_the_greatest_amount(ledger, group, carol):
    whale = join(ledger, group, "whale", 2**256 - 1)
    ((outcome, got, kept, _),) = each(ledger, (group, whale, carol, 2**256 - 1))
    assert (outcome, got, kept) == ("done", 2**256 - 1, 0)


def test_lines_that_other_lists_lack_are_deferred(ledger, group, alice, bob):
    call = "select outcome from ledger.transfer_batch(%s, %s, %s, array[1], %s)"
    assert ledger.execute(call, [[group], [alice], [bob], ["a", "b"]]).fetchall() == [("done",), ("deferred",)]


@pytest.mark.parametrize("counted", ["ids", "amounts", "keys", "metadatas", "all"])
def test_a_list_may_have_any_lower_bound(ledger, group, alice, bob, record, counted):
    def spelled(name: str, *values: object) -> str:
        bounds = "[0:1]=" if counted in (name, "all") else ""
        return f"{bounds}{{{','.join(map(str, values))}}}"

    lines = [
        spelled("ids", group, group),
        spelled("ids", alice, bob),
        spelled("ids", bob, alice),
        spelled("amounts", 7, 30),
        spelled("keys", "first", "second"),
        spelled("metadatas", '"{}"', "null"),
    ]
    made = ledger.execute(
        "select outcome, entry_id from ledger.transfer_batch(%s, %s, %s, %s, %s, %s)", lines
    ).fetchall()
    assert [outcome for outcome, _ in made] == ["done", "done"]
    entries = [entry for _, entry in made]
    assert record()[2:] == [
        (entries[0], "transfer", alice, bob, 7, 93, 107),
        (entries[1], "transfer", bob, alice, 30, 77, 123),
    ]
    repeated = "select replayed, entry_id from ledger.transfer(%s, %s, %s, 30, 'second')"
    assert one(ledger, repeated, [group, bob, alice]) == (True, entries[1])


@pytest.mark.parametrize("unfit", ["{{%s,%s}}", "[2:3]={%s,%s}"])
def test_lists_of_other_shapes_are_read_in_the_order_of_unnest(ledger, group, alice, bob, record, unfit):
    columns = [(group, group), (alice, bob), (bob, alice), (5, 7)]
    assert ledger.execute(
        "select outcome from ledger.transfer_batch(%s, %s, %s, %s)", [unfit % column for column in columns]
    ).fetchall() == [("done",), ("done",)]
    assert [entry[2:5] for entry in record()[2:]] == [(alice, bob, 5), (bob, alice, 7)]


@pytest.mark.parametrize("unfit", ["[0:0]={%s}", "{{%s}}"])
def test_a_single_line_keeps_its_idempotency_key_and_metadata_with_any_lower_bound(ledger, group, alice, bob, unfit):
    lists = [[group], [alice], [bob], [Decimal(5)], unfit % "key", unfit % '"{}"']
    query = "select outcome, entry_id from ledger.transfer_batch(%s, %s, %s, %s, %s::text[], %s::jsonb[])"
    ((outcome, entry),) = ledger.execute(query, lists).fetchall()
    assert outcome == "done"
    repeated = "select replayed, entry_id from ledger.transfer(%s, %s, %s, 5, 'key', '{}')"
    assert one(ledger, repeated, [group, alice, bob]) == (True, entry)


@pytest.mark.parametrize("short", ["group_ids", "from_ids", "to_ids", "amounts"])
def test_a_shorter_list_gives_null_for_its_missing_lines_only(ledger, group, alice, bob, record, short):
    columns = {
        "group_ids": [group] * 3,
        "from_ids": [alice, bob, alice],
        "to_ids": [bob, alice, bob],
        "amounts": [Decimal(amount) for amount in (5, 7, 11)],
    }
    columns[short] = columns[short][:2]
    made = ledger.execute("select outcome from ledger.transfer_batch(%s, %s, %s, %s)", [*columns.values()]).fetchall()
    assert made == [("done",), ("done",), ("deferred",)]
    assert [entry[2:5] for entry in record()[2:]] == [(alice, bob, 5), (bob, alice, 7)]


def test_a_balance_that_cannot_be_written_undoes_every_line(ledger, group, alice, bob):
    with left_as_it_is(ledger, bob):
        before = rows(ledger)
        call = "select from ledger.transfer_batch(%s, %s, %s, array[1, 1])"
        refused(ledger, "40001", call, [[group] * 2, [alice, alice], [bob, 2**62]])
        assert rows(ledger) == before


def test_an_empty_call_returns_no_outcome(ledger):
    assert each(ledger) == []
    assert ledger.execute("select * from ledger.transfer_batch(null, null, null, null)").fetchall() == []


def test_an_idempotency_key_is_used_once(ledger, group, alice, bob):
    line = (group, alice, bob, 5)
    assert outcomes(ledger, line, line, (group, bob, alice, 1), line, keys=["key", "key", None, "other"]) == [
        "done",
        "deferred",
        "done",
        "done",
    ]
    # The deferred line is the repeated request, which transfer recognizes.
    repeated = one(
        ledger, "select replayed, (from_participant).amount from ledger.transfer(%s, %s, %s, %s, 'key')", line
    )
    assert repeated == (True, 95)
    assert outcomes(ledger, line, line, keys=["key", "new"]) == ["deferred", "done"]
    refused(ledger, "LG006", "select ledger.transfer(%s, %s, %s, 6, 'key')", line[:3])


def test_the_idempotency_key_of_a_deferred_line_stays_free(ledger, group, alice, bob):
    bad, good = (group, alice, bob, 1000), (group, alice, bob, 5)
    assert outcomes(ledger, bad, keys=["key"]) == ["deferred"]
    assert outcomes(ledger, (group, alice, alice, 5), good, keys=["key", "key"]) == ["deferred", "done"]


def test_a_line_with_an_idempotency_key_of_transfer_is_deferred(ledger, group, alice, bob):
    first = one(ledger, "select entry_id from ledger.transfer(%s, %s, %s, 5, 'key')", [group, alice, bob])
    assert outcomes(ledger, (group, alice, bob, 5), keys=["key"]) == ["deferred"]
    again = one(ledger, "select entry_id from ledger.transfer(%s, %s, %s, 5, 'key')", [group, alice, bob])
    assert again == first


@pytest.mark.parametrize("key", ["", "a b", "é", "x" * 256])
def test_a_line_with_a_bad_idempotency_key_is_deferred(ledger, group, alice, bob, key):
    assert outcomes(ledger, (group, alice, bob, 5), (group, alice, bob, 5), keys=[key, "good"]) == ["deferred", "done"]


def test_metadata_are_kept_and_are_part_of_the_request(ledger, group, alice, bob):
    lines = [(group, alice, bob, 5)] * 4
    metadatas = [{"order": 1}, None, [1], {"long": TOO_LONG * 20}]
    made = each(ledger, *lines, keys=["a", "b", "c", "d"], metadatas=metadatas)
    assert [row[0] for row in made] == ["done", "done", "deferred", "deferred"]
    kept = "select metadata from ledger.get_entry(%s, %s)"
    assert [one(ledger, kept, [group, row[3]]) for row in made[:2]] == [({"order": 1},), (None,)]
    refused(ledger, "LG006", "select ledger.transfer(%s, %s, %s, 5, 'a')", lines[0][:3])
    repeated = "select replayed from ledger.transfer(%s, %s, %s, 5, 'a', '{\"order\": 1}')"
    assert one(ledger, repeated, lines[0][:3]) == (True,)


def test_a_time_is_not_before_the_last_entry_of_either_side(ledger, group, alice, bob, carol, dave):
    with behind(ledger):
        ledger.execute("update ledger.participants set moved_at = now() + interval '1 day' where id = %s", [alice])
    made = each(ledger, (group, alice, bob, 5), (group, bob, carol, 5), (group, bob, dave, 1), (group, carol, dave, 1))
    times = [
        one(ledger, "select created_at > now() + interval '1 hour' from ledger.get_entry(%s, %s)", [group, row[3]])
        for row in made
    ]
    assert times == [(True,)] * 4
    erin = join(ledger, group, "erin", 5)
    frank = join(ledger, group, "frank", 5)
    ((_, _, _, entry),) = each(ledger, (group, erin, frank, 1))
    assert one(ledger, "select created_at < now() + interval '1 hour' from ledger.get_entry(%s, %s)", [group, entry])[0]
