"""Lists of joins at the same time as others: a username and an address belong to one, and none waits forever."""

import json

import psycopg
import pytest

from tests.support import call, create, in_background, one, refused, statement, wait_until_blocked
from tests.vaults.conftest import CHAIN, VAULT

ADDRESSES = [f"0x{number:040x}" for number in range(1, 100)]


def joins(group, *usernames, addresses=(), amount=1):
    """A call of join_all."""
    lines = [{"username": username, "amount": amount} for username in usernames]
    for line, address in zip(lines, addresses, strict=False):
        line["address"] = address
    return "join_all", group, json.dumps(lines)


def usernames(ledger, group):
    return [row[0] for row in call(ledger, "list_participants", group)]


@pytest.mark.parametrize(("commits", "outcome", "present"), [(True, "LG005", "abc"), (False, "done", "zba")])
def test_two_lists_with_one_username(ledger, session, overlap, level, group, commits, outcome, present):
    first, second = joins(group, *"abc"), joins(group, *"zba")
    assert overlap(session(level), first, session(level), second, commits=commits) == outcome
    assert usernames(ledger, group) == list(present)


@pytest.mark.parametrize(("commits", "outcome", "present"), [(True, "LG010", "ab"), (False, "done", "cd")])
def test_two_lists_with_one_address(ledger, session, overlap, level, group, commits, outcome, present):
    first = joins(group, *"ab", addresses=ADDRESSES[:2])
    second = joins(group, *"cd", addresses=ADDRESSES[1:3])
    assert overlap(session(level), first, session(level), second, commits=commits) == outcome
    assert usernames(ledger, group) == list(present)


@pytest.mark.parametrize(("commits", "outcome", "present"), [(True, "LG005", "b"), (False, "done", "abc")])
def test_a_list_waits_for_a_join(ledger, session, overlap, level, group, commits, outcome, present):
    single = "join_group", group, "b", 1
    assert overlap(session(level), single, session(level), joins(group, *"abc"), commits=commits) == outcome
    assert usernames(ledger, group) == list(present)


@pytest.mark.parametrize(("commits", "outcome", "present"), [(True, "LG005", "abc"), (False, "done", "b")])
def test_a_join_waits_for_a_list(ledger, session, overlap, level, group, commits, outcome, present):
    single = "join_group", group, "b", 1
    assert overlap(session(level), joins(group, *"abc"), session(level), single, commits=commits) == outcome
    assert usernames(ledger, group) == list(present)


@pytest.mark.parametrize(("commits", "outcome"), [(True, "LG004"), (False, "done")])
def test_a_removal_waits_for_a_list(session, overlap, level, group, commits, outcome):
    removal = "remove_group", group
    assert overlap(session(level), joins(group, *"abc"), session(level), removal, commits=commits) == outcome


@pytest.mark.parametrize(("commits", "outcome"), [(True, "LG002"), (False, "done")])
def test_a_list_waits_for_a_removal(session, overlap, level, group, commits, outcome):
    removal = "remove_group", group
    assert overlap(session(level), removal, session(level), joins(group, *"abc"), commits=commits) == outcome


def test_lists_of_two_groups_do_not_wait(session, attempt, ledger, group):
    call(session(), *joins(group, *"abc", addresses=ADDRESSES))
    other = session()
    other.execute("set lock_timeout = '1s'")
    assert attempt(other, *joins(create(ledger, "Other"), *"abc", addresses=ADDRESSES)) == "done"


def crossed(session, admin, attempt, group, first, second):
    """Make a list wait for a join of "m", another one for the list, end the join; return the outcomes of both."""
    holder, sessions = session(), [session(), session()]
    call(holder, "join_group", group, "m", 1)
    with in_background(lambda: attempt(sessions[0], *first)) as outcome:
        try:
            wait_until_blocked(admin, sessions[0])
            with in_background(lambda: attempt(sessions[1], *second)) as other:
                try:
                    wait_until_blocked(admin, sessions[1])
                finally:
                    holder.rollback()
        finally:
            holder.rollback()
    return outcome + other


def test_lists_of_the_same_usernames_in_other_orders_do_not_deadlock(ledger, session, admin, attempt, group):
    # In the order of its lines the second list would have inserted z before it waits for a.
    outcomes = crossed(session, admin, attempt, group, joins(group, *"amz"), joins(group, *"za"))
    assert outcomes == ["done", "LG005"]
    assert usernames(ledger, group) == list("amz")


def test_lists_of_the_same_addresses_in_other_orders_do_not_deadlock(ledger, session, admin, attempt, group):
    one_way, spare, other_way = ADDRESSES[:3]
    first = joins(group, *"amz", addresses=[one_way, spare, other_way])
    second = joins(group, *"bc", addresses=[other_way, one_way])
    assert crossed(session, admin, attempt, group, first, second) == ["done", "LG010"]
    assert usernames(ledger, group) == list("amz")


def test_its_time_is_taken_after_the_wait(session, admin, attempt, group):
    first, second = session(), session()
    call(first, "join_group", group, "b", 1)
    with in_background(lambda: attempt(second, *joins(group, *"abc"))) as outcome:
        try:
            wait_until_blocked(admin, second)
            (waiting,) = one(admin, "select clock_timestamp()")
        finally:
            first.rollback()
    assert outcome == ["done"]
    query = "select bool_and(created_at > %s), count(*) from ledger.entries where group_id = %s"
    assert one(admin, query, [waiting, group]) == (True, 3)


def test_a_repeated_request_waits_for_the_first_and_gets_its_answer(ledger, session, admin, group):
    query = "select to_json(j) from ledger.join_all(%s, %s, 'key') as j"
    arguments = joins(group, *"ab")[1:]
    first, again = session(), session()
    (answer,) = one(first, query, arguments)
    with in_background(lambda: one(again, query, arguments)) as outcome:
        try:
            wait_until_blocked(admin, again)
        finally:
            first.commit()
    assert outcome == [(answer | {"replayed": True},)]
    assert usernames(ledger, group) == ["a", "b"]


def test_a_killed_session_leaves_no_trace(ledger, session, admin, group):
    killed = session()
    call(killed, *joins(group, *"abc"))
    assert one(admin, "select pg_terminate_backend(%s, 30000)", [killed.info.backend_pid]) == (True,)
    assert usernames(ledger, group) == []
    query = "select count(*) from ledger.entries where group_id = %s"
    assert one(admin, query, [group]) == (0,)
    assert call(ledger, "group_total", group) == [(0,)]


def test_a_list_is_all_or_nothing_in_a_killed_session_that_waits(ledger, session, admin, group):
    holder, killed = session(), session()
    call(holder, "join_group", group, "b", 1)
    pid = killed.info.backend_pid

    def ended():
        with pytest.raises(psycopg.OperationalError):
            call(killed, *joins(group, *"abc"))

    with in_background(ended):
        try:
            wait_until_blocked(admin, killed)
            assert one(admin, "select pg_terminate_backend(%s, 30000)", [pid]) == (True,)
        finally:
            holder.commit()
    assert usernames(ledger, group) == ["b"]


# Groups with a vault.


@pytest.fixture
def linked(admin, ledger):
    group = create(ledger, "Linked")
    call(admin, "link_vault", group, CHAIN, VAULT)
    return group


def test_a_list_joins_a_group_with_a_vault_without_money_and_with_addresses(ledger, linked):
    # Until one of them proves it, several may claim an address.
    call(ledger, *joins(linked, *"ba", addresses=[ADDRESSES[0]] * 2, amount=0))
    assert usernames(ledger, linked) == ["b", "a"]


@pytest.mark.parametrize(
    ("amount", "addresses", "field"),
    [
        (1, ADDRESSES[:3], "participants[0].amount"),
        (0, ADDRESSES[:1], "participants[1].address"),
        (0, [], "participants[0].address"),
    ],
)
def test_refuses_money_and_no_address_in_a_group_with_a_vault(ledger, linked, amount, addresses, field):
    function, *arguments = joins(linked, *"abc", addresses=addresses, amount=amount)
    diag = refused(ledger, "LG012", statement(function, arguments), arguments)
    assert diag.column_name == field
    assert usernames(ledger, linked) == []


@pytest.mark.parametrize(("commits", "outcome"), [(True, "LG012"), (False, "done")])
def test_a_list_waits_for_a_link(session, overlap, level, group, commits, outcome):
    link = "link_vault", group, CHAIN, VAULT
    bridge = session(role="ledger_test_bridge")
    assert overlap(bridge, link, session(level), joins(group, *"abc"), commits=commits) == outcome
