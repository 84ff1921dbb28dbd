"""Names and usernames taken at the same time: exactly one session gets them."""

import pytest

from tests.support import call

# First call, second call, and the second's outcome when the first is committed or rolled back; @ marks an id.
CREATE = "create_group", "DAI"
RENAME_GROUP = "rename_group", "@group", "DAI"
JOIN = "join_group", "@group", "carol", 1
RENAME = "rename_participant", "@group", "@bob", "carol"
CREATE_EMPTY = "create_group", "Empty"
JOIN_AS_ALICE = "join_group", "@group", "alice", 1
JOIN_DECOMPOSED = "join_group", "@group", "cafe\u0301", 1
CONTESTS = {
    "create-create": (CREATE, CREATE, "LG005", "done"),
    "create-rename": (CREATE, RENAME_GROUP, "LG005", "done"),
    "rename-create": (RENAME_GROUP, CREATE, "LG005", "done"),
    "removal-frees-a-name": (("remove_group", "@empty"), CREATE_EMPTY, "done", "LG005"),
    "rename-frees-a-name": (("rename_group", "@empty", "DAI"), CREATE_EMPTY, "done", "LG005"),
    "rename-of-a-removed-group": (("remove_group", "@empty"), ("rename_group", "@empty", "DAI"), "LG002", "done"),
    "join-join": (JOIN, JOIN, "LG005", "done"),
    "join-rename": (JOIN, RENAME, "LG005", "done"),
    "rename-join": (RENAME, JOIN, "LG005", "done"),
    "rename-rename": (RENAME, ("rename_participant", "@group", "@alice", "carol"), "LG005", "done"),
    "join-join-in-two-spellings": (("join_group", "@group", "caf\u00e9", 1), JOIN_DECOMPOSED, "LG005", "done"),
    "rename-join-in-two-spellings": (
        ("rename_participant", "@group", "@bob", "caf\u00e9"),
        JOIN_DECOMPOSED,
        "LG005",
        "done",
    ),
    "exit-frees-a-username": (("exit_group", "@group", "@alice"), JOIN_AS_ALICE, "done", "LG005"),
    "rename-frees-a-username": (("rename_participant", "@group", "@alice", "eve"), JOIN_AS_ALICE, "done", "LG005"),
    "rename-of-one-who-left": (("exit_group", "@group", "@bob"), RENAME, "LG002", "done"),
}
contests = pytest.mark.parametrize("contest", CONTESTS.values(), ids=CONTESTS.keys())


@pytest.fixture
def known(ledger, group, alice, bob):
    """Put ids into a call."""
    ((_, empty),) = call(ledger, "create_group", "Empty")
    ids = {"@group": group, "@empty": empty, "@alice": alice, "@bob": bob}
    return lambda contested: tuple(ids.get(part, part) for part in contested)


@contests
def test_the_first_of_two_sessions_gets_the_name(session, overlap, level, known, contest):
    first, second, outcome, _ = contest
    assert overlap(session(level), known(first), session(level), known(second)) == outcome


@contests
def test_a_rolled_back_call_leaves_the_name_free(session, overlap, known, contest):
    first, second, _, outcome = contest
    assert overlap(session(), known(first), session(), known(second), commits=False) == outcome


def test_joins_of_one_username_in_two_groups_do_not_wait(session, attempt, group, neighbour):
    call(session(), "join_group", group, "carol", 1)
    other = session()
    other.execute("set lock_timeout = '1s'")
    assert attempt(other, "join_group", neighbour, "carol", 1) == "done"


@pytest.mark.parametrize("commits", [True, False])
def test_renames_at_the_same_time_are_recorded_one_after_the_other(session, overlap, database, group, bob, commits):
    first, second = ("rename_participant", group, bob, "carol"), ("rename_participant", group, bob, "dave")
    assert overlap(session(), first, session(), second, commits=commits) == "done"
    assert (
        overlap(session(), ("rename_group", group, "A"), session(), ("rename_group", group, "B"), commits=commits)
        == "done"
    )
    with database.connect(database.admin) as admin:
        found = admin.execute("select old_name, new_name from ledger.renames where group_id = %s order by id", [group])
        if commits:
            assert found.fetchall() == [("bob", "carol"), ("carol", "dave"), ("ETH", "A"), ("A", "B")]
        else:
            assert found.fetchall() == [("bob", "dave"), ("ETH", "B")]
