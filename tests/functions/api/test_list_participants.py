"""ledger.list_participants: the present participants of a group, by pages."""

import pytest

from tests.functions.conftest import behind
from tests.support import call, join


@pytest.fixture
def ids(ledger, group):
    """Ids of four participants, whose names are in no order."""
    return [join(ledger, group, name, 10) for name in ("dave", "bob", "carol", "alice")]


def listed(ledger, *arguments):
    return [participant for _, participant, _, _ in call(ledger, "list_participants", *arguments)]


def test_lists_its_own_group_by_ascending_id(ledger, group, ids):
    names = ["dave", "bob", "carol", "alice"]
    expected = [(name, participant, group, 10) for name, participant in zip(names, ids, strict=True)]
    assert call(ledger, "list_participants", group) == expected


def test_an_empty_group_has_no_rows(ledger, group):
    assert call(ledger, "list_participants", group) == []


def test_leaves_out_participants_who_left(ledger, group, ids):
    call(ledger, "exit_group", group, ids[1])
    assert listed(ledger, group) == [ids[0], *ids[2:]]
    assert listed(ledger, group, ids[1]) == ids[2:]


@pytest.mark.parametrize("before_all", [-(2**63), -1, 0, None])
def test_begins_at_the_first_row_for_a_cursor_before_all(ledger, group, ids, before_all):
    assert listed(ledger, group, before_all) == ids


def test_nothing_comes_after_the_last(ledger, group, ids):
    assert listed(ledger, group, ids[-1]) == []
    assert listed(ledger, group, 2**63 - 1) == []


@pytest.mark.parametrize("size", [1, 2, 4, 5])
def test_pages_hold_each_participant_once(ledger, group, ids, size):
    seen, page = [], [0]
    while page := listed(ledger, group, page[-1], size):
        assert len(page) <= size
        seen += page
    assert seen == ids


@pytest.mark.parametrize("size", [0, -1, -(2**31)])
def test_a_page_of_no_rows_is_empty(ledger, group, ids, size):
    assert listed(ledger, group, 0, size) == []


def test_a_page_has_1000_rows_by_default(ledger, group, ids):
    ledger.execute("select ledger.join_group(%s, 'p' || i, 0) from generate_series(1, 1000) as i", [group])
    assert len(listed(ledger, group)) == 1000
    assert len(listed(ledger, group, 0, 2000)) == 1004


def test_refuses_an_unknown_group(refuses, group, stranger):
    refuses("LG002", ["group_id"], "list_participants", stranger)


def test_refuses_a_null_group(refuses, group):
    refuses("LG001", ["group_id"], "list_participants", None)


# By username.


@pytest.mark.parametrize("username", ["dave", "bob", "alice"])
def test_finds_the_participant_with_a_username(ledger, group, ids, username):
    (found,) = [row for row in call(ledger, "list_participants", group) if row[0] == username]
    assert call(ledger, "list_participants", group, 0, 1000, username) == [found]
    assert call(ledger, "list_participants", group, None, 1, username) == [found]


@pytest.mark.parametrize("username", ["Bob", " bob", "", "x" * 256, "b%", "\u200b"])
def test_finds_nobody_with_another_username(ledger, group, ids, username):
    assert call(ledger, "list_participants", group, 0, 1000, username) == []


def test_finds_a_username_in_either_spelling(ledger, group, ids):
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    found = [(composed, join(ledger, group, decomposed, 1), group, 1)]
    for username in (composed, decomposed):
        assert call(ledger, "list_participants", group, 0, 1000, username) == found


@pytest.mark.parametrize("username", ["cafe\u0301", "ca\u200bfe", "\u3164"])
def test_finds_an_older_username_as_it_is_stored(ledger, group, ids, username):
    with behind(ledger):
        ledger.execute("update ledger.participants set username = %s where id = %s", [username, ids[1]])
    assert call(ledger, "list_participants", group, 0, 1000, username) == [(username, ids[1], group, 10)]


def test_finds_the_participant_who_has_the_username_now(ledger, group, ids):
    call(ledger, "exit_group", group, ids[1])
    assert listed(ledger, group, 0, 1000, "bob") == []
    again = join(ledger, group, "bob", 1)
    assert listed(ledger, group, 0, 1000, "bob") == [again]


def test_finds_no_participant_of_another_group(ledger, group, neighbour):
    assert listed(ledger, group, 0, 1000, "bob") == []
    (found,) = listed(ledger, neighbour, 0, 1000, "bob")
    join(ledger, group, "bob", 1)
    assert listed(ledger, neighbour, 0, 1000, "bob") == [found]


def test_a_username_is_found_inside_its_page_alone(ledger, group, ids):
    assert listed(ledger, group, ids[1] - 1, 1000, "bob") == [ids[1]]
    assert listed(ledger, group, ids[1], 1000, "bob") == []
    assert listed(ledger, group, 0, 0, "bob") == []


def test_a_username_of_an_unknown_group_is_refused(refuses, stranger):
    refuses("LG002", ["group_id"], "list_participants", stranger, 0, 1000, "bob")
