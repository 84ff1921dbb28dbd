"""Hostile clients, each of one kind, and what another client and the machine notice of them.

python -m bench.hostile PORT GROUP KIND [SECRET]     attack a service until killed
"""

import asyncio
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import uvloop

from bench.ledgers import Ledger
from bench.load import ROOT, BenchError, Group, loop_command, run, spread, transfers, write

MIB = 1 << 20  # bytes
LOOK_EVERY = 0.02  # seconds between two looks at the memory


@dataclass(frozen=True)
class Attack:
    """The connections of a hostile client, and what it sends on each: after each answer, or once if it reads none."""

    connections: int
    sent: Callable[[int], bytes]  # of a group
    reads: bool = True


def posted(path: str, body: bytes, missing: int = 0) -> bytes:
    """A request whose body lacks so many bytes."""
    head = f"POST {path} HTTP/1.1\r\nHost: ledger\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body) + missing}\r\n\r\n".encode() + body


def many(item: str, size: int, before: str = "[", after: str = "]") -> bytes:
    """A JSON list, or an object that holds it, of about so many bytes."""
    count = (size - len(before) - len(after)) // (len(item.encode()) + 1)
    return (before + ",".join([item] * count) + after).encode()


def transfer(metadata: str) -> str:
    return f'{{"from": 1, "to": 2, "amount": 1, "metadata": {{"a": {metadata}}}}}'


def to_transfers(item: str, size: int) -> Callable[[int], bytes]:
    return lambda group: posted(f"/api/groups/{group}/transfers", many(item, size, '{"transfers": [', "]}"))


def to_transfer(item: str, size: int) -> Callable[[int], bytes]:
    before, after = transfer("[*]").split("*")
    return lambda group: posted(f"/api/groups/{group}/transfer", many(item, size, before, after))


def pages(path: str, times: int = 1) -> Callable[[int], bytes]:
    return lambda group: f"GET {path.format(group)} HTTP/1.1\r\nHost: ledger\r\n\r\n".encode() * times


ATTACKS = {
    "300 kB of numbers with 4,097 digits": Attack(16, to_transfer("1e4096", 300_000)),
    "1 MiB of numbers with 4,097 digits": Attack(16, to_transfer("1e4096", MIB - 64)),
    "10,000 lines of such numbers": Attack(4, to_transfers(transfer("[1e4000,1e4000,1e4000]"), 860_000)),
    "15 MiB of ones instead of lines": Attack(3, to_transfers("1", 15 * MIB)),
    "1 MiB of ones instead of lines": Attack(16, to_transfers("1", MIB - 64)),
    "15 MiB of lines": Attack(3, to_transfers(transfer('"' + 1600 * "x" + '"'), 15 * MIB)),
    "15 MiB of lines of emoji": Attack(3, to_transfers(transfer('"' + 400 * "\N{ABACUS}" + '"'), 15 * MIB)),
    "1 MiB of escapes": Attack(16, to_transfer('"' + 1600 * "\\u0041" + '"', MIB - 64)),
    "500 requests that do not end": Attack(
        500, lambda group: posted(f"/api/groups/{group}/transfer", b" " * (MIB - 1), missing=1), reads=False
    ),
    "500 who do not read documentation": Attack(500, pages("/api/docs/5.31.0/swagger-ui-bundle.js", 20), reads=False),
    "500 who do not read pages": Attack(500, pages("/api/groups/{}/participants", 20), reads=False),
    "1,000 long polls": Attack(1000, pages("/api/entries?wait=30")),
    "3,000 long polls": Attack(3000, pages("/api/entries?wait=30")),
}


async def attack(port: int, key: bytes, attack: Attack, group: int) -> None:
    """Attack a service until cancelled."""
    sent = attack.sent(group).replace(b"Host: ledger\r\n", b"Host: ledger\r\n" + key)
    await asyncio.gather(*(attack_on_one(port, key, sent, attack.reads) for _ in range(attack.connections)))


async def attack_on_one(port: int, key: bytes, sent: bytes, reads: bool) -> None:
    """Attack on one connection at a time. Where there is a next page, it is asked for next."""
    while True:
        with suppress(OSError, EOFError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=MIB)
            try:
                following = sent
                while True:
                    writer.write(following)
                    if not reads:
                        writer.transport.pause_reading()  # type: ignore[attr-defined]
                        await writer.drain()
                        await writer.wait_closed()
                    following = following_page(await answer(reader), key) or sent
            finally:
                writer.transport.abort()
        await asyncio.sleep(0.1)


async def answer(reader: asyncio.StreamReader) -> bytes:
    """The head of an answer that is read to its end."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    await reader.readexactly(int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0))
    return head


def following_page(head: bytes, key: bytes) -> bytes | None:
    path = head.partition(b"link: <")[2].partition(b">")[0]
    return b"GET %b&wait=30 HTTP/1.1\r\nHost: ledger\r\n%b\r\n" % (path, key) if path else None


@dataclass(frozen=True)
class Noticed:
    """Another client's times in milliseconds and how many of its requests were refused; bytes of memory at the most."""

    p50: float
    p99: float
    refused: int
    worker: int
    backend: int


def under_attack(ledger: Ledger, groups: list[Group], kind: str, seconds: float = 4, before: float = 2) -> Noticed:
    """Measure how an attack slows a client down that makes transfers on four connections.

    The attack is `before` seconds old at its start. Raises BenchError.
    """
    command = [sys.executable, "-m", "bench.hostile", str(ledger.server.port), str(groups[0].id), kind]
    with tempfile.NamedTemporaryFile() as file, memory_of(ledger) as most:
        write(file, transfers(spread(groups), 20_000), ledger.server)
        attacker = subprocess.Popen([*command, ledger.server.secret], cwd=ROOT)
        try:
            time.sleep(before)
            outcome = run(loop_command(ledger.server, file.name, 4, seconds))
            if attacker.poll() is not None:
                raise BenchError(f"the attacker ended with {attacker.returncode}")
        finally:
            attacker.kill()
            attacker.wait()
    return Noticed(outcome["p50"], outcome["p99"], int(outcome["refused"] + outcome["broken"]), *most)


@contextmanager
def memory_of(ledger: Ledger) -> Iterator[list[int]]:
    """The most private bytes of the worker and of a backend while the context lasts."""
    most = [0, 0]
    over = threading.Event()

    def look() -> None:
        while not over.wait(LOOK_EVERY):
            most[0] = max(most[0], private_bytes(ledger.worker.pid))
            most[1] = max([most[1], *(private_bytes(child.pid) for child in ledger.postmaster.children())])

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield most
    finally:
        over.set()
        thread.join()


def private_bytes(pid: int) -> int:
    with suppress(OSError, IndexError):  # a process that has ended has none
        status = Path(f"/proc/{pid}/status").read_text()
        return 1024 * int(status.partition("RssAnon:")[2].split()[0])
    return 0


def main() -> None:
    port, group, kind, secret = sys.argv[1:]
    key = f"Authorization: Bearer {secret}\r\n".encode() if secret else b""
    uvloop.run(attack(int(port), key, ATTACKS[kind], int(group)))


if __name__ == "__main__":
    main()
