"""Publish checkpoints: as often as the vault's silence needs, and at once when an exit waits.

A group has one root in flight at most. Its publication is prepared (the checkpoint is made), accepted once the event
Published is final, and closed once its window is over in a final block, so that all its payments have been followed.
Only then is the next one made: it commits to what was paid.
"""

from dataclasses import dataclass
from typing import Any

from bridge import contract
from bridge.chain import Block, Chain, Refused, State, Terms
from bridge.halts import Halt, Later
from bridge.ledger import Call, Ledger
from bridge.transactions import Outbox, Say

CADENCES = 4  # roots in one silence
SETTLED = 200  # exits of 0 that one round settles in a group
# Reasons of the vault to refuse a checkpoint in the place of which another one may be made: it has waited for longer
# than a silence beside a deposit; or its number was used by a root that was vetoed before the database was restored.
TOO_OLD, USED = "deposit left out", "number"


@dataclass(frozen=True)
class Group:
    """A group in this round: its row of get_vault, and what the chain has of it at the newest final block."""

    row: Any
    state: State
    terms: Terms

    @property
    def id(self) -> int:
        return int(self.row.group_id)

    @property
    def vault(self) -> str:
        return str(self.row.vault)


@dataclass(frozen=True)
class Publisher:
    """The publisher's key, and the least amount of an exit that the bridge pays."""

    chain: Chain
    ledger: Ledger
    outbox: Outbox
    pay_from: int
    say: Say

    def newest(self, group: Group) -> Any:
        """Return the newest publication of a group, or None."""
        rows = self.ledger.rows("list_publications", group.id)
        return max(rows, key=lambda row: int(row.number), default=None)

    def work(self, group: Group, head: Block) -> None:
        """Take a group one step further."""
        newest = self.newest(group)
        if newest is not None and newest.state == "accepted" and over(group, head):
            self.close(group, newest, head)
            newest = self.newest(group)
        if group.row.emergency or group.row.closed or not group.state.is_open:
            return
        if newest is None or newest.state not in ("prepared", "accepted"):
            if not self.due(group, newest):
                return
            self.check_quiet(group)
            self.ledger.rows("prepare_publication", group.id)
            newest = self.newest(group)
        if newest.state == "prepared":
            self.send(group, newest, head)

    def close(self, group: Group, publication: Any, head: Block) -> None:
        """Close a publication whose window is over; settle the exits of 0 in it, which were not paid.

        Not before: while the root before this one was ripe, its participants could still request their exits, which
        only a payment answers.
        """
        number = int(publication.number)
        calls: list[Call] = []
        for leaf in self.ledger.rows("list_unpaid_exits", group.id, number):
            if len(calls) == SETTLED:
                # Free exits of one group do not keep all others waiting: the next round goes on.
                self.ledger.together(calls)
                return
            if leaf.amount == 0 and not leaf.requested and not self.requested(group, leaf, head):
                arguments = (leaf.participant_id, leaf.exit_entry, leaf.owner, 0, None, None, None)
                calls.append(Call("settle_payout", (group.id, *arguments)))
        self.ledger.together([*calls, Call("record_publication", (group.id, number, "closed", None, None))])
        self.say("publication_closed", group_id=group.id, number=number, settled_without_payment=len(calls))

    def requested(self, group: Group, leaf: Any, head: Block) -> bool:
        """Whether the vault has an unanswered request of a leaf's participant."""
        at: int = self.chain.agreed(
            f"the requests of group {group.id}",
            lambda node: node.call(
                group.vault, "requested", group.id, int(leaf.participant_id), leaf.owner, at=head.number
            ),
        )
        return at > 0

    def due(self, group: Group, newest: Any) -> bool:
        """Whether a group needs a root now."""
        now = self.chain.node.latest().time
        latest = group.state.latest
        cycle = group.terms.delay + group.terms.window
        if latest.number and now < latest.published_at + cycle:
            return False
        if newest is not None and newest.state == "vetoed" and newest.block is not None:
            # What one veto has stopped is published again no sooner than any other root.
            block = self.chain.block(int(newest.block))
            if block is not None and now < block.time + cycle:
                return False
        if self.waiting(group):
            return True
        held = group.state.held > 0
        return held and (not latest.number or now >= latest.published_at + group.terms.silence // CADENCES)

    def check_quiet(self, group: Group) -> None:
        """Wait while something is on its way that the database does not have, as after a restore."""
        latest = self.chain.node.call(group.vault, "latest", group.id, at="latest")
        if latest[0] != group.state.latest.number:
            raise Later(f"root {latest[0]} of group {group.id} is not final yet")
        self.outbox.check_quiet()

    def waiting(self, group: Group) -> bool:
        """Whether an exit waits that the bridge would pay."""
        exits = self.ledger.rows("list_open_exits", group.id)
        return any(one.requested or one.amount >= max(self.pay_from, 1) for one in exits)

    def send(self, group: Group, publication: Any, head: Block) -> None:
        """Send a prepared checkpoint to the vault, unless a transaction of it is open."""
        number = int(publication.number)
        if any(
            row.group_id == group.id and row.purpose == "publish" and row.number == number for row in self.outbox.open()
        ):
            return
        checkpoint = self.ledger.row("get_checkpoint", group.id, number)
        data = contract.call_data("publish", header_of(checkpoint))
        try:
            self.outbox.write(group.id, "publish", number, group.vault, data)
        except Refused as error:
            self.refused(group, publication, data, head, error)

    def refused(self, group: Group, publication: Any, data: str, head: Block, error: Refused) -> None:
        """Decide what a refusal by the vault means: wait, abandon the checkpoint, or halt."""
        call = {"from": self.outbox.sender, "to": group.vault, "data": data}
        try:
            self.chain.node.request("eth_call", call, hex(head.number))
        except Refused:
            pass
        else:
            raise Later(f"the vault refuses root {publication.number} of group {group.id} for now: {error}")
        if error.reason == "in flight":
            raise Later(f"the root before {publication.number} of group {group.id} is in flight")
        others = self.ledger.rows("list_publications", group.id)
        again = any(row.state == "abandoned" and row.number == publication.number - 1 for row in others)
        if not (error.reason == USED or (error.reason == TOO_OLD and not again)):
            raise Halt("unpublishable", f"the vault refuses root {publication.number} of group {group.id}: {error}")
        self.ledger.together([Call("record_publication", (group.id, publication.number, "abandoned", None, None))])
        reason = error.reason
        self.say("publication_abandoned", level="error", group_id=group.id, number=publication.number, reason=reason)


def over(group: Group, head: Block) -> bool:
    """Whether the window of the latest root is over in a final block."""
    root = group.state.latest
    if group.state.emergency:
        return False
    return root.number > 0 and head.time >= root.published_at + group.terms.delay + group.terms.window


def header_of(checkpoint: Any) -> tuple[object, ...]:
    """Return a checkpoint as the vault's struct Header."""
    return (
        int(checkpoint.group_id),
        int(checkpoint.number),
        word(checkpoint.previous),
        int(checkpoint.deposits),
        int(checkpoint.credited),
        int(checkpoint.settled),
        int(checkpoint.leaf_count),
        int(checkpoint.total),
        word(checkpoint.root),
    )


def word(value: str) -> bytes:
    return bytes.fromhex(value.removeprefix("0x"))
