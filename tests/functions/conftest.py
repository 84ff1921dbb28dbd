"""The participants that rules are tested with, and arguments that every function must treat alike.

Each test runs beside a neighbour: a group with the same usernames, which it must leave as it was. The neighbour is
committed once, into a database of this folder's own; what a test does itself is rolled back.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal

import psycopg
import pytest
from pytest_postgresql.executors import NoopExecutor

from tests.conftest import Server, janitor
from tests.support import Database, create, fields, join, refused, statement

# No participant and no group has these ids.
STRANGERS = [-1, 0, 2**62, 2**63 - 1]
TOO_LONG = "x" * 256

GOOD_NAMES = {
    "one-letter": "x",
    "255-characters": "x" * 255,
    "255-emoji": "🦄" * 255,
    "emoji-of-many-code-points": "👩‍👩‍👧‍👦",
    "inner-and-outer-spaces": " a  b ",
    "quotes-and-backslashes": """'";\\%s{}""",
    "lines-of-its-own-kind": "Ελλάδα 中文 עברית",
    "composed-accent": "\u00e9",
    "accent-that-does-not-compose": "x\u0301",
    "emoji-with-its-variation-selector": "❤\ufe0f",
    "emoji-of-all-kinds": "👩\U0001f3fd\u200d❤\ufe0f\u200d👩 \u2640\ufe0f 🏳\ufe0f\u200d🌈",
    "255-characters-once-composed": "\u1f82" * 255,
    "emoji-of-keys": "1\ufe0f\u20e3#\ufe0f\u20e3",
    "above-the-controls": "\u00a1",
}
BAD_REFERENCES = {
    "null": None,
    "empty": "",
    "spaces": "   ",
    "no-break-space": "\u00a0",
    "ogham-space": "\u1680",
    "em-quad-to-hair-space": "".join(map(chr, range(0x2000, 0x200B))),
    "line-and-paragraph-separator": "\u2028\u2029",
    "ideographic-space": "\u3000",
    "zero-width-space": "\u200b",
    "zero-width-non-joiner": "\u200c",
    "zero-width-joiner": "\u200d",
    "word-joiner": "\u2060",
    "zero-width-no-break-space": "\ufeff",
    "tab": "\t",
    "inner-newline": "a\nb",
    "first-control": "a\u0001",
    "last-low-control": "a\u001f",
    "delete": "a\u007f",
    "first-high-control": "a\u0080",
    "next-line": "a\u0085",
    "last-high-control": "a\u009f",
    "256-characters": TOO_LONG,
}
BAD_NAMES = BAD_REFERENCES | {
    "braille-blank": "\u2800",
    "hangul-filler": "\u3164",
    "halfwidth-hangul-filler": "\uffa0",
    "hangul-choseong-and-jungseong-fillers": "\u115f\u1160",
    "variation-selector-alone": "\ufe0f",
    "null-notehead": "\U0001d159",
    "tag-characters": "\U000e0041\U000e007f",
    "soft-hyphens": "\u00ad\u00ad",
    "inner-soft-hyphen": "bo\u00adb",
    "inner-grapheme-joiner": "bo\u034fb",
    "inner-arabic-letter-mark": "bo\u061cb",
    "inner-hangul-filler": "bo\u3164b",
    "inner-khmer-vowel": "bo\u17b4b",
    "inner-mongolian-separator": "bo\u180eb",
    "inner-zero-width-space": "bo\u200bb",
    "inner-zero-width-non-joiner": "bo\u200cb",
    "inner-zero-width-joiner": "bo\u200db",
    "left-to-right-mark": "bob\u200e",
    "right-to-left-mark": "\u200fbob",
    "inner-line-separator": "bo\u2028b",
    "inner-paragraph-separator": "bo\u2029b",
    **{f"inner-bidirectional-control-{code:x}": f"bo{chr(code)}b" for code in (*range(0x202A, 0x202F), 0x2066, 0x2069)},
    "inner-word-joiner": "bo\u2060b",
    "inner-invisible-plus": "bo\u2064b",
    "inner-digit-shapes": "bo\u206fb",
    "byte-order-mark": "\ufeffbob",
    "inner-annotation": "bo\ufff9b",
    "inner-tag-character": "bo\U000e0062b",
    "inner-variation-selector-1": "bo\ufe00b",
    "variation-selector-of-a-letter": "bob\ufe0f",
    "variation-selector-of-a-digit": "1\ufe0f",
    "first-a-variation-selector": "\ufe0fbob",
    "two-variation-selectors": "❤\ufe0f\ufe0f",
    "variation-selector-17": "❤\U000e0100",
    "last-a-joiner": "👩\u200d",
    "joiner-of-an-emoji-and-a-letter": "👩\u200db",
    "joiner-of-a-letter-and-an-emoji": "b\u200d👩",
    "256-characters-once-composed": "\u1f82" * 256,
    "255-characters-that-are-decomposed": "\u0958" * 128,
    "300-characters-once-composed": "e\u0301" * 300,
    "a-million-characters": "e\u0301" * 500_000,
    "256-emoji": "🦄" * 256,
}
BAD_AMOUNTS = {
    "null": None,
    "fraction": Decimal("1.5"),
    "tiny-fraction": Decimal("1e-30"),
    "nan": Decimal("NaN"),
    "infinity": Decimal("Infinity"),
    "minus-infinity": Decimal("-Infinity"),
    "negative": -1,
    "2^256": 2**256,
    "10^400": 10**400,
}


def each(values: dict[str, object]) -> dict[str, object]:
    return {"params": values.values(), "ids": values.keys()}


@pytest.fixture(**each(GOOD_NAMES))
def good_name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(**each(BAD_NAMES))
def bad_name(request: pytest.FixtureRequest) -> str | None:
    return request.param


@pytest.fixture(**each(BAD_AMOUNTS))
def bad_amount(request: pytest.FixtureRequest) -> Decimal | int | None:
    return request.param


@pytest.fixture(params=STRANGERS)
def stranger(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.fixture(scope="session")
def functions(server: Server, template: NoopExecutor) -> Iterator[Database]:
    with janitor(server, "ledger_functions", template.template_dbname):
        yield server.database("ledger_functions")


@pytest.fixture(scope="session")
def committed(functions: Database) -> tuple[int, dict[str, list[str]]]:
    """The neighbour's id and rows."""
    with functions.connect(functions.admin) as admin:
        group = create(admin, "Neighbour")
        join(admin, group, "alice", 1000)
        join(admin, group, "bob", 1000)
        return group, rows(admin, group)


@pytest.fixture(scope="session")
def connection(functions: Database, committed: object) -> Iterator[psycopg.Connection]:
    with functions.connect(functions.admin, autocommit=False) as connection:
        yield connection


@pytest.fixture(autouse=True)
def neighbour(ledger: psycopg.Connection, committed: tuple[int, dict[str, list[str]]]) -> Iterator[int]:
    """A group of alice (1000) and bob (1000) that no test may change."""
    group, before = committed
    yield group
    if ledger.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS:
        ledger.execute("reset timezone")  # times are compared as text
        assert rows(ledger, group) == before


@pytest.fixture
def empty_group(ledger: psycopg.Connection) -> int:
    return create(ledger, "Empty")


@pytest.fixture
def group(ledger: psycopg.Connection) -> int:
    return create(ledger, "ETH")


@pytest.fixture
def alice(ledger: psycopg.Connection, group: int) -> int:
    return join(ledger, group, "alice", 100)


@pytest.fixture
def bob(ledger: psycopg.Connection, group: int) -> int:
    return join(ledger, group, "bob", 100)


@contextmanager
def behind(ledger: psycopg.Connection) -> Iterator[None]:
    """Look as the superuser for a moment: the serving role sees no table."""
    role = ledger.info.parameter_status("session_authorization")
    ledger.execute("reset session authorization")
    yield
    ledger.execute(f"set session authorization {role}")


@contextmanager
def left_as_it_is(ledger: psycopg.Connection, participant: int) -> Iterator[None]:
    """Make a trigger discard every update of a participant's row."""
    with behind(ledger):
        ledger.execute("create function pg_temp.keep() returns trigger language plpgsql as 'begin return null; end'")
        ledger.execute(
            "create trigger keep before update on ledger.participants for each row "
            f"when (old.id = {participant}) execute function pg_temp.keep()"
        )
    yield
    with behind(ledger):
        ledger.execute("drop trigger keep on ledger.participants")


@pytest.fixture
def keys(ledger: psycopg.Connection) -> Iterator[psycopg.Connection]:
    """The connection as the owner, the only role that can create API keys."""
    with behind(ledger):
        ledger.execute("set role ledger_owner")
        yield ledger
        ledger.execute("reset role")


# Each table's name, rows, key of the group, and order; of shards, which belong to sessions, the sum is looked at.
EVERY_ROW = " union all ".join(
    f"select '{table}', array(select r::text from {source} as r "
    f"where r.{key} = coalesce(%(group)s, r.{key}) order by {order})"
    for table, source, key, order in (
        ("groups", "ledger.groups", "id", "id"),
        (
            "group_total_shards",
            "(select group_id, sum(total) from ledger.group_total_shards group by group_id)",
            "group_id",
            "group_id",
        ),
        ("participants", "ledger.participants", "group_id", "id"),
        ("entries", "ledger.entries", "group_id", "id"),
        ("name_changes", "ledger.name_changes", "group_id", "id"),
        ("group_total_history", "ledger.group_total_history", "group_id", "entry_id, slot"),
        ("idempotency_keys", "ledger.idempotency_keys", "group_id", "group_id, key"),
    )
)


def rows(ledger: psycopg.Connection, group: int | None = None) -> dict[str, list[str]]:
    """Every row of the books and of the names and keys beside them, or those of one group, as text in one snapshot."""
    with behind(ledger):
        return dict(ledger.execute(EVERY_ROW, {"group": group}).fetchall())


@pytest.fixture
def record(ledger: psycopg.Connection, group: int) -> Callable[[], list[tuple]]:
    """The entries of the group: id, kind, from, to, amount, the balances of both after it."""

    def read() -> list[tuple]:
        with behind(ledger):
            return ledger.execute(
                "select id, kind, from_id, to_id, amount, from_amount, to_amount from ledger.record "
                "where group_id = %s order by id",
                [group],
            ).fetchall()

    return read


@pytest.fixture
def refuses(ledger: psycopg.Connection) -> Callable[..., None]:
    """Call a function that must be refused for these fields and leave every row as it was."""

    def check(sqlstate: str, blamed: list[str], function: str, *arguments: object) -> None:
        before = rows(ledger)
        diag = refused(ledger, sqlstate, statement(function, arguments), arguments)
        assert sorted(fields(diag)) == sorted(blamed)
        assert rows(ledger) == before

    return check
