"""An operator of a vault, honest or not: publishes roots of any leaves, and serves their snapshots as files."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eth_abi import encode
from eth_utils import to_checksum_address

from bridge import contract
from tests.anvil import Anvil
from tests.exits.vectors import domain_of, header_of, levels_of, octets, siblings_of, spelled

DELAY, WINDOW, SILENCE = 3_600, 3_600, 40_000
ETHER = 10**18
# The first accounts of every anvil: publisher, guardian, and participants.
PUBLISHER_KEY = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"
GUARDIAN_KEY = "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d"


def deploy(node: Anvil, delay: int = DELAY, window: int = WINDOW, silence: int = SILENCE) -> str:
    publisher, guardian = node.accounts[:2]
    types = ["address", "address", "uint256", "uint256", "uint256", "uint256"]
    terms = encode(types, [publisher, guardian, delay, window, silence, 1])
    receipt = node.send(publisher, None, contract.artifact()["bytecode"] + terms.hex())
    return to_checksum_address(receipt["contractAddress"])


@dataclass
class Operator:
    """One group of a vault, which is opened. Roots are of the leaves that a test names."""

    node: Anvil
    vault: str
    group: int
    served: Path
    number: int = 0
    deposits: int = 0
    credited: int = 0
    settled: int = 0
    previous: str = "0x" + "00" * 32
    proofs: dict[int, dict[int, dict[str, Any]]] = field(default_factory=dict)  # by number and participant

    def __post_init__(self) -> None:
        self.call("open", self.group)

    def call(self, name: str, *arguments: Any, sender: int = 0, value: int = 0) -> dict[str, Any]:
        return self.node.send(self.node.accounts[sender], self.vault, contract.call_data(name, *arguments), value)

    def view(self, name: str, *arguments: Any) -> Any:
        data = contract.call_data(name, *arguments)
        return contract.returned(name, self.node("eth_call", {"to": self.vault, "data": data}, "latest"))

    def deposit(self, amount: int, owner: int = 2) -> None:
        self.call("deposit", self.group, self.node.accounts[owner], sender=owner, value=amount)
        self.deposits += 1
        self.credited += amount

    def leaf(self, participant: int, amount: int, owner: int = 2, exit_entry: int = 0) -> dict[str, Any]:
        address = self.node.accounts[owner].lower()
        return {"participant_id": participant, "exit_entry": exit_entry, "owner": address, "amount": str(amount)}

    def snapshot(self, leaves: list[dict[str, Any]], number: int | None = None) -> dict[str, Any]:
        """A checkpoint of these leaves, with them."""
        checkpoint: dict[str, Any] = {
            "group_id": self.group,
            "number": number or self.number + 1,
            "chain_id": int(self.node("eth_chainId"), 16),
            "vault": self.vault.lower(),
            "previous": self.previous,
            "deposits": self.deposits,
            "credited": str(self.credited),
            "settled": str(self.settled),
            "leaf_count": len(leaves),
            "total": str(self.credited - self.settled),
        }
        checkpoint |= tree_of(checkpoint, leaves)
        levels = levels_of(domain_of(checkpoint), leaves)
        listed = [
            {"index": index, **leaf, "exit_entry": leaf["exit_entry"] or None} for index, leaf in enumerate(leaves)
        ]
        self.proofs[checkpoint["number"]] = {
            leaf["participant_id"]: {"checkpoint": checkpoint, "leaf": leaf, "siblings": siblings_of(levels, index)}
            for index, leaf in enumerate(listed)
        }
        return {"checkpoint": checkpoint, "leaves": listed}

    def publish(self, leaves: list[dict[str, Any]], serve: bool = True) -> dict[str, Any]:
        """Publish a root of these leaves, and serve its snapshot."""
        snapshot = self.snapshot(leaves)
        checkpoint = snapshot["checkpoint"]
        self.call("publish", header_tuple(checkpoint))
        self.number, self.previous = checkpoint["number"], checkpoint["header"]
        if serve:
            self.serve(snapshot)
        return snapshot

    def serve(self, snapshot: dict[str, Any]) -> None:
        """Write a snapshot as `ledger snapshot` does."""
        file = self.served / str(self.group) / f"{snapshot['checkpoint']['number']}.json"
        file.parent.mkdir(exist_ok=True)
        leaves = ",\n".join(map(json.dumps, snapshot["leaves"]))
        file.write_text(f'{{"checkpoint":{json.dumps(snapshot["checkpoint"])},"leaves":[\n{leaves}\n]}}\n')

    def cycle(self, leaves: list[dict[str, Any]], pay: tuple[int, ...] = ()) -> dict[str, Any]:
        """Publish a root, wait until it is ripe, pay the exits of some participants, and wait for the window's end."""
        snapshot = self.publish(leaves)
        self.node.pass_time(DELAY)
        for participant in pay:
            self.withdraw(participant)
        self.node.pass_time(WINDOW)
        return snapshot

    def withdraw(self, participant: int) -> None:
        proof = self.proofs[self.number][participant]
        self.call("withdraw", *proof_tuples(proof), sender=3)
        self.settled += int(proof["leaf"]["amount"])


def tree_of(checkpoint: dict[str, Any], leaves: list[dict[str, Any]]) -> dict[str, str]:
    """The root and the header of a checkpoint with these leaves."""
    named = [leaf | {"exit_entry": leaf["exit_entry"] or 0} for leaf in leaves]
    root = {"root": spelled(levels_of(domain_of(checkpoint), named)[-1][0][1])}
    return root | {"header": header_of(checkpoint | root)}


def header_tuple(checkpoint: dict[str, Any]) -> tuple[Any, ...]:
    numbers = [int(checkpoint[name]) for name in ("group_id", "number")]
    rest = [int(checkpoint[name]) for name in ("deposits", "credited", "settled", "leaf_count", "total")]
    return (*numbers, octets(checkpoint["previous"]), *rest, octets(checkpoint["root"]))


def proof_tuples(proof: dict[str, Any]) -> tuple[Any, Any, Any]:
    leaf = proof["leaf"]
    ids = (leaf["index"], leaf["participant_id"], leaf["exit_entry"] or 0)
    siblings = [(int(each["sum"]), octets(each["hash"])) for each in proof["siblings"]]
    return header_tuple(proof["checkpoint"]), (*ids, leaf["owner"], int(leaf["amount"])), siblings
