"""ledger.revoke_api_key and ledger.list_api_keys."""

import pytest

from tests.support import call, one, refused


def made(keys, name="shop", scope="read", group=None):
    return call(keys, "create_api_key", name, scope, group)[0][0]


def test_returns_the_revoked_api_key_and_the_time(keys, group):
    key, other = made(keys, group=group), made(keys, "bank")
    ((number, name, scope, where, created_at, revoked_at),) = call(keys, "revoke_api_key", key)
    assert (number, name, scope, where) == (key, "shop", "read", group)
    assert created_at <= revoked_at
    assert one(keys, "select array_agg(id) from ledger.api_keys where revoked_at is null") == ([other],)


def test_revoking_an_api_key_again_changes_nothing(keys):
    key = made(keys)
    assert call(keys, "revoke_api_key", key) == call(keys, "revoke_api_key", key)


@pytest.mark.parametrize(("key", "sqlstate"), [(None, "LG001"), (0, "LG002"), (2**63 - 1, "LG002")])
def test_refuses_an_unknown_api_key(keys, key, sqlstate):
    diag = refused(keys, sqlstate, "select ledger.revoke_api_key(%s)", [key])
    assert diag.column_name == "key_id"


def test_lists_api_keys_by_pages_without_their_secrets(keys):
    assert call(keys, "list_api_keys") == []
    numbers = [made(keys, name, scope) for name, scope in (("a", "read"), ("b", "transact"), ("c", "admin"))]
    call(keys, "revoke_api_key", numbers[1])
    rows = call(keys, "list_api_keys")
    assert [(row[0], row[1], row[2], row[5] is None) for row in rows] == [
        (numbers[0], "a", "read", True),
        (numbers[1], "b", "transact", False),
        (numbers[2], "c", "admin", True),
    ]
    assert call(keys, "list_api_keys", 0, 2) == rows[:2]
    assert call(keys, "list_api_keys", numbers[1], 2) == rows[2:]


@pytest.mark.parametrize("statement", ["delete from ledger.api_keys", "truncate ledger.api_keys"])
@pytest.mark.parametrize("role", ["ledger_owner", "postgres"])
def test_api_keys_are_kept_after_their_revocation(keys, role, statement):
    made(keys)
    keys.execute(f"set role {role}")
    diag = refused(keys, "23001", statement)
    assert "revoke_api_key" in diag.message_hint
