"""A small world: a chain, a vault on it, a ledger with one group that is linked to it, and people with accounts."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import psycopg
from eth_account import Account
from eth_account.signers.local import LocalAccount

from api.admin import checkpoints
from bridge import contract, run
from bridge.chain import Chain
from bridge.publish import word
from tests.anvil import Anvil
from tests.support import Database, one

ETHER = 10**18
DELAY, WINDOW = 600, 1_200  # seconds
SILENCE = 14_400
MINIMUM = 10**15  # wei
BRIDGE = "ledger_test_bridge"

PUBLISHER: LocalAccount = Account.from_key(b"\x11" * 32)
PAYER: LocalAccount = Account.from_key(b"\x22" * 32)
OTHER: LocalAccount = Account.from_key(b"\x33" * 32)


@dataclass
class World:
    """What a test does to the chain and to the ledger, and a bridge between them."""

    node: Anvil
    database: Database
    vault: str
    group: int
    sessions: dict[str, psycopg.Connection] = field(default_factory=dict)  # by role
    rpc: str | None = None  # the node that the bridge asks, if it is another one
    check: str | None = None
    options: dict[str, Any] = field(default_factory=dict)  # of the bridge's plan

    @property
    def ledger(self) -> psycopg.Connection:
        """The service's login, in autocommit."""
        return self.session(self.database.service)

    @property
    def admin(self) -> psycopg.Connection:
        return self.session(self.database.admin)

    def session(self, role: str) -> psycopg.Connection:
        if role not in self.sessions:
            self.sessions[role] = self.database.connect(role)
        return self.sessions[role]

    def disconnect(self) -> None:
        """Close all sessions, as before the database is copied; the next use opens others."""
        while self.sessions:
            self.sessions.popitem()[1].close()

    @property
    def guardian(self) -> str:
        return self.node.accounts[1]

    @property
    def alice(self) -> str:
        return self.node.accounts[3]

    @property
    def bob(self) -> str:
        return self.node.accounts[4]

    @property
    def carol(self) -> str:
        return self.node.accounts[5]

    # The bridge

    def plan(self, **options: Any) -> run.Plan:
        chain: Chain = run.nodes(self.rpc or self.node.url, self.check, None)
        settings: dict[str, Any] = {
            "conninfo": self.database.url(BRIDGE),
            "chain": chain,
            "publisher": PUBLISHER,
            "payer": PAYER,
            "guardian": None,
            "first": 0,
            "pay_from": 0,
            "ceiling": 500 * 10**9,
            "every": None,
            "metrics_file": None,
        }
        return run.Plan(**(settings | self.options | options))

    def bridge(self, **options: Any) -> int:
        """Run one round, as `ledger bridge --once` does; return the exit status."""
        return run.run(self.plan(**options))

    # The chain

    def view(self, name: str, *arguments: Any) -> Any:
        data = contract.call_data(name, *arguments)
        return contract.returned(name, self.node("eth_call", {"to": self.vault, "data": data}, "latest"))

    def send(self, sender: str, name: str, *arguments: Any, value: int = 0) -> dict[str, Any]:
        return self.node.send(sender, self.vault, contract.call_data(name, *arguments), value)

    def deposit(self, owner: str, amount: int, group: int | None = None) -> dict[str, Any]:
        return self.send(owner, "deposit", self.group if group is None else group, owner, value=amount)

    def leaf(self, participant: int, number: int | None = None) -> tuple[object, object, object]:
        """Return the header, a participant's leaf and its siblings as the vault takes them."""
        return arguments_of(json.loads(checkpoints.proof(self.admin, self.group, participant, number)))

    def settle_down(self, rounds: int = 3) -> None:
        """Let the bridge send what is due, and follow what has come of it."""
        for _ in range(rounds):
            assert self.bridge() == 0
            self.node.finalize()
        assert self.bridge() == 0

    # The ledger

    def participant(self, owner: str) -> int:
        """Return the id of the participant present who has an address."""
        query = "select id from ledger.participants where group_id = %s and address = %s and exited_at is null"
        return int(one(self.admin, query, [self.group, bytes.fromhex(owner[2:])])[0])

    def balances(self) -> dict[int, int]:
        query = "select id, amount from ledger.participants where group_id = %s and exited_at is null order by id"
        return {number: int(amount) for number, amount in self.admin.execute(query, [self.group])}

    def states(self) -> list[str]:
        """Return the states of the group's publications."""
        query = "select state from ledger.publications where group_id = %s order by number"
        return [state for (state,) in self.admin.execute(query, [self.group])]

    def payouts(self) -> list[tuple[str, int]]:
        query = "select kind, amount from ledger.payouts where group_id = %s order by block, log nulls last, subject"
        return [(kind, int(amount)) for kind, amount in self.admin.execute(query, [self.group])]

    def transfer(self, sender: int, recipient: int, amount: int) -> None:
        self.ledger.execute("select ledger.transfer(%s, %s, %s, %s)", [self.group, sender, recipient, amount])

    def leave(self, participant: int) -> None:
        self.ledger.execute("select ledger.exit_group(%s, %s)", [self.group, participant])

    def snapshot(self, number: int | None = None) -> dict[str, Any]:
        """Return what `ledger snapshot` prints."""
        text = "".join(checkpoints.snapshot(self.admin, self.group, number))
        snapshot: dict[str, Any] = json.loads(text)
        return snapshot

    def discrepancies(self) -> list[tuple[Any, ...]]:
        return self.admin.execute("select * from ledger.verify()").fetchall()


def arguments_of(proof: dict[str, Any]) -> tuple[object, object, object]:
    """Return a proof as the arguments of withdraw and request_exit."""
    checkpoint, leaf = proof["checkpoint"], proof["leaf"]
    header = (
        checkpoint["group_id"],
        checkpoint["number"],
        word(checkpoint["previous"]),
        checkpoint["deposits"],
        checkpoint["credited"],
        checkpoint["settled"],
        checkpoint["leaf_count"],
        checkpoint["total"],
        word(checkpoint["root"]),
    )
    return (
        header,
        (leaf["index"], leaf["participant_id"], leaf["exit_entry"] or 0, leaf["owner"], leaf["amount"]),
        [(node["sum"], word(node["hash"])) for node in proof["siblings"]],
    )


def deploy(node: Anvil) -> str:
    """Deploy a vault, and return its address."""
    for account in (PUBLISHER, PAYER, OTHER):
        node("anvil_setBalance", account.address, hex(100 * ETHER))
        node("anvil_impersonateAccount", account.address)
    from eth_abi.abi import encode

    terms = [PUBLISHER.address, node.accounts[1], DELAY, WINDOW, SILENCE, MINIMUM]
    arguments = encode(["address", "address", "uint256", "uint256", "uint256", "uint256"], terms)
    receipt = node.send(PUBLISHER.address, None, contract.artifact()["bytecode"] + arguments.hex())
    return str(contract.plain(receipt["contractAddress"]))


def link(node: Anvil, database: Database, vault: str, name: str = "ETH") -> int:
    """Make a group that is linked to the vault, and open it there; return its id."""
    with database.connect() as ledger, database.connect(BRIDGE) as bridge:
        (group,) = one(ledger, "select id from ledger.create_group(%s)", [name])
        chain_id = int(node("eth_chainId"), 16)
        bridge.execute("select ledger.link_vault(%s, %s, %s)", [group, chain_id, vault])
    node.send(PUBLISHER.address, vault, contract.call_data("open", group))
    return int(group)
