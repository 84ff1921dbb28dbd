"""Values whose text is thousands of times their size are refused before they are converted to text.

jsonb keeps 1e4096 in a few bytes and writes 4,097 digits. The cost of a refusal is the most memory that the session's
process has held.
"""

import json
from pathlib import Path

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.functions.conftest import behind
from tests.support import Database, create, fields, join, one, refused, transfer

MANY = 50_000
MOST = 300 << 20  # bytes

LARGE = ",".join(["1e4096"] * MANY)
BOMBS = {
    "large-numbers": f'{{"a": [{LARGE}]}}',
    "largest-numbers": f'{{"a": [{LARGE.replace("1e4096", "1e131071")}]}}',
    "small-numbers": f'{{"a": [{LARGE.replace("1e4096", "1e-16383")}]}}',
    "zeros-with-decimal-places": f'{{"a": [{LARGE.replace("1e4096", "0e-16383")}]}}',
    "deep-inside": f'{{"a": {{"b": {{"c": [{{"d": [[{LARGE}]]}}]}}}}}}',
    "members": "{" + ",".join(f'"{number}": -1e4096' for number in range(MANY)) + "}",
    # Small as they are stored.
    "1000-large-numbers": '{"a": [' + ",".join(["1e131071"] * 1000) + "]}",
    "1000-small-numbers": '{"a": [' + ",".join(["1e-16383"] * 1000) + "]}",
    "1000-zeros": '{"a": [' + ",".join(["0e-16383"] * 1000) + "]}",
    "one-number": '{"a": 1e131071}',
    "a-digit-too-many": '{"a": 1e4096}',
}

# The call, and the field of the refusal.
CALLS = {
    "ledger.join_group({group}, 'carol', 5, {key}, {value})": "metadata",
    "ledger.deposit({group}, {bob}, 5, {key}, {value})": "metadata",
    "ledger.exit_group({group}, {bob}, {key}, {value})": "metadata",
    "ledger.transfer({group}, {alice}, {bob}, 5, {key}, {value})": "metadata",
    "ledger.reverse_transfer({group}, {entry}, {key}, {value})": "metadata",
    "ledger.list_entries({group}, metadata => {value})": "metadata",
    "ledger.list_participant_entries({group}, {alice}, metadata => {value})": "metadata",
} | {
    f"ledger.transfer_all({{group}}, jsonb_build_array({line}), {{key}})": f"transfers[0].{name}"
    for name, line in {
        "from": "jsonb_build_object('from', {value}, 'to', {bob}, 'amount', 5)",
        "to": "jsonb_build_object('from', {alice}, 'to', {value}, 'amount', 5)",
        "amount": "jsonb_build_object('from', {alice}, 'to', {bob}, 'amount', {value})",
        "metadata": "jsonb_build_object('from', {alice}, 'to', {bob}, 'amount', 5, 'metadata', {value})",
        "note": "jsonb_build_object('from', {alice}, 'to', {bob}, 'amount', 5, 'note', {value})",
    }.items()
}


@pytest.fixture
def people(database: Database) -> dict[str, int]:
    """A group, its alice and bob, and a transfer between them."""
    with database.connect() as ledger:
        group = create(ledger, "ETH")
        alice, bob = join(ledger, group, "alice", 100), join(ledger, group, "bob", 100)
        return {"group": group, "alice": alice, "bob": bob, "entry": transfer(ledger, group, alice, bob, 1)}


def peak(connection: psycopg.Connection) -> int:
    """The most bytes that a session's process has held at a time."""
    status = Path(f"/proc/{connection.info.backend_pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS.keys())
def test_metadata_are_refused_before_they_are_written_out(database, people, bomb):
    with database.connect() as ledger:
        for call, blamed in CALLS.items():
            for key in ("null", "'key'"):
                query = "select " + call.format(**people, key=key, value="%s::jsonb")
                diag = refused(ledger, "LG001", query, [bomb])
                assert fields(diag) == [blamed]
                assert len(diag.message_primary) < 300
        assert peak(ledger) < MOST


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS.keys())
def test_a_shared_call_defers_such_lines(database, people, bomb):
    query = """
        select array_agg(outcome order by place) from ledger.transfer_batch(
          array[{group}, {group}, {group}], array[{alice}, {bob}, {alice}], array[{bob}, {alice}, {bob}], '{{1,1,1}}',
          array[null, 'key', null], array[null, %s::jsonb, null]
        )
    """
    with database.connect() as ledger:
        assert one(ledger, query.format(**people), [bomb]) == (["done", "deferred", "done"],)
        assert peak(ledger) < MOST


@pytest.mark.parametrize(
    ("value", "spelled"),
    [
        *(("1e131071", ""), ("-1e131071", ""), ("1e-16383", ""), ("0e-16383", ""), ("1e79", ""), ("-1", "")),
        *(("[1e131071]", ""), ('{"a": 1e131071}', ""), ("true", ""), ('""', ""), ("null", None), (None, None)),
        *(("1", "1"), ("1e2", "100"), ("1.0", "1.0"), ('"1e2"', "1e2"), ("1e78", f"1{'0' * 78}")),
    ],
)
def test_a_number_of_a_line_is_written_out_only_where_it_may_be_an_amount(ledger, value, spelled):
    with behind(ledger):
        assert one(ledger, "select ledger_internal.json_scalar_text(%s)", [value]) == (spelled,)


@pytest.mark.parametrize("name", ["from", "to", "amount"])
@pytest.mark.parametrize(
    ("value", "read"),
    [
        *(("1", 1), ("1e2", 100), ("9223372036854775807", 2**63 - 1), ('"7"', 7), ('"007"', 7)),
        *(("9223372036854775808", 2**63), ("1e77", 10**77), (f"1{'0' * 77}", 10**77), ("1e78", None), ("1e79", None)),
        *(("1.0", None), ("1.5", None), ("10e-1", None), ("0", None), ("-0", None), ("-1", None), ('"1.0"', None)),
        *(("1e131071", None), ("-1e131071", None), ("1e-16383", None), ("0e-16383", None), ("[[[1e131071]]]", None)),
        *(("true", None), ("null", None), ("[1]", None), ("{}", None), ('""', None)),
    ],
)
def test_a_line_is_read_as_a_number_or_as_its_digits(ledger, name, value, read):
    line = {"from": "8", "to": "9", "amount": "5"} | {name: value}
    lines = f"[{{{','.join(f'{json.dumps(member)}: {given}' for member, given in line.items())}}}]"
    if name != "amount" and read is not None and read >= 2**63:
        read = None
    column = f"{name}s" if name == "amount" else f"{name}_ids"
    query = f"select l.{column}[1] from ledger_internal.parse_transfer_lines(1, %s::jsonb) as l"
    with behind(ledger):
        if read is None:
            assert fields(refused(ledger, "LG001", query, [lines])) == [f"transfers[0].{name}"]
        else:
            assert one(ledger, query, [lines]) == (read,)


def test_missing_metadata_are_not_examined(ledger):
    """Examining metadata takes several times as long as the rest of a line."""
    group = create(ledger, "ETH")
    alice, bob = join(ledger, group, "alice", 100), join(ledger, group, "bob", 100)
    with behind(ledger):
        ledger.execute("set local track_functions = 'pl'")
    transfer(ledger, group, alice, bob, 1)
    lines = json.dumps([{"from": alice, "to": bob, "amount": 1}] * 3)
    ledger.execute("select ledger.transfer_all(%s, %s)", [group, lines])
    ledger.execute(
        f"select ledger.transfer_batch('{{{group},{group}}}', '{{{alice},{bob}}}', '{{{bob},{alice}}}', '{{1,1}}')"
    )
    with behind(ledger):
        ledger.execute("select ledger_internal.invalid_metadata('{}')")
        query = "select sum(pg_stat_get_xact_function_calls(oid)) from pg_proc where proname = %s"
        assert one(ledger, query, ["transfer_batch"]) == (1,)
        assert one(ledger, query, ["metadata_is_long"]) == (None,)


NUMBERS = st.from_regex(r"-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,20})?([eE][+-]?([0-9]{1,2}|[34][0-9]{3}))?", fullmatch=True)
NAMES = ['"a"', '"b"', '"c"', '""', '"🦄"']


def spelled_object(values: list[str]) -> str:
    return f"{{{','.join(f'{name}:{value}' for name, value in zip(NAMES, values, strict=False))}}}"


VALUES = st.recursive(
    NUMBERS | st.sampled_from(["null", "true", '"text"', "{}", "[]"]),
    lambda inner: (
        st.lists(inner, max_size=400).map(lambda values: f"[{','.join(values)}]")
        | st.lists(inner, max_size=5).map(spelled_object)
    ),
    max_leaves=20,
)


def test_the_check_in_advance_does_not_change_the_limit(ledger):
    """metadata_is_long never refuses metadata of 4096 bytes or less."""
    outcomes = set()

    @settings(derandomize=True, deadline=None, database=None, max_examples=300, suppress_health_check=list(HealthCheck))
    @given(VALUES, st.integers(1, 400))
    def compare(value: str, times: int) -> None:
        metadata = f'{{"a": [{",".join([value] * times)}]}}'
        query = """
        select octet_length(m::text), ledger_internal.metadata_is_long(m), ledger_internal.invalid_metadata(m)
        from cast(%s as jsonb) as m
        """
        size, is_long, reason = one(ledger, query, [metadata])
        assert not (is_long and size <= 4096)
        assert (reason is None) == (size <= 4096)
        outcomes.add((is_long, size <= 4096))

    with behind(ledger):
        ledger.execute("set local search_path = ledger")
        for number in ("0e-16383", "1e-16383", "-1e-4096", "1e4096", "1e131071"):
            assert one(ledger, "select ledger_internal.metadata_is_long(%s)", [f'{{"a": {number}}}']) == (True,)
        compare()
    assert outcomes == {(True, False), (False, False), (False, True)}
