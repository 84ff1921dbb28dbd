"""A chain of a test's own: anvil, one process for each run, which each test finds as new.

The binary is in a package of npm. It is fetched once, into .venv/anvil; without npm the tests that need it are skipped.
"""

from __future__ import annotations

import json
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests import npm
from tests.running.commands import free_port
from tests.support import until

MissingError = npm.MissingError

VERSION = "1.7.1"
PACKAGE = "@foundry-rs/anvil-linux-amd64"
SLOTS = 2  # of an epoch
FINAL = 2 * SLOTS  # blocks from the newest one down to the finalized one


def binary() -> Path:
    """Return the program, fetched if it is not there yet. Skips the test where that is impossible."""
    try:
        return fetched()
    except MissingError as error:
        pytest.skip(f"the chain of these tests {error}")


def fetched() -> Path:
    """Return the program, fetched if it is not there yet. Raises MissingError."""
    return npm.fetched("anvil", VERSION, [f"{PACKAGE}@{VERSION}"], f"{PACKAGE}/bin/anvil")


@dataclass(frozen=True)
class Anvil:
    """A node that makes a block of each transaction, at once. Its accounts hold 10,000 ether each."""

    url: str
    accounts: tuple[str, ...]

    def __call__(self, method: str, *parameters: object) -> Any:
        """Return the result of one request."""
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}
        request = urllib.request.Request(self.url, json.dumps(body).encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            result = json.load(answer)
        if "error" in result:
            raise NodeError(result["error"].get("message", ""), result["error"].get("data"))
        return result["result"]

    def mine(self, blocks: int = 1) -> None:
        self("anvil_mine", hex(blocks))

    def finalize(self) -> None:
        """Make everything up to the newest block final."""
        self.mine(FINAL)

    def pass_time(self, seconds: int) -> None:
        """Let time pass, in a block of its own, and make that final."""
        self("evm_increaseTime", seconds)
        self.mine()
        self.finalize()

    def number(self) -> int:
        return int(self("eth_blockNumber"), 16)

    def time(self) -> int:
        return int(self("eth_getBlockByNumber", "latest", False)["timestamp"], 16)

    def send(self, sender: str, to: str | None, data: str = "0x", value: int = 0) -> dict[str, Any]:
        """Have a transaction of one of its accounts mined, and return the receipt. Raises NodeError for a revert."""
        call = {"from": sender, "data": data, "value": hex(value)} | ({"to": to} if to else {})
        name = self("eth_sendTransaction", call)
        until(lambda: self("eth_getTransactionReceipt", name), "a receipt")
        receipt: dict[str, Any] = self("eth_getTransactionReceipt", name)
        assert receipt["status"] == "0x1", receipt
        return receipt

    def balance(self, address: str) -> int:
        return int(self("eth_getBalance", address, "latest"), 16)


class NodeError(Exception):
    """An answer of the node that is an error."""

    def __init__(self, message: str, data: object) -> None:
        super().__init__(message)
        self.data = data


@contextmanager
def running(*options: str) -> Iterator[Anvil]:
    """Run a node during this time."""
    port = free_port()
    always = ["--slots-in-an-epoch", str(SLOTS), "--hardfork", "cancun", "--silent"]
    with subprocess.Popen(
        [binary(), "--port", str(port), *always, *options], stdout=subprocess.DEVNULL, cwd="/"
    ) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            node = Anvil(url, ())

            def answers() -> bool:
                assert process.poll() is None, "anvil has ended"
                try:
                    return bool(node("eth_chainId"))
                except OSError:
                    return False

            until(answers, "anvil")
            yield Anvil(url, tuple(node("eth_accounts")))
        finally:
            process.kill()
