"""Gas under the rules of Cancun, as docs/vault.md shows it: py-evm counts it as a chain does."""

import re
from collections.abc import Iterator

from tests.documents.pages import page
from tests.exits.vectors import domain_of, leaf_of, parent_of, spelled
from tests.vault.evms import PyEvm
from tests.vault.receivers import ACCEPTS, BURNS
from tests.vault.vault import (
    DELAY,
    GUARDIAN,
    PUBLISHER,
    SILENCE,
    WINDOW,
    Books,
    Vault,
    header_tuple,
    leaf_tuple,
    person,
    proof_tuples,
)

ETHER = 10**18


def tall(books: Books, levels: int, participant: int, exit_entry: int = 1) -> tuple[tuple, tuple, list]:
    """Publish a root with a tree of that height, of which one path is known, and wait until it is ripe.

    Returns the arguments that pay its leaf. The sums have 18 digits, as most have.
    """
    vault = books.vault
    books.deposit(participant, ETHER)
    books.deposits = vault.read("deposits", books.group)
    held = books.held()
    shares = [held // (levels + 2) | 1] * levels
    leaf = {
        **{"index": 2**levels - 2 if levels else 0, "participant_id": participant, "exit_entry": exit_entry},
        **{"owner": person(participant), "amount": held - sum(shares)},
    }
    root = books.checkpoint().altered(leaf_count=2**levels, total=held)
    node, siblings = leaf_of(domain_of(root.header), leaf), []
    for level, share in enumerate(shares):
        sibling = (share, bytes(range(level + 1, level + 33)))
        siblings.append({"sum": share, "hash": spelled(sibling[1])})
        node = parent_of(sibling, node) if level else parent_of(node, sibling)
    root = books.publish(root.altered(root=spelled(node[1])))
    vault.wait(DELAY)
    return header_tuple(root.header), leaf_tuple(leaf), proof_tuples(siblings)


def payment(levels: int, code: bytes = b"", *, known: bool = True) -> int:
    """The gas of a payment in a group that has paid before, to an account with ether or with that code."""
    books = Books(Vault(PyEvm())).open()
    vault = books.vault
    vault.send("withdraw", *tall(books, 1, 1))
    vault.wait(WINDOW)
    if known:
        vault.evm.fund(person(2), 1)
    vault.evm.put_code(person(2), code)
    return vault.send("withdraw", *tall(books, levels, 2)).gas


def many(count: int) -> int:
    """The gas of a payment of so many exits at once, to accounts with ether."""
    books = Books(Vault(PyEvm())).open()
    for participant in range(1, count + 1):
        books.vault.evm.fund(person(participant), 1)
        books.deposit(participant, ETHER)
    books.credit()
    for participant in range(1, count + 1):
        books.exit(participant)
    root = books.cycle()
    leaves, proofs = zip(*(root.proof(index)[1:] for index in range(count)), strict=True)
    return books.vault.send("withdraw_many", root.proof(0)[0], leaves, proofs).gas


def measured() -> Iterator[tuple[str, int]]:
    books = Books(Vault(PyEvm()))
    vault = books.vault
    yield "`open`", vault.send("open", 7, by=PUBLISHER).gas
    yield "`deposit`, the first one of a group", books.deposit(1, ETHER).gas
    yield "`deposit`", books.deposit(2, ETHER).gas
    for name in ("the first root of a group", "the second one", "a later one"):
        books.credit()
        root = books.publish()
        yield f"`publish`, {name}", vault.outcomes[-1].gas
        vault.wait(DELAY + WINDOW)
    books.publish()
    yield "`veto`", vault.send("veto", 7, by=GUARDIAN).gas
    books.previous = root.header["header"]
    vault.evm.fund(person(1), 1)
    first = tall(books, 20, 1)
    yield "`withdraw`, 20 levels, the first payment of a group", vault.send("withdraw", *first).gas
    for levels in (10, 20, 30, 40):
        yield f"`withdraw`, {levels} levels", payment(levels)
    yield "`withdraw`, 20 levels, to an account that did not exist", payment(20, known=False)
    yield "`withdraw`, 20 levels, to a contract", payment(20, ACCEPTS)
    yield "`withdraw`, 20 levels, to a contract that burns its gas", payment(20, BURNS)
    yield "`withdraw_many`, 64 leaves of 64, for each", many(64) // 64
    vault.wait(WINDOW)
    present = tall(books, 20, 3, exit_entry=0)
    yield "`request_exit`, 20 levels", vault.send("request_exit", *present, by=person(3)).gas
    books.deposit(4, ETHER)
    vault.wait(SILENCE)
    yield "`declare_emergency`", vault.send("declare_emergency", 7).gas
    vault.evm.fund(person(4), 1)
    vault.evm.put_code(person(4), BURNS)
    yield "`reclaim` of a contract that burns its gas", vault.send("reclaim", 7, vault.read("deposits", 7) - 1).gas
    vault.evm.put_code(person(4), ACCEPTS)
    yield "`collect`", vault.send("collect", person(4)).gas


def test_the_document_shows_the_gas_that_is_measured() -> None:
    found = dict(measured())
    shown = re.findall(r"^\| (`\w+`[^|]*) \| ([\d,]+) \|$", page("vault").read_text(), re.M)
    assert "\n".join(f"| {name} | {gas:,} |" for name, gas in found.items()) == "\n".join(
        f"| {name} | {gas} |" for name, gas in shown
    )
    assert all(gas <= 140_000 for name, gas in found.items() if name.startswith("`withdraw`, 20 levels, the first"))
    assert found["`withdraw`, 20 levels"] <= 140_000
    assert all(gas <= 130_000 for name, gas in found.items() if name.startswith("`publish`"))
