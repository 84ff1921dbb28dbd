"""The faults that are injected while the ledger serves. Each ends when its function returns; then comes recovery."""

import asyncio
import os
import random
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import psutil
import psycopg

from api.postgres import embedded
from bench.ledgers import Ledger
from bench.load import BenchError
from chaos import machine, release
from chaos.proxy import Proxy
from chaos.vault import Vault

# While another fault is at work a fault may not be possible; then it is tried again.
NOT_NOW = (psycopg.Error, psutil.Error, OSError, ValueError, IndexError)
AGAIN = 0.1  # seconds
GIVE_UP = 60.0  # seconds
DELAY = 0.2  # seconds, of each piece that the proxy passes on
STEP = 3600  # seconds of the clock


@dataclass(frozen=True)
class Scene:
    """The parts that faults are injected into. `stretch` is the duration of a fault, in seconds.

    A fault that cannot be made everywhere needs one of the last four.
    """

    ledger: Ledger
    proxy: Proxy
    stretch: float
    disk: Path | None
    clock: machine.Clock | None
    after: Path  # the code of the release after this one
    vault: Vault | None


T = TypeVar("T")
Fault = Callable[[Scene], Awaitable[None]]


async def kill_backend(scene: Scene) -> None:
    def kill() -> None:
        query = "select pid from pg_stat_activity where application_name like 'ledger serve%'"
        with scene.ledger.connect() as connection:
            backends = [pid for (pid,) in connection.execute(query)]
        os.kill(random.choice(backends), signal.SIGKILL)

    await when_possible(kill)


async def kill_checkpoint(scene: Scene) -> None:
    """Kill the backend of another session that has written a checkpoint, and not committed it yet."""

    def kill() -> None:
        connection = psycopg.connect(scene.ledger.admin)
        try:
            connection.execute("select ledger.checkpoint(max(id)) from ledger.groups")
            os.kill(connection.info.backend_pid, signal.SIGKILL)
        finally:
            connection.close()

    await when_possible(kill)


async def kill_postmaster(scene: Scene) -> None:
    await when_possible(lambda: scene.ledger.postmaster.kill())


async def kill_worker(scene: Scene) -> None:
    """Kill the one that most clients are connected to: which one that is, the system decides."""

    def kill() -> None:
        max(scene.ledger.workers, key=lambda worker: len(worker.net_connections("tcp"))).kill()

    await when_possible(kill)


async def stop_database(scene: Scene) -> None:
    """Stop all its processes for a time, as a machine does that swaps or migrates."""

    def stop() -> list[psutil.Process]:
        postmaster = scene.ledger.postmaster
        postmaster.suspend()  # first, so that it starts no other
        stopped = [postmaster, *postmaster.children()]
        for process in stopped[1:]:
            with suppress(psutil.NoSuchProcess):
                process.suspend()
        return stopped

    stopped = await when_possible(stop)
    try:
        await asyncio.sleep(scene.stretch)
    finally:
        for process in stopped:
            with suppress(psutil.NoSuchProcess):
                process.resume()


async def fill_pool(scene: Scene) -> None:
    """Hold every participant's row, so that transfers wait on all connections that there are."""

    def hold() -> psycopg.Connection:
        connection = psycopg.connect(scene.ledger.admin)
        connection.execute("select from ledger.participants order by group_id, id for update")
        return connection

    connection = await when_possible(hold)
    await asyncio.sleep(scene.stretch)
    with suppress(psycopg.Error):  # its session was killed by another fault
        connection.rollback()
    connection.close()


async def cut_connections(scene: Scene) -> None:
    """Slow the line down, and cut it again and again with requests and answers on their way."""
    scene.proxy.delay = DELAY
    end = time.monotonic() + scene.stretch
    while time.monotonic() < end:
        await asyncio.sleep(random.uniform(DELAY, 4 * DELAY))
        scene.proxy.cut()
    scene.proxy.delay = 0


async def fill_disk(scene: Scene) -> None:
    """Leave the database no room, for its tables or for its WAL, whatever it frees."""
    assert scene.disk
    try:
        end = time.monotonic() + scene.stretch
        while time.monotonic() < end:
            await asyncio.to_thread(machine.fill, scene.disk)
            await asyncio.sleep(AGAIN)
    finally:
        machine.give_back(scene.disk)


async def step_clock(scene: Scene) -> None:
    """Put the database's clock forward by an hour, then back by two, then right again."""
    assert scene.clock
    for seconds in (STEP, -STEP, 0):
        scene.clock.set(seconds)
        await asyncio.sleep(scene.stretch / 2)


async def migrate_forth_and_back(scene: Scene) -> None:
    """Apply the migration of the release after this one, and roll it back."""
    await asyncio.to_thread(release.migrate, scene.after, scene.ledger.admin)
    await asyncio.to_thread(release.roll_back, scene.after, scene.ledger.admin)


async def deploy_and_return(scene: Scene) -> None:
    """Deploy the release after this one: its migration, then its code. Then return to this one, and roll back."""
    now = scene.proxy.target
    await asyncio.to_thread(release.migrate, scene.after, scene.ledger.admin)
    await asyncio.sleep(scene.stretch / 2)
    conninfo = embedded.url(scene.ledger.data, embedded.SERVICE)
    served = release.served(scene.after, conninfo, len(scene.ledger.workers))
    port = await asyncio.to_thread(served.__enter__)
    try:
        scene.proxy.turn_to(port)
        await asyncio.sleep(scene.stretch / 2)
    finally:
        scene.proxy.turn_to(now)
        await asyncio.to_thread(served.__exit__, None, None, None)
    await asyncio.to_thread(release.roll_back, scene.after, scene.ledger.admin)


async def kill_bridge(scene: Scene) -> None:
    """Kill the bridge again and again, at whatever it does."""
    assert scene.vault
    end = time.monotonic() + scene.stretch
    while time.monotonic() < end:
        await when_possible(scene.vault.kill)
        await asyncio.sleep(random.uniform(1.0, 3.0))


async def reorganize_chain(scene: Scene) -> None:
    """Have the chain forget its two newest blocks, again and again."""
    assert scene.vault
    end = time.monotonic() + scene.stretch
    while time.monotonic() < end:
        await when_possible(scene.vault.go_back)
        await asyncio.sleep(random.uniform(0.5, 1.5))


async def restore_database(scene: Scene) -> None:
    """Restore the database of the group with a vault to before its last root."""
    assert scene.vault
    await scene.vault.restore()


FAULTS: dict[str, Fault] = {
    "backend killed": kill_backend,
    "checkpoint killed": kill_checkpoint,
    "database killed": kill_postmaster,
    "worker killed": kill_worker,
    "database stopped": stop_database,
    "pool filled": fill_pool,
    "connections cut": cut_connections,
    "disk filled": fill_disk,
    "clock set": step_clock,
    "migrated": migrate_forth_and_back,
    "release deployed": deploy_and_return,
    "bridge killed": kill_bridge,
    "node goes back two blocks": reorganize_chain,
    "database restored": restore_database,
}
# Faults that can be made at once: a migration that another fault interrupts has tests of its own, and a restore is made
# by an operator who looks at what they do.
ALONE = (migrate_forth_and_back, deploy_and_return, restore_database)
COMBINED = [name for name, fault in FAULTS.items() if fault not in ALONE]
ON_CHAIN = ("bridge killed", "node goes back two blocks", "database restored")


async def when_possible(do: Callable[[], T]) -> T:
    """Do it, as soon as it can be done. Raises BenchError."""
    deadline = time.monotonic() + GIVE_UP
    while True:
        try:
            return await asyncio.to_thread(do)
        except NOT_NOW as error:
            if time.monotonic() > deadline:
                raise BenchError(f"a fault cannot be made: {error}") from error
            await asyncio.sleep(AGAIN)
