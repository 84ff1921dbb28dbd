"""prepare_publication: one checkpoint at a time for the vault, chained to the last one that it accepted."""

import psycopg
import pytest

from tests.support import one, refused
from tests.vaults.conftest import ALICE, CHAIN, VAULT, Bridge, chain_hash

NOTHING = chain_hash(0)


def test_commits_to_the_vault_and_its_deposits(bridge, alice, bob, claim, group):
    claim("carol", ALICE)
    made = bridge.call("prepare_publication")
    assert made["replayed"] is False
    assert made["state"] == "prepared"
    assert (made["group_id"], made["number"], made["chain_id"], made["vault"]) == (group, 1, CHAIN, VAULT.lower())
    # A join of nothing is no deposit.
    assert (made["deposits"], made["credited"], made["settled"], made["total"]) == (2, 150, 0, 150)
    assert (made["previous"], made["leaf_count"]) == (NOTHING, 3)


def test_an_empty_group(bridge):
    made = bridge.publish()
    assert (made["leaf_count"], made["total"], made["root"], made["deposits"]) == (0, 0, NOTHING, 0)


def test_the_prepared_one_is_returned_again(bridge, alice, bob, ledger, group):
    made = bridge.call("prepare_publication")
    ledger.execute("select ledger.transfer(%s, %s, %s, 5)", [group, alice, bob])
    again = bridge.call("prepare_publication")
    assert again == made | {"replayed": True}


def test_refuses_another_one_until_it_is_closed(bridge, alice):
    made = bridge.publish()
    bridge.refused("LG013", "prepare_publication")
    bridge.close(made["number"])
    after = bridge.call("prepare_publication")
    assert (after["number"], after["previous"]) == (made["number"] + 1, made["header"])


@pytest.mark.parametrize("end", ["vetoed", "abandoned"])
def test_what_was_not_accepted_is_not_the_previous_one(bridge, alice, end):
    first = bridge.publish()
    bridge.close(first["number"])
    second = bridge.call("prepare_publication")
    bridge.call("record_publication", second["number"], end, *bridge.mined())
    third = bridge.call("prepare_publication")
    assert (third["number"], third["previous"]) == (3, first["header"])


def test_a_veto_after_the_acceptance(bridge, alice):
    made = bridge.publish()
    bridge.call("record_publication", made["number"], "vetoed", *bridge.mined())
    assert bridge.call("get_vault")["accepted_number"] is None
    assert bridge.call("prepare_publication")["previous"] == NOTHING


def test_must_be_the_first_change_of_its_transaction(bridge, alice, group):
    with bridge.session.transaction(force_rollback=True):
        bridge.session.execute("select ledger.record_progress(%s, 1, %s)", [group, chain_hash(1)])
        with pytest.raises(psycopg.errors.ActiveSqlTransaction):
            bridge.session.execute("select ledger.prepare_publication(%s)", [group])


def test_refuses_a_group_that_is_not_linked_closed_or_frozen(bridge, alice, session, group):
    Bridge(session, group - 1).refused("LG013", "prepare_publication")
    Bridge(session, group + 9).refused("LG002", "prepare_publication")
    bridge.freeze(0)
    bridge.refused("LG014", "prepare_publication")


def test_refuses_a_closed_group(bridge):
    bridge.call("record_closing", *bridge.mined())
    bridge.refused("LG013", "prepare_publication")


def test_the_proof_is_of_the_newest_accepted_one(bridge, alice, ledger, group):
    query = "select to_json(p) from ledger.get_proof(%s, %s) as p"
    bridge.call("prepare_publication")
    refused(ledger, "LG002", query, [group, alice])
    bridge.call("record_publication", 1, "accepted", *bridge.mined())
    bridge.close(1)
    bridge.call("prepare_publication")
    assert one(ledger, query, [group, alice])[0]["checkpoint"]["number"] == 1
    bridge.call("record_publication", 2, "accepted", *bridge.mined())
    proof = one(ledger, query, [group, alice])[0]
    assert (proof["checkpoint"]["number"], proof["checkpoint"]["state"]) == (2, "accepted")
    assert one(ledger, "select ledger.verify_proof(to_json(%s::jsonb)::jsonb)", [psycopg.types.json.Jsonb(proof)]) == (
        True,
    )


def test_leaves_that_a_vault_pays_are_not_deleted(bridge, alice, admin, group):
    for _ in range(3):
        bridge.close(bridge.publish()["number"])
    for _ in range(2):
        vetoed = bridge.call("prepare_publication")["number"]
        bridge.call("record_publication", vetoed, "vetoed", *bridge.mined())
    assert one(admin, "select ledger.drop_checkpoint_chunks(%s, 1)", [group]) == (1,)
    query = "select distinct number from ledger.checkpoint_chunks where group_id = %s order by number"
    assert admin.execute(query, [group]).fetchall() == [(2,), (3,), (4,), (5,)]
