"""Pay the exits of a root in its window, with a key that can do nothing else.

Everybody may send a withdrawal, and the vault pays a leaf to its owner alone. So the payer's key is not trusted with
anything but the ether that it pays fees with.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bridge import contract
from bridge.chain import Chain, Refused
from bridge.ledger import Ledger
from bridge.publish import Group, header_of, word
from bridge.transactions import Outbox, Say

BATCH = 16  # leaves of one transaction; the vault takes 64
# Gas of a transaction, and of each leaf in it. A receiver may use less when it is estimated than in a block: with what
# was estimated it could make the payments of all others fail.
GAS, LEAF_GAS = 300_000, 220_000
MARGIN = 10  # the last such part of a window is too late to begin a payment


@dataclass(frozen=True)
class Payer:
    """The payer's key, and the least amount that it pays for without a request."""

    chain: Chain
    ledger: Ledger
    outbox: Outbox
    pay_from: int
    say: Say

    def work(self, group: Group) -> None:
        """Send the payments of a group's latest root, if it is in its window and none of them is on its way."""
        root = group.state.latest
        if group.row.emergency or not root.number or root.number != group.row.accepted_number:
            return
        now = self.chain.node.latest().time
        begin = root.published_at + group.terms.delay
        if not begin <= now < begin + group.terms.window - group.terms.window // MARGIN:
            return
        if any(row.group_id == group.id and row.purpose == "withdraw" for row in self.outbox.open()):
            return
        leaves = [leaf for leaf in self.ledger.rows("list_unpaid_exits", group.id, root.number) if self.wanted(leaf)]
        unpaid = [leaf for leaf in leaves if not self.spent(group, root.number, int(leaf.index))]
        for start in range(0, len(unpaid), BATCH):
            self.send(group, root.number, unpaid[start : start + BATCH])

    def wanted(self, leaf: Any) -> bool:
        """Whether the bridge pays an exit: one that was requested always, as nothing else answers the request."""
        return bool(leaf.requested) or (leaf.amount > 0 and leaf.amount >= self.pay_from)

    def spent(self, group: Group, number: int, index: int) -> bool:
        return bool(self.chain.node.call(group.vault, "spent", group.id, number, index, at="latest"))

    def send(self, group: Group, number: int, leaves: Sequence[Any]) -> None:
        header = header_of(self.ledger.row("get_checkpoint", group.id, number))
        read = [self.proof(group, int(leaf.participant_id), number) for leaf in leaves]
        if len(read) == 1:
            data = contract.call_data("withdraw", header, *read[0])
        else:
            data = contract.call_data("withdraw_many", header, [leaf for leaf, _ in read], [path for _, path in read])
        try:
            gas = GAS + LEAF_GAS * len(read)
            self.outbox.write(group.id, "withdraw", number, group.vault, data, gas)
        except Refused as error:
            # Somebody else has paid one just now, or the window has ended: the next round sees it.
            self.say("payment_refused", level="error", group_id=group.id, number=number, message=str(error)[:200])

    def proof(self, group: Group, participant: int, number: int) -> tuple[tuple[object, ...], list[tuple[int, bytes]]]:
        """Return a leaf and its siblings as the vault's structs."""
        proof = self.ledger.proof(group.id, participant, number)
        leaf = proof["leaf"]
        return (
            (leaf["index"], leaf["participant_id"], leaf["exit_entry"] or 0, leaf["owner"], leaf["amount"]),
            [(node["sum"], word(node["hash"])) for node in proof["siblings"]],
        )
