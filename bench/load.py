"""Requests, and their senders.

Closed loops (each connection sends its next request when it has the answer) are wrk's where it is installed, and an
event loop's otherwise, which takes more of the machine. Open loops (requests come at random times, whatever the answers
do, and wait from the moment they were due) are always the event loop's.

    python -m bench.load PORT FILE CONNECTIONS SECONDS RATE     a rate of 0 is a closed loop
"""

import asyncio
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast
from uuid import UUID

import uvloop

WRK = shutil.which("wrk")
LUA = Path(__file__).with_name("requests.lua")
ROOT = Path(__file__).parents[1]


class BenchError(Exception):
    """Why a figure cannot be measured."""


class NothingAnswered(BenchError):
    """No request was answered in time; none was refused either."""


@dataclass(frozen=True)
class Server:
    """Where requests go, and the secret of the API key that they carry, if they carry one."""

    port: int
    secret: str = ""

    @property
    def authorization(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.secret}"} if self.secret else {}


@dataclass(frozen=True)
class Group:
    """A group of the ledger and its participants, whose ids follow each other."""

    id: int
    first: int
    last: int


@dataclass(frozen=True)
class Outcome:
    """The result of a load: answers a second, and times to the answer in milliseconds."""

    rate: float
    p50: float
    p99: float
    p999: float
    late: float = 0.0  # an open loop's median lateness in sending


def request(method: str, path: str, body: str = "", headers: Iterable[str] = ()) -> bytes:
    """A request as it goes over the line."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *headers]
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", body]).encode()


def transfers(pairs: Iterator[tuple[int, int, int]], count: int, keyed: bool = False) -> Iterator[bytes]:
    """Transfers of 1 for (group, from, to), each with a key of its own if `keyed`."""
    for _ in range(count):
        group, sender, recipient = next(pairs)
        key = [f"Idempotency-Key: {UUID(int=random.getrandbits(128), version=4)}"] if keyed else []
        body = f'{{"from": {sender}, "to": {recipient}, "amount": 1}}'
        yield request("POST", f"/api/groups/{group}/transfer", body, key)


def spread(groups: list[Group]) -> Iterator[tuple[int, int, int]]:
    """Two of one group at random."""
    while True:
        group = random.choice(groups)
        sender = random.randint(group.first, group.last)
        recipient = random.randint(group.first, group.last - 1)
        yield group.id, sender, recipient + (recipient >= sender)


def from_one(group: Group) -> Iterator[tuple[int, int, int]]:
    """From the first to any other."""
    while True:
        yield group.id, group.first, random.randint(group.first + 1, group.last)


def lines(group: Group, count: int) -> str:
    """A multi-party transfer's list."""
    pairs = spread([group])
    return json.dumps([{"from": a, "to": b, "amount": 1} for _, a, b in (next(pairs) for _ in range(count))])


def send(
    server: Server, requests: Iterable[bytes], connections: int, seconds: float, rate: float = 0, once: bool = False
) -> Outcome:
    """Send requests for some seconds, from the first again at their end unless `once`.

    Raises BenchError where not every answer is a success, NothingAnswered where there was none.
    """
    with tempfile.NamedTemporaryFile() as file:
        count = write(file, requests, server)
        if WRK and not rate:
            options = ["-t", "1", "-c", str(connections), "-d", f"{max(1, round(seconds))}s", "--timeout", "30s"]
            result = run([WRK, *options, "-s", str(LUA), f"http://127.0.0.1:{server.port}/", "--", file.name])
        else:
            result = run(loop_command(server, file.name, connections, seconds, rate))
    if result["refused"] or result["broken"]:
        raise BenchError(f"not every request was answered with a success: {result}")
    if not result["requests"]:
        raise NothingAnswered(f"no request was answered in {seconds} seconds")
    if once and result["requests"] > count:
        raise BenchError(f"{result['requests']} requests were sent of {count} that differ")
    return Outcome(
        result["requests"] / result["seconds"], result["p50"], result["p99"], result["p99.9"], result.get("late", 0.0)
    )


def write(file: IO[bytes], requests: Iterable[bytes], server: Server) -> int:
    """Write requests to a server as their senders read them; return their number."""
    key = "".join(f"\r\n{name}: {value}\r\n" for name, value in server.authorization.items()).encode() or b"\r\n"
    count = 0
    for request in requests:
        request = request.replace(b"\r\n", key, 1)
        file.write(b"%d\n%s\n" % (len(request), request))
        count += 1
    file.flush()
    return count


def loop_command(server: Server, path: str, connections: int, seconds: float, rate: float = 0) -> list[str]:
    return [sys.executable, "-m", "bench.load", str(server.port), path, str(connections), str(seconds), str(rate)]


def run(command: list[str]) -> dict[str, float]:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"{command[0]} failed: {done.stderr or done.stdout}")
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


class Connection(asyncio.Protocol):
    """One connection: a request at a time, and how many of its answers were no success."""

    def __init__(self, sender: "Sender") -> None:
        self.sender = sender
        self.received = bytearray()
        self.due = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.WriteTransport, transport)
        self.sender.idle.append(self)

    def send(self, request: bytes, due: float) -> None:
        self.due = due
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self.received += data
        end = self.received.find(b"\r\n\r\n")
        if end < 0:
            return
        start = self.received.lower().find(b"content-length:", 0, end) + len(b"content-length:")
        length = int(self.received[start : self.received.find(b"\r\n", start)])
        if len(self.received) < end + 4 + length:
            return
        success = self.received[9:10] == b"2"
        self.received.clear()
        self.sender.answered(self, success)

    def connection_lost(self, error: Exception | None) -> None:
        self.sender.broken += not self.sender.over


class Sender:
    """A load: the requests of a file, over some connections."""

    def __init__(self, requests: list[bytes], rate: float) -> None:
        self.requests = requests
        self.rate = rate
        self.place = 0
        self.idle: list[Connection] = []
        self.due: deque[float] = deque()  # requests that found no idle connection
        self.times: list[float] = []
        self.late: list[float] = []
        self.refused = self.broken = 0
        self.over = False

    def start(self, connection: Connection, due: float) -> None:
        self.place += 1
        connection.send(self.requests[self.place % len(self.requests)], due)

    def answered(self, connection: Connection, success: bool) -> None:
        now = time.perf_counter()
        self.times.append(now - connection.due)
        self.refused += not success
        if self.over:
            return
        if not self.rate:
            self.start(connection, now)
        elif self.due:
            self.start(connection, self.due.popleft())
        else:
            self.idle.append(connection)

    async def run(self, port: int, connections: int, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(connections):
            await loop.create_connection(lambda: Connection(self), "127.0.0.1", port)
        began = time.perf_counter()
        if self.rate:
            due = began
            while due < began + seconds:
                due += random.expovariate(self.rate)
                if (pause := due - time.perf_counter()) > 0:
                    await asyncio.sleep(pause)
                self.late.append(time.perf_counter() - due)
                if self.idle:
                    self.start(self.idle.pop(), due)
                else:
                    self.due.append(due)
        else:
            for connection in self.idle:
                self.start(connection, began)
            await asyncio.sleep(seconds)
        self.over = True
        elapsed = time.perf_counter() - began
        times = sorted(1000 * seconds for seconds in self.times) or [0.0]
        result = {"requests": len(self.times), "seconds": elapsed, "refused": self.refused, "broken": self.broken}
        result |= {
            name: times[int(len(times) * share)] for name, share in (("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999))
        }
        late = sorted(1000 * seconds for seconds in self.late) or [0.0]
        print(json.dumps(result | {"late": late[len(late) // 2]}))


def read(path: Path) -> list[bytes]:
    requests = []
    with path.open("rb") as file:
        while length := file.readline():
            requests.append(file.read(int(length)))
            file.read(1)
    return requests


def main() -> None:
    port, path, connections, seconds, rate = sys.argv[1:]
    sender = Sender(read(Path(path)), float(rate))
    uvloop.run(sender.run(int(port), int(connections), float(seconds)))


if __name__ == "__main__":
    main()
