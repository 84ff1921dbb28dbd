"""A group that is linked to a vault, the bridge's session, and what a chain would report.

Sessions commit for real, since a publication must be the first change of its transaction. After every test the books
must be right, a vault's among them.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import psycopg
import pytest

from tests.support import Database, create, one, refused, statement

CHAIN = 11155111
VAULT = "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB"
# Addresses of EIP-55.
ALICE = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
BOB = "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359"
CAROL = "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb"


def chain_hash(number: int) -> str:
    return f"0x{number:064x}"


@dataclass
class Bridge:
    """The bridge's session on one group: it reports what a chain would show, whose transactions it counts."""

    session: psycopg.Connection
    group: int
    transactions: int = 0
    deposits: list[dict] = field(default_factory=list)

    def call(self, function: str, *arguments: object) -> dict:
        """The only row that a function returns for the group."""
        query = f"select to_json(r) from ({statement(function, (self.group, *arguments))}) as r"
        (row,) = one(self.session, query, [self.group, *arguments])
        return row

    def rows(self, function: str, *arguments: object) -> list[dict]:
        query = f"select to_json(r) from ({statement(function, (self.group, *arguments))}) as r"
        return [row for (row,) in self.session.execute(query, [self.group, *arguments])]

    def refused(self, sqlstate: str, function: str, *arguments: object) -> psycopg.errors.Diagnostic:
        return refused(self.session, sqlstate, statement(function, (self.group, *arguments)), [self.group, *arguments])

    def mined(self) -> tuple[str, int]:
        """The hash of a new transaction, and its block."""
        self.transactions += 1
        return chain_hash(self.transactions), 1000 + self.transactions

    def deposit(self, owner: str, amount: int) -> dict:
        """Credit the next deposit into the vault."""
        transaction, block = self.mined()
        sums = sum(deposit["amount"] for deposit in self.deposits) + amount
        made = {
            "index": len(self.deposits), "owner": owner, "amount": amount, "cumulative": sums,
            "transaction": transaction, "block": block,
        }  # fmt: skip
        self.deposits.append(made)
        return self.call("credit_deposit", *made.values())

    def publish(self) -> dict:
        """Make the next checkpoint, and have the vault accept it."""
        made = self.call("prepare_publication")
        self.call("record_publication", made["number"], "accepted", *self.mined())
        return made

    def pay(self, leaf: dict) -> dict:
        """Report the payment of an exit, and return what was reported."""
        transaction, block = self.mined()
        paid = {key: leaf[key] for key in ("participant_id", "exit_entry", "owner", "amount")}
        paid |= {"transaction": transaction, "block": block, "log": 0}
        self.call("settle_payout", *paid.values())
        return paid

    def close(self, number: int) -> list[dict]:
        """Pay all exits of a checkpoint, and end its window; return what was paid."""
        paid = [self.pay(leaf) for leaf in self.rows("list_unpaid_exits", number)]
        self.call("record_publication", number, "closed", None, None)
        return paid

    def freeze(self, number: int) -> dict:
        return self.call("record_emergency", number, *self.mined())


@pytest.fixture
def ledger(database: Database) -> Iterator[psycopg.Connection]:
    """The serving role; each statement commits."""
    with database.connect() as connection:
        yield connection


@pytest.fixture
def admin(database: Database) -> Iterator[psycopg.Connection]:
    """Sees every table and every session."""
    with database.connect(database.admin) as connection:
        yield connection
        connection.execute("reset role")
        assert connection.execute("select * from ledger.verify()").fetchall() == []


@pytest.fixture
def session(database: Database, admin: psycopg.Connection) -> Iterator[psycopg.Connection]:
    """The bridge's login."""
    with database.connect("ledger_test_bridge") as connection:
        yield connection


@pytest.fixture
def group(ledger: psycopg.Connection) -> int:
    # A neighbour without a vault, so that no group has the number of its first participant.
    create(ledger, "DAI")
    return create(ledger, "ETH")


@pytest.fixture
def bridge(session: psycopg.Connection, group: int) -> Bridge:
    made = Bridge(session, group)
    made.call("link_vault", CHAIN, VAULT)
    return made


@pytest.fixture
def alice(bridge: Bridge) -> int:
    """Alice, who has deposited 100."""
    return bridge.deposit(ALICE, 100)["participant_id"]


@pytest.fixture
def bob(bridge: Bridge, alice: int) -> int:
    return bridge.deposit(BOB, 50)["participant_id"]


@pytest.fixture
def claim(ledger: psycopg.Connection, group: int) -> Callable[..., int]:
    """Join with an address that is not proved."""

    def join(username: str, address: str) -> int:
        query = "select id from ledger.join_group(%s, %s, 0, address => %s)"
        return one(ledger, query, [group, username, address])[0]

    return join


@pytest.fixture
def balances(admin: psycopg.Connection, group: int) -> Callable[[], dict[str, int]]:
    """What the participants present hold, by username."""

    def read() -> dict[str, int]:
        query = "select username, amount from ledger.current_participants where group_id = %s order by id"
        return {username: int(amount) for username, amount in admin.execute(query, [group])}

    return read
