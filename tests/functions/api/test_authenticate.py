"""ledger.authenticate and ledger.keys_required: the API key of a secret, and whether one is required."""

import hashlib

import psycopg
import pytest

from tests.functions.conftest import behind
from tests.support import call, one


def digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


@pytest.fixture
def key(keys: psycopg.Connection) -> tuple[int, str]:
    (made,) = call(keys, "create_api_key", "shop", "transact")
    return made


def known(keys: psycopg.Connection, key_id: int | None, digest: bytes | None) -> list[tuple]:
    """Return the answer to the serving role, the only caller."""
    keys.execute("set role ledger_api")
    answer = call(keys, "authenticate", key_id, digest)
    keys.execute("set role ledger_owner")
    return answer


def test_finds_an_api_key_by_the_digest_of_its_secret(keys, key):
    number, secret = key
    assert known(keys, number, digest(secret)) == [(number, "shop", "transact", None)]


def test_returns_the_group_of_an_api_key(keys, group):
    ((number, secret),) = call(keys, "create_api_key", "shop", "read", group)
    assert known(keys, number, digest(secret)) == [(number, "shop", "read", group)]


CHANGES = {
    "another key": lambda number, secret: (number + 1, secret),
    "a longer secret": lambda number, secret: (number, secret + "0"),
    "no secret": lambda number, secret: (number, ""),
    "no such key": lambda number, secret: (-1, secret),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_finds_nothing_for_another_id_or_secret(keys, key, change):
    number, secret = change(*key)
    assert known(keys, number, digest(secret)) == []


def test_a_secret_of_another_api_key_is_refused(keys, key):
    ((other, _),) = call(keys, "create_api_key", "bank", "admin")
    assert known(keys, other, digest(key[1])) == []


@pytest.mark.parametrize("given", ["neither", "the id", "the digest"])
def test_finds_nothing_for_null(keys, key, given):
    number, secret = key
    arguments = number if given == "the id" else None, digest(secret) if given == "the digest" else None
    assert known(keys, *arguments) == []


def test_does_not_find_a_revoked_api_key(keys, key):
    number, secret = key
    call(keys, "revoke_api_key", number)
    assert known(keys, number, digest(secret)) == []


def test_requires_no_api_key_before_the_first(ledger):
    assert one(ledger, "select ledger.keys_required()") == (False,)
    with behind(ledger):
        ledger.execute("create table public.ledger_keys_were_dropped ()")  # by a reset that was not completed
    assert one(ledger, "select ledger.keys_required()") == (True,)
    with behind(ledger):
        ledger.execute("drop table public.ledger_keys_were_dropped")


def test_requires_an_api_key_from_the_first_on_even_when_all_are_revoked(keys, key):
    keys.execute("set role ledger_api")
    assert one(keys, "select ledger.keys_required()") == (True,)
    keys.execute("set role ledger_owner")
    call(keys, "revoke_api_key", key[0])
    assert one(keys, "select ledger.keys_required()") == (True,)
