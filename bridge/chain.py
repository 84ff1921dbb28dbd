"""Read the chain through one node, or through two that must agree.

Nothing is taken from a node on trust alone: each answer must have its form, a block that is asked for by number must
have that number, and the hash of the block at which the vault was read is asked for before and after. A node that is
away or behind raises Later; nodes that differ, and answers that contradict each other, raise Halt.
"""

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

from eth_abi.abi import decode
from eth_abi.exceptions import DecodingError
from web3 import HTTPProvider
from web3.types import RPCEndpoint

from bridge import contract
from bridge.contract import InvalidAnswer, Log, Root
from bridge.halts import Halt, Later

# web3 brings py_ecc, which raises Python's limit so far that nested JSON, of a node or of a snapshot, overflows the
# stack and ends the process.
sys.setrecursionlimit(min(sys.getrecursionlimit(), 1_000))

T = TypeVar("T")

TIMEOUT = 20.0  # seconds that a node may be silent
RANGE = 2_000  # blocks that logs are asked of at once
HASH = re.compile("0x[0-9a-f]{64}")
# Words with which nodes refuse a range of logs that is too long for them.
TOO_MANY = re.compile("limit|range|too many|too large|more than|response size|timeout", re.IGNORECASE)


ERROR = "0x08c379a0"  # the selector of Error(string), with which a contract says why it reverts


class Refused(Exception):
    """The node answered with an error. `reason` is the vault's word for the condition that failed, "" without one."""

    def __init__(self, message: str, data: str | None = None) -> None:
        self.reason = ""
        if data is not None and data.startswith(ERROR):
            with suppress(ValueError, DecodingError):
                (self.reason,) = decode(["string"], bytes.fromhex(data.removeprefix(ERROR)))
        super().__init__(f"{message} ({self.reason})" if self.reason not in message else message)


@dataclass(frozen=True)
class Block:
    """A block: its hash is 0x hex, its time in seconds since 1970."""

    number: int
    hash: str
    time: int
    base_fee: int  # wei


@dataclass(frozen=True)
class Terms:
    """What is the same for all groups of a vault. Times are in seconds, the minimum in wei."""

    chain_id: int
    delay: int
    window: int
    silence: int
    publisher: str
    guardian: str


@dataclass(frozen=True)
class State:
    """What the vault has of a group at a block. `credited` is the sum of the first `deposits` deposits."""

    domain: str
    is_open: bool
    held: int
    paid: int
    deposits: int
    credited: int
    emergency: bool
    filled_at: int
    latest: Root
    ripe: Root


class Node:
    """One JSON-RPC node over HTTP. Its address may have a password, so that only its host is ever shown."""

    def __init__(self, url: str, timeout: float = TIMEOUT) -> None:
        self.host = urlsplit(url).hostname or "?"
        self.provider = HTTPProvider(url, {"timeout": timeout}, exception_retry_configuration=None)

    def request(self, method: str, *parameters: Any) -> Any:
        """Return the result of one request. Raises Refused for an error of the node, and Later without an answer."""
        try:
            answer = self.provider.make_request(RPCEndpoint(method), list(parameters))
        except Exception as error:  # of requests, its transport and JSON: none says that something was done
            raise Later(f"{self.host} does not answer {method}: {type(error).__name__}") from None
        if not isinstance(answer, dict):
            raise Later(f"{self.host} does not answer {method} with JSON-RPC")
        failure: Any = answer.get("error")
        if failure:
            words = failure.get("message") if isinstance(failure, dict) else failure
            data = failure.get("data") if isinstance(failure, dict) else None
            raise Refused(str(words), data if isinstance(data, str) else None)
        if "result" not in answer:
            raise Later(f"{self.host} answers {method} without a result")
        return answer["result"]

    def asked(self, method: str, *parameters: Any) -> Any:
        """Return the result of a request that a node refuses only because of its own state."""
        try:
            return self.request(method, *parameters)
        except Refused as error:
            raise Later(f"{self.host} refuses {method}: {error}") from None

    def number(self, method: str, *parameters: Any) -> int:
        return quantity(self.host, self.asked(method, *parameters))

    def chain_id(self) -> int:
        return self.number("eth_chainId")

    def block(self, which: int | str) -> Block | None:
        """Return a block by its number or its tag; None if the node has none."""
        found = self.asked("eth_getBlockByNumber", hex(which) if isinstance(which, int) else which, False)
        if found is None:
            return None
        try:
            block = Block(
                quantity(self.host, found["number"]),
                str(found["hash"]).lower(),
                quantity(self.host, found["timestamp"]),
                quantity(self.host, found.get("baseFeePerGas") or "0x0"),
            )
        except (KeyError, TypeError, AttributeError):
            raise Later(f"{self.host} answers with a block that is none") from None
        if not HASH.fullmatch(block.hash) or (isinstance(which, int) and block.number != which):
            raise Halt("inconsistent", f"{self.host} was asked for block {which} and answers with another one")
        return block

    def final(self, confirmations: int | None) -> Block:
        """Return the newest block that is final: by the node's tag, or by so many blocks above it."""
        latest = self.latest()
        if confirmations is not None:
            block = self.block(max(latest.number - confirmations, 0))
        else:
            block = self.block("finalized")
        if block is None:
            raise Later(f"{self.host} has no finalized block")
        if block.number > latest.number:
            # Another machine behind the same address may have answered.
            raise Later(f"{self.host} has block {block.number} as final and {latest.number} as its newest")
        return block

    def latest(self) -> Block:
        block = self.block("latest")
        if block is None:
            raise Later(f"{self.host} has no newest block")
        return block

    def call(self, vault: str, name: str, *arguments: Any, at: int | str) -> Any:
        """Return what a view of the vault returns at a block."""
        where = hex(at) if isinstance(at, int) else at
        data = self.asked("eth_call", {"to": vault, "data": contract.call_data(name, *arguments)}, where)
        try:
            return contract.returned(name, str(data))
        except InvalidAnswer as error:
            raise Halt("inconsistent", f"{self.host}: {error}") from None

    def code(self, vault: str, at: int | str) -> bytes:
        found = self.asked("eth_getCode", vault, hex(at) if isinstance(at, int) else at)
        try:
            return bytes.fromhex(str(found).removeprefix("0x"))
        except ValueError:
            raise Later(f"{self.host} answers with code that is none") from None

    def logs(self, vault: str, first: int, last: int, step: int = RANGE) -> list[Log]:
        """Return the vault's events from block `first` to `last`, in the order of the chain."""
        found: list[Log] = []
        while first <= last:
            end = min(first + step - 1, last)
            query = {"address": vault, "fromBlock": hex(first), "toBlock": hex(end)}
            try:
                answer = self.request("eth_getLogs", query)
            except Refused as error:
                if step > 1 and TOO_MANY.search(str(error)):
                    step = max(step // 2, 1)
                    continue
                raise Later(f"{self.host} refuses eth_getLogs: {error}") from None
            found += self.read_logs(answer, vault, first, end)
            first = end + 1
        return found

    def read_logs(self, answer: Any, vault: str, first: int, last: int) -> Iterator[Log]:
        if not isinstance(answer, list):
            raise Later(f"{self.host} answers eth_getLogs with something else")
        before = (-1, -1)
        for raw in answer:
            try:
                of_vault = str(raw["address"]).lower() == vault.lower() and not raw.get("removed")
                log = contract.read_log(raw)
            except (InvalidAnswer, KeyError, TypeError, AttributeError) as error:
                raise Halt("inconsistent", f"{self.host}: {error}") from None
            if log is None:
                continue
            if not of_vault or not first <= log.block <= last or (log.block, log.index) <= before:
                raise Halt("inconsistent", f"{self.host} answers with a log that was not asked for, or twice")
            before = (log.block, log.index)
            yield log


def quantity(host: str, value: Any) -> int:
    try:
        number = int(value, 16)
    except (TypeError, ValueError):
        raise Later(f"{host} answers with {str(value)[:40]!r} for a number") from None
    if number < 0:
        raise Later(f"{host} answers with a negative number")
    return number


class Chain:
    """The node that is used, and the one that it is compared with, if there is one."""

    def __init__(self, node: Node, check: Node | None = None, confirmations: int | None = None) -> None:
        self.node = node
        self.check = check
        self.confirmations = confirmations

    @property
    def nodes(self) -> Sequence[Node]:
        return [self.node] if self.check is None else [self.node, self.check]

    def agreed(self, question: str, ask: Callable[[Node], T]) -> T:
        """Return the answer of the node, which must be that of the other one as well."""
        answers = [ask(node) for node in self.nodes]
        if any(answer != answers[0] for answer in answers):
            hosts = " and ".join(node.host for node in self.nodes)
            raise Halt("nodes_differ", f"{hosts} differ in {question}")
        return answers[0]

    def chain_id(self) -> int:
        return self.agreed("the chain's id", Node.chain_id)

    def final(self) -> Block:
        """Return the newest block that both nodes have as final."""
        blocks = [node.final(self.confirmations) for node in self.nodes]
        number = min(block.number for block in blocks)
        if len(blocks) == 1:
            return blocks[0]
        return self.agreed(f"block {number}", lambda node: existing(node, number))

    def block(self, number: int) -> Block | None:
        return self.agreed(f"block {number}", lambda node: node.block(number))

    def same(self, block: Block) -> None:
        """Check that a block that was final before the other reads still is."""
        if self.block(block.number) != block:
            raise Halt("reorganized", f"block {block.number} had the hash {block.hash}, and now has another one")

    def logs(self, vault: str, first: int, last: int, step: int = RANGE) -> list[Log]:
        return self.agreed(f"the logs of blocks {first} to {last}", lambda node: node.logs(vault, first, last, step))

    def code(self, vault: str, block: Block) -> bytes:
        return self.agreed("the vault's code", lambda node: node.code(vault, block.number))

    def terms(self, vault: str, block: Block) -> Terms:
        names = ("CHAIN_ID", "DELAY", "WINDOW", "SILENCE", "publisher", "guardian")
        return self.agreed(
            "the vault's terms", lambda node: Terms(*(node.call(vault, name, at=block.number) for name in names))
        )

    def state(self, vault: str, group: int, block: Block) -> State:
        """Return a group's state at a block."""
        return self.agreed(
            f"the state of group {group} at block {block.number}",
            lambda node: read_state(node, vault, group, block.number),
        )

    def cumulative(self, vault: str, group: int, deposits: int, block: Block) -> int:
        """Return the sum of a group's first deposits."""
        sums: int = self.agreed(
            f"the deposits of group {group}",
            lambda node: node.call(vault, "cumulative", group, deposits, at=block.number),
        )
        return sums


def existing(node: Node, number: int) -> Block:
    block = node.block(number)
    if block is None:
        raise Later(f"{node.host} does not have block {number}")
    return block


def read_state(node: Node, vault: str, group: int, at: int | str) -> State:
    deposits = node.call(vault, "deposits", group, at=at)
    return State(
        node.call(vault, "domain", group, at=at),
        node.call(vault, "is_open", group, at=at),
        node.call(vault, "held", group, at=at),
        node.call(vault, "paid", group, at=at),
        deposits,
        node.call(vault, "cumulative", group, deposits, at=at),
        node.call(vault, "emergency", group, at=at),
        node.call(vault, "filled_at", group, at=at),
        Root(*node.call(vault, "latest", group, at=at)),
        Root(*node.call(vault, "ripe", group, at=at)),
    )
