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
from functools import cached_property
from time import monotonic

from api.database import Database
from api.errors import ConnectionLost, Problem, from_database
from api.origin import Origins
from api.routes import SCOPES, Route, Scope
from api.watch import WatchedRequest

KEY_SECONDS = 5.0
MAX_REMEMBERED = 10_000  # keys; with more, all are asked for anew

RANKS = {scope: rank for rank, scope in enumerate(SCOPES)}

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

    @cached_property
    def label(self) -> str:
        """What the log calls it."""
        return f"{self.id} {self.name}"


class Access:
    """One worker's guard. `open_at_first` admits everybody but foreign web pages until the first key is made."""

    def __init__(self, database: Database, open_at_first: bool, origins: Origins) -> None:
        self.database = database
        self.origins = origins
        self.required = not open_at_first
        self.open_until = 0.0
        # By the header that it came in: whom a good key stands for, and until when that is not asked again.
        self.remembered: dict[str, tuple[Principal, float]] = {}
        self.under_way: dict[str, asyncio.Task[Principal | None]] = {}

    async def admit(self, route: Route, request: WatchedRequest, parts: Mapping[str, str]) -> None:
        """Return for a request that may be made, and note in it who makes it.

        Raises Problem `unauthorized`, `forbidden` or `foreign_origin`, and what the call of a route raises.
        """
        given = request.headers.getall("authorization", ())
        if not given and not await self.is_required(route):
            self.origins.refuse_foreign(request)
            return
        principal = None
        if len(given) == 1:
            principal, until = self.remembered.get(given[0], (None, 0.0))
            if monotonic() >= until:
                principal = await self.look_up(route, given[0])
        if principal is None:
            raise refusal(known=bool(given))
        request.principal = principal.label
        if RANKS[principal.scope] < RANKS[route.scope]:
            challenge = f'Bearer realm="ledger", error="insufficient_scope", scope="{route.scope}"'
            raise Problem(
                "forbidden",
                f"the key's scope is {principal.scope}, and {route.scope} is needed",
                headers={"WWW-Authenticate": challenge},
            )
        if principal.group_id is not None and not is_for(principal.group_id, route, parts):
            raise Problem("forbidden", f"the key is for group {principal.group_id} alone")

    async def is_required(self, route: Route) -> bool:
        now = monotonic()
        if not self.required and now >= self.open_until:
            (answer,) = await self.ask(route, KEYS_REQUIRED, {})
            self.required = answer != b"f"
            self.open_until = now + KEY_SECONDS
        return self.required

    async def look_up(self, route: Route, header: str) -> Principal | None:
        """Whom a header's key stands for; None where it is none that is good."""
        match = SECRET.fullmatch(header)
        if match is None:
            return None
        # Those who come with the same key at the same time ask once.
        task = self.under_way.get(header)
        if task is None:
            task = asyncio.create_task(self.authenticate(route, header, match[2], match[1]))
            self.under_way[header] = task
            task.add_done_callback(lambda done: self.forget(header, done))
        return await asyncio.shield(task)

    def forget(self, header: str, done: asyncio.Task[Principal | None]) -> None:
        del self.under_way[header]
        if not done.cancelled():
            done.exception()  # asyncio complains of one that nobody looks at, because its clients have gone

    async def authenticate(self, route: Route, header: str, key_id: str, secret: str) -> Principal | None:
        now = monotonic()
        self.remembered.pop(header, None)
        # The database, whose log may hold what it is sent, gets what is of no use to whoever reads it.
        digest = hashlib.sha256(secret.encode()).hexdigest()
        (answer,) = await self.ask(route, AUTHENTICATE, {"key_id": key_id, "digest": f"\\x{digest}"})
        if answer is None:
            return None
        principal = Principal(**json.loads(answer))
        if len(self.remembered) >= MAX_REMEMBERED:
            self.remembered.clear()
        self.remembered[header] = (principal, now + KEY_SECONDS)
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
