"""Statements that are refused to every login, and changes of the record that are refused even to its owner."""

import psycopg
import pytest
from psycopg import sql

from tests.catalog.published import BRIDGE, FUNCTIONS, READ_VIEWS, SHARED
from tests.support import Database, refused

DENIED = "42501"
LOGINS = ["ledger_service", "ledger_test_reader", "ledger_test_bridge", "ledger_test_stranger"]


@pytest.fixture(scope="module")
def schema(shared: Database) -> dict[str, list[tuple]]:
    """The relations, each with a column that could be written, and the internal functions."""
    with shared.connect(shared.admin) as admin:
        return {
            "relations": admin.execute(
                """
                select c.relname, min(a.attname)
                from pg_class as c
                join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
                where c.relnamespace = 'ledger'::regnamespace and c.relkind in ('r', 'p', 'v', 'm')
                  and a.attidentity = '' and a.attname <> 'id'
                group by c.relname order by c.relname
                """
            ).fetchall(),
            "sequences": admin.execute(
                "select relname from pg_class where relnamespace = 'ledger'::regnamespace and relkind = 'S'"
            ).fetchall(),
            "functions": admin.execute(
                """
                select pronamespace::regnamespace::text, proname,
                  array(select format_type(t, null) from unnest(proargtypes) as t)
                from pg_proc
                where pronamespace in ('ledger'::regnamespace, 'ledger_internal'::regnamespace)
                  and proname <> all (%s)
                """,
                [list(FUNCTIONS)],
            ).fetchall(),
        }


@pytest.fixture(params=LOGINS)
def login(request, shared: Database):
    with shared.connect(request.param) as connection:
        yield connection


def test_a_login_can_neither_read_nor_write_a_table_or_view(login, schema):
    assert len(schema["relations"]) >= 7
    for relation, column in schema["relations"]:
        name = {"r": sql.Identifier("ledger", relation), "c": sql.Identifier(column)}
        statements = ["insert into {r} default values", "update {r} set {c} = {c}", "update {r} set {c} = default"]
        statements += ["delete from {r}", "truncate {r}", "lock table {r}", "copy {r} from stdin"]
        if login.info.user == "ledger_test_reader" and relation in READ_VIEWS:
            login.execute(sql.SQL("select * from {r}").format(**name))
            statements.remove("lock table {r}")
        else:
            statements += ["select * from {r}", "select count(*) from {r}", "select {c} from {r} for update"]
            statements += ["copy (select {c} from {r}) to stdout"]
        for statement in statements:
            if statement == "truncate {r}" and relation in READ_VIEWS:
                continue  # a view is refused as a view
            if statement == "copy {r} from stdin" and relation in READ_VIEWS:
                continue
            # A view of several tables refuses to be written before anybody's rights are looked at.
            sees = login.info.user != "ledger_test_stranger"
            joined = (
                sees
                and relation in ("record", "checkpoint_headers")
                and statement.startswith(("insert", "update", "delete"))
            )
            refused(login, "55000" if joined else DENIED, sql.SQL(statement).format(**name))


def test_a_login_can_use_no_sequence(login, schema):
    for (sequence,) in schema["sequences"]:
        name = sql.Identifier("ledger", sequence)
        refused(login, DENIED, sql.SQL("select * from {}").format(name))
        for call in ("nextval({})", "setval({}, 1)"):
            literal = sql.Literal(f"ledger.{sequence}")
            refused(login, DENIED, sql.SQL("select " + call).format(literal))


def test_a_login_can_call_no_internal_function(login, schema):
    assert len(schema["functions"]) >= 5
    for *function, types in schema["functions"]:
        if login.info.user == "ledger_test_bridge" and function[1] in BRIDGE:
            continue
        arguments = sql.SQL(", ").join(sql.SQL("null::" + kind) for kind in types)
        refused(login, DENIED, sql.SQL("select {}({})").format(sql.Identifier(*function), arguments))


@pytest.mark.parametrize("role", ["ledger_test_reader", "ledger_test_stranger"])
def test_logins_that_do_not_serve_can_call_no_published_function(shared, role):
    with shared.connect(role) as login:
        for name, (parameters, _, _) in FUNCTIONS.items():
            arguments = sql.SQL(", ").join(sql.SQL("null") for _ in parameters)
            refused(login, DENIED, sql.SQL("select {}({})").format(sql.Identifier("ledger", name), arguments))


def test_the_bridge_can_call_no_published_function_that_moves_money(shared):
    with shared.connect("ledger_test_bridge") as login:
        for name, (parameters, _, _) in FUNCTIONS.items():
            arguments = sql.SQL(", ").join(sql.SQL("null") for _ in parameters)
            call = sql.SQL("select {}({})").format(sql.Identifier("ledger", name), arguments)
            if name not in SHARED:
                refused(login, DENIED, call)


def test_a_login_cannot_become_the_owner_or_change_the_schema(login):
    for statement in (
        "set role ledger_owner",
        "set session authorization ledger_owner",
        "create table ledger.mine ()",
        "create function ledger.mine() returns int language sql as 'select 1'",
        "create or replace function ledger.health(out status text) language sql as $$select 'x'$$",
        "alter function ledger.transfer owner to current_user",
        "alter table ledger.entries disable trigger all",
        "drop trigger entries_are_permanent on ledger.entries",
        "drop table ledger.entries",
        "drop schema ledger cascade",
        "grant select on ledger.entries to current_user",
        "grant ledger_owner to current_user",
        "create table public.mine ()",
        "set session_replication_role = replica",
    ):
        refused(login, DENIED, statement)


@pytest.fixture
def with_entries(owner: psycopg.Connection) -> psycopg.Connection:
    """The ledger's owner, with a group of two participants."""
    (group,) = owner.execute("select id from ledger.create_group('ETH')").fetchone()
    for name in ("alice", "bob"):
        owner.execute("select ledger.join_group(%s, %s, 100)", [group, name])
    return owner


@pytest.mark.parametrize("role", ["ledger_owner", "postgres"])
@pytest.mark.parametrize(
    "statement",
    [
        "update ledger.entries set amount = 0",
        "update ledger.entries set amount = amount where false",
        "delete from ledger.entries",
        "truncate ledger.entries cascade",
        "insert into ledger.entries (group_id, kind, to_id, amount, to_amount) overriding system value"
        " select group_id, kind, to_id, amount, to_amount from ledger.entries"
        " on conflict on constraint entries_pkey do update set amount = 0",
        "delete from ledger.participants",
        "truncate ledger.participants cascade",
        "delete from ledger.groups",
        "truncate ledger.groups cascade",
    ],
)
def test_the_owner_and_a_superuser_cannot_change_the_record(with_entries, role, statement):
    with_entries.execute(sql.SQL("set role {}").format(sql.Identifier(role)))
    diag = refused(with_entries, "23001", statement)
    assert diag.message_hint
    with_entries.execute("reset role")
    assert with_entries.execute("select count(*) from ledger.entries").fetchone() == (2,)


@pytest.mark.parametrize(
    "statement",
    [
        "update ledger.participants set amount = -1",
        "update ledger.participants set amount = 2::numeric ^ 256",
        "update ledger.participants set amount = 'NaN'",
        "update ledger.participants set exited_at = now()",
        "update ledger.participants set username = ''",
        "update ledger.participants set address = '\\x00'",
        "update ledger.participants set address = decode(repeat('00', 20), 'hex')",
        "update ledger.participants set address = decode(repeat('11', 21), 'hex')",
        "update ledger.groups set name = ''",
        "update ledger.group_total_shards set total = 0.5",
    ],
)
def test_constraints_refuse_rows_that_break_a_rule(with_entries, statement):
    with_entries.execute("set role ledger_owner")
    refused(with_entries, "23514", statement)


SOUND = {
    "kind": "'transfer'",
    "from_id": "1",
    "to_id": "2",
    "amount": "3",
    "from_amount": "4",
    "to_amount": "5",
    "metadata": "null",
    "reverses": "null",
}
JOIN = {"kind": "'join'", "from_id": "null", "from_amount": "null"}
DEPOSIT = JOIN | {"kind": "'deposit'"}
EXIT = {"kind": "'exit'", "to_id": "null", "to_amount": "null"}
UNSOUND_AMOUNTS = ["-1", "2::numeric ^ 256", "'NaN'"]


def insert_entry(members: dict[str, str]) -> str:
    return f"insert into ledger.entries (group_id, {', '.join(members)}) values (1, {', '.join(members.values())})"


@pytest.mark.parametrize(
    "members",
    [
        {},
        JOIN,
        DEPOSIT,
        EXIT,
        {"amount": "2::numeric ^ 256 - 1"},
        {"from_amount": "0"},
        {"metadata": "'{}'"},
        {"reverses": "0"},
    ],
    ids=str,
)
def test_the_record_accepts_a_sound_entry(owner, members):
    owner.execute("set role ledger_owner")
    owner.execute(insert_entry(SOUND | members))


@pytest.mark.parametrize(
    "members",
    [
        {"kind": "'loan'"},
        {"kind": "'join'"},
        {"kind": "'deposit'"},
        {"kind": "'exit'"},
        {"kind": "'transfer'", "from_id": "null", "from_amount": "null"},
        {"to_id": "1"},
        *({"from_amount": amount} for amount in (*UNSOUND_AMOUNTS, "null")),
        *({"to_amount": amount} for amount in (*UNSOUND_AMOUNTS, "null")),
        *({"amount": amount} for amount in UNSOUND_AMOUNTS),
        JOIN | {"from_id": "1"},
        JOIN | {"from_amount": "1"},
        JOIN | {"to_id": "null"},
        JOIN | {"to_amount": "-1"},
        JOIN | {"amount": "-1"},
        DEPOSIT | {"from_id": "1"},
        DEPOSIT | {"to_amount": "null"},
        DEPOSIT | {"reverses": "1"},
        EXIT | {"to_id": "2"},
        EXIT | {"to_amount": "1"},
        EXIT | {"from_id": "null"},
        EXIT | {"from_amount": "null"},
        {"metadata": "'[]'"},
        {"metadata": "'null'"},
        {"reverses": "9223372036854775807"},
        JOIN | {"reverses": "1"},
    ],
    ids=str,
)
def test_the_record_refuses_an_impossible_entry(owner, members):
    owner.execute("set role ledger_owner")
    refused(owner, "23514", insert_entry(SOUND | members))
    # The check has a shorter way for transfers that reverse nothing.
    refused(owner, "23514", insert_entry(SOUND | {"reverses": "0"} | members))
