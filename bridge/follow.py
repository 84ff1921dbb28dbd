"""Carry the vault's events into the ledger, from the block that was followed last to the newest final one.

All is read from the chain first: the events, and the state in which they must have left the vault, between two looks at
the block's hash. `plan` then decides, without a call of anything, which functions are called, and halts if the events,
the state and the database do not fit. Only then is the database written, in short transactions.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bridge.chain import Block, Chain, State
from bridge.contract import Log
from bridge.halts import Halt, Later
from bridge.ledger import Call, Ledger

BATCH = 200  # events of one transaction, more if one block has more
STANDING = ("accepted", "closed")  # states of a publication that is, or was, the vault's latest root


@dataclass(frozen=True)
class Followed:
    """What was read for one group: the events after its last block, and the state at the newest final one.

    `before` is the sum of the deposits that the database has.
    """

    row: Any  # of get_vault
    publications: Sequence[Any]
    logs: Sequence[Log]
    state: State
    before: int


def read(chain: Chain, ledger: Ledger, rows: Sequence[Any], head: Block, first: int) -> list[Followed]:
    """Read what has happened to groups of one vault up to a final block. `first` is where unfollowed groups begin."""
    vault = rows[0].vault
    starts = {row.group_id: first if row.followed_block is None else int(row.followed_block) + 1 for row in rows}
    for row in rows:
        check_cursor(chain, row, head)
    begin = min(starts.values())
    logs = chain.logs(vault, begin, head.number) if begin <= head.number else []
    found = []
    for row in rows:
        own = [log for log in logs if log.group == row.group_id and log.block >= starts[row.group_id]]
        state = chain.state(vault, row.group_id, head)
        before = chain.cumulative(vault, row.group_id, int(row.deposits), head)
        publications = ledger.rows("list_publications", row.group_id)
        found.append(Followed(row, publications, own, state, before))
    chain.same(head)
    return found


def check_cursor(chain: Chain, row: Any, head: Block) -> None:
    """Check that the last followed block is still on the chain."""
    if row.followed_block is None:
        return
    if head.number < row.followed_block:
        raise Later(
            f"the newest final block is {head.number}; group {row.group_id} was followed up to {row.followed_block}"
        )
    block = chain.block(int(row.followed_block))
    if block is None:
        raise Later(f"the node does not have block {row.followed_block}")
    if block.hash != row.followed_hash:
        raise Halt(
            "reorganized",
            f"group {row.group_id} was followed up to block {block.number} with the hash {row.followed_hash}, "
            f"which now has the hash {block.hash}",
        )


def plan(found: Followed, head: Block) -> list[list[Call]]:
    """Decide what is recorded of a group, as lists of calls of one transaction each. Halts where anything differs."""
    row, state = found.row, found.state
    group = int(row.group_id)
    if state.domain != row.domain:
        raise Halt("wrong_chain", f"group {group} has the domain {state.domain} on the chain, and {row.domain} here")
    known = {int(one.number): one for one in found.publications}
    for root in (state.latest, state.ripe):
        if root.number and (root.number not in known or known[root.number].header != root.header):
            raise ahead(group, f"root {root.number} with the header {root.header}")
    if state.deposits < row.deposits or found.before != row.cumulative or state.paid < paid(row):
        raise Halt(
            "inconsistent",
            f"group {group} has {row.deposits} deposits of {row.cumulative} and payments of {paid(row)} here; the "
            f"chain has {state.deposits} deposits, {found.before} in so many, and payments of {state.paid}",
        )
    expected = Expected(
        group,
        int(row.deposits),
        int(row.cumulative),
        paid(row),
        bool(row.emergency),
        bool(row.closed),
        {number: str(one.state) for number, one in known.items()},
        int(row.unknown_number or 0),
        taken_back(found.logs),
    )
    calls = [(log, call) for log in found.logs for call in expected.take(log, known)]
    expected.compare(state)
    return [*batches(group, calls, head)]


def taken_back(logs: Iterable[Log]) -> set[int]:
    """Return the numbers of the roots that were published and then vetoed, or dropped by an emergency as too young."""
    published = {log.values["number"] for log in logs if log.name == "Published"}
    vetoed = {log.values["number"] for log in logs if log.name == "Vetoed"}
    paid = [log.values["number"] for log in logs if log.name == "Emergency"]
    return {number for number in published if number in vetoed or any(number > one for one in paid)}


def paid(row: Any) -> int:
    """What the vault has paid for leaves, as the database has it."""
    return int(row.settled)


def ahead(group: int, what: str) -> Halt:
    return Halt(
        "chain_ahead",
        f"group {group}: the chain has {what}, which the database does not have. If the database was restored: "
        f"ledger bridge adopt {group} --snapshot FILE",
    )


@dataclass
class Expected:
    """The state in which the events so far must have left the vault."""

    group: int
    deposits: int
    cumulative: int
    paid: int
    emergency: bool
    closed: bool
    states: dict[int, str]  # of the publications by number
    unknown: int  # the last root that was taken back and that the ledger did not make; 0 for none
    taken_back: set[int]  # roots that have no effect

    def take(self, log: Log, known: Mapping[int, Any]) -> list[Call]:
        """Return the calls that record an event, and keep account of it."""
        values, where = log.values, (log.transaction, log.block)
        match log.name:
            case "Deposit":
                cumulative = self.cumulative + values["amount"]
                if (values["index"], values["cumulative"]) != (self.deposits, cumulative):
                    raise Halt(
                        "inconsistent",
                        f"group {self.group}: deposit {values['index']} makes {values['cumulative']}; expected is "
                        f"deposit {self.deposits}, which makes {cumulative}",
                    )
                self.deposits, self.cumulative = self.deposits + 1, cumulative
                deposit = (values["index"], values["owner"], values["amount"], cumulative)
                return [Call("credit_deposit", (self.group, *deposit, *where))]
            case "ExitRequested":
                return [Call("exit_requested", (self.group, values["participant_id"], values["owner"], *where))]
            case "Published":
                number = values["number"]
                if number not in known or known[number].header != values["header"]:
                    if number not in self.taken_back:
                        raise ahead(self.group, f"root {number} with the header {values['header']}")
                    self.unknown = number
                    return [Call("record_unknown_root", (self.group, number, values["header"], *where))]
                if self.states[number] == "abandoned":
                    raise Halt(
                        "inconsistent", f"group {self.group}: root {number} was published after it was abandoned"
                    )
                if self.states[number] == "prepared":
                    self.states[number] = "accepted"
                return [Call("record_publication", (self.group, number, "accepted", *where))]
            case "Vetoed":
                if values["number"] == self.unknown:
                    return []
                if values["number"] not in known:
                    raise ahead(self.group, f"the vetoed root {values['number']}")
                self.states[values["number"]] = "vetoed"
                return [Call("record_publication", (self.group, values["number"], "vetoed", *where))]
            case "Paid":
                self.paid += values["amount"]
                leaf = (values["participant_id"], values["exit_entry"] or None, values["owner"], values["amount"])
                return [Call("settle_payout", (self.group, *leaf, *where, log.index))]
            case "Emergency":
                self.emergency = True
                # A young root does not count.
                self.states |= {number: "vetoed" for number in self.states if number > values["number"]}
                return [Call("record_emergency", (self.group, values["number"], *where))]
            case "Reclaimed":
                returned = (values["index"], values["owner"], values["amount"])
                return [Call("reclaim_deposit", (self.group, *returned, *where))]
            case "Closed":
                self.closed = True
                return [Call("record_closing", (self.group, *where))]
        return []

    def compare(self, state: State) -> None:
        """Halt unless the vault is in this state: otherwise the node has left out or made up events."""
        latest = max((number for number, one in self.states.items() if one in STANDING), default=0)
        ours = (self.deposits, self.cumulative, self.paid, self.emergency, latest)
        chains = (state.deposits, state.credited, state.paid, state.emergency, state.latest.number)
        if ours != chains:
            names = ("deposits", "their sum", "payments", "emergency", "the latest root")
            differences = [
                f"{name} {one} by its events and {other} in the vault"
                for name, one, other in zip(names, ours, chains, strict=True)
                if one != other
            ]
            raise Halt("inconsistent", f"group {self.group}: {', '.join(differences)}")
        if self.closed and state.is_open:
            raise Halt("inconsistent", f"group {self.group} is open in the vault, and was closed by its events")


def batches(group: int, calls: Iterable[tuple[Log, Call]], head: Block) -> Iterator[list[Call]]:
    """Divide calls into transactions, between two blocks; each ends with the block up to which it goes."""
    batch: list[Call] = []
    last: Log | None = None
    for log, call in calls:
        if last is not None and log.block != last.block and len(batch) >= BATCH:
            yield [*batch, Call("record_progress", (group, last.block, last.block_hash))]
            batch = []
        batch.append(call)
        last = log
    yield [*batch, Call("record_progress", (group, head.number, head.hash))]


def unknown_roots(planned: Iterable[list[Call]]) -> list[Call]:
    """Return the calls that record roots which the ledger did not make."""
    return [call for calls in planned for call in calls if call.function == "record_unknown_root"]


def write(ledger: Ledger, planned: Iterable[list[Call]]) -> int:
    """Record what was planned; return how many events that were."""
    events = 0
    for calls in planned:
        ledger.together(calls)
        events += len(calls) - 1
    return events
