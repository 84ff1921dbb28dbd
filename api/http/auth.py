"""Who may do what: API keys, sent as `Authorization: Bearer …` (RFC 6750).

The database says whom a key stands for, and gets the digest of its secret alone. A worker relies on the answer for
KEY_SECONDS: for that long it may accept a key that has been revoked. Then it asks again, and while the database cannot
be asked the key admits nobody.

Keys that are asked for at the same time share a call. A key that was good at the last look is asked for on a connection
of its own kind, so that guesses at keys, however many, do not delay it.
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
from api.http.coalescing import K, SharedAnswers, V
from api.http.errors import from_database
from api.http.origins import Origins
from api.http.request import WatchedRequest
from api.postgres.connection import ConnectionLost
from api.postgres.pools import Database
from api.problems import Problem
from api.routes import SCOPES, Route, Scope

KEY_SECONDS = 5.0
MAX_REMEMBERED = 10_000  # keys; with more, the one whose look-up is the oldest is forgotten
MAX_TOGETHER = 512  # keys of one call, which takes some 10 milliseconds

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


# The id of a key and its secret, which holds the id too.
Key = tuple[str, str]
# An answer of the database, and until when a worker relies on it, by `time.monotonic()`.
Answer = tuple[T, float]


class Access:
    """One worker's guard. `open_at_first` admits everybody but foreign web pages until the first key is made."""

    def __init__(self, database: Database, open_at_first: bool, origins: Origins) -> None:
        self.database = database
        self.origins = origins
        self.required = not open_at_first
        self.open_until = 0.0
        # By the secret: whom a key stands for that was good at the last look, and until when that is not asked again.
        # Only an answer of the database removes a key. The oldest look-up is first.
        self.remembered: dict[str, Answer[Principal]] = {}
        self.requirement: SharedAnswers[None, Answer[bool]] = SharedAnswers(self.find_requirement, 1)
        self.known: SharedAnswers[Key, Answer[Principal | None]] = SharedAnswers(self.find_known, MAX_TOGETHER)
        self.new: SharedAnswers[Key, Answer[Principal | None]] = SharedAnswers(self.find_new, MAX_TOGETHER)

    async def admit(self, route: Route, request: WatchedRequest, parts: Mapping[str, str]) -> float:
        """Return for a request that may be made, and note in it who makes it.

        The number is the event loop's time until which the request may go on without being admitted again.
        Raises Problem `unauthorized`, `forbidden` or `foreign_origin`, and what the call of a route raises.
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

    def recall(self, header: str) -> Answer[Principal] | None:
        """What a worker goes by for the key of a header, where it need not ask."""
        remembered = self.remembered.get(header[7:]) if header.startswith("Bearer ") else None
        return remembered if remembered is not None and monotonic() < remembered[1] else None

    async def look_up(self, route: Route, header: str) -> Answer[Principal | None]:
        """Whom a header's key stands for; None where it is none that is good."""
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

    async def find_requirement(self, _: list[None]) -> list[Answer[bool]]:
        until = monotonic() + KEY_SECONDS
        ((answer,),) = await self.database.call_access(KEYS_REQUIRED, {}, known=True)
        return [(answer != b"f", until)]

    async def find_known(self, keys: list[Key]) -> list[Answer[Principal | None]]:
        return await self.authenticate(keys, known=True)

    async def find_new(self, keys: list[Key]) -> list[Answer[Principal | None]]:
        return await self.authenticate(keys, known=False)

    async def authenticate(self, keys: list[Key], known: bool) -> list[Answer[Principal | None]]:
        until = monotonic() + KEY_SECONDS
        # The database, whose log may hold what it is sent, gets what is of no use to whoever reads it.
        digests = [f"\\x{hashlib.sha256(secret.encode()).hexdigest()}" for _, secret in keys]
        parameters = {"key_ids": array([key_id for key_id, _ in keys]), "digests": array(digests)}
        rows = await self.database.call_access(AUTHENTICATE, parameters, known)
        return [(None if answer is None else Principal(**json.loads(answer)), until) for (answer,) in rows]

    async def ask(self, route: Route, answers: SharedAnswers[K, V], question: K) -> V:
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
