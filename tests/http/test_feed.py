"""GET /api/entries: the feed of all groups, its cursor and its long poll."""

import re
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.http.client import problem, serving
from tests.support import until


def end_of(api) -> str:
    """Read all entries, and return the path of the next page."""
    following = "/api/entries"
    while True:
        answer = api("GET", following)
        if not answer.data:
            return answer.json["next"]
        following = answer.json["next"]


def test_shows_each_entry_once_and_resumes_at_the_cursor(api, new_group):
    following = end_of(api)
    groups = [new_group(), new_group()]
    seen = []

    def read() -> bool:
        nonlocal following
        answer = api("GET", following.replace("limit=1000", "limit=3"))
        following = answer.json["next"]
        assert answer.headers["Link"] == f'<{following}>; rel="next"'
        assert len(answer.data) <= 3
        seen.extend(answer.data)
        return len(seen) >= 4

    # Another test's transaction may hold the newest back for a moment.
    until(read, "the four joins")
    assert [(entry["group_id"], entry["kind"]) for entry in seen] == [
        (group.id, "join") for group in groups for _ in range(2)
    ]
    assert api("GET", following).data == []
    assert api("GET", following).json["next"] == following


def test_the_end_is_an_empty_page_whose_next_has_what_comes_after_it(api, new_group):
    new_group()
    end = api("GET", "/api/entries/end")
    assert (end.status, end.data, list(end.json)) == (200, [], ["data", "next"])
    following = end.json["next"]
    assert re.fullmatch(f"/api/entries\\?after=[0-9]+-[0-9]+-{2**63 - 1}&limit=1000", following)
    assert end.headers["Link"] == f'<{following}>; rel="next"'
    groups = [new_group(), new_group()]
    seen: list[dict] = []

    def read() -> bool:
        nonlocal following
        answer = api("GET", following)
        following = answer.json["next"]
        seen.extend(answer.data)
        return [entry["group_id"] for entry in seen if entry["group_id"] == groups[1].id] == [groups[1].id] * 2

    until(read, "the joins of the last group")
    # Those of the group before the end may have been held back by another transaction, and come only then.
    assert [entry["group_id"] for entry in seen][-4:] == [group.id for group in groups for _ in range(2)]
    assert len(seen) == len({entry["id"] for entry in seen})


def test_a_reader_waits_at_the_end_for_the_next_entry(api, new_group):
    following = api("GET", "/api/entries/end").json["next"]
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(api, "GET", f"{following}&wait=30")
        group = new_group()
        answer = waiting.result(25)
    assert answer.data[0]["group_id"] <= group.id


def test_the_end_takes_no_parameters(api):
    for query in ("wait=1", "limit=5", "after=1-1-1"):
        name = query.partition("=")[0]
        assert list(problem(api("GET", f"/api/entries/end?{query}"), 422, "invalid_value")["errors"]) == [name]


def test_the_end_of_a_feed_of_another_server_is_refused(database):
    with serving(database) as api:
        assert api("GET", "/api/entries/end").status == 200
        with database.connect(database.admin) as admin, admin.transaction():
            admin.execute("set local session_replication_role = replica")
            admin.execute("update ledger.feeds set system_identifier = system_identifier - 1")
        assert problem(api("GET", "/api/entries/end"), 410, "cursor_expired")["sqlstate"] == "LG009"


def test_an_entry_has_the_same_shape_as_in_other_answers(api, group):
    (entry,) = api("GET", "/api/entries?limit=1").data
    assert api("GET", f"/api/groups/{entry['group_id']}/entries/{entry['id']}").data == entry


def test_without_entries_the_next_page_is_the_first(database):
    with serving(database) as api:
        answer = api("GET", "/api/entries?limit=5")
        assert answer.json == {"data": [], "next": "/api/entries?limit=5"}


@pytest.mark.parametrize(
    ("query", "field"),
    [
        *((f"after={cursor}", "after") for cursor in ("", "1", "0-0-0", "a-b-c", "1-1-1-1", f"1-1-{2**63}", "1-1--1")),
        *((f"after={cursor}", "after") for cursor in (f"1-{10**19}-1", f"{10**10}-1-1", "1-1-1%00")),
        *((f"wait={wait}", "wait") for wait in ("31", "-1", "x", "", "1.5", "100000")),
        ("wait=1&wait=2", "wait"),
        ("limit=1001", "limit"),
        ("order=desc", "order"),
    ],
)
def test_a_bad_query_is_refused(api, query, field):
    assert list(problem(api("GET", f"/api/entries?{query}"), 422, "invalid_value")["errors"]) == [field]


@pytest.mark.parametrize("cursor", ["2-1-1", "999999999-1-1", "1-9223372036854775807-1"])
def test_a_cursor_of_another_feed_is_refused(api, cursor):
    refusal = problem(api("GET", f"/api/entries?after={cursor}"), 410, "cursor_expired")
    assert (refusal["sqlstate"], list(refusal["errors"])) == ("LG009", ["after"])


def test_only_the_feed_takes_wait(api, group):
    for path in ("/api/groups", f"{group.path}/entries"):
        assert list(problem(api("GET", f"{path}?wait=1"), 422, "invalid_value")["errors"]) == ["wait"]


def test_a_reader_waits_for_the_next_entry(api, new_group):
    following = end_of(api)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(api, "GET", f"{following}&wait=30")
        group = new_group()
        answer = waiting.result(25)
    assert answer.data[0]["group_id"] == group.id


def test_a_wait_without_entries_ends_with_an_empty_page(api):
    following = end_of(api)
    began = time.monotonic()
    answer = api("GET", f"{following}&wait=1")
    assert answer.data == []
    assert api("GET", answer.json["next"].replace("wait=1", "wait=0")).data == []
    assert time.monotonic() - began >= 1


def test_readers_who_wait_hold_no_connection_and_do_not_delay_a_stop(database):
    with ThreadPoolExecutor(20) as pool, serving(database) as api:
        waiting = [pool.submit(api, "GET", "/api/entries?wait=30") for _ in range(20)]
        # There are two connections for reads.
        for _ in range(20):
            assert api("GET", "/api/groups").status == 200
        assert not any(reader.done() for reader in waiting)
        began = time.monotonic()
    assert time.monotonic() - began < 20
    assert [reader.result().json["data"] for reader in waiting] == [[]] * 20
