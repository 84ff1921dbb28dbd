"""The page about the commands against a service: its tables equal the code, and its examples work when pasted."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from api.cli import parser
from api.commands.arguments import SERVICE_COMMANDS
from api.commands.command import COMMANDS, again
from api.commands.statuses import STATUSES
from api.problems import PROBLEMS
from api.routes import ROUTES
from tests.documents.pages import block, table
from tests.documents.test_reference import commands, names
from tests.documents.test_tours import in_shell
from tests.http.client import serving

# The function that each command calls, where its name does not say it.
CALLED = {
    "group list": "list_groups",
    "group show": "group_total",
    "group create": "create_group",
    "group rename": "rename_group",
    "group remove": "remove_group",
    "participant list": "list_participants",
    "participant show": "get_participant",
    "participant rename": "rename_participant",
    "participant bind": "bind_address",
    "entry list": "list_entries",
    "entry show": "get_entry",
    "join": "join_group",
    "transfers": "transfer_all",
    "exit": "exit_group",
    "reverse": "reverse_transfer",
    "settle": "settle_exit",
    "statement": "get_statement",
    "watch": "read_feed",
}


def test_every_command_is_there_with_its_scope():
    documented = {row[0].strip("`").removeprefix("ledger "): row[1] for row in table("commands", "Command")}
    assert list(documented) == [" ".join(filter(None, words)) for words in COMMANDS]
    paths = {path.removeprefix("ledger ") for path, _ in commands(parser())}
    assert set(documented) == {path for path in paths if path.split()[0] in SERVICE_COMMANDS}
    scopes = {route.function: route.scope for route in ROUTES}
    assert documented == {command: scopes[CALLED.get(command, command)] for command in documented}


def test_every_exit_status_is_there_with_its_codes():
    documented = {code: int(row[0]) for row in table("commands", "Status") for code in names(row[2])}
    assert documented == {**STATUSES, "internal_error": 1}
    assert set(STATUSES) <= set(PROBLEMS)


def test_the_command_that_finds_out_is_shown_as_it_is_printed():
    shown = block("commands", "", "it may have been done")
    key = "01938f7a-7c1e-7d2b-9f5e-3b1c5e0f8a42"
    options = parser().parse_args(["exit", "1", "2", "--idempotency-key", key])
    assert shown.endswith(f"; it may have been done, repeat it with: {again(options)}\n")


@pytest.fixture
def pasted(database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Paste blocks of the page, one after the other, into a shell in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    with serving(database) as service:
        yield lambda *blocks: in_shell("".join(blocks), service, HOME=str(tmp_path))


def test_the_examples_work_when_pasted(pasted, tmp_path: Path):
    tour = block("commands", "sh", "group create")
    printed = pasted(tour, block("commands", "sh", "--csv"), block("commands", "sh", "cursor=")).splitlines()
    assert "exit status 6" in printed
    assert ["2", "bob", "50"] in [line.split() for line in printed]
    left = next(json.loads(line) for line in printed if line.startswith('{"final_amount"'))
    assert left["final_amount"] == 50
    assert ["closing", "150"] in [line.split() for line in printed]
    statement = next(json.loads(line) for line in printed if line.startswith('{"username"'))
    assert list(statement)[-1] == "closing_balance"
    assert (tmp_path / "alice.csv").read_bytes().endswith(b"closing,,,,,150,\r\n")
    assert printed[-1].endswith("deposit 25 to 1")
    pasted(block("commands", "sh", "completion bash"))
    assert os.listdir(tmp_path / ".local/share/bash-completion/completions") == ["ledger"]
