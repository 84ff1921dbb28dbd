"""ledger.authenticate and ledger.keys_required: whom a secret stands for, and whether one is asked for."""

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
    """What the serving role, which alone asks, is answer."""
    keys.execute("set role ledger_api")
    answer = call(keys, "authenticate", key_id, digest)
    keys.execute("set role ledger_owner")
    return answer


def test_knows_a_key_by_the_digest_of_its_secret(keys, key):
    number, secret = key
    assert known(keys, number, digest(secret)) == [(number, "shop", "transact", None)]


def test_says_for_which_group_a_key_is(keys, group):
    ((number, secret),) = call(keys, "create_api_key", "shop", "read", group)
    assert known(keys, number, digest(secret)) == [(number, "shop", "read", group)]


CHANGES = {
    "another key": lambda number, secret: (number + 1, secret),
    "a longer secret": lambda number, secret: (number, secret + "0"),
    "no secret": lambda number, secret: (number, ""),
    "no such key": lambda number, secret: (-1, secret),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_knows_no_other_key_and_no_other_secret(keys, key, change):
    number, secret = change(*key)
    assert known(keys, number, digest(secret)) == []


def test_a_secret_belongs_to_its_own_key(keys, key):
    ((other, _),) = call(keys, "create_api_key", "bank", "admin")
    assert known(keys, other, digest(key[1])) == []


@pytest.mark.parametrize("given", ["neither", "the id", "the digest"])
def test_nothing_is_known_of_nulls(keys, key, given):
    number, secret = key
    arguments = number if given == "the id" else None, digest(secret) if given == "the digest" else None
    assert known(keys, *arguments) == []


def test_knows_a_revoked_key_no_more(keys, key):
    number, secret = key
    call(keys, "revoke_api_key", number)
    assert known(keys, number, digest(secret)) == []


def test_asks_for_no_key_before_there_is_one(ledger):
    assert one(ledger, "select ledger.keys_required()") == (False,)
    with behind(ledger):
        ledger.execute("create table public.ledger_keys_were_dropped ()")  # by a reset that was not completed
    assert one(ledger, "select ledger.keys_required()") == (True,)
    with behind(ledger):
        ledger.execute("drop table public.ledger_keys_were_dropped")


def test_asks_for_a_key_from_the_first_on_also_when_all_are_revoked(keys, key):
    keys.execute("set role ledger_api")
    assert one(keys, "select ledger.keys_required()") == (True,)
    keys.execute("set role ledger_owner")
    call(keys, "revoke_api_key", key[0])
    assert one(keys, "select ledger.keys_required()") == (True,)
