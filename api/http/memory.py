"""Bound the bytes that a worker holds for its clients: of requests that are not whole, of answers that are not read."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from api.http.protocol import Connection

# The bytes of a connection's own, and those that it may have in common with others: they count once.
Held = tuple[int, bytes]


class Budget:
    """The bytes that connections hold for one purpose, at most `limit` together.

    When they hold more, those that have held some for the longest time are cut off, until a quarter is free: clients
    that send or read at an ordinary pace are done long before their turn comes.
    """

    def __init__(self, limit: int, measure: Callable[[Connection], Held]) -> None:
        """`measure` returns the bytes that a connection holds now."""
        self.limit = limit
        self.measure = measure
        self.total = 0
        self.held: dict[Connection, Held] = {}  # in the order in which they began
        self.holders: Counter[int] = Counter()  # of what may be common, by its id

    def hold(self, connection: Connection, own: int, common: bytes) -> None:
        """Record the bytes that a connection holds now."""
        self.note(connection, own, common)
        if self.total > self.limit:
            self.make_room()

    def note(self, connection: Connection, own: int, common: bytes) -> None:
        self.forget(self.held.get(connection))
        self.held[connection] = own, common
        self.total += own
        if common:
            self.holders[id(common)] += 1
            if self.holders[id(common)] == 1:
                self.total += len(common)

    def release(self, connection: Connection) -> None:
        if self.held:
            self.forget(self.held.pop(connection, None))

    def forget(self, held: Held | None) -> None:
        if held is None:
            return
        own, common = held
        self.total -= own
        if common:
            self.holders[id(common)] -= 1
            if not self.holders[id(common)]:
                del self.holders[id(common)]
                self.total -= len(common)

    def make_room(self) -> None:
        for connection in [*self.held]:
            own, common = self.measure(connection)
            if own or common:
                self.note(connection, own, common)
            else:
                self.release(connection)
        for connection in [*self.held]:
            if self.total <= self.limit * 3 // 4 or len(self.held) == 1:
                return
            self.release(connection)
            connection.cut_off()
