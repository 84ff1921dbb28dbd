"""ledger.list_groups: the groups that exist, by pages."""

import pytest

from tests.support import call, create


@pytest.fixture
def groups(ledger, neighbour):
    """Ids of five groups, the neighbour's first."""
    return [neighbour, *(create(ledger, name) for name in ("d", "b", "c", "a"))]


def ids(rows):
    return [group for _, group in rows]


def test_lists_by_ascending_id(ledger, groups):
    assert call(ledger, "list_groups") == list(zip(["Neighbour", "d", "b", "c", "a"], groups, strict=True))


def test_leaves_out_those_removed(ledger, groups):
    call(ledger, "remove_group", groups[2])
    assert ids(call(ledger, "list_groups")) == groups[:2] + groups[3:]


def test_begins_after_an_id(ledger, groups):
    assert ids(call(ledger, "list_groups", groups[1])) == groups[2:]


def test_begins_after_the_id_of_a_removed_group(ledger, groups):
    call(ledger, "remove_group", groups[2])
    assert ids(call(ledger, "list_groups", groups[2])) == groups[3:]


@pytest.mark.parametrize("before_all", [-(2**63), -1, 0, None])
def test_begins_at_the_first_for_what_is_before_all(ledger, groups, before_all):
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


def test_a_page_has_1000_rows_unless_told(ledger, groups):
    ledger.execute("select ledger.create_group('g' || i) from generate_series(1, 1000) as i")
    assert len(call(ledger, "list_groups")) == 1000
    assert len(call(ledger, "list_groups", 0, 2000)) == 1005
