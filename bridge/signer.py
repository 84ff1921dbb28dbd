"""Sign and send transactions of one key, with fees that rise under a ceiling."""

import argparse
import re
import time
from dataclasses import dataclass
from typing import Any

from eth_account.signers.local import LocalAccount
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from bridge import keys
from bridge.chain import Block, Node, Refused
from bridge.halts import Later, Refusal

GWEI = 10**9
LEAST_TIP = GWEI // 10  # wei for a unit of gas, where the node suggests less
PAUSE = 1.0  # seconds between two looks at whether a transaction is mined
PATIENCE = 60.0  # seconds that a transaction waits before its fee is raised

KNOWN = re.compile("already known|known transaction|already imported|already exists", re.IGNORECASE)
USED = re.compile("nonce too low|nonce is too low|already been used|oldnonce", re.IGNORECASE)
UNDERPRICED = re.compile("underpriced|fee too low|less than block base fee|feetoolow|gas price too low", re.IGNORECASE)
OUTCOMES = ("sent", "known", "used", "underpriced")  # of sending a transaction, other than a refusal


@dataclass(frozen=True)
class Fees:
    """What a transaction pays for a unit of gas, in wei: at most, and to the block's maker."""

    most: int
    tip: int


@dataclass(frozen=True)
class Signer:
    """A key on a chain. `ceiling` is the most wei for a unit of gas."""

    node: Node
    account: LocalAccount
    chain_id: int
    ceiling: int

    @property
    def address(self) -> str:
        return str(self.account.address)

    def nonce(self, at: str = "latest") -> int:
        return self.node.number("eth_getTransactionCount", self.address, at)

    def balance(self) -> int:
        return self.node.number("eth_getBalance", self.address, "latest")

    def fees(self, block: Block) -> Fees:
        """Return what a new transaction pays: enough for some blocks of rising fees, at most the ceiling."""
        try:
            suggested = int(self.node.request("eth_maxPriorityFeePerGas"), 16)
        except (Refused, TypeError, ValueError):
            suggested = GWEI
        tip = max(suggested, LEAST_TIP)
        most = min(2 * block.base_fee + tip, self.ceiling)
        return Fees(most, min(tip, most))

    def raised(self, old: Fees, wanted: Fees) -> Fees | None:
        """Return fees that replace old ones: nodes want both a tenth higher. None above the ceiling."""
        least_most, least_tip = old.most + old.most // 8 + 1, old.tip + old.tip // 8 + 1
        most, tip = max(wanted.most, least_most), max(wanted.tip, least_tip)
        if least_most > self.ceiling:
            return None
        most = min(max(most, tip), self.ceiling)
        return Fees(most, min(tip, most))

    def sign(self, nonce: int, to: str | None, data: str, gas: int, fees: Fees) -> str:
        """Return a signed transaction as hex; without `to` it makes a contract."""
        transaction: dict[str, Any] = {
            "type": 2,
            "chainId": self.chain_id,
            "nonce": nonce,
            "value": 0,
            "data": data,
            "gas": gas,
            "maxFeePerGas": fees.most,
            "maxPriorityFeePerGas": fees.tip,
        }
        if to is not None:
            transaction["to"] = to_checksum_address(to)
        return "0x" + bytes(self.account.sign_transaction(transaction).raw_transaction).hex()

    def deliver(self, raw: str) -> str:
        """Send a transaction; return sent, known, used or underpriced, or the node's words.

        Raises Later without an answer; then it may have arrived.
        """
        try:
            self.node.request("eth_sendRawTransaction", raw)
        except Refused as error:
            for outcome, pattern in (("known", KNOWN), ("used", USED), ("underpriced", UNDERPRICED)):
                if pattern.search(str(error)):
                    return outcome
            return str(error)
        return "sent"

    def estimate(self, to: str | None, data: str) -> int:
        """Return how much gas a transaction may use. Raises Refused with the vault's words if it would be reverted."""
        call = {"from": self.address, "data": data} | ({} if to is None else {"to": to})
        return int(self.node.request("eth_estimateGas", call), 16) * 5 // 4

    def carry_out(self, to: str | None, data: str, gas: int = 0, patience: float = PATIENCE) -> dict[str, Any]:
        """Send a transaction with at least so much gas, wait until it is in a block, and return its receipt.

        Raises Refusal where the vault or the node refuses it, and Later where the node does not answer.
        """
        try:
            gas = max(self.estimate(to, data), gas)
        except Refused as error:
            words = f"the vault refuses it: {error.reason}" if error.reason else f"the node refuses it: {error}"
            raise Refusal(words) from None
        nonce, fees = self.nonce("pending"), self.fees(self.node.latest())
        hashes: list[str] = []
        while True:
            raw = self.sign(nonce, to, data, gas, fees)
            hashes.append("0x" + keccak(bytes.fromhex(raw[2:])).hex())
            outcome = self.deliver(raw)
            if outcome not in OUTCOMES:
                raise Refusal(f"the node refuses the transaction: {outcome[:200]}")
            deadline = time.monotonic() + (0 if outcome == "underpriced" else patience)
            while True:
                for each in hashes:
                    receipt = self.node.asked("eth_getTransactionReceipt", each)
                    if receipt is not None:
                        if int(receipt["status"], 16) != 1:
                            raise Refusal(f"transaction {each} was reverted")
                        return dict(receipt)
                if time.monotonic() > deadline:
                    break
                time.sleep(PAUSE)
            if outcome == "used" or self.nonce() > nonce:
                raise Refusal(f"another transaction of {self.address} took its place: look, and try again")
            higher = self.raised(fees, self.fees(self.node.latest()))
            if higher is None:
                raise Later(f"transaction {hashes[-1]} waits with the highest fee that is allowed")
            fees = higher


def opened_key(options: argparse.Namespace, name: str) -> LocalAccount:
    """Open the key that the options name, or the credential of the unit with that name. Raises Refusal."""
    path = options.key or keys.credential(f"{name}-key")
    passphrase = options.passphrase_file or keys.credential(f"{name}-passphrase")
    if path is None or passphrase is None:
        raise Refusal("say which key sends it: --key and --passphrase-file")
    return keys.read_key(path, passphrase)
