"""The plans of a multi-party transfer are not quadratic, whichever call they were made for.

A session plans a function's statements at its first call and keeps these plans; they serve ten lines as well as ten
thousand.
"""

import json
from collections.abc import Iterator

import psycopg
import pytest
from pytest_postgresql.executors import NoopExecutor

from api.postgres import embedded
from tests.catalog.plans import nodes, printed_plans
from tests.conftest import Server, janitor
from tests.support import discrepancies, one

PARTICIPANTS = 10_000
LINES = {"ten": 10, "ten thousand": 10_000}
CALLS = 7

# Steps that may run for each row of another step.
LOOKUPS = {"INDEXSCAN": ":indexqual", "INDEXONLYSCAN": ":indexqual", "TIDSCAN": ":tidquals"}


def looks_up(step: dict) -> bool:
    """Whether a step finds its rows in an index, or where they are, by a value of the outer row; also below a query."""
    if step[""] == "SUBQUERYSCAN":
        return all(looks_up(node) for node in nodes(step[":subplan"]) if node[""].endswith("SCAN"))
    return step[""] in LOOKUPS and any(
        node[""] == "PARAM" and node[":paramkind"] == ["1"] for node in nodes(step[LOOKUPS[step[""]]])
    )


@pytest.fixture(scope="module", params=["never analyzed", "analyzed"])
def large(request: pytest.FixtureRequest, server: Server, template: NoopExecutor) -> Iterator[psycopg.Connection]:
    """A group of 10,000, who hold 100 each, in a database whose tables only the test analyzes."""
    with (
        janitor(server, "ledger_batch", template.template_dbname),
        server.database("ledger_batch").connect(embedded.ADMIN) as admin,
    ):
        for table in ("participants", "entries"):
            admin.execute(f"alter table ledger.{table} set (autovacuum_enabled = off)")
        (group,) = one(admin, "select id from ledger.create_group('large')")
        query = "select count(ledger.join_group(%s, 'participant ' || n, 100)) from generate_series(1, %s) as n"
        assert one(admin, query, [group, PARTICIPANTS]) == (PARTICIPANTS,)
        if request.param == "analyzed":
            admin.execute("analyze")
        yield admin
        assert discrepancies(admin) == []


@pytest.fixture
def session(large: psycopg.Connection, server: Server) -> Iterator[psycopg.Connection]:
    """A session that has planned nothing."""
    with server.database(large.info.dbname).connect(embedded.ADMIN) as session:
        yield session


def ring(session: psycopg.Connection, lines: int) -> tuple[int, str]:
    """A group, and as many transfers between as many participants as there are lines."""
    ids = session.execute("select group_id, id from ledger.participants order by id limit %s", [lines]).fetchall()
    turn = [participant for _, participant in ids]
    pairs = zip(turn, [*turn[1:], turn[0]], strict=True)
    return ids[0][0], json.dumps([{"from": sender, "to": recipient, "amount": 1} for sender, recipient in pairs])


def make(session: psycopg.Connection, lines: int) -> None:
    query = "select cardinality(entries) from ledger.transfer_all(%s, %s)"
    assert one(session, query, ring(session, lines)) == (lines,)


@pytest.mark.parametrize(("before", "after"), [("ten", "ten thousand"), ("ten thousand", "ten")])
def test_no_plan_is_quadratic_and_cached_plans_serve_every_size(session, before, after):
    plans = printed_plans(session)
    make(session, LINES[before])
    steps = [step for plan in plans for step in nodes(plan)]
    # Something was printed and read.
    assert {"LOCKROWS", "MODIFYTABLE", "FUNCTIONSCAN", "INDEXSCAN", "TIDSCAN"} <= {step[""] for step in steps}
    # Before version 16 the field's name is short.
    inner = [
        side
        for step in steps
        if step[""] == "NESTLOOP"
        for side in step.get(":join.plan.righttree") or step[":righttree"]
    ]
    assert [side[""] for side in inner if not looks_up(side)] == []
    # No other query is run for each row: none is given a value.
    assert [step[":parParam"] for step in steps if step[""] == "SUBPLAN" and step[":parParam"] != ["<>"]] == []

    # Nothing inside the functions is planned again: the plans of a later call are the test's own.
    plans.clear()
    make(session, LINES[before])
    own = len(plans)
    plans.clear()
    make(session, LINES[after])
    assert own <= 3
    assert len(plans) == own


# Rows, and entries of indexes, that the session's transaction has read.
READ = """
select sum(pg_stat_get_xact_tuples_returned(t.oid) + i.read)::bigint
from pg_class as t
cross join lateral (
  select sum(pg_stat_get_xact_tuples_returned(i.indexrelid)) from pg_index as i where i.indrelid = t.oid
) as i (read)
where t.oid in ('ledger.participants'::regclass, 'ledger.entries'::regclass)
"""


def test_reads_a_few_rows_for_each_line(session):
    for _ in range(CALLS):
        make(session, LINES["ten"])
    group, lines = ring(session, PARTICIPANTS)
    with session.transaction():
        (before,) = one(session, READ)
        session.execute("select from ledger.transfer_all(%s, %s)", [group, lines])
        (after,) = one(session, READ)
    # Each side is looked for once, to lock it, and updated where it was found.
    assert PARTICIPANTS <= after - before < 2 * PARTICIPANTS
