"""A vault on an EVM, and the books of an honest operator who publishes roots to it."""

import json
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import pytest
from eth_abi import decode, encode
from eth_utils import keccak

from tests.exits.vectors import domain_of, header_of, levels_of, octets, siblings_of, spelled
from tests.vault.evms import CHAIN, GAS, Evm, Log, Outcome

COMPILED = json.loads((Path(__file__).parents[2] / "contracts" / "vault.json").read_text())
DELAY, WINDOW, SILENCE, MINIMUM = 3_600, 7_200, 86_400, 10
RICH = 10**30
PUBLISHER, GUARDIAN, STRANGER = (f"0x{digits * 20}" for digits in ("a1", "b2", "c3"))
NOBODY = "0x" + "00" * 20
NO_ROOT = "0x" + "00" * 32


def person(number: int) -> str:
    """The address of a participant."""
    return f"0x{number + 0xEE00000000:040x}"


class Refused(Exception):
    """A call that has been reverted, by the reason."""


def refused(word: str) -> AbstractContextManager:
    """The vault refuses with that word."""
    return pytest.raises(Refused, match=f"^{word}$")


def types(parts: list[dict]) -> list[str]:
    return [spell(part) for part in parts]


def spell(part: dict) -> str:
    if not part["type"].startswith("tuple"):
        return part["type"]
    return f"({','.join(types(part['components']))}){part['type'][5:]}"


@cache
def functions() -> dict[str, tuple[bytes, list[str], list[str]]]:
    found = {}
    for each in COMPILED["abi"]:
        if each["type"] == "function":
            taken = types(each["inputs"])
            selector = keccak(text=f"{each['name']}({','.join(taken)})")[:4]
            found[each["name"]] = (selector, taken, types(each["outputs"]))
    return found


@cache
def events() -> dict[bytes, tuple[str, list[dict]]]:
    found = [each for each in COMPILED["abi"] if each["type"] == "event"]
    return {keccak(text=f"{e['name']}({','.join(types(e['inputs']))})"): (e["name"], e["inputs"]) for e in found}


def event(log: Log) -> tuple[str, dict[str, Any]]:
    """Decode an event of the vault."""
    _, (first, *topics), data = log
    name, inputs = events()[first]
    values = iter(decode([each["type"] for each in inputs if not each["indexed"]], data))
    indexed = iter(topics)
    return name, {
        each["name"]: decode([each["type"]], next(indexed))[0] if each["indexed"] else next(values) for each in inputs
    }


def encoded(name: str, *arguments: Any) -> bytes:
    selector, taken, _ = functions()[name]
    return selector + encode(taken, arguments)


@lru_cache(10_000)
def call_of(name: str, arguments: tuple) -> bytes:
    """The same, for views, which are read again and again."""
    return encoded(name, *arguments)


def header_tuple(header: dict) -> tuple:
    hashes = octets(header["previous"]), octets(header["root"])
    sums = int(header["credited"]), int(header["settled"])
    first = header["group_id"], header["number"], hashes[0], header["deposits"], *sums
    return *first, header["leaf_count"], int(header["total"]), hashes[1]


def leaf_tuple(leaf: dict) -> tuple:
    return leaf["index"], leaf["participant_id"], leaf["exit_entry"] or 0, leaf["owner"], int(leaf["amount"])


def proof_tuples(siblings: list[dict]) -> list[tuple[int, bytes]]:
    return [(int(each["sum"]), octets(each["hash"])) for each in siblings]


@dataclass
class Vault:
    evm: Evm
    address: str = ""
    outcomes: list[Outcome] = field(default_factory=list)

    def __post_init__(self) -> None:
        for address in (PUBLISHER, GUARDIAN, STRANGER):
            self.evm.fund(address, RICH)
        self.address = self.address or self.deploy()

    def deploy(self, *arguments: Any) -> str:
        """Deploy a vault. Raises Refused."""
        given = arguments or (PUBLISHER, GUARDIAN, DELAY, WINDOW, SILENCE, MINIMUM)
        taken = encode(["address"] * 2 + ["uint256"] * 4, given)
        try:
            return self.evm.deploy(PUBLISHER, octets(COMPILED["bytecode"]) + taken)
        except RuntimeError as error:
            raise Refused(reason(bytes.fromhex(str(error).partition("output: 0x")[2].partition(" ")[0]))) from None

    def send(self, name: str, *arguments: Any, by: str = STRANGER, value: int = 0, gas: int = GAS) -> Outcome:
        """Call a function. Raises Refused."""
        outcome = self.evm.call(by, self.address, encoded(name, *arguments), value, gas)
        self.outcomes.append(outcome)
        if not outcome.succeeded:
            raise Refused(reason(outcome.output))
        return outcome

    def read(self, name: str, *arguments: Any) -> Any:
        """Return the result of a view. Raises Refused."""
        outcome = self.evm.call(STRANGER, self.address, call_of(name, arguments))
        if not outcome.succeeded:
            raise Refused(reason(outcome.output))
        values = decode(functions()[name][2], outcome.output)
        return values[0] if len(values) == 1 else values

    def wait(self, seconds: int) -> None:
        self.evm.time += seconds

    @property
    def balance(self) -> int:
        return self.evm.balance(self.address)


def reason(output: bytes) -> str:
    """The word with which the vault refuses; empty if the EVM refuses."""
    return decode(["string"], output[4:])[0] if output else ""


def happened(outcome: Outcome, name: str) -> list[dict[str, Any]]:
    """The events of that name."""
    return [values for each, values in map(event, outcome.logs) if each == name]


@dataclass
class Root:
    """A published tree, or one to publish."""

    header: dict
    leaves: list[dict]
    levels: list[list[tuple[int, bytes]]]

    def proof(self, index: int) -> tuple[tuple, tuple, list]:
        """The arguments with which the leaf is paid."""
        leaf = {"index": index, **self.leaves[index]}
        return header_tuple(self.header), leaf_tuple(leaf), proof_tuples(siblings_of(self.levels, index))

    def of(self, participant: int) -> tuple[tuple, tuple, list]:
        return self.proof(next(n for n, leaf in enumerate(self.leaves) if leaf["participant_id"] == participant))

    def altered(self, leaves: list[dict] | None = None, **values: Any) -> "Root":
        """Another root with other leaves or header fields, and the hashes that fit them."""
        header, chosen, levels = dict(self.header), self.leaves, self.levels
        if leaves is not None:
            chosen, levels = leaves, levels_of(domain_of(header), leaves)
            ((total, digest),) = levels[-1]
            header |= {"leaf_count": len(leaves), "total": total, "root": spelled(digest)}
        header |= values
        return Root(header | {"header": header_of(header)}, chosen, levels)


@dataclass
class Books:
    """One group of a vault, kept by an honest operator."""

    vault: Vault
    group: int = 7
    people: dict[int, list] = field(default_factory=dict)  # participant -> owner, balance
    exits: dict[int, dict] = field(default_factory=dict)  # unpaid ones
    left: set[int] = field(default_factory=set)
    deposits: int = 0
    entry: int = 0
    number: int = 0
    previous: str = NO_ROOT

    def open(self) -> "Books":
        self.vault.send("open", self.group, by=PUBLISHER)
        return self

    def deposit(self, participant: int, amount: int, by: str = STRANGER) -> Outcome:
        return self.vault.send("deposit", self.group, person(participant), by=by, value=amount)

    def credit(self) -> None:
        """Credit what has been deposited."""
        for index in range(self.deposits, self.vault.read("deposits", self.group)):
            owner, amount, _, _ = self.vault.read("deposit_of", self.group, index)
            participant = int(owner, 16) - 0xEE00000000
            while participant in self.left:
                participant += 1_000_000  # joins again
            self.people.setdefault(participant, [owner, 0])[1] += amount
            self.deposits = index + 1

    def transfer(self, sender: int, recipient: int, amount: int) -> None:
        self.people[sender][1] -= amount
        self.people[recipient][1] += amount

    def exit(self, participant: int) -> None:
        owner, amount = self.people.pop(participant)
        self.left.add(participant)
        self.entry += 1
        self.exits[participant] = {
            "participant_id": participant,
            "exit_entry": self.entry,
            "owner": owner,
            "amount": amount,
        }

    def leaves(self) -> list[dict]:
        present = [
            {"participant_id": participant, "exit_entry": 0, "owner": owner, "amount": amount}
            for participant, (owner, amount) in self.people.items()
        ]
        return sorted([*present, *self.exits.values()], key=lambda leaf: leaf["participant_id"])

    def checkpoint(self, **values: Any) -> Root:
        """The next root, which is not published; with another field of the header where one is given."""
        header = {
            "group_id": self.group,
            "number": self.number + 1,
            "chain_id": CHAIN,
            "vault": self.vault.address,
            "previous": self.previous,
            "deposits": self.deposits,
            "credited": self.vault.read("cumulative", self.group, self.deposits),
            "settled": self.vault.read("paid", self.group),
            "leaf_count": 0,
            "total": 0,
            "root": NO_ROOT,
        }
        return Root(header, [], []).altered(self.leaves(), **values)

    def publish(self, root: Root | None = None, by: str = PUBLISHER) -> Root:
        root = root or self.checkpoint()
        self.vault.send("publish", header_tuple(root.header), by=by)
        self.number, self.previous = root.header["number"], root.header["header"]
        return root

    def cycle(self) -> Root:
        """Credit deposits and publish a root; it is ripe on return."""
        self.credit()
        root = self.publish()
        self.vault.wait(DELAY)
        return root

    def pay(self, root: Root, participant: int) -> Outcome:
        outcome = self.vault.send("withdraw", *root.of(participant))
        self.exits.pop(participant, None)
        return outcome

    def held(self) -> int:
        return self.vault.read("held", self.group)
