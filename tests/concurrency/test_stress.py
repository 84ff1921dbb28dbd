"""Everything at once for a few seconds: no deadlock, no error but the rules', and the books are right."""

import random
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from tests.support import call, create, join, one

SECONDS = 3
PATIENCE = 60
REFUSALS = {"LG002", "LG003", "LG004", "LG005", "LG010"}
ADDRESSES = [f"0x{number:040x}" for number in range(1, 5)]


def test_concurrent_calls_break_no_rule(database, ledger, admin, group):
    people = [join(ledger, group, f"p{i}") for i in range(8)]
    create(ledger, "Flash")
    deadline = time.monotonic() + SECONDS

    def flash(connection):
        """Return the id of the group that is removed and created again."""
        return next((found for name, found in call(connection, "list_groups") if name == "Flash"), group)

    def move(connection, chance):
        sender, recipient = chance.sample(people, 2)
        if chance.random() < 0.2:
            return "deposit", group, recipient, chance.randint(1, 9)
        return "transfer", group, sender, recipient, chance.randint(1, 150)

    def come_or_go(connection, chance):
        where = chance.choice([group, flash(connection)])
        guests = [row for row in call(connection, "list_participants", where) if row[1] not in people]
        if not guests or chance.random() < 0.4:
            address = chance.choice([None, *ADDRESSES])
            return "join_group", where, f"guest {chance.randint(1, 6)}", chance.randint(0, 10), None, None, address
        guest = chance.choice(guests)[1]
        if chance.random() < 0.2:
            return "bind_address", where, guest, chance.choice(ADDRESSES)
        if chance.random() < 0.3:
            return "rename_participant", where, guest, f"guest {chance.randint(1, 6)}"
        if chance.random() < 0.3 and where == group:
            return "transfer", where, chance.choice(people), guest, 1
        return "exit_group", where, guest, None, None, chance.choice([None, *ADDRESSES])

    def remove(connection, chance):
        if chance.random() < 0.3:
            return "create_group", "Flash"
        return "remove_group", chance.choice([group, flash(connection)])

    did = {
        "transfer",
        "join_group",
        "exit_group",
        "rename_participant",
        "remove_group",
        "create_group",
        "deposit",
        "bind_address",
    }
    done: set[str] = set()

    def work(seed, choose):
        chance, outcomes = random.Random(seed), Counter()
        with database.connect() as connection:
            # On a busy machine some kinds of calls need longer until one of them has succeeded.
            while time.monotonic() < deadline or (not did <= done and time.monotonic() < deadline + PATIENCE):
                try:
                    function, *arguments = choose(connection, chance)
                    call(connection, function, *arguments)
                except psycopg.Error as error:
                    outcomes[error.sqlstate] += 1
                else:
                    outcomes[function] += 1
                    done.add(function)
        return outcomes

    with ThreadPoolExecutor(8) as pool:
        work_of = [move] * 5 + [come_or_go] * 2 + [remove]
        outcomes = sum(pool.map(work, range(8), work_of), Counter())

    assert set(outcomes) <= did | REFUSALS, outcomes
    assert did <= set(outcomes), outcomes
    assert outcomes["LG004"], outcomes
    # A session has counted its deadlocks once it is gone.
    for _ in range(1000):
        if one(admin, "select count(*) <= 2 from pg_stat_activity where datname = current_database()")[0]:
            break
    assert one(admin, "select deadlocks from pg_stat_database where datname = current_database()") == (0,)
    held = sum(amount for *_, amount in call(ledger, "list_participants", group))
    assert call(ledger, "group_total", group) == [(held,)]


@pytest.mark.parametrize("of", ["participants", "groups"])
def test_renames_to_each_other_are_refused_without_a_deadlock(database, ledger, group, neighbour, alice, bob, of):
    calls = {
        "participants": [("rename_participant", group, alice, "bob"), ("rename_participant", group, bob, "alice")],
        "groups": [("rename_group", group, "Neighbour"), ("rename_group", neighbour, "ETH")],
    }
    deadline = time.monotonic() + 1

    def rename(renaming):
        outcomes = set()
        with database.connect() as connection:
            while time.monotonic() < deadline:
                with pytest.raises(psycopg.Error) as raised:
                    call(connection, *renaming)
                outcomes.add(raised.value.sqlstate)
        return outcomes

    with ThreadPoolExecutor(4) as pool:
        assert set.union(*pool.map(rename, calls[of] * 2)) == {"LG005"}
