"""Create, list and revoke API keys as the administrator."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import psycopg
from psycopg.rows import class_row

PAGE = 1000  # API keys


@dataclass(frozen=True)
class ApiKey:
    """A row of ledger.api_key."""

    id: int
    name: str
    scope: str
    group_id: int | None
    created_at: datetime
    revoked_at: datetime | None

    def __str__(self) -> str:
        where = "all groups" if self.group_id is None else f"group {self.group_id}"
        state = f"revoked {self.revoked_at:%Y-%m-%d %H:%M}" if self.revoked_at else "good"
        return f"key {self.id}: {self.name}, {self.scope}, {where}, made {self.created_at:%Y-%m-%d %H:%M}, {state}"


def create(connection: psycopg.Connection, name: str, scope: str, group: int | None) -> tuple[ApiKey, str]:
    """Create an API key; return it and its secret, which is stored nowhere. Raises psycopg.Error."""
    query = "select k.id, k.secret from ledger.create_api_key(%s, %s, %s) as k"
    ((number, secret),) = connection.execute(query, [name, scope, group])
    return next(page(connection, number - 1)), secret


def every(connection: psycopg.Connection) -> Iterator[ApiKey]:
    """Yield all API keys by ascending id. Raises psycopg.Error."""
    after = 0
    while keys := list(page(connection, after)):
        yield from keys
        after = keys[-1].id


def revoke(connection: psycopg.Connection, key: int) -> ApiKey:
    """Revoke an API key and return it. Raises psycopg.Error."""
    with connection.cursor(row_factory=class_row(ApiKey)) as cursor:
        (revoked,) = cursor.execute("select k.* from ledger.revoke_api_key(%s) as k", [key])
        return revoked


def page(connection: psycopg.Connection, after: int) -> Iterator[ApiKey]:
    with connection.cursor(row_factory=class_row(ApiKey)) as cursor:
        yield from cursor.execute("select k.* from ledger.list_api_keys(%s, %s) as k", [after, PAGE])
