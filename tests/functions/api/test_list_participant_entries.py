"""ledger.list_participant_entries: one participant's history by pages, also after the exit."""

import json
from datetime import timedelta
from itertools import product

import pytest

from tests.functions.conftest import behind
from tests.support import call, join, transfer

DEFAULTS = {
    "kind": None,
    "metadata": None,
    "since": None,
    "until": None,
    "after": None,
    "before": None,
    "newest_first": False,
    "max_rows": 1000,
}
ID, KIND, SENDER, RECIPIENT, CREATED_AT, METADATA = 1, 2, 3, 4, 8, 9
TICK = timedelta(microseconds=1)


def arguments(group, participant, **chosen):
    assert chosen.keys() <= DEFAULTS.keys()
    return [group, participant, *(DEFAULTS | chosen).values()]


def listed(ledger, group, participant, **chosen):
    return [entry[ID] for entry in call(ledger, "list_participant_entries", *arguments(group, participant, **chosen))]


def ids(entries):
    return [entry[ID] for entry in entries]


def place(entry):
    return entry[CREATED_AT], entry[ID]


def of(history, participant):
    return [entry for entry in history if participant in (entry[SENDER], entry[RECIPIENT])]


@pytest.fixture
def carol(ledger, group, alice, bob):
    """A participant who sent, received and left, while others did the same."""
    carol = join(ledger, group, "carol", 50)
    call(ledger, "transfer", group, alice, bob, 30, None, '{"order": 7}')
    call(ledger, "transfer", group, alice, carol, 10, None, '{"order": 7}')
    call(ledger, "transfer", group, carol, bob, 20, None, '{"order": 8}')
    lines = [
        {"from": sender, "to": recipient, "amount": amount, "metadata": {"order": 7}}
        for sender, recipient, amount in [(carol, alice, 1), (bob, carol, 2), (alice, bob, 3), (carol, bob, 4)]
    ]
    call(ledger, "transfer_all", group, json.dumps(lines))
    call(ledger, "deposit", group, carol, 6, None, '{"order": 7}')
    ((_, _, entry),) = call(ledger, "transfer", group, bob, carol, 5)
    call(ledger, "reverse_transfer", group, entry, None, '{"order": 7}')
    call(ledger, "deposit", group, alice, 8)
    call(ledger, "deposit", group, carol, 9)
    call(ledger, "exit_group", group, carol, None, '{"order": 7}')
    transfer(ledger, group, bob, alice, 1)
    return carol


@pytest.fixture
def history(ledger, group, carol):
    with behind(ledger):
        return ledger.execute(
            "select * from ledger.record where group_id = %s order by created_at, id", [group]
        ).fetchall()


def expected(history, participant, **chosen):
    """Return the rows that a page must hold, by the words of the rule."""
    wanted = DEFAULTS | chosen
    places = {entry[ID]: place(entry) for entry in history}
    entries = [
        entry
        for entry in of(history, participant)
        if wanted["kind"] in (None, entry[KIND])
        and (wanted["metadata"] is None or entry[METADATA] == json.loads(wanted["metadata"]))
        and (wanted["since"] is None or entry[CREATED_AT] >= wanted["since"])
        and (wanted["until"] is None or entry[CREATED_AT] < wanted["until"])
        and (wanted["after"] is None or place(entry) > places[wanted["after"]])
        and (wanted["before"] is None or place(entry) < places[wanted["before"]])
    ]
    return ids(entries[::-1] if wanted["newest_first"] else entries)[: wanted["max_rows"]]


def test_lists_the_entries_with_the_participant(ledger, group, carol, history):
    assert call(ledger, "list_participant_entries", group, carol) == of(history, carol)
    assert [entry[KIND] for entry in of(history, carol)] == [
        *["join", *["transfer"] * 5, "deposit", *["transfer"] * 2, "deposit", "exit"],
    ]


def test_shows_the_history_of_a_present_participant(ledger, group, alice, bob, history):
    for participant in (alice, bob):
        assert call(ledger, "list_participant_entries", group, participant) == of(history, participant)
        assert len(of(history, participant)) > 4


def test_a_participant_who_only_joined_has_one_entry(ledger, group, history):
    ((_, dave, _, _, entry),) = call(ledger, "join_group", group, "dave", 0)
    assert listed(ledger, group, dave) == [entry]
    assert listed(ledger, group, dave, kind="exit") == listed(ledger, group, dave, kind="transfer") == []
    assert listed(ledger, group, dave, kind="deposit") == []


def test_joining_again_begins_another_history(ledger, group, carol, history):
    again = join(ledger, group, "carol")
    assert [e[KIND] for e in call(ledger, "list_participant_entries", group, again)] == ["join"]
    assert listed(ledger, group, carol) == ids(of(history, carol))


def test_the_newest_come_first_when_asked(ledger, group, carol, history):
    assert listed(ledger, group, carol, newest_first=True) == ids(of(history, carol))[::-1]


def test_is_ordered_by_time_where_ids_are_not(ledger, group, alice, bob):
    with behind(ledger):
        ledger.execute(
            "update ledger.participants set moved_at = clock_timestamp() + interval '1 hour' where id = %s", [bob]
        )
    carol = join(ledger, group, "carol")
    first = listed(ledger, group, alice)
    earlier, later = transfer(ledger, group, alice, carol, 1), transfer(ledger, group, bob, alice, 1)
    assert listed(ledger, group, alice) == [*first, earlier, later]
    assert listed(ledger, group, alice, newest_first=True) == [later, earlier, *first]
    assert listed(ledger, group, alice, after=earlier) == [later]
    # Entries of others are places in the history too.
    others = transfer(ledger, group, carol, join(ledger, group, "dave"), 1)
    assert others > later
    assert listed(ledger, group, alice, after=others) == [later]
    assert listed(ledger, group, alice, before=others) == [*first, earlier]


@pytest.mark.parametrize("size", [1, 2, 3, 8, 9, 10])
@pytest.mark.parametrize(("cursor", "newest_first"), [("after", False), ("before", True)])
@pytest.mark.parametrize("kind", [None, "transfer", "deposit"])
def test_pages_hold_each_entry_once(ledger, group, carol, history, size, cursor, newest_first, kind):
    entries = expected(history, carol, kind=kind, newest_first=newest_first)
    seen, page = [], [0]
    while page := listed(
        ledger, group, carol, kind=kind, newest_first=newest_first, max_rows=size, **{cursor: page[-1]}
    ):
        assert len(page) == min(size, len(entries) - len(seen))
        seen += page
    assert seen == entries


def test_filters_and_cursors_limit_each_other(ledger, group, alice, carol, history):
    first, early, middle, late = history[2], history[4], history[7], history[-3]
    for participant, kind, metadata, since, until, after, before, newest_first, max_rows in product(
        [alice, carol],
        [None, "join", "deposit", "transfer", "exit"],
        [None, '{"order": 7}'],
        [None, first[CREATED_AT], middle[CREATED_AT]],
        [None, late[CREATED_AT]],
        [None, first[ID], early[ID], middle[ID]],
        [None, middle[ID], late[ID]],
        [False, True],
        [1000, 2],
    ):
        chosen = {
            "kind": kind,
            "metadata": metadata,
            "since": since,
            "until": until,
            "after": after,
            "before": before,
            "newest_first": newest_first,
            "max_rows": max_rows,
        }
        assert listed(ledger, group, participant, **chosen) == expected(history, participant, **chosen), chosen


def test_since_is_inclusive_and_until_exclusive(ledger, group, carol, history):
    entries = of(history, carol)
    times = sorted({entry[CREATED_AT] for entry in entries})
    assert len(times) < len(entries)
    for moment in (time + step for time in times for step in (-TICK, 0 * TICK, TICK)):
        assert listed(ledger, group, carol, since=moment) == ids(e for e in entries if e[CREATED_AT] >= moment)
        assert listed(ledger, group, carol, until=moment) == ids(e for e in entries if e[CREATED_AT] < moment)


@pytest.mark.parametrize("nothing", [0, None])
@pytest.mark.parametrize("cursor", ["after", "before"])
def test_a_null_cursor_means_the_beginning(ledger, group, carol, history, cursor, nothing):
    assert listed(ledger, group, carol, **{cursor: nothing}) == ids(of(history, carol))


@pytest.mark.parametrize(
    ("size", "rows"), [(-1, 0), (0, 0), (1, 1), (10, 10), (11, 11), (12, 11), (2**31 - 1, 11), (None, 11)]
)
@pytest.mark.parametrize("metadata", [None, "{}"])
def test_a_page_has_at_most_max_rows(ledger, group, carol, history, size, rows, metadata):
    entries = [entry for entry in of(history, carol) if metadata is None or entry[METADATA] is not None]
    assert listed(ledger, group, carol, max_rows=size, metadata=metadata) == ids(entries)[:rows]


def test_a_group_that_was_removed_keeps_its_history(ledger, group, alice, bob, carol, history):
    for participant in (alice, bob):
        call(ledger, "exit_group", group, participant)
    call(ledger, "remove_group", group)
    assert listed(ledger, group, carol) == ids(of(history, carol))
    assert [e[KIND] for e in call(ledger, "list_participant_entries", group, bob)][-1] == "exit"


def test_refuses_a_participant_who_never_existed(refuses, group, alice, stranger):
    refuses("LG002", ["participant_id"], "list_participant_entries", group, stranger)


def test_refuses_a_participant_of_another_group(refuses, group, alice, neighbour):
    refuses("LG002", ["participant_id"], "list_participant_entries", neighbour, alice)


def test_refuses_an_unknown_participant_of_a_removed_group(refuses, ledger, group, alice, stranger):
    call(ledger, "exit_group", group, alice)
    call(ledger, "remove_group", group)
    refuses("LG002", ["participant_id"], "list_participant_entries", group, stranger)


def test_refuses_an_unknown_group(refuses, group, alice, stranger):
    refuses("LG002", ["group_id"], "list_participant_entries", stranger, alice)


@pytest.mark.parametrize("blamed", [["group_id"], ["participant_id"], ["group_id", "participant_id"]])
def test_refuses_null(refuses, group, alice, blamed):
    named = {"group_id": group, "participant_id": alice} | dict.fromkeys(blamed)
    refuses("LG001", blamed, "list_participant_entries", *named.values())


@pytest.mark.parametrize("cursor", ["after", "before"])
def test_refuses_a_cursor_that_is_no_entry_of_the_group(refuses, ledger, group, alice, neighbour, stranger, cursor):
    theirs = call(ledger, "list_entries", neighbour)[0][ID]
    for entry in (theirs, stranger or -2):
        refuses("LG001", [cursor], "list_participant_entries", *arguments(group, alice, **{cursor: entry}))


@pytest.mark.parametrize("kind", ["loan", "", "Join"])
def test_refuses_an_unknown_kind(refuses, group, alice, kind):
    refuses("LG001", ["kind"], "list_participant_entries", *arguments(group, alice, kind=kind))


@pytest.mark.parametrize("metadata", ["[]", "null", "7", '"x"', json.dumps({"a": "x" * 4096})])
def test_refuses_metadata_that_no_entry_can_have(refuses, group, alice, metadata):
    refuses("LG001", ["metadata"], "list_participant_entries", *arguments(group, alice, metadata=metadata))


def test_names_every_invalid_value_at_once(refuses, group):
    refuses(
        "LG001",
        ["participant_id", "kind", "metadata"],
        "list_participant_entries",
        *arguments(group, None, kind="loan", metadata="[]"),
    )
