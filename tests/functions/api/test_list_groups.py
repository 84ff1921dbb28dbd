"""ledger.list_groups: the groups that exist, by pages."""

import pytest

from tests.functions.conftest import behind
from tests.support import call, create


@pytest.fixture
def groups(ledger, neighbour):
    """Ids of five groups, the neighbour's first."""
    return [neighbour, *(create(ledger, name) for name in ("d", "b", "c", "a"))]


def ids(rows):
    return [group for _, group in rows]


def test_lists_by_ascending_id(ledger, groups):
    assert call(ledger, "list_groups") == list(zip(["Neighbour", "d", "b", "c", "a"], groups, strict=True))


def test_leaves_out_removed_groups(ledger, groups):
    call(ledger, "remove_group", groups[2])
    assert ids(call(ledger, "list_groups")) == groups[:2] + groups[3:]


def test_begins_after_an_id(ledger, groups):
    assert ids(call(ledger, "list_groups", groups[1])) == groups[2:]


def test_begins_after_the_id_of_a_removed_group(ledger, groups):
    call(ledger, "remove_group", groups[2])
    assert ids(call(ledger, "list_groups", groups[2])) == groups[3:]


@pytest.mark.parametrize("before_all", [-(2**63), -1, 0, None])
def test_begins_at_the_first_row_for_a_cursor_before_all(ledger, groups, before_all):
    assert ids(call(ledger, "list_groups", before_all)) == groups


def test_nothing_comes_after_the_last(ledger, groups):
    assert call(ledger, "list_groups", groups[-1]) == []
    assert call(ledger, "list_groups", 2**63 - 1) == []


@pytest.mark.parametrize("size", [1, 2, 5, 6])
def test_pages_hold_every_group_once(ledger, groups, size):
    seen, page = [], [(None, 0)]
    while page := call(ledger, "list_groups", page[-1][1], size):
        assert len(page) <= size
        seen += ids(page)
    assert seen == groups


@pytest.mark.parametrize("size", [0, -1, -(2**31)])
def test_a_page_of_no_rows_is_empty(ledger, groups, size):
    assert call(ledger, "list_groups", 0, size) == []


def test_a_page_has_1000_rows_by_default(ledger, groups):
    ledger.execute("select ledger.create_group('g' || i) from generate_series(1, 1000) as i")
    assert len(call(ledger, "list_groups")) == 1000
    assert len(call(ledger, "list_groups", 0, 2000)) == 1005


# By name.


@pytest.mark.parametrize("name", ["Neighbour", "d", "a"])
def test_finds_the_group_with_a_name(ledger, groups, name):
    (found,) = [row for row in call(ledger, "list_groups") if row[0] == name]
    assert call(ledger, "list_groups", 0, 1000, name) == [found]
    assert call(ledger, "list_groups", None, 1, name) == [found]


@pytest.mark.parametrize("name", ["D", " d", "", "x" * 256, "d%", "\u200b", "e\u0301" * 2000])
def test_finds_no_group_with_another_name(ledger, groups, name):
    assert call(ledger, "list_groups", 0, 1000, name) == []


def test_finds_a_name_in_either_spelling(ledger, groups):
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    found = [(composed, create(ledger, decomposed))]
    assert call(ledger, "list_groups", 0, 1000, composed) == call(ledger, "list_groups", 0, 1000, decomposed) == found


@pytest.mark.parametrize("name", ["cafe\u0301", "ca\u200bfe", "\u3164"])
def test_finds_an_older_name_as_it_is_stored(ledger, groups, name):
    with behind(ledger):
        ledger.execute("update ledger.groups set name = %s where id = %s", [name, groups[1]])
    assert call(ledger, "list_groups", 0, 1000, name) == [(name, groups[1])]


def test_of_two_older_spellings_the_exact_one_is_found(ledger, groups):
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    with behind(ledger):
        ledger.execute("update ledger.groups set name = %s where id = %s", [decomposed, groups[1]])
        ledger.execute("update ledger.groups set name = %s where id = %s", [composed, groups[2]])
    assert call(ledger, "list_groups", 0, 1000, composed) == [(composed, groups[2])]
    assert call(ledger, "list_groups", 0, 1000, decomposed) == [(decomposed, groups[1])]


def test_finds_the_group_that_has_the_name_now(ledger, groups):
    call(ledger, "remove_group", groups[1])
    assert call(ledger, "list_groups", 0, 1000, "d") == []
    call(ledger, "rename_group", groups[2], "d")
    assert call(ledger, "list_groups", 0, 1000, "d") == [("d", groups[2])]
    assert call(ledger, "list_groups", 0, 1000, "b") == []


def test_a_name_is_found_inside_its_page_alone(ledger, groups):
    assert call(ledger, "list_groups", groups[1] - 1, 1000, "d") == [("d", groups[1])]
    assert call(ledger, "list_groups", groups[1], 1000, "d") == []
    assert call(ledger, "list_groups", 0, 0, "d") == []
