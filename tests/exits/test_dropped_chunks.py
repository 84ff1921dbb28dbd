"""Old checkpoints lose their leaves and are computed from the record, to the byte."""

import re

import pytest

from tests.exits.conftest import tamper
from tests.support import call, create, join, one, refused, transfer


@pytest.fixture
def history(ledger, group, checkpoint):
    """Three checkpoints, and movements of every kind before, between and after them; the participants."""
    alice, bob, carol = (join(ledger, group, name, 100) for name in ("alice", "bob", "carol"))
    early = call(ledger, "exit_group", group, carol)[0][1]
    transfer(ledger, group, alice, bob, 10)
    checkpoint()
    call(ledger, "settle_exit", group, early, "0xa")
    call(ledger, "bind_address", group, alice, "0x" + "ab" * 20)
    call(ledger, "deposit", group, bob, 5)
    checkpoint()
    dave = join(ledger, group, "dave", 7)
    late = call(ledger, "exit_group", group, bob)[0][1]
    checkpoint()
    call(ledger, "settle_exit", group, late, "0xb")
    transfer(ledger, group, dave, alice, 7)
    return alice, bob, carol, dave


def kept(admin):
    return [number for (number,) in admin.execute("select distinct number from ledger.checkpoint_chunks order by 1")]


def test_leaves_and_proofs_are_the_same_afterwards(ledger, admin, group, history, leaves, proof, drop, discrepancies):
    proofs = [(each["participant_id"], number) for number in (1, 2, 3) for each in leaves(number)]
    before = [leaves(number) for number in (1, 2, 3)], [proof(*of) for of in proofs]
    assert (drop(keep=2), kept(admin)) == (1, [2, 3])
    assert (drop(), kept(admin)) == (1, [3])
    assert (drop(), drop(keep=9)) == (0, 0)
    assert ([leaves(number) for number in (1, 2, 3)], [proof(*of) for of in proofs]) == before
    assert leaves(1, after=history[0], limit=1) == before[0][0][1:2]
    assert discrepancies() == []


def test_other_groups_keep_theirs(ledger, admin, group, history, drop):
    other = create(ledger, "Other")
    join(ledger, other, "alice")
    ledger.execute("select ledger.checkpoint(%s)", [other])
    ledger.execute("select ledger.checkpoint(%s)", [other])
    drop()
    query = "select number from ledger.checkpoint_chunks where group_id = %s order by 1"
    assert admin.execute(query, [other]).fetchall() == [(1,), (2,)]


def test_keeps_at_least_one(admin, group, history):
    admin.execute("set role ledger_owner")
    for keep in (0, -1, None):
        refused(admin, "LG001", "select ledger.drop_checkpoint_chunks(%s, %s)", [group, keep])
    refused(admin, "LG002", "select ledger.drop_checkpoint_chunks(%s, 1)", [group + 1])


def test_are_not_dropped_where_the_record_gives_another_root(ledger, admin, group, history, discrepancies):
    tamper(admin, "update ledger.entries set to_amount = to_amount + 1 where id = 5")
    admin.execute("set role ledger_owner")
    refused(admin, "XX001", "select ledger.drop_checkpoint_chunks(%s, 1)", [group])
    admin.execute("reset role")
    assert kept(admin) == [1, 2, 3]
    tamper(admin, "update ledger.entries set to_amount = to_amount - 1 where id = 5")


def test_a_changed_record_is_noticed_where_leaves_were_dropped(ledger, admin, group, history, drop):
    drop()
    tamper(admin, "update ledger.entries set to_amount = to_amount + 1 where id = 5")
    refused(ledger, "XX001", "select ledger.get_proof(%s, %s, 1)", [group, history[0]])
    refused(ledger, "XX001", "select ledger.list_leaves(%s, 1)", [group])
    tamper(admin, "update ledger.entries set to_amount = to_amount - 1 where id = 5")


def test_are_lost_after_a_restore_unless_they_were_kept(ledger, admin, group, history, leaves, drop, discrepancies):
    second = leaves(2)
    drop(keep=2)
    admin.execute("select ledger.restart_feed()")
    diag = refused(ledger, "LG002", "select ledger.get_proof(%s, %s, 1)", [group, history[0]])
    assert "restore" in diag.message_primary
    refused(ledger, "LG002", "select ledger.list_leaves(%s, 1)", [group])
    assert leaves(2) == second
    # They could not be computed again.
    assert (drop(), kept(admin)) == (0, [2, 3])
    (number,) = one(ledger, "select number from ledger.checkpoint(%s)", [group])
    transfer(ledger, group, history[0], history[3], 1)
    fourth = leaves(number)
    ledger.execute("select ledger.checkpoint(%s)", [group])
    assert (drop(), kept(admin)) == (1, [2, 3, 5])
    assert leaves(number) == fourth
    assert discrepancies() == []


FAR_AHEAD = 9 * 10**17  # the number of a transaction that this server has not begun


def test_what_another_server_bound_and_settled_is_in_the_leaves(
    ledger, admin, group, checkpoint, history, leaves, drop, discrepancies
):
    alice, *_ = history
    # As if a dump had been restored here: its numbers are of transactions that this server has yet to reach.
    tamper(admin, "update ledger.feeds set system_identifier = system_identifier - 1")
    for table, column in (("entries", "xid"), ("participants", "address_xid"), ("settlements", "settled_xid")):
        tamper(admin, f"update ledger.{table} set {column} = ({column}::text::numeric + {FAR_AHEAD})::text::xid8")
    for number, snapshot in admin.execute("select number, snapshot::text from ledger.checkpoints").fetchall():
        ahead = re.sub("[0-9]+", lambda found: str(int(found[0]) + FAR_AHEAD), snapshot)
        tamper(admin, f"update ledger.checkpoints set snapshot = '{ahead}' where number = {number}")
    # The clock of the server that was lost was ahead of this one.
    tamper(
        admin,
        "update ledger.settlements set settled_at = clock_timestamp() + interval '30 s' where settled_at is not null",
    )
    admin.execute("select ledger.restart_feed()")
    checkpoint()
    restored = leaves(4)
    assert [each["owner"] for each in restored if each["participant_id"] == alice] == ["0x" + "ab" * 20]
    checkpoint()
    assert discrepancies() == []
    assert (drop(), kept(admin)) == (1, [1, 2, 3, 5])
    assert leaves(4) == restored


def test_an_exit_that_was_settled_before_this_migration_has_no_leaf(ledger, admin, group, checkpoint, history, drop):
    tamper(admin, "update ledger.settlements set settled_xid = null")
    checkpoint()
    checkpoint()
    tamper(
        admin, "delete from ledger.checkpoint_chunks where number < 4; delete from ledger.checkpoints where number < 4"
    )
    assert (drop(), kept(admin)) == (1, [5])


FORGERIES = {
    "the header": ("checkpoints", "header = sha256(header)", "has another header than its figures make"),
    "the number": ("checkpoints", "number = 9", "has none before it"),
    "the previous header": ("checkpoints", "previous = sha256(previous)", "has another header before it"),
    "a figure": ("checkpoints", "deposits = deposits + 1", "joins and deposits"),
    "what was credited": ("checkpoints", "credited = credited + 1, total = total + 1", "joins and deposits"),
    "what was settled": ("checkpoints", "settled = settled + 1, total = total - 1", "settled, and the record"),
    "the time": ("checkpoints", "created_at = 'infinity'", "was made at infinity"),
    "the root": ("checkpoints", "root = sha256(root)", "has other leaves than its root is of"),
    "the leaf count": ("checkpoints", "leaf_count = leaf_count + 1", "leaves of ascending participants"),
    "a leaf": ("checkpoint_chunks", "leaves = set_byte(leaves, 20, 7)", "has other leaves than its root is of"),
    "a sum": ("checkpoint_chunks", "sum = sum + 1", "has other leaves than its root is of"),
    "a node": ("checkpoint_chunks", "hash = sha256(hash)", "has other leaves than its root is of"),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_verify_finds_what_was_changed(admin, group, history, discrepancies, name):
    table, change, finding = FORGERIES[name]
    assert discrepancies() == []
    number = 3 if name == "the number" else 2
    tamper(admin, f"update ledger.{table} set {change} where number = {number}")
    found = discrepancies()
    assert any(each.startswith("checkpoint: ") and finding in each for each in found), found


def test_verify_reads_the_answer_to_a_checkpoint(admin, checkpoint, history, discrepancies):
    checkpoint("k")
    for zone in ("UTC", "America/St_Johns"):
        admin.execute(f"set timezone = '{zone}'")
        assert discrepancies() == []
    for change in ("replace(answer::text, '\"total\":', '\"total\":1')::json", "'{}'"):
        with admin.transaction(force_rollback=True):
            tamper(admin, f"update ledger.idempotency_keys set answer = {change} where operation = 'checkpoint'")
            assert any("contradicts the record" in each for each in discrepancies())


def test_a_forged_leaf_is_not_proved(ledger, admin, group, history):
    tamper(admin, "update ledger.checkpoint_chunks set leaves = set_byte(leaves, 20, 7) where number = 3")
    refused(ledger, "XX001", "select ledger.get_proof(%s, %s)", [group, history[0]])
