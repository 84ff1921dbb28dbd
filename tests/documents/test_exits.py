"""docs/exits.md: the checkpoint that it makes by hand is the ledger's, and its commands print what it shows."""

import json
import os
import re
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from tests.documents.pages import block, page
from tests.running.commands import LEDGER, environment
from tests.support import Database, call, create, join, transfer


def hashes() -> dict[str, str]:
    """The hashes that the page shows, by name."""
    return dict(line.split() for line in block("exits", "", "domain 0472").splitlines())


def in_shell(script: str, database: Database, folder: Path) -> str:
    """What a script prints that has the administrator's commands, in a folder of its own."""
    env = environment(
        PATH=f"{LEDGER.parent}:{os.environ['PATH']}",
        DATABASE_URL=database.url(database.service),
        LEDGER_ADMIN_URL=database.url(database.admin),
    )
    return subprocess.run(
        ["sh", "-e", "-c", script], env=env, cwd=folder, capture_output=True, text=True, check=True
    ).stdout


@pytest.fixture
def example(database: Database) -> Database:
    """The ledger of the page, before its checkpoint."""
    with database.connect() as ledger:
        group = create(ledger, "ETH")
        alice, bob, carol = (join(ledger, group, name, 100) for name in ("alice", "bob", "carol"))
        assert (group, alice, bob, carol) == (1, 1, 2, 3)
        assert transfer(ledger, group, bob, alice, 50) == 4
        assert call(ledger, "exit_group", group, carol) == [(100, 5)]
    return database


def test_the_bytes_of_a_leaf_have_its_hash():
    lines = block("exits", "", "a leaf").splitlines()
    data = bytes.fromhex("".join(line.split()[0] for line in lines))
    assert len(data) == 101
    assert sha256(data).hexdigest() == hashes()["alice"]


def test_the_hashes_are_computed_as_it_is_shown():
    script = block("exits", "python", "from hashlib")
    done = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == block("exits", "", "domain 0472")


def test_the_commands_print_what_is_shown(example, tmp_path):
    assert in_shell(block("exits", "sh", "ledger checkpoint"), example, tmp_path) == ""
    checkpoint = json.loads((tmp_path / "checkpoints.json").read_text())
    proof = json.loads((tmp_path / "proof.json").read_text())
    shown = hashes()
    assert (checkpoint["root"], checkpoint["header"]) == (f"0x{shown['root']}", f"0x{shown['header']}")
    assert [sibling["hash"] for sibling in proof["siblings"]] == [f"0x{shown[name]}" for name in ("bob", "carol")]
    assert [sibling["sum"] for sibling in proof["siblings"]] == [50, 100]
    printed = in_shell(block("exits", "sh", "verify-snapshot"), example, tmp_path)
    assert printed == block("exits", "", "0 discrepancies")


def test_abbreviated_hashes_are_those_of_the_example():
    (text,) = re.findall(r"Alice's proof is.*?\n\n", page("exits").read_text(), re.DOTALL)
    shown = hashes()
    assert re.findall(r"`(\w{4})…`", text) == [shown["bob"][:4], shown["carol"][:4]]
