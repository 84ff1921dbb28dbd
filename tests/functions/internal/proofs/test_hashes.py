"""The hashes of checkpoints: SQL makes the bytes of the vectors, and no word for a number that has none."""

from collections.abc import Iterator
from decimal import Decimal

import psycopg
import pytest

from tests.exits.vectors import CASES, VECTORS, octets, siblings_of, spelled
from tests.functions.conftest import behind
from tests.support import one, refused

ACCEPTED = VECTORS["words"]["accepted"]
# Around every bound of the conversion, and numbers whose four quarters all differ.
EDGES = sorted(
    {0, 1, 255, 256, int("0123456789abcdef" * 4, 16), int("fedcba9876543210" * 4, 16)}
    | {2**bits + step for bits in (31, 32, 63, 64, 127, 128, 191, 192, 255, 256) for step in (-2, -1, 0, 1)}
)
TOP = 2**256 - 1


@pytest.fixture
def internal(ledger: psycopg.Connection) -> Iterator[psycopg.Connection]:
    """The connection as the superuser's, who may call internal functions."""
    with behind(ledger):
        yield ledger


@pytest.mark.parametrize("leaves", [1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 16, 17])
def test_counts_the_siblings_of_every_leaf(internal, leaves):
    levels = [[(0, bytes(32))] * leaves]
    while len(levels[-1]) > 1:
        levels.append([(0, bytes(32))] * ((len(levels[-1]) + 1) // 2))
    query = "select ledger_internal.sibling_count(%s, %s)"
    for index in range(leaves):
        assert one(internal, query, [leaves, index]) == (len(siblings_of(levels, index)),)
    for index in (-1, leaves, None):
        assert one(internal, query, [leaves, index]) == (None,)
    assert one(internal, query, [2**63 - 1, 0]) == (63,)
    assert one(internal, query, [2**63, 0]) == (None,)


@pytest.mark.parametrize("amount", ACCEPTED)
def test_makes_the_words_of_the_vectors(internal, amount):
    (word,) = one(internal, "select ledger_internal.word(%s::text::numeric)", [amount])
    assert spelled(word) == ACCEPTED[amount]


@pytest.mark.parametrize("amount", [edge for edge in EDGES if edge <= TOP])
def test_a_word_is_32_bytes_big_endian_and_can_be_read_back(internal, amount):
    query = "select w.word, ledger_internal.word_amount(w.word) from ledger_internal.word(%s::numeric) as w (word)"
    assert one(internal, query, [amount]) == (amount.to_bytes(32, "big"), amount)


def test_a_word_does_not_depend_on_an_amounts_scale(internal):
    assert one(internal, "select ledger_internal.word(5.00)") == (b"\0" * 31 + b"\5",)


@pytest.mark.parametrize(
    "amount",
    [
        *VECTORS["words"]["refused"],
        "-0.5",
        "0.5",
        "1e-30",
        "18446744073709551616.5",
        "1e400",
        "NaN",
        "Infinity",
        "-Infinity",
    ],
)
def test_no_other_number_has_a_word(internal, amount):
    refused(internal, "22003", "select ledger_internal.word(%s::text::numeric)", [amount])


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_makes_the_domains_and_headers_of_the_vectors(internal, case):
    query = """
        select ledger_internal.header_hash(
          d.domain, %(number)s, %(previous)s, %(deposits)s, %(credited)s::text::numeric, %(settled)s::text::numeric,
          %(leaf_count)s, %(total)s::text::numeric, %(root)s
        ), d.domain
        from ledger_internal.domain_hash(%(chain_id)s, %(vault)s, %(group_id)s) as d (domain)
    """
    values = case | {name: octets(case[name]) for name in ("previous", "root", "vault")}
    values = {name: value for name, value in values.items() if not isinstance(value, list)}
    header, domain = one(internal, query, values)
    assert (spelled(header), spelled(domain)) == (case["header"], case["domain"])


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_makes_the_leaves_of_the_vectors(internal, case):
    for proof in case.get("proofs", ()):
        leaf = case["leaves"][proof["index"]]
        query = """
            select ledger_internal.leaf_hash(%(domain)s, ledger_internal.pack_leaf(
              %(participant_id)s, %(exit_entry)s, %(owner)s, %(amount)s::text::numeric
            ))
        """
        values = leaf | {"domain": octets(case["domain"]), "owner": octets(leaf["owner"])}
        assert one(internal, query, values) == (octets(proof["leaf_hash"]),)


def test_a_leaf_has_68_bytes_and_zeros_for_what_it_lacks(internal):
    query = "select ledger_internal.pack_leaf(7, null, null, 9)"
    assert one(internal, query) == (b"\0" * 7 + b"\7" + b"\0" * 28 + b"\0" * 31 + b"\x09",)


def test_a_sum_that_has_no_word_has_no_node(internal):
    query = "select ledger_internal.node_hash(%s::numeric, %s, 1, %s)"
    refused(internal, "22003", query, [Decimal(TOP + 1), b"\0" * 32, b"\0" * 32])
