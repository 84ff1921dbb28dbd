"""Bound the bytes that a worker holds for its clients: of requests that are not whole, of answers that are not read."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from api.connection import Connection


class Budget:
    """The bytes that connections hold for one purpose, at most `limit` together.

    When they hold more, those that have held some for the longest time are cut off, until a quarter is free: clients
    that send or read at an ordinary pace are done long before their turn comes.
    """

    def __init__(self, limit: int, measure: Callable[[Connection], int]) -> None:
        """`measure` counts again what a connection holds."""
        self.limit = limit
        self.measure = measure
        self.total = 0
        self.held: dict[Connection, int] = {}  # in the order in which they began

    def hold(self, connection: Connection, size: int) -> None:
        """Note that a connection holds so many bytes now."""
        self.total += size - self.held.get(connection, 0)
        self.held[connection] = size
        if self.total > self.limit:
            self.make_room()

    def release(self, connection: Connection) -> None:
        if self.held:
            self.total -= self.held.pop(connection, 0)

    def make_room(self) -> None:
        self.held = {connection: size for connection in self.held if (size := self.measure(connection))}
        self.total = sum(self.held.values())
        for connection in [*self.held]:
            if self.total <= self.limit * 3 // 4 or len(self.held) == 1:
                return
            self.release(connection)
            connection.cut_off()
