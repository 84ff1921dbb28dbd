"""Addresses bound at the same time: each belongs to one present participant, and each participant has one."""

import pytest

from tests.support import call, in_background, one, wait_until_blocked

ADDRESS = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
OTHER = "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359"
BIND = "bind_address", "@group", "@alice", ADDRESS
BIND_BOB = "bind_address", "@group", "@bob", ADDRESS
JOIN = "join_group", "@group", "carol", 5, None, None, ADDRESS
JOIN_AS_DAVE = "join_group", "@group", "dave", 5, None, None, ADDRESS
EXIT = "exit_group", "@group", "@alice", None, None, ADDRESS
EXIT_BOB = "exit_group", "@group", "@bob", None, None, ADDRESS
# First call, second call, and the second's outcome when the first is committed or rolled back; @ marks an id.
CONTESTS = {
    "bind-bind": (BIND, BIND_BOB, "LG010", "done"),
    "bind-join": (BIND, JOIN, "LG010", "done"),
    "join-bind": (JOIN, BIND, "LG010", "done"),
    "join-join": (JOIN, JOIN_AS_DAVE, "LG010", "done"),
    "bind-exit": (BIND, EXIT_BOB, "LG010", "done"),
    # A participant who leaves with the address does not keep it.
    "exit-bind": (EXIT, BIND_BOB, "done", "done"),
    "exit-exit": (EXIT, EXIT_BOB, "done", "done"),
    "the-same-twice": (BIND, BIND, "done", "done"),
    "another-of-the-same": (BIND, ("bind_address", "@group", "@alice", OTHER), "LG010", "done"),
    "bind-exit-of-the-same": (BIND, EXIT, "done", "done"),
    "exit-bind-of-the-same": (EXIT, BIND, "LG002", "done"),
}
PRESENT = """
select count(*), count(distinct address)
from ledger.participants
where group_id = %s and exited_at is null and address is not null
"""


@pytest.fixture
def known(group, alice, bob):
    """Put ids into a call."""
    ids = {"@group": group, "@alice": alice, "@bob": bob}
    return lambda contested: tuple(ids.get(part, part) for part in contested)


@pytest.mark.parametrize("commits", [True, False], ids=["kept", "undone"])
@pytest.mark.parametrize("contest", CONTESTS.values(), ids=CONTESTS.keys())
def test_of_two_concurrent_binds_one_gets_the_address(session, overlap, admin, level, group, known, contest, commits):
    first, second, kept, undone = contest
    outcome = overlap(session(level), known(first), session(level), known(second), commits=commits)
    assert outcome == (kept if commits else undone)
    bound, different = one(admin, PRESENT, [group])
    assert bound == different


def test_a_snapshot_from_before_a_bind_does_not_bind_again(ledger, session, attempt, level, group, alice, bob):
    late = session(level)
    call(late, "list_participants", group)
    call(ledger, "bind_address", group, alice, ADDRESS)
    assert attempt(late, "bind_address", group, bob, ADDRESS) == "LG010"
    assert attempt(late, "bind_address", group, alice, OTHER) == "LG010"
    assert attempt(late, "bind_address", group, alice, ADDRESS) == "done"


def test_a_call_that_waits_for_an_address_holds_no_shard(session, attempt, admin, group, alice, bob):
    binding, joining, leaving = session(), session(), session()
    call(binding, "bind_address", group, alice, ADDRESS)
    with (
        in_background(lambda: attempt(joining, "join_group", group, "carol", 5, None, None, ADDRESS)) as joined,
        in_background(lambda: attempt(leaving, "exit_group", group, bob, None, None, ADDRESS)) as left,
    ):
        wait_until_blocked(admin, joining)
        wait_until_blocked(admin, leaving)
        with admin.transaction(force_rollback=True):
            admin.execute("select from ledger.group_total_shards where group_id = %s for update nowait", [group])
        binding.commit()
    assert (joined, left) == (["LG010"], ["LG010"])


def test_binding_one_address_in_two_groups_does_not_wait(session, attempt, ledger, group, alice, neighbour):
    binding, other = session(), session()
    call(binding, "bind_address", group, alice, ADDRESS)
    other.execute("set lock_timeout = '1s'")
    assert attempt(other, "join_group", neighbour, "carol", 5, None, None, ADDRESS) == "done"


def test_does_not_wait_for_a_participant_who_has_the_address(ledger, session, attempt, group, alice, bob):
    call(ledger, "bind_address", group, alice, ADDRESS)
    renaming = session()
    call(renaming, "rename_participant", group, alice, "alicia")
    assert attempt(ledger, "bind_address", group, bob, ADDRESS) == "LG010"
    assert attempt(ledger, "exit_group", group, bob, None, None, ADDRESS) == "LG010"


def test_a_join_that_waits_for_an_address_does_not_hold_its_username(ledger, session, attempt, admin, group, alice):
    call(ledger, "bind_address", group, alice, ADDRESS)
    renaming, joining = session(), session()
    call(renaming, "rename_participant", group, alice, "alicia")
    with in_background(lambda: attempt(joining, "join_group", group, "carol", 5, None, None, ADDRESS)) as outcome:
        wait_until_blocked(admin, joining)
        # Deadlocked when the join held the username.
        assert attempt(renaming, "rename_participant", group, alice, "carol") == "done"
        renaming.commit()
    assert outcome == ["LG010"]
