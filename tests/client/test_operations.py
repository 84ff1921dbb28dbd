"""Every operation of the service, by the client."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import ledger_client
from ledger_client import Client, Group, NotFound, Participant, TransferLine
from tests.running.commands import done

GREATEST = 2**256 - 1
ADDRESS = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"


def test_groups_are_opened_found_renamed_and_removed(client: Client, group: Group) -> None:
    assert client.get_group(group.id) == group
    assert list(client.list_groups(name=group.name)) == [group]
    renamed = client.rename_group(group.id, f"{group.name}, renamed")
    assert renamed == client.get_group(group.id)
    assert client.group_total(group.id) == 0
    assert client.remove_group(group.id).idempotency_key
    with pytest.raises(NotFound) as refused:
        client.get_group(group.id)
    assert (refused.value.code, refused.value.status, refused.value.sqlstate) == ("not_found", 404, "LG002")
    assert refused.value.request_id


def test_participants_join_deposit_transfer_and_exit(client: Client, group: Group, alice: Participant) -> None:
    bob = client.join_group(group.id, "bob", 50, metadata={"transaction": "0x1a"}, address=ADDRESS)
    assert (bob.amount, client.get_address(group.id, bob.id).address) == (50, ADDRESS)
    assert client.bind_address(group.id, bob.id, ADDRESS.lower()).address == ADDRESS
    assert client.deposit(group.id, bob.id, 25).amount == 75
    moved = client.transfer(group.id, bob.id, alice.id, 70, metadata={"order": 17})
    assert (moved.from_participant.amount, moved.to_participant.amount) == (5, 170)
    assert moved.receipt.entry_id
    entry = client.get_entry(group.id, moved.receipt.entry_id)
    assert (entry.kind, entry.from_id, entry.to_id, entry.amount) == ("transfer", bob.id, alice.id, 70)
    assert (entry.from_amount, entry.to_amount, entry.metadata) == (5, 170, {"order": 17})
    assert abs(datetime.now(UTC) - entry.created_at) < timedelta(hours=1)
    assert client.rename_participant(group.id, bob.id, "bert").username == "bert"
    assert [each.username for each in client.list_participants(group.id)] == ["alice", "bert"]
    assert [each.id for each in client.list_participants(group.id, username="bert")] == [bob.id]
    assert client.get_participant(group.id, bob.id, at=bob.receipt.entry_id).amount == 50
    assert client.group_total(group.id, at=bob.receipt.entry_id) == 150
    assert client.exit_group(group.id, bob.id, metadata={"reason": "done"}).final_amount == 5
    assert client.group_total(group.id) == 170


def test_transfers_are_made_as_a_list_and_reversed(
    client: Client, group: Group, alice: Participant, bob: Participant
) -> None:
    lines = [TransferLine(alice.id, bob.id, 100, {"line": 1}), TransferLine(bob.id, alice.id, 150)]
    made = client.transfer_all(group.id, lines)
    assert [(each.from_amount, each.to_amount) for each in made.entries] == [(0, 200), (50, 150)]
    assert {each.id: each.amount for each in made.participants} == {alice.id: 150, bob.id: 50}
    reversal = client.reverse_transfer(group.id, made.entries[1].id, metadata={"ticket": 4})
    assert (reversal.reverses, reversal.to_amount) == (made.entries[1].id, 200)
    with pytest.raises(ledger_client.AlreadyReversed):
        client.reverse_transfer(group.id, made.entries[1].id)


def test_the_history_is_filtered(client: Client, group: Group, alice: Participant, bob: Participant) -> None:
    client.transfer(group.id, alice.id, bob.id, 10, metadata={"order": 17})
    left = client.exit_group(group.id, bob.id)
    assert [each.kind for each in client.list_entries(group.id)] == ["join", "join", "transfer", "exit"]
    assert [each.kind for each in client.list_entries(group.id, order="desc", page_size=1)] == [
        *("exit", "transfer", "join", "join")
    ]
    assert [each.amount for each in client.list_entries(group.id, metadata={"order": 17})] == [10]
    assert [each.amount for each in client.list_participant_entries(group.id, bob.id, kind="exit")] == [110]
    (exit_entry,) = client.list_entries(group.id, kind="exit", settled=False)
    assert exit_entry.id == left.receipt.entry_id
    assert [each.id for each in client.list_entries(group.id, since=exit_entry.created_at)] == [exit_entry.id]
    earlier = client.list_participant_entries(
        group.id, bob.id, until=exit_entry.created_at, before=exit_entry.id, after=alice.receipt.entry_id
    )
    assert [each.kind for each in earlier] == ["join", "transfer"]
    settled = client.settle_exit(group.id, exit_entry.id, "0x5f")
    assert (settled.reference, settled.settled_at is None) == ("0x5f", False)
    assert list(client.list_entries(group.id, settled=False)) == []
    with pytest.raises(ledger_client.AlreadySettled):
        client.settle_exit(group.id, exit_entry.id, "0x60")


def test_a_statement_has_pages(client: Client, group: Group, alice: Participant, bob: Participant) -> None:
    moved = client.transfer(group.id, alice.id, bob.id, 30, metadata={"order": 17})
    first = client.get_statement(group.id, alice.id, page_size=1)
    assert (first.username, first.opening_balance, first.closing_balance) == ("alice", 0, 70)
    assert [line.change for line in first.lines] == [100]
    second = client.get_statement(group.id, alice.id, page_size=1, after=first.next_after)
    (line,) = second.lines
    assert (line.id, line.kind, line.change, line.balance) == (moved.receipt.entry_id, "transfer", -30, 70)
    assert (line.counterparty_id, line.counterparty_username, line.metadata) == (bob.id, "bob", {"order": 17})
    assert second.next_after is None
    later = client.get_statement(group.id, alice.id, since=line.created_at, until=datetime.now(UTC) + timedelta(days=1))
    assert (later.opening_balance, [each.id for each in later.lines]) == (100, [line.id])
    assert client.get_statement(group.id, alice.id, until=line.created_at).closing_balance == 100


def test_a_checkpoint_has_leaves_and_proofs(
    client: Client, group: Group, alice: Participant, bob: Participant, tmp_path: Path
) -> None:
    made = client.checkpoint(group.id)
    assert (made.number, made.leaf_count, made.total, made.state) == (1, 2, 200, None)
    assert list(client.list_checkpoints(group.id)) == [made] == [client.get_checkpoint(group.id, 1)]
    leaves = list(client.list_leaves(group.id, 1, page_size=1))
    assert [(leaf.participant_id, leaf.amount) for leaf in leaves] == [(alice.id, 100), (bob.id, 100)]
    proof = client.get_proof(group.id, 1, bob.id)
    assert (proof.checkpoint, proof.leaf, len(proof.siblings)) == (made, leaves[1], 1)
    file = tmp_path / "proof.json"
    file.write_text(json.dumps(proof.document))
    assert f"participant {bob.id} of group {group.id} holds 100" in done("verify-proof", file, "--header", made.header)


def test_the_greatest_amount_is_exact(client: Client, group: Group) -> None:
    rich = client.join_group(group.id, "rich", GREATEST)
    poor = client.join_group(group.id, "poor", 0)
    moved = client.transfer(group.id, rich.id, poor.id, GREATEST - 1)
    assert (moved.from_participant.amount, moved.to_participant.amount) == (1, GREATEST - 1)
    assert client.deposit(group.id, rich.id, GREATEST - 1).amount == GREATEST
    assert client.group_total(group.id) == 2 * GREATEST - 1
    with pytest.raises(ledger_client.InvalidValue) as refused:
        client.join_group(group.id, "richer", GREATEST + 1)
    assert list(refused.value.fields) == ["amount"]


@pytest.mark.parametrize("amount", [1.0, "1", None, True])
def test_an_amount_that_is_no_int_is_not_sent(client: Client, group: Group, alice: Participant, amount: object) -> None:
    with pytest.raises(TypeError):
        client.deposit(group.id, alice.id, amount)  # type: ignore[arg-type]
    assert client.get_participant(group.id, alice.id).amount == 100


def test_a_time_without_a_zone_is_not_sent(client: Client, group: Group) -> None:
    with pytest.raises(ValueError, match="time zone"):
        client.list_entries(group.id, since=datetime(2026, 1, 1))


def test_the_service_is_asked_how_it_is(client: Client) -> None:
    assert (client.health(), client.live()) == ("ok", "ok")
    assert "ledger_" in client.metrics()
