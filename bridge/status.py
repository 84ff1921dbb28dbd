"""What a vault has of a group, for people and as JSON."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from bridge.chain import Block, Node, State, read_state
from bridge.contract import Root

ETHER = 10**18
UNITS = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))


@dataclass(frozen=True)
class Request:
    """An exit that was requested at the vault, and not answered yet. Times are in seconds since 1970."""

    participant_id: int
    owner: str
    at: int
    emergency_at: int


@dataclass(frozen=True)
class Status:
    """The state of a group at a block. Times are in seconds since 1970, amounts in wei."""

    vault: str
    chain_id: int
    block: Block
    group: int
    delay: int
    window: int
    silence: int
    filled_at: int
    state: State
    requests: list[Request]
    requests_from: int  # the first block that was searched for them

    @property
    def silent_at(self) -> int | None:
        """When anybody may declare an emergency for silence; None for a group that holds nothing, or has one."""
        if self.state.emergency or self.state.held == 0:
            return None
        return max(self.state.ripe.published_at, self.filled_at) + self.silence

    def stage(self) -> str:
        """In which of its times the latest root is."""
        root = self.state.latest
        if not root.number:
            return "none"
        if self.state.emergency:
            return "paid"
        age = self.block.time - root.published_at
        return "young" if age < self.delay else "open" if age < self.delay + self.window else "ended"

    def as_json(self) -> dict[str, object]:
        """The amounts are strings."""
        state = self.state
        return {
            "vault": self.vault,
            "chain_id": self.chain_id,
            "block": self.block.number,
            "time": self.block.time,
            "group_id": self.group,
            "is_open": state.is_open,
            "emergency": state.emergency,
            "held": str(state.held),
            "paid": str(state.paid),
            "deposits": state.deposits,
            "deposited": str(state.credited),
            "latest": self.root_as_json(state.latest),
            "ripe": self.root_as_json(state.ripe),
            "stage": self.stage(),
            "emergency_at": self.silent_at,
            "requests": [vars(request) for request in self.requests],
            "requests_from_block": self.requests_from,
        }

    def root_as_json(self, root: Root) -> dict[str, object] | None:
        if not root.number:
            return None
        ripe_at = root.published_at + self.delay
        return {
            "number": root.number,
            "header": root.header,
            "deposits": root.deposits,
            "published_at": root.published_at,
            "ripe_at": ripe_at,
            "window_ends_at": ripe_at + self.window,
        }

    def lines(self) -> Iterator[str]:
        """The same for people."""
        state, now = self.state, self.block.time
        yield f"group {self.group} in vault {self.vault} on chain {self.chain_id}"
        yield f"  at block {self.block.number} of {at(now)}"
        condition = "in an emergency" if state.emergency else "open" if state.is_open else "not open"
        yield f"  {condition}; holds {ether(state.held)}, has paid {ether(state.paid)}"
        yield f"  last ripe root: {self.root_line(state.ripe)}"
        latest = state.latest
        if self.stage() == "young":
            ripe_at = latest.published_at + self.delay
            yield f"  root {latest.number}, published {at(latest.published_at)}: {when('ripe', ripe_at, now)}"
        elif self.stage() == "open":
            ends = latest.published_at + self.delay + self.window
            yield f"  its exits are paid now, {when('until', ends, now)}"
        elif self.stage() == "ended":
            yield "  its window has ended: the next root can be published"
        elif self.stage() == "paid":
            yield "  every leaf of it is paid, and deposits that it does not include are returned"
        for request in self.requests:
            whose = f"participant {request.participant_id} ({request.owner})"
            yield f"  exit requested by {whose} {at(request.at)}; {when('emergency', request.emergency_at, now)}"
        if not self.requests:
            yield f"  no open request since block {self.requests_from}"
        if self.silent_at is not None:
            yield f"  {when('emergency for silence', self.silent_at, now)}"

    def root_line(self, root: Root) -> str:
        if not root.number:
            return "none"
        deposits = f"includes {root.deposits} of {self.state.deposits} deposits"
        return f"{root.number}, published {at(root.published_at)}, {deposits}"


def read_status(node: Node, vault: str, group: int, from_block: int | None) -> Status:
    """Read the state of a group at the newest block. Raises Later and Halt."""
    block = node.latest()

    def view(name: str, *arguments: object) -> int:
        return int(node.call(vault, name, *arguments, at=block.number))

    silence = view("SILENCE")
    first = block_at(node, block, block.time - 2 * silence) if from_block is None else from_block
    asked = {
        (int(log.values["participant_id"]), str(log.values["owner"]))
        for log in node.logs(vault, first, block.number)
        if log.name == "ExitRequested" and log.group == group
    }
    times = {each: view("requested", group, *each) for each in sorted(asked)}
    requests = [Request(*each, since, since + silence) for each, since in times.items() if since]
    return Status(
        vault,
        view("CHAIN_ID"),
        block,
        group,
        view("DELAY"),
        view("WINDOW"),
        silence,
        view("filled_at", group),
        read_state(node, vault, group, block.number),
        requests,
        first,
    )


def block_at(node: Node, newest: Block, time: int) -> int:
    """The number of the first block that is not older than that."""
    low, high = 0, newest.number
    while low < high:
        middle = (low + high) // 2
        block = node.block(middle)
        if block is None or block.time < time:
            low = middle + 1
        else:
            high = middle
    return low


def ether(wei: int) -> str:
    whole, rest = divmod(wei, ETHER)
    return f"{whole}.{rest:018}".rstrip("0").rstrip(".") + " ether"


def at(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def when(what: str, seconds: int, now: int) -> str:
    """A moment, and how far from now it is."""
    return f"{what} {at(seconds)}, {span(seconds - now) if seconds > now else 'which has passed'}"


def span(seconds: int) -> str:
    for name, size in UNITS:
        if seconds >= size:
            return f"in {seconds // size} {name}"
    return "now"
