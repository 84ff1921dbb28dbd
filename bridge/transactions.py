"""Send the transactions of one key so that each is carried out once, whatever ends the bridge in between.

A transaction is signed with a nonce, recorded in the database, and only then sent. Until its nonce is used in a final
block it is sent again: as it is, or with a higher fee under a ceiling where it waits or is underpriced. A transaction
that makes no sense any more is replaced by one that does nothing with the same nonce, and so is a nonce that is missing
below the others.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from eth_account.signers.local import LocalAccount
from eth_account.typed_transactions.typed_transaction import TypedTransaction
from eth_utils.crypto import keccak
from hexbytes import HexBytes

from bridge.chain import Block, Chain
from bridge.halts import Halt, Later
from bridge.ledger import Call, Ledger
from bridge.signer import OUTCOMES, Fees, Signer

PATIENCE = 180.0  # seconds that a transaction waits before its fee is raised
PLAIN_GAS = 21_000  # of a transaction that does nothing
ATTEMPTS = 20  # to raise the fee of an underpriced transaction in one round

Say = Callable[..., None]


@dataclass(frozen=True)
class Signed:
    """A recorded transaction, decoded."""

    raw: str
    hash: str
    gas: int
    fees: Fees
    to: str
    data: str


@dataclass
class Outbox:
    """The open transactions of a key. `ceiling` is the most wei for a unit of gas."""

    chain: Chain
    ledger: Ledger
    account: LocalAccount
    chain_id: int
    ceiling: int
    say: Say
    patience: float = PATIENCE
    sent_at: dict[int, float] = field(default_factory=dict)  # by nonce: when this raw was first sent by this process
    held: bool = False  # a fee is at the ceiling

    @property
    def sender(self) -> str:
        return self.signer.address

    @property
    def signer(self) -> Signer:
        return Signer(self.chain.node, self.account, self.chain_id, self.ceiling)

    def open(self) -> list[Any]:
        """Return the recorded transactions whose end is not final, by nonce."""
        rows = self.ledger.rows("list_transactions", self.chain_id, self.sender)
        return sorted(rows, key=lambda row: int(row.nonce))

    def final_nonce(self, head: Block) -> int:
        """Return how many nonces are used at a final block: on this depends what is sent again."""
        return self.chain.agreed(
            f"the nonce of {self.sender}",
            lambda node: node.number("eth_getTransactionCount", self.sender, hex(head.number)),
        )

    def compare(self, head: Block) -> None:
        """Halt if the last recorded nonce, which was used in a final block, is unused at this one."""
        ((last,),) = self.ledger.rows("last_nonce", self.chain_id, self.sender)
        if last is None or self.open():
            return
        used = self.final_nonce(head)
        if used <= last:
            raise Halt(
                "inconsistent",
                f"nonce {last} of {self.sender} was used in a final block, and is unused at block {head.number}",
            )
        if used > last + 1:
            # `ledger vault open`, say. What a restored database lacks shows in the vault's roots and payments.
            self.say("nonces_used_elsewhere", sender=self.sender, nonces=used - last - 1)

    def next_nonce(self) -> int:
        return max([self.signer.nonce("latest"), *(int(row.nonce) + 1 for row in self.open())])

    def check_quiet(self) -> None:
        """Wait while a transaction of this key is pending that the database does not have.

        It may be one of `ledger vault open`, say, or one that a restored database does not have.
        """
        if self.signer.nonce("pending") > self.next_nonce():
            raise Later(f"transactions of {self.sender} are pending that the database does not have")

    def settle(self, head: Block, makes_sense: Callable[[Any], bool]) -> list[Any]:
        """Record what has ended at a final block, and send the rest again. Return the rows that are still open."""
        self.held = False
        rows = self.open()
        if not rows:
            return []
        final, mined = self.final_nonce(head), self.signer.nonce("latest")
        if mined < final:
            raise Later(f"the node has fewer transactions of {self.sender} in its newest block than in a final one")
        for row in [row for row in rows if row.nonce < final]:
            self.finish(row, head)
        rows = [row for row in rows if row.nonce >= final]
        waiting = [row for row in rows if row.nonce >= mined]
        if waiting:
            block = self.chain.node.latest()
            self.fill(mined, waiting, block)
            for row in waiting:
                self.send_again(row, block, makes_sense(row))
        return rows

    def finish(self, row: Any, head: Block) -> None:
        """Record the end of a transaction whose nonce is used at a final block."""
        found = None
        for name in reversed(hashes(row)):
            receipt = self.chain.node.asked("eth_getTransactionReceipt", name)
            if receipt is not None:
                found = receipt
                break
        if found is None:
            # Final as it is: none of ours will ever be in a block. What it was for is decided by the vault's state.
            self.say("nonce_used_elsewhere", level="error", sender=self.sender, nonce=row.nonce)
            outcome = (hashes(row)[-1], head.number, False)
        else:
            block = int(found["blockNumber"], 16)
            if block > head.number:
                raise Later(f"the transaction with nonce {row.nonce} is in block {block}, which is not final")
            outcome = (str(found["transactionHash"]), block, int(found["status"], 16) == 1)
        self.ledger.row("finish_transaction", self.chain_id, self.sender, row.nonce, *outcome)
        self.sent_at.pop(row.nonce, None)
        name, block, succeeded = outcome
        self.say(
            "transaction_final",
            level=None if succeeded else "error",
            group_id=row.group_id,
            purpose=row.purpose,
            number=row.number,
            nonce=row.nonce,
            transaction=name,
            block=block,
            succeeded=succeeded,
        )

    def fill(self, mined: int, waiting: list[Any], block: Block) -> None:
        """Use the nonces that are missing below the recorded ones: without them none of those is ever mined."""
        known = {int(row.nonce) for row in waiting}
        for nonce in range(mined, max(known)):
            if nonce not in known:
                self.say("nonce_gap", level="error", sender=self.sender, nonce=nonce)
                row = next(row for row in waiting if row.nonce > nonce)
                raw = self.signer.sign(nonce, self.sender, "0x", PLAIN_GAS, self.signer.fees(block))
                self.record(nonce, row.group_id, row.purpose, row.number, raw)
                self.deliver(raw)

    def send_again(self, row: Any, block: Block, makes_sense: bool) -> None:
        """Send a transaction that no block has, with a higher fee where that is needed."""
        now = time.monotonic()
        signed = decode(row.raw)
        first = row.nonce not in self.sent_at
        self.sent_at.setdefault(row.nonce, now)
        wanted = self.signer.fees(block)
        nothing = signed.to.lower() == self.sender.lower()
        starves = min(signed.fees.tip, signed.fees.most - block.base_fee) < wanted.tip // 2
        waits = now - self.sent_at[row.nonce] > self.patience
        if (makes_sense or nothing) and not (starves or waits):
            answer = self.deliver(row.raw)
            if answer != "underpriced":
                if first:
                    self.say("transaction_sent_again", nonce=row.nonce, transaction=signed.hash)
                return
        to, data, gas = (signed.to, signed.data, signed.gas) if makes_sense else (self.sender, "0x", PLAIN_GAS)
        for _ in range(ATTEMPTS):
            fees = self.signer.raised(signed.fees, wanted)
            if fees is None:
                self.held = True
                self.say("fee_ceiling", level="error", nonce=row.nonce, base_fee=block.base_fee, ceiling=self.ceiling)
                self.deliver(signed.raw)
                return
            raw = self.signer.sign(row.nonce, to, data, gas, fees)
            self.record(row.nonce, row.group_id, row.purpose, row.number, raw)
            self.sent_at[row.nonce] = now
            signed = decode(raw)
            self.say(
                "transaction_replaced",
                group_id=row.group_id,
                purpose=row.purpose if makes_sense else "nothing",
                nonce=row.nonce,
                transaction=signed.hash,
                fee=fees.most,
            )
            if self.deliver(raw) != "underpriced":
                return

    def write(self, group: int, purpose: str, number: int, to: str, data: str, least_gas: int = 0) -> bool:
        """Sign, record and send a transaction with at least so much gas; return False if it has to wait.

        Raises Refused if the vault refuses it.
        """
        node = self.chain.node
        block = node.latest()
        fees = self.signer.fees(block)
        if fees.most < block.base_fee:
            self.held = True
            self.say("fee_ceiling", level="error", group_id=group, base_fee=block.base_fee, ceiling=self.ceiling)
            return False
        estimated = node.request("eth_estimateGas", {"from": self.sender, "to": to, "data": data})
        nonce = self.next_nonce()
        self.check_quiet()
        gas = max(int(estimated, 16) * 6 // 5, least_gas)
        raw = self.signer.sign(nonce, to, data, gas, fees)
        self.record(nonce, group, purpose, number, raw)
        self.sent_at[nonce] = time.monotonic()
        signed = decode(raw)
        self.say(
            "transaction_sent",
            group_id=group,
            purpose=purpose,
            number=number,
            nonce=nonce,
            transaction=signed.hash,
            fee=fees.most,
        )
        self.deliver(raw)
        return True

    def record(self, nonce: int, group: int, purpose: str, number: int, raw: str) -> None:
        self.ledger.together(
            [Call("record_transaction", (self.chain_id, self.sender, nonce, group, purpose, number, raw))]
        )

    def deliver(self, raw: str) -> str:
        """Send a transaction; return sent, known, used, underpriced or refused."""
        outcome = self.signer.deliver(raw)
        if outcome in OUTCOMES:
            return outcome
        self.say("transaction_refused", level="error", transaction=decode(raw).hash, message=outcome[:200])
        return "refused"


def hashes(row: Any) -> list[str]:
    """Return the hashes of all transactions that were recorded for a nonce, the oldest first."""
    return [decode(raw).hash for raw in row.raws]


def decode(raw: str) -> Signed:
    """Decode a signed transaction of type 2."""
    content = bytes.fromhex(raw.removeprefix("0x"))
    fields = TypedTransaction.from_bytes(HexBytes(content)).as_dict()
    to = fields["to"]
    return Signed(
        raw,
        "0x" + keccak(content).hex(),
        int(fields["gas"]),
        Fees(int(fields["maxFeePerGas"]), int(fields["maxPriorityFeePerGas"])),
        to if isinstance(to, str) else "0x" + bytes(to).hex(),
        "0x" + bytes(fields["data"]).hex(),
    )
