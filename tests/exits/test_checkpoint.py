"""ledger.checkpoint and what reads it."""

from tests.support import join, one, transfer


def test_smoke(ledger, admin, group):
    a, b, c = (join(ledger, group, name, 100) for name in "abc")
    transfer(ledger, group, a, b, 30)
    print(one(ledger, "select to_json(c) from ledger.checkpoint(%s) as c", [group]))
    print(one(ledger, "select to_json(c) from ledger.get_proof(%s, %s) as c", [group, b]))
    print(one(ledger, "select ledger.verify_proof(to_jsonb(c)) from ledger.get_proof(%s, %s) as c", [group, b]))
    print(ledger.execute("select * from ledger.list_leaves(%s, 1)", [group]).fetchall())
    print(
        admin.execute(
            "select (k).* from ledger.checkpoints c cross join lateral ledger_internal.recompute_chunks(c) as k"
        ).fetchall()
    )
    admin.execute("set role ledger_owner")
    ledger.execute("select ledger.checkpoint(%s)", [group])
    print(one(admin, "select ledger.drop_checkpoint_chunks(%s, 1)", [group]))
    print(one(ledger, "select ledger.verify_proof(to_jsonb(c)) from ledger.get_proof(%s, %s, 1) as c", [group, b]))
    assert 0
