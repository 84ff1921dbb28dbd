"""Authenticate requests by API key, sent as `Authorization: Bearer …` (RFC 6750).

The database finds the principal of an API key; it gets only the digest of the key's secret. A worker caches the answer
for API_KEY_CACHE_SECONDS, so it may accept a revoked key for that long. Then it asks again; while the database does not
answer, the key is refused.

Look-ups that wait at the same time share a call. API keys that were good at their last look-up have a connection of
their own, so that guesses at keys, however many, do not delay them.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from time import monotonic
from typing import TypeVar

from api.http.batching import array
from api.http.coalescing import Coalescer, K, V
from api.http.errors import from_database
from api.http.origins import Origins
from api.http.request import LoggedRequest
from api.postgres.connection import ConnectionLost
from api.postgres.pools import Database
from api.problems import Problem
from api.routes import SCOPES, Route, Scope

API_KEY_CACHE_SECONDS = 5.0
MAX_REMEMBERED = 10_000  # API keys; with more, the one with the oldest look-up is forgotten
MAX_BATCH = 512  # API keys of one call, which takes some 10 milliseconds

T = TypeVar("T")

RANKS = {scope: rank for rank, scope in enumerate(SCOPES)}

SECRET = re.compile(r"[Bb][Ee][Aa][Rr][Ee][Rr] +(ledger_([1-9][0-9]{0,17})_[0-9a-f]{64})")

AUTHENTICATE = """
select (
  select to_json(p) from ledger.authenticate(key_id => k.id, digest => k.digest) as p
)
from unnest(%(key_ids)s::bigint[], %(digests)s::bytea[]) with ordinality as k (id, digest, place)
order by k.place
"""
API_KEYS_REQUIRED = "select k.keys_required from ledger.keys_required() as k"


@dataclass(frozen=True)
class Principal:
    """The principal of an API key: a row of ledger.principal."""

    id: int
    name: str
    scope: Scope
    group_id: int | None

    @cached_property
    def label(self) -> str:
        """Its name in the log."""
        return f"{self.id} {self.name}"


# The id of an API key, and its secret, which includes the id.
ApiKey = tuple[str, str]
# An answer of the database, and when it expires, by `time.monotonic()`.
Expiring = tuple[T, float]


class Authenticator:
    """Authenticates one worker's requests.

    With `open_at_first` no API key is required until the first one is created; foreign web pages are still refused.
    """

    def __init__(self, database: Database, open_at_first: bool, origins: Origins) -> None:
        self.database = database
        self.origins = origins
        self.required = not open_at_first
        self.open_until = 0.0
        # By secret: the principal of each API key that was good at its last look-up, and when that expires. Only an
        # answer of the database removes an API key. The oldest look-up is first.
        self.remembered: dict[str, Expiring[Principal]] = {}
        self.requirement: Coalescer[None, Expiring[bool]] = Coalescer(self.find_requirement, 1)
        self.known: Coalescer[ApiKey, Expiring[Principal | None]] = Coalescer(self.find_known, MAX_BATCH)
        self.new: Coalescer[ApiKey, Expiring[Principal | None]] = Coalescer(self.find_new, MAX_BATCH)

    async def admit(self, route: Route, request: LoggedRequest, parts: Mapping[str, str]) -> float:
        """Admit a request, and note its principal in it; return the event loop's time until which it is admitted.

        Raises Problem `unauthorized`, `forbidden` or `foreign_origin`, and the exceptions of the route's call.
        """
        given = request.headers.getall("authorization", ())
        if not given and not await self.is_required(route):
            self.origins.refuse_foreign(request)
            return self.open_until
        principal, until = None, 0.0
        if len(given) == 1:
            principal, until = self.recall(given[0]) or await self.look_up(route, given[0])
        if principal is None:
            raise refusal(known=bool(given))
        request.principal = principal.label
        request.only_group = principal.group_id
        if RANKS[principal.scope] < RANKS[route.scope]:
            challenge = f'Bearer realm="ledger", error="insufficient_scope", scope="{route.scope}"'
            raise Problem(
                "forbidden",
                f"the key's scope is {principal.scope}, and {route.scope} is needed",
                headers={"WWW-Authenticate": challenge},
            )
        if principal.group_id is not None and not is_for(principal.group_id, route, parts):
            raise Problem("forbidden", f"the key is for group {principal.group_id} alone")
        return until

    async def is_required(self, route: Route) -> bool:
        if not self.required and monotonic() >= self.open_until:
            self.required, self.open_until = await self.ask(route, self.requirement, None)
        return self.required

    def recall(self, header: str) -> Expiring[Principal] | None:
        """Return the cached principal of a header's API key, unless it has expired."""
        remembered = self.remembered.get(header[7:]) if header.startswith("Bearer ") else None
        return remembered if remembered is not None and monotonic() < remembered[1] else None

    async def look_up(self, route: Route, header: str) -> Expiring[Principal | None]:
        """Return the principal of a header's API key; None if no such API key is valid."""
        match = SECRET.fullmatch(header)
        if match is None:
            return None, 0.0
        secret, key_id = match.groups()
        remembered = self.remembered.get(secret)
        if remembered is not None and monotonic() < remembered[1]:
            return remembered
        principal, until = await self.ask(route, self.new if remembered is None else self.known, (key_id, secret))
        self.remembered.pop(secret, None)
        if principal is not None:
            if len(self.remembered) >= MAX_REMEMBERED:
                del self.remembered[next(iter(self.remembered))]
            self.remembered[secret] = (principal, until)
        return principal, until

    async def find_requirement(self, _: list[None]) -> list[Expiring[bool]]:
        until = monotonic() + API_KEY_CACHE_SECONDS
        ((answer,),) = await self.database.call_access(API_KEYS_REQUIRED, {}, known=True)
        return [(answer != b"f", until)]

    async def find_known(self, keys: list[ApiKey]) -> list[Expiring[Principal | None]]:
        return await self.authenticate(keys, known=True)

    async def find_new(self, keys: list[ApiKey]) -> list[Expiring[Principal | None]]:
        return await self.authenticate(keys, known=False)

    async def authenticate(self, keys: list[ApiKey], known: bool) -> list[Expiring[Principal | None]]:
        until = monotonic() + API_KEY_CACHE_SECONDS
        # The database gets only digests: its log may contain them, and they are of no use to a reader of the log.
        digests = [f"\\x{hashlib.sha256(secret.encode()).hexdigest()}" for _, secret in keys]
        parameters = {"key_ids": array([key_id for key_id, _ in keys]), "digests": array(digests)}
        rows = await self.database.call_access(AUTHENTICATE, parameters, known)
        return [(None if answer is None else Principal(**json.loads(answer)), until) for (answer,) in rows]

    async def ask(self, route: Route, answers: Coalescer[K, V], question: K) -> V:
        try:
            return await answers.ask(question)
        except ConnectionLost as error:
            detail = "the connection to the database was lost; nothing was done"
            raise Problem("unavailable", detail, sqlstate=error.sqlstate) from error
        except Exception as error:
            problem = from_database(error, route)
            if problem is None:
                raise
            raise problem from error


def refusal(known: bool) -> Problem:
    """Return the refusal of a request without a valid API key; `known` if it has an Authorization header."""
    challenge = 'Bearer realm="ledger"'
    if not known:
        return Problem("unauthorized", "an API key is needed", headers={"WWW-Authenticate": challenge})
    challenge += ', error="invalid_token"'
    return Problem("unauthorized", "the API key is not known, or was revoked", headers={"WWW-Authenticate": challenge})


def is_for(group_id: int, route: Route, parts: Mapping[str, str]) -> bool:
    """Return whether the path of a request names this group, in any spelling."""
    if route.parts and route.parts[0].parameter == "group_id":
        return parts[route.parts[0].name].lstrip("0") == str(group_id)
    return False
