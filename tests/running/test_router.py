"""The router finds the same as Sanic's own, for every path of the table and for similar ones."""

from collections.abc import Iterator
from itertools import product

import pytest
from sanic import Sanic, router
from sanic.exceptions import SanicException

from api.http.docs import pages
from api.http.explorer import explorer_pages
from api.http.router import Router
from api.routes import LIVE, METRICS, ROUTES

IDS = ("1", "2", "abc", "groups", "entries", "%2F", "é", "")
PLAIN = (LIVE, METRICS, *pages(), *explorer_pages())  # without an id
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "get")


def paths() -> Iterator[str]:
    yield from ("", "/", "//", "/api", "/api/", "//api/groups", "/api/nothing", "/api/nothing/1", "/API/groups/1", "*")
    for path in {*(route.path for route in ROUTES), *PLAIN}:
        words = path.replace("<group_id>", "<id>").split("<id>")
        for ids in product(IDS, repeat=len(words) - 1):
            filled = words[0] + "".join(f"{given}{word}" for given, word in zip(ids, words[1:], strict=True))
            yield from (filled, f"{filled}/", f"{filled}//", f"{filled}/1", f"{filled}/nothing", filled[1:])


def found(searched: router.Router, path: str, method: str) -> object:
    try:
        route, handler, parameters = searched.get(path, method, "ledger")
    except SanicException as refusal:
        return type(refusal), str(refusal)
    return route.path, route.methods, handler, parameters


@pytest.fixture
def routers() -> Iterator[tuple[Router, router.Router]]:
    both = Router(), router.Router()
    apps = [Sanic(f"router-{number}", configure_logging=False, router=each) for number, each in enumerate(both)]
    for app in apps:
        for route in ROUTES:
            app.add_route(nothing, route.path, route.methods, name=f"{route.function}_{route.methods[0]}")
        for path in PLAIN:
            app.add_route(nothing, path, ["GET", "HEAD"], name=path)
        app.router.finalize()
    yield both
    for app in apps:
        Sanic.unregister_app(app)


async def nothing(*_: object, **__: object) -> None: ...


def test_it_finds_what_sanic_finds(routers):
    ours, theirs = routers
    asked = list(product(paths(), METHODS))
    for path, method in asked + asked:  # the second time by the words
        assert found(ours, path, method) == found(theirs, path, method), (path, method)


def test_it_remembers_no_more_than_the_table_has(routers):
    ours, _ = routers
    for path, method in product(paths(), METHODS):
        found(ours, path, method)
    # With a slash at the end and without.
    assert len(ours.known) <= 2 * (sum(len(route.methods) for route in ROUTES) + len(PLAIN) * len(("GET", "HEAD")))
