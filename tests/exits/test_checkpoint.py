"""ledger.checkpoint: one root for what everybody holds, in one snapshot, chained to the one before."""

import json

import psycopg
import pytest

from tests.exits.conftest import tamper
from tests.exits.vectors import domain_of, header_of, levels_of, octets, spelled
from tests.support import call, create, join, one, refused, transfer

NOBODY = "0x" + "00" * 20
ZERO = "0x" + "00" * 32
ALICE = "0xcd2662154e6d76b2b2b92e70c0cac3ccf534f9b7"
MAX = 2**256 - 1


def exits(ledger, group, participant) -> int:
    """The id of the entry."""
    return call(ledger, "exit_group", group, participant)[0][1]


def leaf(index: int, participant: int, amount: int, entry: int | None = None, owner: str = NOBODY) -> dict:
    return {"index": index, "participant_id": participant, "exit_entry": entry, "owner": owner, "amount": amount}


def test_has_a_leaf_for_each_present_participant_and_each_exit_that_is_not_settled(ledger, group, checkpoint, leaves):
    other = create(ledger, "Other")
    alice, bob, carol, dave = (join(ledger, group, name, 100) for name in ("alice", "bob", "carol", "dave"))
    join(ledger, other, "alice", 7)
    call(ledger, "bind_address", group, alice, ALICE)
    call(ledger, "deposit", group, alice, 5)
    transfer(ledger, group, bob, alice, 30)
    settled, waits = exits(ledger, group, carol), exits(ledger, group, bob)
    call(ledger, "settle_exit", group, settled, "0xa")
    made = checkpoint()
    expected = [leaf(0, alice, 135, owner=ALICE), leaf(1, bob, 70, waits), leaf(2, dave, 100)]
    assert leaves(1) == expected
    created_at, seal, replayed = made.pop("created_at"), made.pop("seal"), made.pop("replayed")
    assert (replayed, bool(created_at), len(seal)) == (False, True, 66)
    figures = {"deposits": 5, "credited": 405, "settled": 100, "leaf_count": 3, "total": 305}
    assert made == {
        **{"group_id": group, "number": 1, "chain_id": 0, "vault": NOBODY, "previous": ZERO},
        **figures,
        "root": spelled(levels_of(domain_of(made), expected)[-1][0][1]),
        "header": header_of(made),
        "state": None,
    }
    shown = one(ledger, "select to_json(c) from ledger.get_checkpoint(%s) as c", [group])[0]
    assert shown == made | {"created_at": created_at, "seal": seal}


def test_an_empty_group_has_a_root_of_zeros(checkpoint, leaves):
    made = checkpoint()
    assert (made["root"], made["leaf_count"], made["total"], made["deposits"]) == (ZERO, 0, 0, 0)
    assert made["header"] == header_of(made)
    assert leaves(1) == []


@pytest.mark.parametrize("count", [1, 2, 1023, 1024, 1025, 2049])
def test_chunks_make_the_root_of_the_whole_tree(ledger, admin, group, checkpoint, leaves, proof, count):
    admin.execute(
        """
        with joined as (
          insert into ledger.participants (group_id, username, amount)
          select %s, 'p' || i, i * 10::numeric ^ 18 from generate_series(1, %s) as i
          returning *
        )
        insert into ledger.entries (group_id, kind, to_id, amount, to_amount, created_at)
        select group_id, 'join', id, amount, amount, joined_at from joined
        """,
        [group, count],
    )
    admin.execute(
        """
        update ledger.group_total_shards
        set total = (select sum(amount) from ledger.participants)
        where slot = 0
        """
    )
    made = checkpoint()
    found = leaves(1, limit=count + 1)
    assert [each["index"] for each in found] == list(range(count))
    assert made["leaf_count"] == count
    assert made["root"] == spelled(levels_of(domain_of(made), found)[-1][0][1])
    for each in {0, count // 2, count - 1}:
        shown = proof(found[each]["participant_id"])
        assert shown["leaf"] == found[each]
        assert one(ledger, "select ledger.verify_proof(%s, %s)", [json.dumps(shown), made["header"]]) == (True,)


def test_checkpoints_are_numbered_and_chained(ledger, group, checkpoint):
    other = create(ledger, "Other")
    first = checkpoint()
    (elsewhere,) = one(ledger, "select to_json(c) from ledger.checkpoint(%s) as c", [other])
    join(ledger, group, "alice")
    second = checkpoint()
    assert [each["number"] for each in (first, elsewhere, second)] == [1, 1, 2]
    assert (second["previous"], elsewhere["previous"]) == (first["header"], ZERO)
    listed = [row for (row,) in ledger.execute("select to_json(c) from ledger.list_checkpoints(%s) as c", [group])]
    assert listed == [{k: v for k, v in each.items() if k != "replayed"} for each in (first, second)]
    page = ledger.execute("select number from ledger.list_checkpoints(%s, 1, 1)", [group]).fetchall()
    assert page == [(2,)]


def test_a_repeated_key_makes_one_checkpoint(ledger, group, checkpoint):
    first = checkpoint("k")
    join(ledger, group, "alice")
    again = checkpoint("k")
    assert again == first | {"replayed": True}
    assert checkpoint("other")["number"] == 2
    refused(ledger, "LG006", "select ledger.join_group(%s, 'bob', 1, 'k')", [group])


def test_must_come_first_in_its_transaction(ledger, group):
    with ledger.transaction():
        join(ledger, group, "alice")
        diag = refused(ledger, "25001", "select ledger.checkpoint(%s)", [group])
        assert "first" in diag.message_primary
    assert ledger.execute("select ledger.list_checkpoints(%s)", [group]).fetchall() == []
    with ledger.transaction():
        ledger.execute("select ledger.get_group(%s)", [group])
        ledger.execute("select ledger.checkpoint(%s)", [group])
        refused(ledger, "25001", "select ledger.checkpoint(%s)", [group])
    with ledger.transaction(force_rollback=True):
        ledger.execute("select ledger.checkpoint(%s, 'k')", [group])
    numbers = ledger.execute("select number from ledger.list_checkpoints(%s)", [group]).fetchall()
    assert numbers == [(1,)]


def test_a_removed_groups_exits_have_their_leaves(ledger, group, checkpoint, leaves):
    alice = join(ledger, group, "alice", 40)
    waits = exits(ledger, group, alice)
    call(ledger, "remove_group", group)
    assert checkpoint()["total"] == 40
    assert leaves(1) == [leaf(0, alice, 40, waits)]


def test_holds_up_to_2_256_less_one_and_no_more(ledger, group, checkpoint):
    alice = join(ledger, group, "alice", MAX - 1)
    join(ledger, group, "bob", 1)
    assert checkpoint()["total"] == MAX
    join(ledger, group, "carol", 1)
    diag = refused(ledger, "LG011", "select ledger.checkpoint(%s)", [group])
    assert diag.message_detail.startswith("group_id: ")
    # What has left counts as well: it was credited.
    call(ledger, "settle_exit", group, exits(ledger, group, alice), "0xa")
    refused(ledger, "LG011", "select ledger.checkpoint(%s)", [group])
    assert ledger.execute("select number from ledger.list_checkpoints(%s)", [group]).fetchall() == [(1,)]


def test_is_refused_after_a_restore_until_the_feed_is_restarted(ledger, admin, group, checkpoint, discrepancies):
    alice = join(ledger, group, "alice", 40)
    first = checkpoint("k")
    # As if a dump had been restored here.
    tamper(admin, "update ledger.feeds set system_identifier = system_identifier - 1")
    diag = refused(ledger, "LG009", "select ledger.checkpoint(%s)", [group])
    assert (diag.column_name, "restart_feed()" in diag.message_hint) == ("group_id", True)
    assert checkpoint("k") == first | {"replayed": True}
    assert admin.execute("select number from ledger.checkpoints").fetchall() == [(1,)]
    (generation,) = one(admin, "select ledger.restart_feed()")
    call(ledger, "deposit", group, alice, 2)
    assert checkpoint()["total"] == 42
    assert admin.execute("select generation from ledger.checkpoints where number = 2").fetchall() == [(generation,)]
    assert discrepancies() == []


def test_is_refused_where_the_books_are_wrong(ledger, admin, group):
    alice = join(ledger, group, "alice", 40)
    tamper(admin, f"update ledger.participants set amount = 41 where id = {alice}")
    refused(ledger, "XX001", "select ledger.checkpoint(%s)", [group])
    tamper(admin, f"update ledger.participants set amount = 40 where id = {alice}")


@pytest.mark.parametrize("number", [0, -1, 2, 2**62])
def test_an_unknown_checkpoint_is_not_found(ledger, group, checkpoint, number):
    alice = join(ledger, group, "alice")
    checkpoint()
    for query in ("get_checkpoint(%s, %s)", "list_leaves(%s, %s)", f"get_proof(%s, {alice}, %s)"):
        diag = refused(ledger, "LG002", f"select ledger.{query}", [group, number])
        assert diag.column_name == "number"


def test_an_unknown_group_has_no_checkpoints(ledger, group):
    for query in (
        "checkpoint(%s)",
        "get_checkpoint(%s)",
        "list_checkpoints(%s)",
        "list_leaves(%s, 1)",
        "get_proof(%s, 1)",
    ):
        assert refused(ledger, "LG002", f"select ledger.{query}", [group + 9]).column_name == "group_id"
        assert refused(ledger, "LG001", f"select ledger.{query}", [None]).column_name == "group_id"
    for query in ("get_checkpoint(%s)", "get_proof(%s, 1)"):
        assert refused(ledger, "LG002", f"select ledger.{query}", [group]).column_name == "number"
    assert refused(ledger, "LG001", "select ledger.get_proof(%s, null)", [group]).column_name == "participant_id"
    assert refused(ledger, "LG001", "select ledger.list_leaves(%s, null)", [group]).column_name == "number"


def test_leaves_come_in_pages(ledger, group, checkpoint, leaves):
    ids = [join(ledger, group, name, 1) for name in "abcd"]
    checkpoint()
    assert [each["participant_id"] for each in leaves(1, after=ids[0], limit=2)] == ids[1:3]
    assert [each["participant_id"] for each in leaves(1, after=None, limit=None)] == ids
    assert leaves(1, after=ids[-1]) == leaves(1, after=2**63 - 1) == leaves(1, limit=0) == leaves(1, limit=-1) == []


def test_a_proof_stays_after_the_exit_and_its_settlement(ledger, group, checkpoint, proof):
    alice, bob = join(ledger, group, "alice", 40), join(ledger, group, "bob", 2)
    checkpoint()
    entry = exits(ledger, group, alice)
    checkpoint()
    call(ledger, "settle_exit", group, entry, "0xa")
    checkpoint()
    assert proof(alice, 1)["leaf"] == leaf(0, alice, 40)
    assert proof(alice, 2)["leaf"] == leaf(0, alice, 40, entry)
    assert proof(bob) == proof(bob, 3)
    assert proof(bob)["leaf"] == leaf(0, bob, 2)
    assert proof(bob)["siblings"] == []
    diag = refused(ledger, "LG002", "select ledger.get_proof(%s, %s)", [group, alice])
    assert diag.column_name == "participant_id"
    later = join(ledger, group, "carol")
    assert refused(ledger, "LG002", "select ledger.get_proof(%s, %s)", [group, later]).column_name == "participant_id"


def test_another_groups_participant_has_no_proof(ledger, group, checkpoint):
    other = create(ledger, "Other")
    stranger = join(ledger, other, "alice")
    join(ledger, group, "alice")
    checkpoint()
    refused(ledger, "LG002", "select ledger.get_proof(%s, %s)", [group, stranger])


def test_the_owner_cannot_change_a_checkpoint(ledger, admin, group, checkpoint):
    join(ledger, group, "alice")
    checkpoint()
    admin.execute("set role ledger_owner")
    for statement in (
        "update ledger.checkpoints set total = 0",
        "delete from ledger.checkpoints",
        "truncate ledger.checkpoints cascade",
        "update ledger.checkpoint_chunks set sum = 0",
    ):
        refused(admin, "23001", statement)


def test_a_chunk_belongs_to_a_checkpoint(admin, group):
    chunk = f"insert into ledger.checkpoint_chunks values ({group}, 1, 0, 1, 0, %s, 0, %s)"
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        admin.execute(chunk, [octets("0x" + "00" * 36), octets(ZERO)])
