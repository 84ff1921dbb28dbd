"""A chain of its own for each test, and a ledger that is linked to a vault on it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.anvil import Anvil, running
from tests.bridge.world import World, deploy, link
from tests.support import Database


@pytest.fixture
def node() -> Iterator[Anvil]:
    with running() as node:
        yield node


@pytest.fixture
def world(node: Anvil, database: Database) -> Iterator[World]:
    vault = deploy(node)
    group = link(node, database, vault)
    node.finalize()
    world = World(node, database, vault, group)
    try:
        yield world
    finally:
        world.disconnect()
