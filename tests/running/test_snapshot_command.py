"""ledger snapshot and ledger verify --against: what is kept of a checkpoint elsewhere, and what it shows later."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from tests.running.commands import LEDGER, command, done, environment, refusal
from tests.support import Database, call, create, join, one, transfer

TOP = 2**256 - 1


@pytest.fixture
def urls(database: Database) -> dict[str, str]:
    return {"DATABASE_URL": database.url(database.service), "LEDGER_ADMIN_URL": database.url(database.admin)}


@pytest.fixture
def admin(database: Database) -> Iterator[psycopg.Connection]:
    with database.connect(database.admin) as connection:
        yield connection


@pytest.fixture
def group(admin: psycopg.Connection) -> int:
    """A group of alice, bob and carol, who has left; each moved something."""
    group = create(admin, "ETH")
    alice, bob, carol = (join(admin, group, username, 100) for username in ("alice", "bob", "carol"))
    transfer(admin, group, alice, bob, 5)
    transfer(admin, group, alice, bob, 7)
    transfer(admin, group, bob, alice, 2)
    call(admin, "exit_group", group, carol)
    return group


# ledger snapshot


def test_from_a_snapshot_to_leaves_that_are_checked(urls, admin, group, tmp_path) -> None:
    made = json.loads(done("checkpoint", str(group), **urls))
    printed = done("snapshot", str(group), **urls)
    snapshot = json.loads(printed)
    amounts = {name: str(made[name]) for name in ("credited", "settled", "total")}
    assert snapshot["checkpoint"] == made | amounts
    leaves = admin.execute("select to_json(l) from ledger.list_leaves(%s, 1) as l", [group])
    assert snapshot["leaves"] == [leaf | {"amount": str(leaf["amount"])} for (leaf,) in leaves]
    file = tmp_path / "snapshot.json"
    file.write_text(printed)
    assert done("verify-snapshot", str(file), "--header", made["header"]) == (
        f"checkpoint 1 of group {group} has 3 leaves of 300 in all, 1 of them exits that are not settled\n"
    )
    file.write_text(printed.replace('"amount":"90"', '"amount":"91"'))
    assert command("verify-snapshot", str(file)).returncode == 1


@pytest.mark.parametrize("count", [0, 1, 1024, 1025, 3000])
def test_has_every_leaf(count, urls, admin, tmp_path) -> None:
    group = create(admin, "Large")
    admin.execute(
        "select count(*) from generate_series(1, %s) as n cross join lateral ledger.join_group(%s, 'p' || n, n) as j",
        [count, group],
    )
    done("checkpoint", str(group), **urls)
    file = tmp_path / "snapshot.json"
    file.write_text(done("snapshot", str(group), **urls))
    assert len(json.loads(file.read_text())["leaves"]) == count
    assert f"has {count} leaves of {count * (count + 1) // 2}" in done("verify-snapshot", str(file))


def test_amounts_are_exact(urls, admin, tmp_path) -> None:
    group = create(admin, "Large")
    join(admin, group, "alice", TOP - 1)
    join(admin, group, "bob", 1)
    done("checkpoint", str(group), **urls)
    file = tmp_path / "snapshot.json"
    file.write_text(done("snapshot", str(group), **urls))
    assert f'"amount":"{TOP - 1}"' in file.read_text()
    assert f"has 2 leaves of {TOP} in all" in done("verify-snapshot", str(file))


def test_an_older_checkpoint_is_printed_without_its_leaves_in_the_database(urls, admin, group) -> None:
    done("checkpoint", str(group), **urls)
    before = done("snapshot", str(group), **urls)
    join(admin, group, "dora")
    done("checkpoint", str(group), "--keep", "1", **urls)
    assert admin.execute("select distinct number from ledger.checkpoint_chunks").fetchall() == [(2,)]
    assert done("snapshot", str(group), "--number", "1", **urls) == before
    assert json.loads(done("snapshot", str(group), **urls))["checkpoint"]["number"] == 2


@pytest.mark.parametrize("arguments", [["99"], ["1", "--number", "9"]])
def test_prints_nothing_of_what_is_not_there(arguments, urls, group) -> None:
    done("checkpoint", str(group), **urls)
    result = command("snapshot", *arguments, **urls)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("ledger: the database refused: ")


def test_prints_nothing_where_the_leaves_are_lost(urls, admin, group) -> None:
    for _ in range(2):
        done("checkpoint", str(group), "--keep", "1", **urls)
    admin.execute("select ledger.restart_feed()")
    result = command("snapshot", str(group), "--number", "1", **urls)
    assert (result.returncode, result.stdout) == (1, "")
    assert "restore" in result.stderr


def test_ends_quietly_when_its_reader_does(urls, admin) -> None:
    group = create(admin, "Large")
    query = "select count(*) from generate_series(1, 5000) as n cross join lateral ledger.join_group(%s, 'p' || n, n)"
    admin.execute(query, [group])
    done("checkpoint", str(group), **urls)
    shell = f"{LEDGER} snapshot {group} | head -c 10"
    result = subprocess.run(["sh", "-c", shell], env=environment(**urls), capture_output=True, text=True, check=True)
    assert (result.stdout, result.stderr) == ('{"checkpoi', "")


# ledger verify --against


@pytest.fixture
def tamper(admin: psycopg.Connection) -> Iterator[Callable[[str], None]]:
    """Change, as a superuser, what nobody may change; in the end nothing is left of books that are wrong."""

    def change(statements: str) -> None:
        with admin.transaction():
            admin.execute("set local session_replication_role = replica")
            for statement in filter(None, map(str.strip, statements.split(";"))):
                admin.execute(statement.encode())

    yield change
    change("truncate ledger.entries, ledger.participants, ledger.groups, ledger.group_total_shards cascade")


@pytest.fixture
def history(urls, admin, group, tmp_path) -> Path:
    """Three checkpoints with movements between them; the file has what was printed of the second."""
    done("checkpoint", str(group), **urls)
    alice, bob = (
        one(admin, "select id from ledger.list_participants(%s, username => %s)", [group, name])[0]
        for name in ("alice", "bob")
    )
    transfer(admin, group, alice, bob, 3)
    transfer(admin, group, bob, alice, 1)
    file = tmp_path / "kept.json"
    file.write_text(done("checkpoint", str(group), **urls))
    transfer(admin, group, bob, alice, 4)
    done("checkpoint", str(group), **urls)
    return file


# Every checkpoint as if it had been made of the record as it is now, headers and seals chained to each other.
REWRITTEN = """
create function pg_temp.rewrite() returns void language plpgsql as $f$
declare
  c ledger.checkpoints;
  p ledger.checkpoints;
  k ledger.checkpoint_chunks;
begin
  for c in select * from ledger.checkpoints order by number loop
    delete from ledger.checkpoint_chunks where number = c.number;
    with leaves as (
      select l.*, row_number() over (order by l.participant_id) as place
      from ledger.feeds as f, ledger_internal.leaves_at(c.group_id, c.snapshot, f) as l
    )
    insert into ledger.checkpoint_chunks
    select (ledger_internal.pack_chunk(
      c.group_id, c.number, 0, ledger_internal.domain_hash(c.chain_id, c.vault, c.group_id),
      array_agg(l.amount order by l.place),
      array_agg(ledger_internal.pack_leaf(l.participant_id, l.exit_entry, l.owner, l.amount) order by l.place)
    )).*
    from leaves as l
    returning * into k;
    c.root := k.hash;
    c.total := k.sum;
    c.credited := c.total + c.settled;
    select count(*) into c.deposits from ledger.entries as e
    where e.kind in ('join', 'deposit') and pg_visible_in_snapshot(e.xid, c.snapshot);
    c.previous := coalesce(p.header, c.previous);
    c.header := ledger_internal.header_hash(
      ledger_internal.domain_hash(c.chain_id, c.vault, c.group_id),
      c.number, c.previous, c.deposits, c.credited, c.settled, c.leaf_count, c.total, c.root
    );
    c.seal := ledger_internal.seal_entries(c, p);
    update ledger.checkpoints as u
    set (root, total, credited, deposits, previous, header, seal)
      = (c.root, c.total, c.credited, c.deposits, c.previous, c.header, c.seal)
    where u.number = c.number;
    p := c;
  end loop;
end
$f$
"""
TAMPERINGS = {
    # Between the same two participants, so that every sum fits again after the second.
    "amounts of two entries": """
        update ledger.entries set amount = amount + 1, from_amount = from_amount - 1, to_amount = to_amount + 1
        where id = 4;
        update ledger.entries set amount = amount - 1 where id = 5
    """,
    "metadata": """update ledger.entries set metadata = '{"order": 1}' where id = 4""",
    "a time": "update ledger.entries set created_at = created_at + interval '1 microsecond' where id = 4",
    "a removal": "delete from ledger.entries where id = 4",
    # Of nothing, so that no balance changes.
    "an addition": """
        insert into ledger.entries (group_id, kind, from_id, to_id, amount, from_amount, to_amount, created_at, xid)
        select group_id, kind, from_id, to_id, 0, from_amount, to_amount, created_at + interval '1 microsecond', xid
        from ledger.entries where id = 4
    """,
    "an order": "update ledger.entries set xid = (select max(xid) from ledger.entries) where id = 8",
}


def found(file: Path, *arguments: str, **urls: str) -> list[str]:
    """The discrepancies that are reported; the exit status says whether there are any."""
    result = command("verify", *arguments, "--against", str(file), **urls)
    *discrepancies, summary = result.stdout.splitlines()
    assert result.returncode == (1 if discrepancies else 0), result.stderr
    assert summary.startswith(f"{len(discrepancies)} discrepanc")
    return discrepancies


def test_sound_books_are_what_was_kept(urls, group, history) -> None:
    assert found(history, **urls) == found(history, str(group), **urls) == []


@pytest.mark.parametrize("name", TAMPERINGS)
def test_finds_a_record_that_was_changed(name, urls, group, history, tamper) -> None:
    tamper(TAMPERINGS[name])
    assert any(" has another seal than the entries up to it make" in each for each in found(history, **urls))


@pytest.mark.parametrize("name", TAMPERINGS)
def test_finds_a_record_whose_checkpoints_were_changed_with_it(name, urls, group, history, tamper, admin) -> None:
    tamper(TAMPERINGS[name])
    admin.execute(REWRITTEN.encode())
    tamper("select pg_temp.rewrite()")
    assert ": checkpoint: " not in command("verify", **urls).stdout
    assert any(
        each.startswith(f"group {group}: kept checkpoint: checkpoint 2 has another seal than was kept: 0x")
        for each in found(history, **urls)
    )


CHANGES = {
    "the header": ("update ledger.checkpoints set header = sha256(header) where number = 2", "another header"),
    "the seal": ("update ledger.checkpoints set seal = sha256(seal) where number = 2", "another seal than was kept"),
    "the checkpoint": ("delete from ledger.checkpoints where number = 2", "checkpoint 2 is not there"),
    "its number": ("update ledger.checkpoints set number = 7 where number = 2", "checkpoint 2 is not there"),
    "its group": ("delete from ledger.checkpoints; delete from ledger.groups", "checkpoint 2 is not there"),
    "a settlement": (
        "update ledger.settlements set settled_at = now(), settled_xid = '3', reference = '0xa'",
        "checkpoint 2 has other leaves in the record",
    ),
    "an address": (
        "update ledger.participants set address = substr(sha256(''), 1, 20), address_xid = '3' where id = 1",
        "checkpoint 2 has other leaves in the record",
    ),
    "a negative balance": (
        """
        alter table ledger.entries drop constraint entries_are_valid;
        update ledger.entries set to_amount = -1 where id = 9
        """,
        "checkpoint 2 has other leaves in the record",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_finds_a_checkpoint_that_is_not_what_was_kept(name, urls, history, tamper) -> None:
    change, finding = CHANGES[name]
    tamper(change)
    assert any(": kept checkpoint: " in each and finding in each for each in found(history, **urls))


def test_what_came_after_it_is_not_covered(urls, history, tamper) -> None:
    tamper("update ledger.entries set metadata = '{}' where id = (select max(id) from ledger.entries)")
    assert not any("kept checkpoint" in each for each in found(history, **urls))


def test_is_the_same_after_leaves_were_deleted_and_after_a_restore(urls, admin, group, history) -> None:
    done("checkpoint", str(group), "--keep", "1", **urls)
    assert found(history, **urls) == []
    admin.execute("select ledger.restart_feed()")
    assert found(history, **urls) == []


def test_reads_what_commands_and_the_service_print(urls, admin, group, history, tamper) -> None:
    first, second = (
        one(admin, "select row_to_json(c) from ledger.get_checkpoint(%s, %s) as c", [group, number])[0]
        for number in (1, 2)
    )
    snapshot, proof = (done(name, str(group), *more, **urls) for name, more in (("snapshot", []), ("proof", ["1"])))
    tamper("update ledger.checkpoints set seal = sha256(seal)")
    for text, numbers in (
        (json.dumps(first) + "\n" + json.dumps(second), [1, 2]),
        (json.dumps({"data": second}, indent=2), [2]),
        (json.dumps({"data": [first, second], "next": "/api"}), [1, 2]),
        (snapshot, [3]),
        (proof, [3]),
        (json.dumps(first) + snapshot + json.dumps([second]), [1, 3, 2]),
    ):
        history.write_text(text)
        kept = [each for each in found(history, **urls) if "kept checkpoint" in each]
        assert [int(each.split("kept checkpoint: checkpoint ")[1].split()[0]) for each in kept] == numbers


@pytest.mark.parametrize(
    "text",
    [
        *("", " \n", "x", "[]", '{"data": []}', "{}", "1", "null", "[" * 100_000),
        '{"group_id": 1, "number": 1, "header": "0x12", "seal": "0x12"}',
        f'{{"group_id": 1, "number": 1, "header": "0x{"12" * 32}"}}',
        f'{{"group_id": 1, "number": 1, "header": "0x{"12" * 32}", "seal": "0x{"12" * 32}", "number": 2}}',
        "\xff",
    ],
)
def test_a_file_without_checkpoints_is_refused(text, urls, tmp_path) -> None:
    file = tmp_path / "kept.json"
    file.write_text(text, "latin-1")
    assert str(file) in refusal("verify", "--against", str(file), **urls)
    assert "missing" in refusal("verify", "--against", str(tmp_path / "missing"), **urls)


def test_a_checkpoint_of_another_group_is_not_left_out(urls, admin, group, history) -> None:
    other = create(admin, "Other")
    words = refusal("verify", str(other), "--against", str(history), **urls)
    assert f"group {group}" in words
