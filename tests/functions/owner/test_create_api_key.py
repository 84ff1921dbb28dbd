"""ledger.create_api_key: a secret that is returned once, and its scope."""

import hashlib

import pytest

from tests.support import call, one, refused


@pytest.mark.parametrize("scope", ["read", "transact", "admin"])
def test_keeps_a_digest_of_the_secret_and_not_the_secret(keys, scope):
    ((number, secret),) = call(keys, "create_api_key", "shop", scope)
    assert secret.startswith(f"ledger_{number}_")
    assert len(secret.rpartition("_")[2]) == 64
    kept = one(keys, "select id, name, scope, group_id, digest, revoked_at from ledger.api_keys")
    assert kept == (number, "shop", scope, None, hashlib.sha256(secret.encode()).digest(), None)
    assert secret not in one(keys, "select k::text from ledger.api_keys as k")[0]


def test_creates_another_secret_each_time(keys):
    secrets = [call(keys, "create_api_key", "shop", "read")[0] for _ in range(3)]
    assert len({secret.rpartition("_")[2] for _, secret in secrets}) == 3
    assert len({number for number, _ in secrets}) == 3


def test_an_api_key_may_be_for_one_group(keys, group):
    call(keys, "create_api_key", "shop", "transact", group)
    assert one(keys, "select group_id from ledger.api_keys") == (group,)


def test_refuses_a_group_that_does_not_exist(keys, stranger):
    refused(keys, "LG002", "select ledger.create_api_key('shop', 'read', %s)", [stranger])


def test_refuses_a_removed_group(empty_group, keys):
    call(keys, "remove_group", empty_group)
    refused(keys, "LG002", "select ledger.create_api_key('shop', 'read', %s)", [empty_group])


def test_refuses_a_bad_name(keys, bad_name):
    diag = refused(keys, "LG001", "select ledger.create_api_key(%s, 'read')", [bad_name])
    assert diag.column_name == "name"


@pytest.mark.parametrize("scope", [None, "", "open", "Read", "read ", "owner"])
def test_refuses_an_unknown_scope(keys, scope):
    diag = refused(keys, "LG001", "select ledger.create_api_key('shop', %s)", [scope])
    assert diag.column_name == "scope"


def test_the_serving_role_cannot_create_list_or_revoke_api_keys(ledger):
    for query in (
        "select ledger.create_api_key('mine', 'admin')",
        "select ledger.list_api_keys()",
        "select ledger.revoke_api_key(1)",
    ):
        refused(ledger, "42501", query)
