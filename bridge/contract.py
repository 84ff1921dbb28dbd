"""Encode calls of the vault, and decode its answers and events, by the ABI that is shipped with this release."""

import json
from dataclasses import dataclass
from functools import cache
from typing import Any

from eth_abi.abi import decode, encode
from eth_abi.exceptions import DecodingError
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from api.resources import RESOURCES


class InvalidAnswer(ValueError):
    """Bytes that are not what the vault returns or logs."""


@dataclass(frozen=True)
class Function:
    """A function of the vault, with the spelling of its types."""

    selector: bytes
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Event:
    """An event of the vault: the names of its values, and the types of those in topics and of those in the data."""

    name: str
    indexed: tuple[tuple[str, str], ...]
    plain: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Log:
    """One event of the vault, and where the chain has it. `index` counts the logs of the block."""

    name: str
    values: dict[str, Any]
    block: int
    block_hash: str
    index: int
    transaction: str

    @property
    def group(self) -> int | None:
        group = self.values.get("group")
        return int(group) if group is not None else None


@dataclass(frozen=True)
class Root:
    """A root that the vault has accepted; number 0 is none. Hashes are 0x hex, the time is in seconds."""

    number: int
    header: str
    deposits: int
    published_at: int


@cache
def artifact() -> dict[str, Any]:
    """The compiled vault: abi, bytecode, runtime."""
    loaded: dict[str, Any] = json.loads((RESOURCES / "contracts" / "vault.json").read_text())
    return loaded


def spelled(part: dict[str, Any]) -> str:
    """A type as signatures spell it: that of a struct is (uint64,bytes32), say."""
    kind: str = part["type"]
    if kind.startswith("tuple"):
        return f"({','.join(spelled(one) for one in part['components'])}){kind.removeprefix('tuple')}"
    return kind


@cache
def functions() -> dict[str, Function]:
    found = {}
    for entry in artifact()["abi"]:
        if entry["type"] == "function":
            inputs = tuple(spelled(part) for part in entry["inputs"])
            selector = keccak(text=f"{entry['name']}({','.join(inputs)})")[:4]
            found[entry["name"]] = Function(selector, inputs, tuple(spelled(part) for part in entry["outputs"]))
    return found


@cache
def events() -> dict[str, Event]:
    """Each event by its first topic."""
    found = {}
    for entry in artifact()["abi"]:
        if entry["type"] == "event":
            topic = keccak(text=f"{entry['name']}({','.join(spelled(part) for part in entry['inputs'])})")
            values = [(part["name"], spelled(part), part["indexed"]) for part in entry["inputs"]]
            found["0x" + topic.hex()] = Event(
                entry["name"],
                tuple((name, kind) for name, kind, indexed in values if indexed),
                tuple((name, kind) for name, kind, indexed in values if not indexed),
            )
    return found


def call_data(name: str, *arguments: Any) -> str:
    """Return the data of a call of the vault."""
    function = functions()[name]
    return "0x" + (function.selector + encode(function.inputs, arguments)).hex()


def returned(name: str, data: str) -> Any:
    """Decode what a function of the vault returned: one value, or a tuple. Raises InvalidAnswer."""
    try:
        values = decode(functions()[name].outputs, bytes.fromhex(data.removeprefix("0x")))
    except (DecodingError, ValueError, OverflowError) as error:
        raise InvalidAnswer(f"{name}() returned something else: {error}") from None
    return plain(values[0] if len(values) == 1 else values)


def plain(value: Any) -> Any:
    """Spell bytes as 0x hex and addresses by EIP-55."""
    if isinstance(value, bytes):
        return "0x" + value.hex()
    if isinstance(value, str):
        return to_checksum_address(value)
    if isinstance(value, (tuple, list)):
        return tuple(plain(one) for one in value)
    return value


def read_log(raw: dict[str, Any]) -> Log | None:
    """Decode a log of the vault; None for an event that is not in the ABI. Raises InvalidAnswer."""
    try:
        topics = [str(topic).lower() for topic in raw["topics"]]
        event = events().get(topics[0]) if topics else None
        if event is None:
            return None
        if len(topics) != 1 + len(event.indexed):
            raise InvalidAnswer(f"a log of {event.name} has {len(topics)} topics")
        values = {}
        for (name, kind), topic in zip(event.indexed, topics[1:], strict=True):
            (values[name],) = decode([kind], bytes.fromhex(topic.removeprefix("0x")))
        names = [name for name, _ in event.plain]
        data = bytes.fromhex(str(raw["data"]).removeprefix("0x"))
        values |= dict(zip(names, decode([kind for _, kind in event.plain], data), strict=True))
        return Log(
            event.name,
            {name: plain(value) for name, value in values.items()},
            int(raw["blockNumber"], 16),
            str(raw["blockHash"]).lower(),
            int(raw["logIndex"], 16),
            str(raw["transactionHash"]).lower(),
        )
    except (DecodingError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise InvalidAnswer(f"a log is not readable: {error}") from None
