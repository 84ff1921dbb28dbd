"""A bank's clients: they move money in groups whose sums are known, and repeat each request until it is answered."""

import asyncio
import json
import random
import time
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from bench.load import Server, request
from chaos.history import TOO_MUCH, Checkpoint, History, Movement

PATIENCE = 5.0  # seconds that a client waits for an answer before it repeats the request
PAUSE = 0.1  # seconds before it does
UNANSWERED = (OSError, EOFError, asyncio.IncompleteReadError, TimeoutError)
OUTCOME_UNKNOWN = 504
REPEATED = (503, OUTCOME_UNKNOWN)  # 503 says that nothing was done
CLIENTS = 32
BANKS = 2  # groups
PARTICIPANTS = 40  # of each
DEPOSIT = 1_000_000


@dataclass(frozen=True)
class Answer:
    """An answer that is final."""

    status: int
    headers: dict[str, str]
    data: Any

    @property
    def entry(self) -> int:
        return int(self.headers["ledger-entry"])


@dataclass(frozen=True)
class Group:
    """A group whose sum no transfer changes."""

    id: int
    participants: list[int]

    @property
    def total(self) -> int:
        return DEPOSIT * len(self.participants)


class Client:
    """One client, with one request at a time on a connection of its own."""

    def __init__(self, server: Server, history: History) -> None:
        self.server = server
        self.history = history
        self.streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self.answered_at = 0.0  # of time.monotonic
        self.repeated_until = 0.0  # when the last request was answered that had to be repeated
        self.failed_at = 0.0

    async def ask(self, method: str, path: str, body: object = None) -> Answer:
        """Send a request, and again with the same key until it is answered."""
        headers = [f"{name}: {value}" for name, value in self.server.authorization.items()]
        if method != "GET":
            headers.append(f"Idempotency-Key: {uuid4()}")
        message = request(method, path, "" if body is None else json.dumps(body), headers)
        repeated = may_be_done = False
        while True:
            try:
                async with asyncio.timeout(PATIENCE):
                    answer = await self.exchange(message)
                if answer.status not in REPEATED:
                    break
                may_be_done |= answer.status == OUTCOME_UNKNOWN
            except UNANSWERED:
                may_be_done = True
                self.hang_up()
            self.history.retried += 1
            self.failed_at = time.monotonic()
            repeated = True
            await asyncio.sleep(PAUSE)
        self.answered_at = time.monotonic()
        if repeated:
            self.repeated_until = self.answered_at
        self.history.internal_errors += answer.status == 500
        if "idempotency-replayed" in answer.headers and not may_be_done:
            self.history.wrong.append(f"{method} {path} had been done, and was answered with 503 at most")
        return answer

    async def exchange(self, message: bytes) -> Answer:
        if self.streams is None:
            self.streams = await asyncio.open_connection("127.0.0.1", self.server.port)
        reader, writer = self.streams
        writer.write(message)
        status, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().rstrip().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        text = await reader.readexactly(int(headers["content-length"]))
        if headers.get("connection") == "close":
            self.hang_up()
        return Answer(int(status.split()[1]), headers, json.loads(text).get("data"))

    def hang_up(self) -> None:
        if self.streams is not None:
            self.streams[1].transport.abort()
            self.streams = None

    def expect(self, answer: Answer, status: int, what: str) -> bool:
        """Return whether a request got the expected answer; record any other."""
        if answer.status != status:
            self.history.wrong.append(f"{what} was answered with {answer.status}")
        return answer.status == status

    async def join(self, group: int, username: str, amount: int) -> int:
        """The id of a new participant; 0 where there is none."""
        answer = await self.ask("POST", f"/api/groups/{group}/participants", {"username": username, "amount": amount})
        if not self.expect(answer, 201, "a join"):
            return 0
        joined = int(answer.data["id"])
        self.history.acknowledged.append(Movement(answer.entry, group, "join", None, joined, amount))
        return joined

    async def visit(self, group: int) -> None:
        """Join, deposit and exit."""
        amount = random.randint(0, 100)
        joined = await self.join(group, str(uuid4()), amount)
        more = random.randint(1, 100)
        answer = await self.ask("POST", f"/api/groups/{group}/participants/{joined}/deposits", {"amount": more})
        if self.expect(answer, 201, "a deposit"):
            self.history.acknowledged.append(Movement(answer.entry, group, "deposit", None, joined, more))
            amount += more
        answer = await self.ask("DELETE", f"/api/groups/{group}/participants/{joined}")
        if self.expect(answer, 200, "an exit"):
            self.history.acknowledged.append(Movement(answer.entry, group, "exit", joined, None, amount))

    async def transfer(self, group: Group) -> None:
        sender, recipient = random.sample(group.participants, 2)
        amount = random.randint(1, 9)
        body = {"from": sender, "to": recipient, "amount": amount}
        answer = await self.ask("POST", f"/api/groups/{group.id}/transfer", body)
        if self.expect(answer, 200, "a transfer"):
            self.history.acknowledged.append(Movement(answer.entry, group.id, "transfer", sender, recipient, amount))

    async def transfer_too_much(self, group: Group) -> None:
        sender, recipient = random.sample(group.participants, 2)
        body = {"from": sender, "to": recipient, "amount": TOO_MUCH}
        answer = await self.ask("POST", f"/api/groups/{group.id}/transfer", body)
        self.history.refused += self.expect(answer, 403, "a transfer of too much")

    async def transfer_all(self, group: Group) -> None:
        """Several transfers in one step."""
        pairs = [random.sample(group.participants, 2) for _ in range(random.randint(2, 5))]
        lines = [{"from": sender, "to": recipient, "amount": random.randint(1, 9)} for sender, recipient in pairs]
        answer = await self.ask("POST", f"/api/groups/{group.id}/transfers", {"transfers": lines})
        if self.expect(answer, 200, "a list of transfers"):
            self.history.acknowledged += [
                Movement(int(entry["id"]), group.id, "transfer", line["from"], line["to"], line["amount"])
                for entry, line in zip(answer.data["entries"], lines, strict=True)
            ]

    async def checkpoint(self, group: int) -> None:
        answer = await self.ask("POST", f"/api/groups/{group}/checkpoints")
        if self.expect(answer, 201, "a checkpoint"):
            self.history.checkpoints.append(Checkpoint(group, answer.data["number"], answer.data["header"]))

    async def read_total(self, group: Group) -> None:
        answer = await self.ask("GET", f"/api/groups/{group.id}/total")
        if self.expect(answer, 200, "a total"):
            self.note_sum(group, "a total", answer.data["group_total"])

    async def read_page(self, group: Group) -> None:
        """Read all balances of a group, at one moment."""
        answer = await self.ask("GET", f"/api/groups/{group.id}/participants")
        if self.expect(answer, 200, "a page"):
            self.note_sum(group, "a page", sum(participant["amount"] for participant in answer.data))

    def note_sum(self, group: Group, what: str, found: int) -> None:
        self.history.reads += 1
        if found != group.total:
            self.history.wrong.append(f"{what} of group {group.id} came to {found}, not {group.total}")


class Bank:
    """The clients, and the groups that they work in."""

    def __init__(self, server: Server) -> None:
        self.history = History()
        self.clients = [Client(server, self.history) for _ in range(CLIENTS)]
        self.groups: list[Group] = []
        self.visited = 0
        self.closing = False

    async def open(self) -> None:
        """Make the groups and their participants."""
        first, *_ = self.clients
        for number in range(BANKS + 1):
            answer = await first.ask("POST", "/api/groups", {"name": f"bank {number}"})
            self.visited = int(answer.data["id"])
            if number < BANKS:
                participants = [await first.join(self.visited, str(place), DEPOSIT) for place in range(PARTICIPANTS)]
                self.groups.append(Group(self.visited, participants))

    async def work(self) -> None:
        """Have all clients ask one thing after the other, until the bank is closing and each is answered."""
        await asyncio.gather(*map(self.serve, self.clients))

    async def serve(self, client: Client) -> None:
        while not self.closing:
            group = random.choice(self.groups)
            match random.choices(range(7), (60, 10, 5, 10, 5, 10, 0.5))[0]:
                case 0:
                    await client.transfer(group)
                case 1:
                    await client.transfer_all(group)
                case 2:
                    await client.transfer_too_much(group)
                case 3:
                    await client.visit(self.visited)
                case 4:
                    await client.read_total(group)
                case 5:
                    await client.read_page(group)
                case _:
                    await client.checkpoint(random.choice([group.id, self.visited]))
        client.hang_up()
