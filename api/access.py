"""Who may do what: API keys, sent as `Authorization: Bearer …` (RFC 6750).

The database says whom a key stands for, and is told the digest of its secret alone. A worker goes by the answer for
KEY_SECONDS: for so long it may take a key that has been revoked.
"""

import asyncio
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from api.database import Database
from api.errors import ConnectionLost, Problem, from_database
from api.routes import SCOPES, Route, Scope
from api.watch import WatchedRequest

KEY_SECONDS = 5.0
MAX_REMEMBERED = 10_000  # keys; with more, all are asked for anew

SECRET = re.compile(r"[Bb][Ee][Aa][Rr][Ee][Rr] +(ledger_([1-9][0-9]{0,17})_[0-9a-f]{64})")

AUTHENTICATE = """
select (
  select to_json(p) from ledger.authenticate(key_id => %(key_id)s::bigint, digest => %(digest)s::bytea) as p
)
"""
KEYS_REQUIRED = "select k.keys_required from ledger.keys_required() as k"


@dataclass(frozen=True)
class Principal:
    """Whom a key stands for: a row of ledger.principal."""

    id: int
    name: str
    scope: Scope
    group_id: int | None

    def __str__(self) -> str:
        return f"{self.id} {self.name}"


class Access:
    """One worker's guard. `open_at_first` lets everybody in until the first key is made."""

    def __init__(self, database: Database, open_at_first: bool) -> None:
        self.database = database
        self.required = not open_at_first
        self.open_until = 0.0
        self.remembered: dict[str, tuple[Principal, float]] = {}
        self.under_way: dict[str, asyncio.Task[Principal | None]] = {}

    async def admit(self, route: Route, request: WatchedRequest, parts: Mapping[str, str]) -> Principal | None:
        """The principal of a request that may be made; None where no key is asked for.

        Raises Problem `unauthorized` or `forbidden`, and what the call of a route raises.
        """
        given = request.headers.getall("authorization", ())
        if not given and not await self.is_required(route):
            return None
        principal = await self.principal(route, given[0]) if len(given) == 1 else None
        if principal is None:
            raise refusal(known=bool(given))
        request.principal = str(principal)
        if SCOPES.index(principal.scope) < SCOPES.index(route.scope):
            raise Problem(
                "forbidden",
                f"the key's scope is {principal.scope}, and {route.scope} is needed",
                headers={
                    "WWW-Authenticate": f'Bearer realm="ledger", error="insufficient_scope", scope="{route.scope}"'
                },
            )
        if principal.group_id is not None and not is_for(principal.group_id, route, parts):
            raise Problem("forbidden", f"the key is for group {principal.group_id} alone")
        return principal

    async def is_required(self, route: Route) -> bool:
        now = asyncio.get_running_loop().time()
        if not self.required and now >= self.open_until:
            (answer,) = await self.ask(route, KEYS_REQUIRED, {})
            self.required = answer != b"f"
            self.open_until = now + KEY_SECONDS
        return self.required

    async def principal(self, route: Route, header: str) -> Principal | None:
        """Whom a header's key stands for; None where it is none that is good."""
        match = SECRET.fullmatch(header)
        if match is None:
            return None
        # What is kept in memory, and sent to the database, whose log may hold it, is of no use to whoever reads it.
        digest = hashlib.sha256(match[1].encode()).hexdigest()
        now = asyncio.get_running_loop().time()
        principal, until = self.remembered.get(digest, (None, 0.0))
        if now < until:
            return principal
        # Those who come with the same key at the same time ask once.
        task = self.under_way.get(digest)
        if task is None:
            task = asyncio.create_task(self.authenticate(route, match[2], digest, now))
            self.under_way[digest] = task
            task.add_done_callback(lambda done: self.forget(digest, done))
        return await asyncio.shield(task)

    def forget(self, digest: str, done: asyncio.Task[Principal | None]) -> None:
        del self.under_way[digest]
        if not done.cancelled():
            done.exception()  # asyncio complains of one that nobody looks at, because its clients have gone

    async def authenticate(self, route: Route, key_id: str, digest: str, now: float) -> Principal | None:
        self.remembered.pop(digest, None)
        (answer,) = await self.ask(route, AUTHENTICATE, {"key_id": key_id, "digest": f"\\x{digest}"})
        if answer is None:
            return None
        principal = Principal(**json.loads(answer))
        if len(self.remembered) >= MAX_REMEMBERED:
            self.remembered.clear()
        self.remembered[digest] = (principal, now + KEY_SECONDS)
        return principal

    async def ask(self, route: Route, statement: str, parameters: Mapping[str, str | None]) -> list[bytes | None]:
        try:
            return await self.database.call_access(statement, parameters)
        except ConnectionLost as error:
            raise Problem("unavailable", "the connection to the database was lost; nothing was done") from error
        except Exception as error:
            problem = from_database(error, route)
            if problem is None:
                raise
            raise problem from error


def refusal(known: bool) -> Problem:
    """The refusal of a request without a key that is good; `known` when it came with something."""
    challenge = 'Bearer realm="ledger"'
    if not known:
        return Problem("unauthorized", "an API key is needed", headers={"WWW-Authenticate": challenge})
    challenge += ', error="invalid_token"'
    return Problem("unauthorized", "the API key is not known, or was revoked", headers={"WWW-Authenticate": challenge})


def is_for(group_id: int, route: Route, parts: Mapping[str, str]) -> bool:
    """Whether a request is for this group: its path names it, however that is spelled."""
    if route.parts and route.parts[0].parameter == "group_id":
        return parts[route.parts[0].name].lstrip("0") == str(group_id)
    return False
