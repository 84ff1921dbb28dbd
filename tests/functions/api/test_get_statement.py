"""ledger.get_statement: a participant's balance before a period, its entries by pages, and the balance at its end."""

import json
from datetime import UTC, datetime, timedelta
from itertools import combinations_with_replacement

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.functions.conftest import behind
from tests.support import call, create, join, one, transfer

OPENING, LINES, CLOSING, NEXT_AFTER = 3, 4, 5, 6
ID, KIND, CREATED_AT, COUNTERPARTY, USERNAME, CHANGE, BALANCE, METADATA = range(8)
TICK = timedelta(microseconds=1)

LINE = "select l.* from ledger.get_statement(%s, %s, %s, %s, %s, %s) as s, unnest(s.lines) as l"


def statement(ledger, group, participant, since=None, until=None, after=None, max_rows=1000):
    """The statement, its lines as rows."""
    arguments = [group, participant, since, until, after, max_rows]
    ((*answer,),) = call(ledger, "get_statement", *arguments)
    answer[LINES] = ledger.execute(LINE, arguments).fetchall()
    return answer


@pytest.fixture
def carol(ledger, group, alice, bob):
    """A participant who sent, received and left, while others did the same."""
    carol = join(ledger, group, "carol", 50)
    call(ledger, "transfer", group, alice, bob, 30)
    call(ledger, "transfer", group, alice, carol, 10, None, '{"order": 7}')
    lines = [
        {"from": sender, "to": recipient, "amount": amount}
        for sender, recipient, amount in [(carol, alice, 1), (bob, carol, 2), (alice, bob, 3), (carol, bob, 4)]
    ]
    call(ledger, "transfer_all", group, json.dumps(lines))
    call(ledger, "deposit", group, carol, 6)
    ((_, _, entry),) = call(ledger, "transfer", group, bob, carol, 5)
    call(ledger, "reverse_transfer", group, entry)
    call(ledger, "deposit", group, alice, 8)
    call(ledger, "exit_group", group, carol)
    transfer(ledger, group, bob, alice, 1)
    return carol


@pytest.fixture
def entries(ledger, group, carol):
    """What the record has of the group, by time: id, kind, from, to, amount, balances, time, metadata."""
    with behind(ledger):
        return ledger.execute(
            "select id, kind, from_id, to_id, amount, from_amount, to_amount, created_at, metadata from ledger.record "
            "where group_id = %s order by created_at, id",
            [group],
        ).fetchall()


def expected(entries, participant, names, since=None, until=None):
    """The balances and lines of a statement, added up from the record by hand."""
    opening, balance, lines = 0, 0, []
    for entry, kind, sender, recipient, amount, _, _, time, metadata in entries:
        if participant not in (sender, recipient) or (until is not None and time >= until):
            continue
        change = -amount if sender == participant else amount
        balance += change
        other = recipient if sender == participant else sender
        if since is not None and time < since:
            opening = balance
        else:
            lines.append((entry, kind, time, other, names.get(other), change, balance, metadata))
    return opening, lines, balance


def test_shows_every_entry_with_its_counterparty_and_balance(ledger, group, alice, bob, carol, entries):
    names = {alice: "alice", bob: "bob", carol: "carol"}
    for participant, name in names.items():
        opening, lines, closing = expected(entries, participant, names)
        answer = statement(ledger, group, participant)
        assert answer == [name, participant, group, opening, lines, closing, None]
        assert len(lines) > 5
    assert {line[KIND] for line in statement(ledger, group, carol)[LINES]} == {"join", "deposit", "transfer", "exit"}


def test_the_period_includes_its_first_time_and_not_its_last(ledger, group, alice, bob, carol, entries):
    names = {alice: "alice", bob: "bob", carol: "carol"}
    times = sorted({entry[7] for entry in entries if carol in entry[2:4]})
    assert len(times) < sum(carol in entry[2:4] for entry in entries)
    moments = sorted(time + step for time in times for step in (-TICK, 0 * TICK, TICK))
    for since, until in combinations_with_replacement([None, *moments[::2]], 2):
        answer = statement(ledger, group, carol, since, until)
        assert (answer[OPENING], answer[LINES], answer[CLOSING]) == expected(entries, carol, names, since, until)


def test_a_period_opens_as_the_one_before_it_closed(ledger, group, carol, entries):
    for time in {entry[7] for entry in entries}:
        before, after = statement(ledger, group, carol, until=time), statement(ledger, group, carol, since=time)
        assert before[CLOSING] == after[OPENING]
        assert before[LINES] + after[LINES] == statement(ledger, group, carol)[LINES]


def test_a_statement_closes_before_the_moment_of_get_participant(ledger, group, alice, carol, entries):
    query = "select amount from ledger.get_participant(%s, %s, %s)"
    for time in {entry[7] for entry in entries if alice in entry[2:4]}:
        (held,) = one(ledger, query, [group, alice, time])
        assert statement(ledger, group, alice, until=time + TICK)[CLOSING] == held
        assert statement(ledger, group, alice, since=time + TICK)[OPENING] == held


def test_a_participant_has_nothing_before_the_join_and_after_the_exit(ledger, group, carol):
    lines = statement(ledger, group, carol)[LINES]
    joined, left = lines[0][CREATED_AT], lines[-1][CREATED_AT]
    early, late = joined - timedelta(days=1), datetime.now(UTC)
    assert statement(ledger, group, carol, early, joined)[OPENING:] == [0, [], 0, None]
    assert statement(ledger, group, carol, early)[OPENING:] == [0, lines, 0, None]
    assert statement(ledger, group, carol, left + TICK, late)[OPENING:] == [0, [], 0, None]
    assert statement(ledger, group, carol, left)[OPENING:] == [-lines[-1][CHANGE], lines[-1:], 0, None]


@pytest.mark.parametrize("days", [-1000, 0, 1000])
def test_a_period_may_be_empty(ledger, group, alice, days):
    moment = datetime.now(UTC) + timedelta(days=days)
    held = 100 if days >= 0 else 0
    assert statement(ledger, group, alice, moment, moment)[OPENING:] == [held, [], held, None]


def test_a_period_may_end_in_the_future(ledger, group, alice, bob):
    transfer(ledger, group, alice, bob, 30)
    whole = statement(ledger, group, alice)
    assert statement(ledger, group, alice, "-infinity", "infinity") == whole
    ahead = datetime.now(UTC) + timedelta(days=30)
    assert statement(ledger, group, alice, until=ahead) == whole
    assert statement(ledger, group, alice, since=ahead)[OPENING:] == [70, [], 70, None]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_pages_hold_each_line_once_and_name_the_next(ledger, group, alice, carol, entries, size):
    since, until = entries[4][7], entries[-1][7]
    whole = statement(ledger, group, alice, since, until)
    seen, after = [], 0
    while after is not None:
        page = statement(ledger, group, alice, since, until, after, size)
        assert [*page[:LINES], page[CLOSING]] == [*whole[:LINES], whole[CLOSING]]
        assert len(page[LINES]) <= size
        seen += page[LINES]
        assert page[NEXT_AFTER] in (None, seen[-1][ID])
        after = page[NEXT_AFTER]
    assert seen == whole[LINES]
    assert len(seen) == 4


@pytest.mark.parametrize(("size", "rows"), [(-1, 0), (0, 0), (1, 1), (2, 2), (3, 2), (2**31 - 1, 2), (None, 2)])
def test_a_page_has_at_most_max_rows(ledger, group, alice, bob, size, rows):
    transfer(ledger, group, alice, bob, 30)
    page = statement(ledger, group, alice, max_rows=size)
    assert len(page[LINES]) == rows
    assert page[NEXT_AFTER] == (page[LINES][-1][ID] if rows == 1 else None)


def test_entries_of_others_are_places_to_go_on_from(ledger, group, alice, bob):
    carol = join(ledger, group, "carol")
    others = transfer(ledger, group, bob, carol, 1)
    mine = transfer(ledger, group, alice, bob, 1)
    assert [line[ID] for line in statement(ledger, group, alice, after=others)[LINES]] == [mine]


def test_is_ordered_by_time_where_ids_are_not(ledger, group, alice, bob):
    with behind(ledger):
        ledger.execute(
            "update ledger.participants set moved_at = clock_timestamp() + interval '1 hour' where id = %s", [bob]
        )
    carol = join(ledger, group, "carol")
    late = transfer(ledger, group, bob, carol, 1)
    later = transfer(ledger, group, carol, alice, 1)
    lines = statement(ledger, group, carol)[LINES]
    assert [line[ID] for line in lines][1:] == [late, later]
    assert [line[BALANCE] for line in lines] == [100, 101, 100]
    assert statement(ledger, group, carol, since=lines[1][CREATED_AT])[OPENING] == 100


def test_the_usernames_are_those_of_now(ledger, group, alice, bob):
    transfer(ledger, group, alice, bob, 1)
    call(ledger, "rename_participant", group, alice, "alicia")
    call(ledger, "exit_group", group, bob)
    call(ledger, "join_group", group, "bob", 1)
    assert statement(ledger, group, alice)[0] == "alicia"
    assert [line[USERNAME] for line in statement(ledger, group, bob)[LINES]] == [None, "alicia", None]
    assert [line[COUNTERPARTY] for line in statement(ledger, group, alice)[LINES]] == [None, bob]


def test_amounts_above_64_bits_are_exact(ledger, group, alice):
    whale = join(ledger, group, "whale", 2**256 - 101)
    transfer(ledger, group, alice, whale, 100)
    call(ledger, "exit_group", group, whale)
    answer = statement(ledger, group, whale)
    assert [line[CHANGE] for line in answer[LINES]] == [2**256 - 101, 100, 1 - 2**256]
    assert [line[BALANCE] for line in answer[LINES]] == [2**256 - 101, 2**256 - 1, 0]


def test_a_group_that_was_removed_keeps_its_statements(ledger, group, alice, bob, carol, entries):
    for participant in (alice, bob):
        call(ledger, "exit_group", group, participant)
    before = statement(ledger, group, carol)
    call(ledger, "remove_group", group)
    assert statement(ledger, group, carol) == before
    assert statement(ledger, group, bob)[CLOSING] == 0


def test_other_groups_are_not_shown(ledger, refuses, group, alice, neighbour):
    other = create(ledger, "Other")
    theirs = join(ledger, other, "alice", 7)
    assert statement(ledger, other, theirs)[OPENING] == 0
    assert statement(ledger, other, theirs)[CLOSING] == 7
    refuses("LG002", ["participant_id"], "get_statement", other, alice)
    refuses("LG002", ["participant_id"], "get_statement", neighbour, alice)


MOVES = st.lists(
    st.tuples(
        st.sampled_from(["transfer", "transfer", "transfer", "deposit", "exit", "all"]),
        st.integers(0, 3),
        st.integers(0, 3),
        st.integers(1, 60),
    ),
    max_size=12,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(moves=MOVES, cuts=st.tuples(st.integers(0, 40), st.integers(0, 40)), size=st.integers(1, 5))
def test_the_changes_are_the_difference_of_the_balances(ledger, moves, cuts, size):
    """Of any history, any period of it, and any size of pages."""
    with ledger.transaction(force_rollback=True):
        group = create(ledger, "Any")
        people = [join(ledger, group, f"p{number}", 50) for number in range(4)]
        for kind, first, second, amount in moves:
            attempt(ledger, group, kind, people[first], people[second], amount)
        times = [entry[8] for entry in call(ledger, "list_entries", group)]
        since, until = sorted(times[cut % len(times)] + TICK * (cut % 3 - 1) for cut in cuts)
        for participant in people:
            lines, after = [], 0
            while after is not None:
                page = statement(ledger, group, participant, since, until, after, size)
                lines += page[LINES]
                after = page[NEXT_AFTER]
            assert sum(line[CHANGE] for line in lines) == page[CLOSING] - page[OPENING]
            balance = page[OPENING]
            for line in lines:
                balance += line[CHANGE]
                assert line[BALANCE] == balance
                assert since <= line[CREATED_AT] < until


def attempt(ledger, group, kind, first, second, amount):
    """Make a movement, unless a rule refuses it."""
    calls = {
        "transfer": ("transfer", group, first, second, amount),
        "deposit": ("deposit", group, first, amount),
        "exit": ("exit_group", group, first),
        "all": (
            "transfer_all",
            group,
            json.dumps([{"from": first, "to": second, "amount": 1}, {"from": second, "to": first, "amount": amount}]),
        ),
    }
    try:
        with ledger.transaction():
            call(ledger, *calls[kind])
    except psycopg.Error as error:
        if error.sqlstate not in ("LG001", "LG002", "LG003"):
            raise


def test_refuses_an_end_before_the_beginning(refuses, group, alice):
    now = datetime.now(UTC)
    refuses("LG001", ["until"], "get_statement", group, alice, now, now - TICK)
    refuses("LG001", ["until"], "get_statement", group, alice, "infinity", now)


def test_refuses_a_participant_who_never_existed(refuses, group, alice, stranger):
    refuses("LG002", ["participant_id"], "get_statement", group, stranger)


def test_refuses_an_unknown_participant_of_a_removed_group(refuses, ledger, group, alice, stranger):
    call(ledger, "exit_group", group, alice)
    call(ledger, "remove_group", group)
    refuses("LG002", ["participant_id"], "get_statement", group, stranger)


def test_refuses_an_unknown_group(refuses, group, alice, stranger):
    refuses("LG002", ["group_id"], "get_statement", stranger, alice)


def test_refuses_to_go_on_from_what_is_no_entry_of_the_group(refuses, ledger, group, alice, neighbour, stranger):
    theirs = call(ledger, "list_entries", neighbour)[0][1]
    for entry in (theirs, stranger or -2):
        refuses("LG001", ["after"], "get_statement", group, alice, None, None, entry)


@pytest.mark.parametrize("blamed", [["group_id"], ["participant_id"], ["group_id", "participant_id"]])
def test_refuses_null(refuses, group, alice, blamed):
    named = {"group_id": group, "participant_id": alice} | dict.fromkeys(blamed)
    refuses("LG001", blamed, "get_statement", *named.values())


def test_names_every_invalid_value_at_once(refuses, group):
    now = datetime.now(UTC)
    refuses("LG001", ["participant_id", "until"], "get_statement", group, None, now, now - TICK)
