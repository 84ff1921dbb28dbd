"""Calls stay cheap as the tables grow: updates touch no index, and pages are read through one."""

import time
from collections.abc import Iterator

import psycopg
import pytest
from pytest_postgresql.executors import NoopExecutor

from api.postgres import embedded
from api.postgres.session_settings import CHOSEN, SETTINGS
from tests.conftest import Server, janitor
from tests.support import Database, create, join, one

PARTICIPANTS = 50
TRANSFERS = 200

HOT = """
select n_tup_upd, n_tup_hot_upd
from pg_stat_user_tables
where relid = 'ledger.participants'::regclass
"""


def test_a_transfer_and_a_deposit_update_no_index(database: Database):
    with database.connect() as ledger:
        (group,) = one(ledger, "select id from ledger.create_group('ETH')")
        ids = [
            one(ledger, "select id from ledger.join_group(%s, %s, 1000)", [group, f"p{number}"])[0]
            for number in range(PARTICIPANTS)
        ]
        for number in ids[::2]:
            ledger.execute("select ledger.bind_address(%s, %s, %s)", [group, number, f"0x{number:040x}"])
        for number in ids:
            ledger.execute("select ledger.deposit(%s, %s, 5)", [group, number])
        for number in range(TRANSFERS):
            sender, recipient = ids[number % PARTICIPANTS], ids[(number * 7 + 3) % PARTICIPANTS]
            if sender != recipient:
                ledger.execute("select ledger.transfer(%s, %s, %s, 1)", [group, sender, recipient])
    # A session sends its counts when it ends.
    with database.connect(database.admin) as admin:
        (transfers,) = one(admin, "select count(*) from ledger.entries where kind = 'transfer'")
        deadline = time.monotonic() + 30
        updates = hot = 0
        bound = len(ids[::2])
        # A join notes its time.
        expected = 2 * transfers + bound + 2 * PARTICIPANTS
        while updates < expected:
            assert time.monotonic() < deadline, "the statistics never came"
            updates, hot = one(admin, HOT)
    assert transfers > TRANSFERS / 2
    assert (updates, hot) == (expected, expected - bound)


@pytest.fixture(scope="module")
def large(server: Server, template: NoopExecutor) -> Iterator[psycopg.Connection]:
    """A group of 10,000 among 10,000 groups, in a database that nothing changes."""
    with (
        janitor(server, "ledger_large", template.template_dbname),
        server.database("ledger_large").connect(embedded.ADMIN) as admin,
    ):
        (group,) = one(admin, "select id from ledger.create_group('large')")
        admin.execute("insert into ledger.groups (name) select 'group ' || n from generate_series(1, 9999) as n")
        admin.execute(
            "select ledger.join_group(%s, 'participant ' || n, n) from generate_series(1, 10000) as n", [group]
        )
        admin.execute("analyze ledger.groups, ledger.participants, ledger.entries")
        yield admin


def nodes(plan: dict) -> list[dict]:
    return [plan, *(node for child in plan.get("Plans", []) for node in nodes(child))]


def steps(large: psycopg.Connection, query: str) -> set[str]:
    """The kinds of steps in a query's plan."""
    group, participant = one(large, "select group_id, min(id) + 5000 from ledger.participants group by group_id")
    ((plan,),) = one(large, "explain (format json) " + query.format(group=group, participant=participant))
    return {node["Node Type"] for node in nodes(plan["Plan"])}


@pytest.mark.parametrize(
    "query",
    [
        "select * from ledger.current_groups where id > 5000 order by id limit 100",
        "select * from ledger.current_participants where group_id = {group} and id > {participant}"
        " order by id limit 100",
        "select * from ledger.entries where group_id = {group} and id > 0 order by id limit 100",
    ],
)
def test_a_page_is_read_in_the_order_of_an_index(large, query):
    assert steps(large, query) == {"Limit", "Index Scan"}


def test_a_page_of_the_record_is_read_in_the_order_of_an_index(large):
    found = steps(large, "select * from ledger.record where group_id = {group} and id > 0 order by id limit 100")
    assert "Index Scan" in found
    assert not found & {"Seq Scan", "Sort", "Hash Join"}


@pytest.mark.parametrize(
    "query",
    [
        "select * from ledger.current_groups where id = 5000",
        "select * from ledger.current_participants where group_id = {group} and id = {participant}",
        "select * from ledger.participants where group_id = {group} and id in ({participant}, {participant} + 9)"
        " and exited_at is null order by id for no key update",
        "select 1 from ledger.current_participants where group_id = 5000",
        "select 1 from ledger.current_participants where group_id = {group} and username = 'participant 7'",
        "select 1 from ledger.current_groups where name = 'group 7'",
    ],
)
def test_single_rows_are_found_through_an_index(large, query):
    found = steps(large, query)
    assert found & {"Index Scan", "Index Only Scan", "Bitmap Index Scan"}
    assert "Seq Scan" not in found


# Rows, and entries of the index, that the session's transaction has read.
KEYS_READ = """
select pg_stat_get_xact_tuples_returned(i.indrelid) + pg_stat_get_xact_tuples_returned(i.indexrelid)
from pg_index as i
where i.indrelid = 'ledger.idempotency_keys'::regclass
"""


@pytest.mark.parametrize("analyzed", [False, True])
def test_a_plan_made_with_few_idempotency_keys_uses_the_index_with_many(database: Database, analyzed: bool):
    """A session keeps its plans until something analyzes the table, a minute later or more."""
    lines = 50
    with database.connect(database.admin) as admin, database.connect() as session:
        for table in ("participants", "entries", "idempotency_keys"):
            admin.execute(f"alter table ledger.{table} set (autovacuum_enabled = off)")
        group = create(admin, "ETH")
        alice, bob = join(admin, group, "alice"), join(admin, group, "bob")
        session.execute(SETTINGS, CHOSEN)

        def share(call: int) -> None:
            keys = [f"{call}-{line}" for line in range(lines)]
            arguments = [[group] * lines, [alice, bob] * 25, [bob, alice] * 25, [1] * lines, keys]
            rows = session.execute("select outcome from ledger.transfer_batch(%s, %s, %s, %s, %s)", arguments)
            assert rows.fetchall() == [("done",)] * lines

        share(0)
        if analyzed:
            admin.execute("analyze")
        for call in range(1, 8):
            share(call)
        admin.execute(
            """
            insert into ledger.idempotency_keys (group_id, key, operation, fingerprint, answer)
            select %s, 'many-' || n, 'transfer', sha256(''), '{}' from generate_series(1, 10000) as n
            """,
            [group],
        )
        with session.transaction():
            (before,) = one(session, KEYS_READ)
            share(8)
            (after,) = one(session, KEYS_READ)
    assert after - before <= 2 * lines


FOUND_BY_NAME = {
    "list_groups(name => 'group 5000')": 1,
    "list_groups(name => 'group 5000', after => 5000)": 1,
    "list_groups(name => 'no such group')": 0,
    "list_groups(name => 'cafe\u0301')": 0,
    "list_participants({group}, username => 'participant 5000')": 1,
    "list_participants({group}, username => 'no such participant')": 0,
}


@pytest.mark.parametrize("query", FOUND_BY_NAME)
def test_a_name_is_looked_up(large, query):
    (group,) = one(large, "select id from ledger.groups where name = 'large'")
    spelled = "select * from ledger." + query.format(group=group)
    for _ in range(7):  # the last may run a plan made for any values
        assert len(large.execute(spelled).fetchall()) == FOUND_BY_NAME[query]
        ((plan,),) = one(large, "explain (analyze, buffers, format json) " + spelled)
        assert plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"] <= 40
