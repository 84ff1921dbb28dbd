"""The progress of long commands: a bar on a terminal, lines elsewhere, and the same output on both."""

from __future__ import annotations

import json
import os
import re
import sys
import termios
from collections.abc import Callable

import pytest

from api import cli
from api.admin import progress
from tests.support import Database, call, create, join, until


class Terminal:
    """A terminal that is the standard error inside `with`, and what it was sent."""

    def __enter__(self) -> Terminal:
        self.master, slave = os.openpty()
        termios.tcsetwinsize(slave, (24, 120))
        os.set_blocking(self.master, False)
        self.sent = ""
        self.stream = open(slave, "w", buffering=1)
        self.replaced, sys.stderr = sys.stderr, self.stream
        return self

    def read(self) -> str:
        """Return everything that was sent so far."""
        try:
            while more := os.read(self.master, 65536):
                self.sent += more.decode()
        except BlockingIOError:
            pass
        return self.sent

    def __exit__(self, *_: object) -> None:
        sys.stderr = self.replaced
        self.stream.close()
        os.close(self.master)


@pytest.fixture
def run(database: Database, monkeypatch: pytest.MonkeyPatch, capsys) -> Callable[..., tuple[list[str], list[str]]]:
    """Run a command in this process; the lines of its output and of its errors."""
    monkeypatch.setenv("DATABASE_URL", database.url(database.service))
    monkeypatch.setenv("LEDGER_ADMIN_URL", database.url(database.admin))

    def command(*words: str, status: int = 0) -> tuple[list[str], list[str]]:
        assert cli.run([*words]) == status
        printed = capsys.readouterr()
        return printed.out.splitlines(), printed.err.splitlines()

    return command


@pytest.fixture
def group(database: Database) -> int:
    """A group of three participants with four entries."""
    with database.connect() as ledger:
        made = create(ledger, "ETH")
        alice, *_ = [join(ledger, made, name) for name in ("alice", "bob", "carol")]
        call(ledger, "deposit", made, alice, 5)
    return made


SEED = ("seed", "--groups", "2", "--participants", "300")
SEEDED = [f"group {number} of 2: 300 joined, 0 were there" for number in (1, 2)]


def test_a_terminal_shows_a_bar_with_rate_and_time_left(run):
    with Terminal() as terminal:
        assert run(*SEED)[0] == SEEDED
        last = terminal.read().rpartition("100%|")[2]
    assert re.match(r"█+\| 600/600 \[[0-9:]+<00:00, .+participants(/s)?\]", last)


def test_a_bar_counts_what_each_command_does(run, group):
    with Terminal() as terminal:
        ((made,), _) = run("checkpoint", "--all")
        assert json.loads(made)["group_id"] == group
        assert re.search(r"1\.00/1\.00 \[.* groups(/s)?\]", terminal.read())
        exported, _ = run("export", str(group))
        assert len(exported) == 1 + 3 + 4 + 1 + 1
        assert re.search(r"8\.00/8\.00 \[.* lines(/s)?\]", terminal.read())
        verified, _ = run("verify")
        assert verified == ["0 discrepancies in 1 group (entries: 4, participants: 3, idempotency keys: 1)"]
        assert re.search(rf"9\.00(/[0-9.k]+)? \[.* rows(/s)?, 1 group done; group {group}: total\]", terminal.read())


def test_other_output_is_not_mixed_with_a_bar(run, group, database):
    change = "update ledger.participants set amount = amount + %s"
    with database.connect(database.admin) as admin:
        admin.execute("set session_replication_role = replica")
        admin.execute(change, [1])
        try:
            with Terminal() as terminal:
                assert len(run("verify", str(group), status=1)[0]) > 3
                # Where the bar is taken away for a line, its own line is made empty.
                assert re.search(r"\r +\r", terminal.read())
        finally:
            admin.execute(change, [-1])


def test_elsewhere_lines_are_printed_from_time_to_time(run, group, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS", 3600.0)
    assert run(*SEED) == (SEEDED, [])
    monkeypatch.setattr(progress, "SECONDS", -1.0)
    _, lines = run("seed", "--groups", "2", "--participants", "301")
    assert [line.partition(" participants, ")[0] for line in lines] == [
        *("300 of 602", "301 of 602", "601 of 602", "602 of 602")
    ]
    assert all(re.search(r" [0-9,]+ a second, [0-9,]+ s left$", line) for line in lines)
    exported, lines = run("export", str(group))
    assert [line.partition(",")[0] for line in lines] == ["3 of 7 lines", "7 of 7 lines"]
    assert len(exported) == 9


def test_checkpoints_of_all_groups_log_lines_of_json_alone(run, group, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS", -1.0)
    ((made,), errors) = run("checkpoint", "--all")
    assert (json.loads(made)["group_id"], errors) == (group, [])


def test_a_single_step_shows_for_how_long_it_has_run(monkeypatch):
    monkeypatch.setattr(progress, "REFRESH_SECONDS", 0.01)
    with Terminal() as terminal:
        with progress.waiting("checkpoint of group 1"):
            until(lambda: "checkpoint of group 1: 00:00" in terminal.read(), "the time on the terminal")
        # Nothing of it is left.
        assert re.search(r"\r +\r$", terminal.read())


def test_a_single_step_prints_for_how_long_it_has_run(monkeypatch, capsys):
    monkeypatch.setattr(progress, "STEP_SECONDS", 0.01)
    printed: list[str] = []

    def is_printed() -> bool:
        printed.append(capsys.readouterr().err)
        return "checkpoint of group 1: 0 s so far\n" in "".join(printed)

    with progress.waiting("checkpoint of group 1"):
        until(is_printed, "the line")


def test_a_quick_step_shows_nothing(run, group, monkeypatch):
    monkeypatch.setattr(progress, "REFRESH_SECONDS", 3600.0)
    with Terminal() as terminal:
        assert json.loads(*run("checkpoint", str(group))[0])["leaf_count"] == 3
        assert "checkpoint" not in terminal.read()
