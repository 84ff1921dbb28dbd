"""What the service answers: groups, participants, entries and the rest. Amounts are ints, times are aware datetimes.

Members that this release does not know are ignored: the published interface only grows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, Literal, TypeVar

T = TypeVar("T")
Members = Mapping[str, Any]
Kind = Literal["join", "deposit", "transfer", "exit"]


@dataclass(frozen=True)
class Receipt:
    """What a write left behind: the entry, if it wrote one, and the idempotency key that it can be repeated with.

    `replayed` means that an earlier request with this key made the change. Answers of reads have an empty receipt.
    """

    idempotency_key: str | None = None
    entry_id: int | None = None
    replayed: bool = False


NO_RECEIPT = Receipt()


@dataclass(frozen=True)
class Group:
    """One off-chain ledger."""

    name: str
    id: int
    receipt: Receipt = field(default=NO_RECEIPT, compare=False, repr=False)

    @classmethod
    def read(cls, members: Members, receipt: Receipt = NO_RECEIPT) -> Group:
        return cls(members["name"], members["id"], receipt)


@dataclass(frozen=True)
class Participant:
    """A participant, with their balance."""

    username: str
    id: int
    group_id: int
    amount: int
    receipt: Receipt = field(default=NO_RECEIPT, compare=False, repr=False)

    @classmethod
    def read(cls, members: Members, receipt: Receipt = NO_RECEIPT) -> Participant:
        return cls(members["username"], members["id"], members["group_id"], int(members["amount"]), receipt)


@dataclass(frozen=True)
class Entry:
    """One row of the permanent record. A join or a deposit has no sender, an exit has no recipient."""

    id: int
    group_id: int
    kind: Kind
    from_id: int | None
    to_id: int | None
    amount: int
    from_amount: int | None  # the sender's balance after it
    to_amount: int | None  # the recipient's balance after it
    created_at: datetime
    metadata: dict[str, Any] | None
    reverses: int | None
    reversed_by: int | None
    reference: str | None  # the transaction on the main network that paid an exit out
    settled_at: datetime | None
    receipt: Receipt = field(default=NO_RECEIPT, compare=False, repr=False)

    @classmethod
    def read(cls, members: Members, receipt: Receipt = NO_RECEIPT) -> Entry:
        return cls(
            id=members["id"],
            group_id=members["group_id"],
            kind=members["kind"],
            from_id=members["from"],
            to_id=members["to"],
            amount=int(members["amount"]),
            from_amount=optional_amount(members["from_amount"]),
            to_amount=optional_amount(members["to_amount"]),
            created_at=datetime.fromisoformat(members["created_at"]),
            metadata=members["metadata"],
            reverses=members["reverses"],
            reversed_by=members["reversed_by"],
            reference=members["reference"],
            settled_at=optional_time(members["settled_at"]),
            receipt=receipt,
        )


@dataclass(frozen=True)
class Transfer:
    """Both participants after a transfer."""

    to_participant: Participant
    from_participant: Participant
    receipt: Receipt = field(default=NO_RECEIPT, compare=False, repr=False)

    @classmethod
    def read(cls, members: Members, receipt: Receipt = NO_RECEIPT) -> Transfer:
        to_participant, from_participant = members["to_participant"], members["from_participant"]
        return cls(Participant.read(to_participant), Participant.read(from_participant), receipt)


@dataclass(frozen=True)
class Movement:
    """One transfer of a list, with both balances after it."""

    id: int
    from_id: int
    to_id: int
    amount: int
    from_amount: int
    to_amount: int

    @classmethod
    def read(cls, members: Members) -> Movement:
        return cls(
            members["id"],
            members["from"],
            members["to"],
            int(members["amount"]),
            int(members["from_amount"]),
            int(members["to_amount"]),
        )


@dataclass(frozen=True)
class Transfers:
    """A list of transfers that was made, and the participants after it."""

    entries: list[Movement]
    participants: list[Participant]
    receipt: Receipt = field(default=NO_RECEIPT, compare=False, repr=False)

    @classmethod
    def read(cls, members: Members, receipt: Receipt = NO_RECEIPT) -> Transfers:
        entries = [Movement.read(entry) for entry in members["entries"]]
        return cls(entries, [Participant.read(participant) for participant in members["participants"]], receipt)


@dataclass(frozen=True)
class Joined:
    """One join of a list: its entry, and the participant who joined with an amount."""

    id: int
    participant_id: int
    amount: int

    @classmethod
    def read(cls, members: Members) -> Joined:
        return cls(members["id"], members["to"], int(members["amount"]))


@dataclass(frozen=True)
class Joins:
    """A list of joins that was made, and the participants who joined."""

    entries: list[Joined]
    participants: list[Participant]
    receipt: Receipt = field(default=NO_RECEIPT, compare=False, repr=False)

    @classmethod
    def read(cls, members: Members, receipt: Receipt = NO_RECEIPT) -> Joins:
        entries = [Joined.read(entry) for entry in members["entries"]]
        return cls(entries, [Participant.read(participant) for participant in members["participants"]], receipt)


@dataclass(frozen=True)
class ListSummary:
    """A list of transfers or joins that was made: the first and the last entry that were written, and their number."""

    first_entry_id: int
    last_entry_id: int
    count: int
    receipt: Receipt = field(default=NO_RECEIPT, compare=False, repr=False)

    @classmethod
    def read(cls, members: Members, receipt: Receipt = NO_RECEIPT) -> ListSummary:
        # A service may disregard a preference, as each one before release 1.1 does.
        if "entries" in members:
            entries = members["entries"]
            return cls(entries[0]["id"], entries[-1]["id"], len(entries), receipt)
        return cls(members["first_entry_id"], members["last_entry_id"], members["count"], receipt)


@dataclass(frozen=True)
class Exit:
    """An exit: the amount that the participant left with."""

    final_amount: int
    receipt: Receipt = field(default=NO_RECEIPT, compare=False, repr=False)

    @classmethod
    def read(cls, members: Members, receipt: Receipt = NO_RECEIPT) -> Exit:
        return cls(int(members["final_amount"]), receipt)


@dataclass(frozen=True)
class Address:
    """A participant's address on the main network; None while none is bound."""

    address: str | None
    receipt: Receipt = field(default=NO_RECEIPT, compare=False, repr=False)

    @classmethod
    def read(cls, members: Members, receipt: Receipt = NO_RECEIPT) -> Address:
        return cls(members["address"], receipt)


@dataclass(frozen=True)
class Checkpoint:
    """A commitment to what everybody in a group holds. `state` is there only where the money is in a vault."""

    group_id: int
    number: int
    chain_id: int
    vault: str
    previous: str
    deposits: int
    credited: int
    settled: int
    leaf_count: int
    total: int
    root: str
    header: str
    seal: str
    created_at: datetime
    state: str | None = None
    receipt: Receipt = field(default=NO_RECEIPT, compare=False, repr=False)

    @classmethod
    def read(cls, members: Members, receipt: Receipt = NO_RECEIPT) -> Checkpoint:
        return cls(
            group_id=members["group_id"],
            number=members["number"],
            chain_id=members["chain_id"],
            vault=members["vault"],
            previous=members["previous"],
            deposits=members["deposits"],
            credited=int(members["credited"]),
            settled=int(members["settled"]),
            leaf_count=members["leaf_count"],
            total=int(members["total"]),
            root=members["root"],
            header=members["header"],
            seal=members["seal"],
            created_at=datetime.fromisoformat(members["created_at"]),
            state=members.get("state"),
            receipt=receipt,
        )


@dataclass(frozen=True)
class Leaf:
    """A leaf of a checkpoint: a participant who is present, or an exit that is not settled yet."""

    index: int
    participant_id: int
    exit_entry: int | None
    owner: str
    amount: int

    @classmethod
    def read(cls, members: Members) -> Leaf:
        return cls(
            members["index"],
            members["participant_id"],
            members["exit_entry"],
            members["owner"],
            int(members["amount"]),
        )


@dataclass(frozen=True)
class Node:
    """A node beside the way from a leaf to the root."""

    sum: int
    hash: str

    @classmethod
    def read(cls, members: Members) -> Node:
        return cls(int(members["sum"]), members["hash"])


@dataclass(frozen=True)
class Proof:
    """A proof of a leaf. `document` is what `ledger verify-proof` reads, as JSON."""

    checkpoint: Checkpoint
    leaf: Leaf
    siblings: list[Node]
    document: dict[str, Any] = field(compare=False, repr=False)

    @classmethod
    def read(cls, members: Members) -> Proof:
        siblings = [Node.read(node) for node in members["siblings"]]
        return cls(Checkpoint.read(members["checkpoint"]), Leaf.read(members["leaf"]), siblings, dict(members))


@dataclass(frozen=True)
class StatementLine:
    """An entry as one participant sees it. Only a transfer has a counterparty."""

    id: int
    kind: Kind
    created_at: datetime
    counterparty_id: int | None
    counterparty_username: str | None
    change: int  # negative for what was sent, and for an exit
    balance: int  # after it
    metadata: dict[str, Any] | None

    @classmethod
    def read(cls, members: Members) -> StatementLine:
        return cls(
            id=members["id"],
            kind=members["kind"],
            created_at=datetime.fromisoformat(members["created_at"]),
            counterparty_id=members["counterparty_id"],
            counterparty_username=members["counterparty_username"],
            change=int(members["change"]),
            balance=int(members["balance"]),
            metadata=members["metadata"],
        )


@dataclass(frozen=True)
class Statement:
    """A page of a participant's entries of a period, with the balances at both ends of the whole period.

    `next_after` is the id that the next page begins after; None on the last page.
    """

    username: str
    id: int
    group_id: int
    opening_balance: int
    lines: list[StatementLine]
    closing_balance: int
    next_after: int | None

    @classmethod
    def read(cls, members: Members, next_after: int | None) -> Statement:
        return cls(
            username=members["username"],
            id=members["id"],
            group_id=members["group_id"],
            opening_balance=int(members["opening_balance"]),
            lines=[StatementLine.read(line) for line in members["lines"]],
            closing_balance=int(members["closing_balance"]),
            next_after=next_after,
        )


@dataclass(frozen=True)
class Page(Generic[T]):
    """One page of a list, and the query of the next page; None after the last one."""

    items: list[T]
    following: Mapping[str, str] | None


@dataclass(frozen=True)
class FeedPage:
    """One page of the feed, and the cursor after it."""

    entries: list[Entry]
    cursor: str | None


def optional_amount(value: str | int | None) -> int | None:
    return None if value is None else int(value)


def optional_time(value: str | None) -> datetime | None:
    return None if value is None else datetime.fromisoformat(value)
