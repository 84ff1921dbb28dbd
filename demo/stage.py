"""The chain, the service, the bridge and the guardian of the demonstration, in a folder of its own."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.ledgers import environment, free_port
from bridge import contract
from tests.anvil import Anvil, running

LEDGER = Path(sys.executable).parent / "ledger"
KEYS = ("publisher", "payer", "guardian")
PATIENCE = 120.0  # seconds
BLOCK = 0.25  # seconds between two blocks
END = 30.0  # seconds that a process has to end


class Failed(Exception):
    """Why the demonstration cannot go on, in a line."""


@dataclass
class Stage:
    """What runs, and what has been made of it so far."""

    folder: Path
    node: Anvil
    port: int
    vault: str = ""
    group: int = 0
    addresses: dict[str, str] = field(default_factory=dict)  # of the keys
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    # Commands

    @property
    def mirror(self) -> Path:
        return self.folder / "mirror"

    def environment(self) -> dict[str, str]:
        return environment(self.folder / "data") | {"LEDGER_RPC": self.node.url}

    def key(self, name: str, *options: str) -> list[str]:
        """The options that name a key and what opens it."""
        key, opens = options or ("--key", "--passphrase-file")
        return [key, str(self.folder / f"{name}.json"), opens, str(self.folder / "passphrase")]

    def run(self, *words: object, key: str | None = None) -> str:
        """Run a command to its end, and return its output. Raises Failed."""
        command = [str(LEDGER), *map(str, words), *(self.key(key) if key else [])]
        ended = subprocess.run(command, env=self.environment(), capture_output=True, text=True, timeout=PATIENCE)
        if ended.returncode != 0:
            raise Failed(f"ledger {words[0]} {words[1]}: {ended.stderr.strip()}")
        return ended.stdout.strip()

    def start(self, name: str, *words: object) -> None:
        """Start a command that goes on, with its log in a file of its name."""
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [str(LEDGER), *map(str, words)],
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the demonstration, which ends them
            )

    def stop(self, *names: str) -> None:
        for name in names:
            process = self.processes.pop(name)
            process.terminate()
            try:
                process.wait(END)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def log(self, name: str) -> list[dict[str, Any]]:
        """The lines of JSON that a command has written."""
        lines = (self.folder / f"{name}.log").read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def until(self, condition: Callable[[], Any], what: str) -> Any:
        """Wait for something. Raises Failed if a process has ended instead, or nothing happens."""
        deadline = time.monotonic() + PATIENCE
        while not (found := condition()):
            for name, process in self.processes.items():
                if process.poll() is not None:
                    log = (self.folder / f"{name}.log").read_text().strip()
                    raise Failed(f"the {name} has ended: {log.splitlines()[-1] if log else process.returncode}")
            if time.monotonic() > deadline:
                raise Failed(f"waited in vain for {what}")
            time.sleep(0.1)
        return found

    # The ledger

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """The data of an answer of the service."""
        content = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/api{path}",
            content,
            {"Content-Type": "application/json", "Prefer": "amounts=string"},
            method=method,
        )
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:  # noqa: S310
            return json.load(answer)["data"]

    def answers(self) -> bool:
        try:
            return bool(self.ask("GET", "/health"))
        except OSError:
            return False

    def participants(self) -> dict[str, dict[str, Any]]:
        """The participants present, by the address that is their name."""
        return {one["username"].lower(): one for one in self.ask("GET", f"/groups/{self.group}/participants")}

    # The chain

    def view(self, name: str, *arguments: object, at: str = "latest") -> Any:
        data = contract.call_data(name, *arguments)
        return contract.returned(name, self.node("eth_call", {"to": self.vault, "data": data}, at))

    def finalized(self, name: str, *arguments: object) -> Any:
        return self.view(name, *arguments, at="finalized")

    def deposit(self, owner: str, wei: int) -> None:
        self.node.send(owner, self.vault, contract.call_data("deposit", self.group, owner), wei)

    def pass_time(self, seconds: int) -> None:
        self.node("evm_increaseTime", seconds)
        self.node.mine()

    def latest(self) -> int:
        """The number of the latest root."""
        return int(self.view("latest", self.group)[0])

    def mirrored(self, number: int) -> Path | None:
        """The snapshot of a root that the guardian has found clean."""
        file = self.mirror / str(self.group) / f"{number}.json"
        return file if file.exists() else None


@contextmanager
def opened() -> Iterator[Stage]:
    """Start a chain that makes blocks, and make the keys; stop everything in the end."""
    with ExitStack() as stack:
        folder = stack.enter_context(temporary_folder())
        node = stack.enter_context(running())
        stage = Stage(folder, node, free_port())
        stack.callback(lambda: stage.stop(*reversed(stage.processes)))
        stack.enter_context(blocks(node))
        (folder / "mirror").mkdir()
        (folder / "passphrase").touch(0o600)
        (folder / "passphrase").write_text(secrets.token_hex())
        for name in KEYS:
            made = stage.run("bridge", "key", folder / f"{name}.json", "--passphrase", folder / "passphrase")
            stage.addresses[name] = made
            node("anvil_setBalance", made, hex(10**18))
        yield stage


@contextmanager
def temporary_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ledger-demo-", ignore_cleanup_errors=True) as path:
        folder = Path(path)
        folder.chmod(0o711)  # the embedded PostgreSQL of root runs as another account
        yield folder


@contextmanager
def blocks(node: Anvil) -> Iterator[None]:
    """Make blocks, as other chains do without being asked."""
    ended = threading.Event()

    def make() -> None:
        while not ended.wait(BLOCK):
            node.mine()

    thread = threading.Thread(target=make, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
