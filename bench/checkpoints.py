"""What a checkpoint of a group takes, what a proof takes, and what transfers notice of checkpoints beside them."""

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import psycopg

from bench.hostile import LOOK_EVERY, private_bytes
from bench.ledgers import Ledger, seconds
from bench.load import BenchError, Group, Outcome, request, send, spread, transfers

CONNECTIONS = 64
PROOFS = 1_000  # different ones
ALONE, BESIDE = "HTTP transfer, 64 connections, in the group of checkpoints", "HTTP transfer, beside checkpoints"


def measure_of(ledger: Ledger, group: Group, duration: float) -> dict[str, float]:
    """The figures of checkpoints of one group; each load lasts for the duration, in seconds. Raises BenchError."""
    figures = take_one(ledger, group)
    # Each participant has as much to do in a large group as in a small one: none is in hundreds of transfers.
    different = max(20_000, (group.last - group.first + 1) // 2)
    with ledger.connect() as connection:
        query = "select number from ledger.get_checkpoint(%s)"
        (number,) = connection.execute(query, [group.id]).fetchone() or (0,)
    path = f"/api/groups/{group.id}/checkpoints/{number}/proofs"
    proofs = [request("GET", f"{path}/{random.randint(group.first, group.last)}") for _ in range(PROOFS)]
    figures["proof over HTTP, 1 connection [ms]"] = send(ledger.server, proofs, 1, 1).p50

    def load() -> Outcome:
        return send(ledger.server, transfers(spread([group]), different), CONNECTIONS, duration)

    alone = load()
    with repeated(ledger, group):
        beside = load()
    return figures | {
        ALONE: alone.rate,
        f"{ALONE}, p99 [ms]": alone.p99,
        BESIDE: beside.rate,
        f"{BESIDE}, p99 [ms]": beside.p99,
    }


def take_one(ledger: Ledger, group: Group) -> dict[str, float]:
    """What one checkpoint takes of a new session, and what is stored of it."""
    stored = "select pg_total_relation_size('ledger.checkpoint_chunks')"
    with ledger.connect() as connection:
        (before,) = connection.execute(stored).fetchone() or (0,)
        backend = psutil.Process(connection.info.backend_pid)
        with most_memory(backend.pid) as most:
            used = -seconds(backend)
            connection.execute("select from ledger.checkpoint(%s)", [group.id])
            used += seconds(backend)
        (after,) = connection.execute(stored).fetchone() or (0,)
    return {
        "checkpoint: CPU of its backend [s]": used,
        "checkpoint: private memory of its backend [MiB]": most[0] / 2**20,
        "checkpoint: stored for a participant [bytes]": (after - before) / (group.last - group.first + 1),
    }


@contextmanager
def most_memory(pid: int) -> Iterator[list[int]]:
    """The most private bytes of a process while the context lasts."""
    most = [private_bytes(pid)]
    over = threading.Event()

    def look() -> None:
        while not over.wait(LOOK_EVERY):
            most[0] = max(most[0], private_bytes(pid))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield most
    finally:
        over.set()
        thread.join()


@contextmanager
def repeated(ledger: Ledger, group: Group) -> Iterator[None]:
    """Make checkpoints one after the other, the last one cancelled. Raises BenchError where one is refused."""
    over = threading.Event()
    faults: list[psycopg.Error] = []

    with ledger.connect() as connection:

        def make() -> None:
            try:
                while not over.is_set():
                    connection.execute("select from ledger.checkpoint(%s)", [group.id])
            except psycopg.Error as error:
                if not over.is_set():
                    faults.append(error)

        thread = threading.Thread(target=make)
        thread.start()
        try:
            yield
        finally:
            over.set()
            connection.cancel()
            thread.join()
    if faults:
        raise BenchError(f"a checkpoint was refused: {faults[0]}")
