"""Restrict which web pages may use the service: in a browser, any page can send requests to any host.

While no API key is required, a request acts by being sent. So a page of another origin is refused then, and a request
whose Host names somebody else, which is how a page whose name was moved to this machine asks (DNS rebinding). Once keys
are required, a page needs one, and a browser has it sent only where CORS allows it (Fetch Standard, 3.2).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING

from api.problems import Problem

if TYPE_CHECKING:
    from sanic import Request

    from api.http.responses import Pair

ANY = "*"
DEFAULT_PORTS = {"http": 80, "https": 443}
OWN_SITES = frozenset({"same-origin", "none"})  # of Sec-Fetch-Site; none: a person has typed the address
AUTHORITY = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::([0-9]{0,5}))?", re.ASCII)

EXPOSED = ", ".join(
    ("Idempotency-Replayed", "Ledger-Entry", "Link", "Location", "Preference-Applied", "Retry-After", "X-Request-ID")
)
SENDABLE = ", ".join(("Authorization", "Content-Type", "Idempotency-Key", "Prefer", "X-Request-ID"))
MAX_HOST = 300  # characters of a Host that are looked at; a name has 253 at most
MAX_AGE = "7200"  # seconds for which a browser remembers a preflight; Chromium's most


def read_origins(value: str) -> tuple[str, ...]:
    """The origins of a list with commas, as browsers write them. Raises ValueError, which names the first bad one."""
    return tuple(dict.fromkeys(read_origin(each) for each in map(str.strip, value.split(",")) if each))


def read_origin(value: str) -> str:
    if value == ANY:
        return ANY
    scheme, _, authority = value.lower().partition("://")
    match = AUTHORITY.fullmatch(authority)
    if scheme not in DEFAULT_PORTS or match is None or int(match[2] or 0) > 65535:
        raise ValueError(f"{value!r} is no origin: write scheme://host or scheme://host:port, or *")
    return f"{scheme}://{without_default_port(scheme, authority)}"


def without_default_port(scheme: str, authority: str) -> str:
    """A host and port as an origin has them."""
    match = AUTHORITY.fullmatch(authority)
    if match is None:
        return authority
    port = int(match[2] or DEFAULT_PORTS[scheme])
    return match[1] if port == DEFAULT_PORTS[scheme] else f"{match[1]}:{port}"


class Origins:
    """The pages that may use the service.

    `hosts` are the names and addresses that it was set to listen on. Where none of them names a machine, as with
    0.0.0.0, any Host is admitted. `allowed` are the origins of CORS; `*` is any, once API keys are required.
    """

    def __init__(self, hosts: Iterable[str] = (), allowed: Iterable[str] = ()) -> None:
        self.hosts = frozenset(map(canonical, hosts))
        self.any_host = any(is_wildcard(host) for host in self.hosts)
        self.allowed = frozenset(allowed)
        self.is_own_host = lru_cache(1000)(self.look_at_host)

    def refuse_foreign(self, request: Request, any_host: bool | None = None) -> None:
        """Raise Problem `foreign_origin` for a request of another site's page, or for another host."""
        headers = request.headers
        hosts = headers.getall("host", ())  # one at most, see api/http/framing.py; HTTP/1.0 has none
        if (
            hosts
            and not (self.any_host if any_host is None else any_host)
            and not self.is_own_host(hosts[0][:MAX_HOST])
        ):
            raise Problem(
                "foreign_origin",
                "Host is neither a loopback name nor HOST; others are admitted only once API keys are required",
            )
        origins = headers.getall("origin", ())
        if self.allowed_origin(origins):
            return
        if not all(is_of(origin, hosts) for origin in origins) or not OWN_SITES.issuperset(
            headers.getall("sec-fetch-site", ())
        ):
            raise Problem(
                "foreign_origin", "a page of another origin sent this; it may only once API keys are required"
            )

    def look_at_host(self, host: str) -> bool:
        """Whether a Host, with or without a port, is this machine's or one that the service was set to listen on."""
        match = AUTHORITY.fullmatch(host.lower())
        if match is None:
            return False
        name = canonical(match[1])
        return name == "localhost" or name in self.hosts or is_loopback(name)

    def add_headers(self, request: Request, pairs: list[Pair]) -> None:
        """Add the header fields that let a page whose origin is allowed read a response, if any origin is allowed."""
        if ANY in self.allowed:
            origin = ANY
        else:
            others = [value for name, value in pairs if name == "Vary"]
            pairs[:] = [pair for pair in pairs if pair[0] != "Vary"]
            pairs.append(("Vary", ", ".join([*others, "Origin"])))
            origin = self.allowed_origin(request.headers.getall("origin", ()))
        if origin:
            pairs += (("Access-Control-Allow-Origin", origin), ("Access-Control-Expose-Headers", EXPOSED))

    def preflight(self, request: Request, methods: str) -> tuple[Pair, ...]:
        """Return more header fields for the response to OPTIONS, if a page of an allowed origin sent a preflight."""
        if "access-control-request-method" not in request.headers:
            return ()
        if ANY not in self.allowed and not self.allowed_origin(request.headers.getall("origin", ())):
            return ()
        return (
            ("Access-Control-Allow-Methods", methods),
            ("Access-Control-Allow-Headers", SENDABLE),
            ("Access-Control-Max-Age", MAX_AGE),
        )

    def allowed_origin(self, origins: Sequence[str]) -> str:
        """The origin of a request, if there is one and it is allowed by its name; empty otherwise."""
        return origins[0] if len(origins) == 1 and origins[0] in self.allowed and origins[0] != ANY else ""


def canonical(host: str) -> str:
    """A name or address of a machine in the one spelling that is compared, without brackets."""
    name = host.lower().removeprefix("[").removesuffix("]").partition("%")[0].removesuffix(".")
    try:
        address = ip_address(name)
    except ValueError:
        return name
    return str((address.ipv4_mapped if isinstance(address, IPv6Address) else None) or address)


def is_wildcard(host: str) -> bool:
    try:
        return ip_address(host).is_unspecified
    except ValueError:
        return False


def is_loopback(name: str) -> bool:
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def is_of(origin: str, hosts: Iterable[str]) -> bool:
    """Whether an origin is that of the service as the request's Host names it, behind a proxy with TLS or not."""
    scheme, _, authority = origin.lower().partition("://")
    return scheme in DEFAULT_PORTS and any(
        without_default_port(scheme, host.lower()) == without_default_port(scheme, authority) for host in hosts
    )
