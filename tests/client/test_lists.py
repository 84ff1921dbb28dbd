"""Lists page by page, and the feed from a stored place."""

import json
from itertools import islice
from pathlib import Path

import pytest

import ledger_client
from ledger_client import Client, FilePlace, Group, MemoryPlace, Participant
from ledger_client.feed import parse_place
from tests.http.client import Service
from tests.support import one, until


def test_a_page_is_asked_for_when_it_is_needed(client: Client) -> None:
    with pytest.raises(ledger_client.NotFound):
        next(client.list_participants(2**63 - 1))
    client.list_participants(2**63 - 1)


def wait_for(client: Client, place: FilePlace, entry: tuple[int, int | None]) -> None:
    """Wait until the feed has an entry, which an older transaction may hold back."""

    def is_there() -> bool:
        return entry in ((each.group_id, each.id) for each in client.feed(MemoryPlace(place.load()), follow=False))

    until(is_there, "the feed to have the entry")


class Crash(Exception):
    pass


@pytest.mark.parametrize(("page_size", "resumed_size"), [(1, 1000), (2, 1), (3, 2), (1000, 2)])
def test_a_reader_that_crashed_reads_its_last_entry_again_and_leaves_none_out(
    client: Client,
    now: FilePlace,
    group: Group,
    alice: Participant,
    bob: Participant,
    page_size: int,
    resumed_size: int,
) -> None:
    moved = [client.transfer(group.id, alice.id, bob.id, 1).receipt.entry_id for _ in range(5)]
    written = [alice.receipt.entry_id, bob.receipt.entry_id, *moved]
    wait_for(client, now, (group.id, moved[-1]))

    def process(crash_at: int | None, end: int | None, size: int) -> list[int]:
        """Process entries up to one, or crash in the middle of one."""
        processed = []
        for entry in client.feed(now, page_size=size, follow=False):
            if entry.group_id == group.id:
                processed.append(entry.id)
            if (entry.group_id, entry.id) == (group.id, crash_at):
                raise Crash(*processed)
            if (entry.group_id, entry.id) == (group.id, end):
                return processed
        raise AssertionError("the feed ended")

    with pytest.raises(Crash) as crashed:
        process(written[3], None, page_size)
    assert list(crashed.value.args) == written[:4]
    assert process(None, written[-1], resumed_size) == written[3:]
    # The last entry was not followed by another one that was asked for.
    assert process(None, written[-1], page_size) == written[-1:]


def test_the_feed_ends_where_it_is_not_followed(
    client: Client, now: FilePlace, group: Group, alice: Participant
) -> None:
    own = (group.id, alice.receipt.entry_id)
    wait_for(client, now, own)
    assert next(each for each in client.feed(now) if (each.group_id, each.id) == own).kind == "join"
    assert [(each.group_id, each.id) for each in client.feed(now, follow=False)] == [own]
    assert list(client.feed(now, follow=False)) == []


def test_the_feed_is_followed_from_its_end(client: Client, group: Group, alice: Participant) -> None:
    end = client.feed_end()
    assert end.entries == []
    place = MemoryPlace(end.cursor)
    moved = client.deposit(group.id, alice.id, 5)
    newest = next(each for each in client.feed(place) if each.id == moved.receipt.entry_id)
    assert (newest.group_id, newest.kind, newest.amount) == (group.id, "deposit", 5)


def test_a_page_of_the_feed_can_be_read_by_itself(client: Client, group: Group, alice: Participant) -> None:
    first = client.read_feed(limit=1)
    assert len(first.entries) == 1
    second = client.read_feed(first.cursor, limit=1)
    assert second.cursor != first.cursor
    assert list(islice(client.feed(MemoryPlace(first.cursor)), 1)) == second.entries


def test_a_cursor_of_another_ledger_is_refused(client: Client) -> None:
    with pytest.raises(ledger_client.CursorExpired):
        client.read_feed("1-9223372036854775807-1")


def test_a_place_that_cannot_be_stored_leaves_the_one_before(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    FilePlace(file).store("1-742-3")

    def full(_: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("ledger_client.feed.os.fsync", full)
    with pytest.raises(OSError, match="space"):
        FilePlace(file).store("1-742-3+1")
    assert FilePlace(file).load() == "1-742-3"
    assert [*file.parent.iterdir()] == [file]


@pytest.mark.parametrize("text", ["", "+", "1-742", "1-742-3+", "1-742-3+x", "1-742-3 +1", json.dumps("1-742-3")])
def test_a_file_that_holds_no_place_is_not_taken_for_the_beginning(file: Path, text: str) -> None:
    file.write_text(text)
    with pytest.raises(ValueError, match="no place"):
        parse_place(FilePlace(file).load())


def test_no_file_is_the_beginning(file: Path) -> None:
    assert parse_place(FilePlace(file).load()) == (None, 0)
    assert parse_place("+5") == (None, 5)


def test_a_list_of_many_is_read_page_by_page(client: Client, service: Service, group: Group) -> None:
    with service.database.connect() as ledger:
        query = "select count(j) from generate_series(1, 2500) as n, ledger.join_group(%s, 'p' || n, n) as j"
        assert one(ledger, query, [group.id]) == (2500,)
    read = list(client.list_participants(group.id))
    assert [each.amount for each in read] == list(range(1, 2501))
    few = client.list_participants(group.id, page_size=7, after=read[9].id)
    assert [each.amount for each in islice(few, 30)] == list(range(11, 41))
    newest = client.list_entries(group.id, order="desc")
    assert [each.amount for each in newest] == list(range(2500, 0, -1))
