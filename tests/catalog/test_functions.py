"""Rules for every function of the ledger's schemas, and the signatures that callers rely on."""

import re

import pytest
from psycopg import sql

from db import freeze
from tests.catalog.published import BRIDGE, FUNCTIONS, OWNERS

PUBLISHED = FUNCTIONS | BRIDGE

# A statement that writes or locks a row.
WRITES = re.compile(
    r"\b(insert\s+into|update\s+\w+|delete\s+from|truncate|for\s+(no\s+key\s+)?update|for\s+(key\s+)?share|pg_(try_)?advisory_xact_lock|nextval)\b",
    re.IGNORECASE,
)


@pytest.fixture
def functions(owner) -> dict[str, dict]:
    rows = owner.execute(
        """
        select p.proname as name, p.prosrc as body, p.provolatile::text as volatility, p.prosecdef as definer,
          p.pronamespace::regnamespace::text as schema, p.proconfig as settings,
          p.prorettype = 'trigger'::regtype as trigger,
          coalesce(p.proargnames[:p.pronargs], '{}') as parameters, obj_description(p.oid, 'pg_proc') as comment
        from pg_proc as p
        where p.pronamespace in ('ledger'::regnamespace, 'ledger_internal'::regnamespace)
        order by p.proname
        """
    )
    names = [column.name for column in rows.description]
    return {row[0]: dict(zip(names, row, strict=True)) for row in rows.fetchall()}


def code(function: dict) -> str:
    """A function's body without its comments and texts."""
    return re.sub(r"'[^']*'", "''", re.sub(r"--.*", "", function["body"]))


def called(functions: dict[str, dict], name: str) -> set[str]:
    """The functions that one calls."""
    return functions.keys() & set(re.findall(r"\b(\w+)\s*\(", code(functions[name]))) - {name}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_function_has_the_parameters_of_the_contract(functions, name):
    parameters, _, _ = PUBLISHED[name]
    # A parameter that is added later has a default and comes last.
    if not parameters:
        assert functions[name]["parameters"] in ([], ["status"], ["keys_required"])
    assert functions[name]["parameters"][: len(parameters)] == parameters


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_function_returns_the_columns_of_the_contract(owner, name):
    parameters, columns, _ = PUBLISHED[name]
    call = sql.SQL("select * from ledger.{}({}) limit 0").format(
        sql.Identifier(name),
        sql.SQL(", ").join(sql.SQL("{} => null").format(sql.Identifier(parameter)) for parameter in parameters),
    )
    found = [column.name for column in owner.execute(call).description]
    assert found[: len(columns)] == columns


def test_the_schema_ledger_has_the_interface_and_ledger_internal_the_rest(functions):
    interface = {name for name, function in functions.items() if function["schema"] == "ledger"}
    assert interface == {*PUBLISHED, *OWNERS}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_published_function_that_writes_reads_through_indexes_in_every_session(functions, name):
    """A session keeps the plans of what the functions call, whichever function called it first."""
    if functions[name]["volatility"] == "v":
        assert "enable_seqscan=off" in functions[name]["settings"]


def test_a_function_is_in_the_folder_of_its_callers(functions):
    folders = {path.stem: path.relative_to(freeze.FUNCTIONS).parts[0] for path in freeze.FUNCTIONS.rglob("*.sql")}
    assert folders == {
        name: next(
            (
                folder
                for folder, names in {"api": FUNCTIONS, "bridge": BRIDGE, "owner": OWNERS}.items()
                if name in names
            ),
            "internal",
        )
        for name in functions
    }


def test_there_are_no_overloads_and_nothing_but_functions(owner):
    assert (
        owner.execute(
            """
            select proname from pg_proc where pronamespace in ('ledger'::regnamespace, 'ledger_internal'::regnamespace)
            group by proname having count(*) > 1 or bool_or(prokind <> 'f')
            """
        ).fetchall()
        == []
    )


def test_only_published_functions_run_as_their_owner(functions):
    assert {name for name, function in functions.items() if function["definer"]} == set(PUBLISHED)


def test_every_function_that_runs_as_its_owner_pins_its_search_path(functions):
    path = "search_path=ledger, ledger_internal, pg_temp"
    pinned = {name for name, function in functions.items() if path in (function["settings"] or [])}
    assert pinned >= {name for name, function in functions.items() if function["definer"]}


def test_a_temporary_table_does_not_replace_one_of_the_ledgers(ledger):
    (group,) = ledger.execute("select id from ledger.create_group('ETH')").fetchone()
    ledger.execute("create temporary table groups as select 'forged' as name, %s::bigint as id", [group])
    ledger.execute("create temporary table current_groups as select 'forged' as name, %s::bigint as id", [group])
    ledger.execute("set search_path = pg_temp, ledger, public")
    assert ledger.execute("select name from ledger.get_group(%s)", [group]).fetchone() == ("ETH",)


def test_a_function_is_volatile_if_and_only_if_it_writes(functions):
    writing = {name for name in functions if WRITES.search(code(functions[name]))}
    while callers := {name for name in functions if called(functions, name) & writing} - writing:
        writing |= callers
    triggers = {name for name, function in functions.items() if function["trigger"]}
    volatile = {name for name, function in functions.items() if function["volatility"] == "v"}
    assert volatile - triggers == writing
    assert volatile & PUBLISHED.keys() == {name for name, (_, _, reads) in PUBLISHED.items() if not reads}


def test_an_immutable_function_reads_no_table(functions):
    immutable = [name for name, function in functions.items() if function["volatility"] == "i"]
    tables = re.compile(
        r"\b(from|join)\s+(ledger\.)?(groups|participants|entries|api_keys|group_total_shards|current_\w+|record)\b"
    )
    assert [name for name in immutable if tables.search(code(functions[name]))] == []
    assert [
        name for name in immutable for other in called(functions, name) if functions[other]["volatility"] != "i"
    ] == []


def test_no_function_is_unreachable(owner, functions):
    by_tables = owner.execute(
        """
        select tgfoid::regproc::text from pg_trigger where not tgisinternal
        union
        select d.refobjid::regproc::text from pg_depend as d
        where d.classid = 'pg_constraint'::regclass and d.refclassid = 'pg_proc'::regclass
        """
    ).fetchall()
    # `ledger verify` calls functions for each range, and verify calls the same; only it calls verify_kept.
    reached = {*PUBLISHED, *OWNERS, "verify_kept", *(name.removeprefix("ledger_internal.") for (name,) in by_tables)}
    while more := {other for name in reached for other in called(functions, name)} - reached:
        reached |= more
    assert functions.keys() - reached == set()


def test_every_comment_names_the_errors_that_the_function_raises(functions):
    """The errors that it raises itself or through the functions that it calls."""

    def raised(name: str) -> set[str]:
        found = set(re.findall(r"LG\d{3}", functions[name]["body"]))
        return found.union(*(raised(other) for other in called(functions, name)))

    for name in PUBLISHED:
        assert set(re.findall(r"LG\d{3}", functions[name]["comment"])) == raised(name), name
