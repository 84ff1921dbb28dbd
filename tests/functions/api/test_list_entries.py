"""ledger.list_entries: a group's history by pages, forwards and backwards, whole or filtered."""

import json
from datetime import timedelta
from itertools import product

import pytest

from tests.functions.conftest import behind
from tests.support import call, create, join, transfer

DEFAULTS = {
    "kind": None,
    "settled": None,
    "metadata": None,
    "since": None,
    "until": None,
    "after": None,
    "before": None,
    "newest_first": False,
    "max_rows": 1000,
}
ID, KIND, CREATED_AT, METADATA, SETTLED_AT = 1, 2, 8, 9, 13
TICK = timedelta(microseconds=1)


def arguments(group, **chosen):
    assert chosen.keys() <= DEFAULTS.keys()
    return [group, *(DEFAULTS | chosen).values()]


def listed(ledger, group, **chosen):
    return [entry[ID] for entry in call(ledger, "list_entries", *arguments(group, **chosen))]


def ids(entries):
    return [entry[ID] for entry in entries]


def place(entry):
    return entry[CREATED_AT], entry[ID]


def contains(metadata, member):
    return metadata is not None and metadata.items() >= json.loads(member).items()


@pytest.fixture
def history(ledger, group, alice, bob):
    """Every entry of a group of each kind, settled or not, with metadata or without, three of them of one time."""
    call(ledger, "transfer", group, alice, bob, 30, None, '{"order": 7, "lines": [1, 2]}')
    carol, dave = join(ledger, group, "carol", 50), join(ledger, group, "dave", 60)
    call(ledger, "exit_group", group, carol, None, '{"order": 8}')
    lines = [{"from": bob, "to": alice, "amount": amount, "metadata": {"order": 7}} for amount in (1, 2, 3)]
    call(ledger, "transfer_all", group, json.dumps(lines))
    call(ledger, "join_group", group, "erin", 70, None, '{"order": 7}')
    ((_, settled),) = call(ledger, "exit_group", group, dave, None, '{"order": 7}')
    call(ledger, "settle_exit", group, settled, "0xabc")
    call(ledger, "deposit", group, bob, 4)
    call(ledger, "deposit", group, alice, 6, None, '{"order": 7}')
    ((_, _, entry),) = call(ledger, "transfer", group, alice, bob, 5)
    call(ledger, "reverse_transfer", group, entry)
    with behind(ledger):
        return ledger.execute(
            "select * from ledger.record where group_id = %s order by created_at, id", [group]
        ).fetchall()


def expected(history, **chosen):
    """Return the rows that a page must hold, by the words of the rule."""
    wanted = DEFAULTS | chosen
    places = {entry[ID]: place(entry) for entry in history}
    entries = [
        entry
        for entry in history
        if wanted["kind"] in (None, entry[KIND])
        and (wanted["settled"] is None or (entry[KIND] == "exit" and wanted["settled"] == bool(entry[SETTLED_AT])))
        and (wanted["metadata"] is None or contains(entry[METADATA], wanted["metadata"]))
        and (wanted["since"] is None or entry[CREATED_AT] >= wanted["since"])
        and (wanted["until"] is None or entry[CREATED_AT] < wanted["until"])
        and (wanted["after"] is None or place(entry) > places[wanted["after"]])
        and (wanted["before"] is None or place(entry) < places[wanted["before"]])
    ]
    return ids(entries[::-1] if wanted["newest_first"] else entries)[: wanted["max_rows"]]


def test_shows_the_amount_and_both_balances(ledger, group, alice, bob, history):
    shown = [entry[2:8] for entry in call(ledger, "list_entries", group)][:3]
    assert shown == [
        ("join", None, alice, 100, None, 100),
        ("join", None, bob, 100, None, 100),
        ("transfer", alice, bob, 30, 70, 130),
    ]


def test_shows_metadata_reversals_and_settlements(ledger, group, history):
    shown = {entry[ID]: entry for entry in call(ledger, "list_entries", group)}
    first, settled = next(e for e in history if e[KIND] == "transfer"), [e for e in history if e[KIND] == "exit"][-1]
    reversed_entry, reversal = history[-2:]
    assert shown[first[ID]][9:] == ({"order": 7, "lines": [1, 2]}, None, None, None, None)
    assert shown[reversed_entry[ID]][9:] == (None, None, reversal[ID], None, None)
    assert shown[reversal[ID]][9:] == (None, reversed_entry[ID], None, None, None)
    assert shown[settled[ID]][9:13] == ({"order": 7}, None, None, "0xabc")
    assert shown[settled[ID]][SETTLED_AT] >= shown[settled[ID]][CREATED_AT]


def test_lists_only_entries_of_its_group(ledger, group, neighbour, history):
    assert call(ledger, "list_entries", group) == history
    assert [entry[0] for entry in call(ledger, "list_entries", neighbour)] == [neighbour] * 2


def test_entries_of_one_time_are_ordered_by_id(ledger, group, history):
    at_once = [entry for entry in history if [e[CREATED_AT] for e in history].count(entry[CREATED_AT]) > 1]
    assert [entry[5] for entry in at_once] == [1, 2, 3]
    first, second, third = ids(at_once)
    assert listed(ledger, group, after=first, max_rows=2) == [second, third]
    assert listed(ledger, group, before=third, newest_first=True, max_rows=2) == [second, first]


def test_is_ordered_by_time_where_ids_are_not(ledger, group, alice, bob):
    carol, dave = join(ledger, group, "carol"), join(ledger, group, "dave")
    joins = listed(ledger, group)
    with behind(ledger):
        ledger.execute(
            "update ledger.participants set moved_at = clock_timestamp() + interval '1 hour' where id = %s", [alice]
        )
    later, earlier = transfer(ledger, group, alice, bob, 1), transfer(ledger, group, carol, dave, 1)
    assert later < earlier
    assert listed(ledger, group) == [*joins, earlier, later]
    assert listed(ledger, group, newest_first=True) == [later, earlier, *joins[::-1]]
    assert listed(ledger, group, after=earlier) == [later]
    assert listed(ledger, group, after=later) == []
    assert listed(ledger, group, before=earlier) == joins
    assert listed(ledger, group, before=later, kind="transfer") == [earlier]


def test_the_newest_come_first_when_asked(ledger, group, history):
    assert call(ledger, "list_entries", *arguments(group, newest_first=True)) == history[::-1]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 13, 14])
@pytest.mark.parametrize(("cursor", "newest_first"), [("after", False), ("before", True)])
@pytest.mark.parametrize("kind", [None, "transfer", "exit"])
def test_pages_hold_each_entry_once(ledger, group, history, size, cursor, newest_first, kind):
    entries = expected(history, kind=kind, newest_first=newest_first)
    seen, page = [], [0]
    while page := listed(ledger, group, kind=kind, newest_first=newest_first, max_rows=size, **{cursor: page[-1]}):
        assert len(page) == min(size, len(entries) - len(seen))
        seen += page
    assert seen == entries


def test_filters_and_cursors_limit_each_other(ledger, group, history):
    early, middle, late = history[2], history[7], history[-4]
    for kind, settled, metadata, since, until, after, before, newest_first, max_rows in product(
        [None, "join", "deposit", "transfer", "exit"],
        [None, True, False],
        [None, '{"order": 7}'],
        [None, middle[CREATED_AT]],
        [None, late[CREATED_AT]],
        [None, early[ID], middle[ID]],
        [None, middle[ID], late[ID]],
        [False, True],
        [1000, 2],
    ):
        if settled is not None and kind not in (None, "exit"):
            continue
        chosen = {
            "kind": kind,
            "settled": settled,
            "metadata": metadata,
            "since": since,
            "until": until,
            "after": after,
            "before": before,
            "newest_first": newest_first,
            "max_rows": max_rows,
        }
        assert listed(ledger, group, **chosen) == expected(history, **chosen), chosen


def test_after_and_before_select_the_entries_between(ledger, group, history):
    found = listed(ledger, group, after=history[3][ID], before=history[6][ID])
    assert found == ids(history[4:6])
    assert listed(ledger, group, after=history[6][ID], before=history[3][ID]) == []
    assert listed(ledger, group, after=history[3][ID], before=history[3][ID]) == []


@pytest.mark.parametrize("nothing", [0, None])
@pytest.mark.parametrize("cursor", ["after", "before"])
@pytest.mark.parametrize("newest_first", [True, False, None])
def test_a_null_cursor_means_the_beginning(ledger, group, history, cursor, nothing, newest_first):
    entries = ids(history)[:: -1 if newest_first else 1]
    assert listed(ledger, group, newest_first=newest_first, **{cursor: nothing}) == entries


def test_nothing_comes_after_the_last_or_before_the_first(ledger, group, history):
    assert listed(ledger, group, after=history[-1][ID]) == []
    assert listed(ledger, group, before=history[0][ID], newest_first=True) == []


@pytest.mark.parametrize("kind", ["join", "deposit", "transfer", "exit"])
def test_lists_entries_of_a_kind(ledger, group, history, kind):
    found = listed(ledger, group, kind=kind)
    assert found == [entry[ID] for entry in history if entry[KIND] == kind]
    assert len(found) > 1


def test_since_is_inclusive_and_until_exclusive(ledger, group, history):
    times = sorted({entry[CREATED_AT] for entry in history})
    assert len(times) < len(history)
    for time in times:
        for moment in (time - TICK, time, time + TICK):
            assert listed(ledger, group, since=moment) == ids(e for e in history if e[CREATED_AT] >= moment)
            assert listed(ledger, group, until=moment) == ids(e for e in history if e[CREATED_AT] < moment)
        assert listed(ledger, group, since=time, until=time) == []
        assert listed(ledger, group, since=time, until=time + TICK) == ids(e for e in history if e[CREATED_AT] == time)


@pytest.mark.parametrize(
    ("since", "until", "everything"),
    [
        ("-infinity", "infinity", True),
        ("infinity", None, False),
        (None, "-infinity", False),
        ("2999-01-01", "1999-01-01", False),
    ],
)
def test_takes_any_period(ledger, group, history, since, until, everything):
    assert listed(ledger, group, since=since, until=until) == (ids(history) if everything else [])


@pytest.mark.parametrize("kind", [None, "exit"])
def test_lists_exits_that_are_settled_or_not(ledger, group, alice, history, kind):
    waiting, done = [entry[ID] for entry in history if entry[KIND] == "exit"]
    assert listed(ledger, group, settled=False, kind=kind) == [waiting]
    assert listed(ledger, group, settled=True, kind=kind) == [done]
    ((_, left),) = call(ledger, "exit_group", group, alice)
    assert listed(ledger, group, settled=False, kind=kind) == [waiting, left]
    call(ledger, "settle_exit", group, waiting, "0xdef")
    assert listed(ledger, group, settled=False, kind=kind) == [left]
    assert listed(ledger, group, settled=True, kind=kind) == [waiting, done]


def test_exits_of_another_group_are_not_listed(ledger, group, alice):
    other = create(ledger, "Other")
    ((_, theirs),) = call(ledger, "exit_group", other, join(ledger, other, "alice"))
    ((_, ours),) = call(ledger, "exit_group", group, alice)
    assert listed(ledger, group, settled=False) == listed(ledger, group, kind="exit") == [ours]
    assert listed(ledger, other, settled=False) == listed(ledger, other, kind="exit") == [theirs]


@pytest.mark.parametrize(
    ("metadata", "number"),
    [
        ('{"order": 7}', 7),
        ('{"order": 8}', 1),
        ('{"order": "7"}', 0),
        ('{"order": 7, "lines": [2]}', 1),
        ('{"lines": [3]}', 0),
        ('{"line": 7}', 0),
        ("{}", 8),
    ],
)
def test_lists_entries_whose_metadata_contain_an_object(ledger, group, history, metadata, number):
    with behind(ledger):
        found = ledger.execute(
            "select id from ledger.entries where group_id = %s and metadata @> %s order by created_at, id",
            [group, metadata],
        ).fetchall()
    assert listed(ledger, group, metadata=metadata) == [entry for (entry,) in found]
    assert len(found) == number


def test_metadata_of_another_group_are_not_found(ledger, group, alice, history):
    other = create(ledger, "Other")
    call(ledger, "join_group", other, "alice", 1, None, '{"order": 8}')
    assert len(listed(ledger, other, metadata='{"order": 8}')) == 1
    assert len(listed(ledger, group, metadata='{"order": 8}')) == 1
    assert listed(ledger, other, metadata='{"order": 7}') == []


@pytest.mark.parametrize("size", [0, -1, -(2**31)])
@pytest.mark.parametrize("chosen", [{}, {"settled": True}, {"metadata": '{"order": 7}'}, {"newest_first": True}])
def test_a_page_of_no_rows_is_empty(ledger, group, history, size, chosen):
    assert listed(ledger, group, max_rows=size, **chosen) == []


@pytest.mark.parametrize(("size", "rows"), [(1, 1), (14, 14), (15, 15), (16, 15), (2**31 - 1, 15)])
def test_a_page_has_at_most_max_rows(ledger, group, history, size, rows):
    assert len(history) == 15
    assert listed(ledger, group, max_rows=size) == ids(history)[:rows]


def test_a_page_has_1000_rows_by_default(ledger, group):
    ledger.execute("select ledger.join_group(%s, 'p' || i, 0) from generate_series(1, 1001) as i", [group])
    assert len(call(ledger, "list_entries", group)) == 1000
    assert len(listed(ledger, group, max_rows=None)) == 1000
    assert len(listed(ledger, group, max_rows=2000)) == 1001


@pytest.mark.parametrize("chosen", [{}, {"kind": "exit"}, {"settled": False}, {"metadata": "{}"}])
@pytest.mark.parametrize("newest_first", [True, False])
def test_an_empty_group_has_no_rows(ledger, empty_group, chosen, newest_first):
    assert listed(ledger, empty_group, newest_first=newest_first, **chosen) == []


def test_a_group_that_was_removed_keeps_its_history(ledger, group, alice):
    ((_, left),) = call(ledger, "exit_group", group, alice)
    call(ledger, "remove_group", group)
    joined, last = listed(ledger, group)
    assert last == left
    assert listed(ledger, group, after=joined) == listed(ledger, group, settled=False) == [left]


@pytest.mark.parametrize("cursor", ["after", "before"])
def test_refuses_a_cursor_that_is_no_entry_of_the_group(refuses, ledger, group, alice, neighbour, stranger, cursor):
    theirs = call(ledger, "list_entries", neighbour)[0][ID]
    for entry in (theirs, stranger or -2, -(2**63)):
        refuses("LG001", [cursor], "list_entries", *arguments(group, **{cursor: entry}))


@pytest.mark.parametrize("kind", ["loan", "", "Join", " join", "join,exit"])
def test_refuses_an_unknown_kind(refuses, group, kind):
    refuses("LG001", ["kind"], "list_entries", *arguments(group, kind=kind))


@pytest.mark.parametrize("kind", ["join", "deposit", "transfer"])
@pytest.mark.parametrize("settled", [True, False])
def test_refuses_settled_with_another_kind_than_exit(refuses, group, kind, settled):
    refuses("LG001", ["settled"], "list_entries", *arguments(group, kind=kind, settled=settled))


@pytest.mark.parametrize("metadata", ["[]", "null", "7", '"x"', json.dumps({"a": "x" * 4096})])
def test_refuses_metadata_that_no_entry_can_have(refuses, group, metadata):
    refuses("LG001", ["metadata"], "list_entries", *arguments(group, metadata=metadata))


@pytest.mark.parametrize(
    ("chosen", "blamed"),
    [
        ({"kind": "loan", "metadata": "[]"}, ["kind", "metadata"]),
        ({"after": -1, "before": -2}, ["after", "before"]),
        ({"kind": "join", "settled": True, "metadata": "[]"}, ["settled", "metadata"]),
    ],
)
def test_names_every_invalid_value_at_once(refuses, group, chosen, blamed):
    refuses("LG001", blamed, "list_entries", *arguments(group, **chosen))


@pytest.mark.parametrize(
    ("chosen", "blamed"), [({"kind": "loan"}, "kind"), ({"kind": "join", "settled": True}, "settled")]
)
def test_bad_values_are_reported_before_an_unknown_group(refuses, stranger, chosen, blamed):
    refuses("LG001", [blamed], "list_entries", *arguments(stranger, **chosen))


def test_refuses_an_unknown_group(refuses, group, alice, stranger):
    refuses("LG002", ["group_id"], "list_entries", stranger)


def test_refuses_a_null_group(refuses):
    refuses("LG001", ["group_id"], "list_entries", None)
