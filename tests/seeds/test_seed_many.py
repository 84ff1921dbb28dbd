"""The large data set: its size, a run that finishes another, and that a second run changes nothing."""

from __future__ import annotations

from api.admin import seed
from tests.seeds.test_demo import content, participants
from tests.support import Database, call, one


def test_the_service_may_make_a_large_data_set(database: Database) -> None:
    # It has no right on any table, so all goes through the functions.
    more_than_a_batch = seed.BATCH + 10
    done = list(seed.seed_many(database.url(database.service), 3, more_than_a_batch))
    assert done == [(more_than_a_batch, 0)] * 3
    expected = [(f"Participant {number}", seed.DEPOSIT) for number in range(1, more_than_a_batch + 1)]
    assert participants(database) == {f"Group {number}": expected for number in (1, 2, 3)}
    with database.connect(database.admin) as admin:
        assert one(admin, "select count(*), count(*) filter (where kind = 'join') from ledger.entries") == (780, 780)


def test_a_second_run_changes_nothing(database: Database) -> None:
    list(seed.seed_many(database.url(database.service), 2, 5))
    before = content(database)
    assert list(seed.seed_many(database.url(database.service), 2, 5)) == [(0, 5)] * 2
    assert content(database) == before


def test_finishes_an_interrupted_run(database: Database) -> None:
    run = seed.seed_many(database.url(database.service), 3, 5)
    assert next(run) == (5, 0)
    run.close()
    with database.connect() as service:
        for gone in ("Participant 2", "Participant 4"):
            (participant,) = [row[1] for row in call(service, "list_participants", 1) if row[0] == gone]
            call(service, "exit_group", 1, participant)
    assert list(seed.seed_many(database.url(database.service), 3, 5)) == [(2, 3), (5, 0), (5, 0)]
    assert {name: len(present) for name, present in participants(database).items()} == {
        "Group 1": 5,
        "Group 2": 5,
        "Group 3": 5,
    }


def test_adds_to_a_smaller_data_set(database: Database) -> None:
    list(seed.seed_many(database.url(database.service), 1, 2))
    before = participants(database)["Group 1"]
    assert list(seed.seed_many(database.url(database.service), 2, 3)) == [(1, 2), (3, 0)]
    assert participants(database)["Group 1"] == [*before, ("Participant 3", seed.DEPOSIT)]


def test_counts_more_than_a_page_of_existing_rows(database: Database) -> None:
    with database.connect() as service:
        service.execute("select count(*) from generate_series(1, 1002) as n, ledger.create_group('Other ' || n)")
    list(seed.seed_many(database.url(database.service), 1, 1002))
    before = content(database)
    assert list(seed.seed_many(database.url(database.service), 1, 1002)) == [(0, 1002)]
    assert content(database) == before
