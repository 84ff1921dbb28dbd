"""`make demo`: the story of a group, which ends with everything paid and stopped."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.anvil import binary
from tests.running.commands import ROOT, arguments, environment, lives
from tests.support import until

DEMO = [sys.executable, "-m", "demo"]


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where the demonstration keeps its files, so that its processes can be found. Its database has to get into it."""
    binary()  # or the test is skipped
    with tempfile.TemporaryDirectory(prefix="demo-") as path:
        Path(path).chmod(0o711)
        yield Path(path)


def pids(folder: Path) -> list[int]:
    """The processes that were started for a demonstration in that folder, and live."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if str(folder).encode() in (process / "environ").read_bytes() and lives(int(process.name)):
                found.append(int(process.name))
    return [pid for pid in found if pid != os.getpid()]


def left(folder: Path) -> list[str]:
    """Their command lines."""
    return [" ".join(arguments(pid)) for pid in pids(folder)]


def test_the_whole_story_in_a_page(folder):
    shown = subprocess.run(
        DEMO, cwd=ROOT, env=environment(TMPDIR=folder), capture_output=True, text=True, timeout=600, check=False
    )
    assert (shown.returncode, shown.stderr) == (0, "")
    lines = shown.stdout.splitlines()
    assert len(lines) < 50
    assert max(map(len, lines)) <= 120
    assert lines[-1] == "vault holds 0"
    amounts = re.findall(r"(\w+) is paid ([0-9.]+) ether", shown.stdout)
    assert amounts == [("bob", "0.5"), ("carol", "2"), ("dora", "0.7")]
    assert "the bridge has alice paid by the vault: 1.5 ether on the chain" in shown.stdout
    assert "root 3 is withheld" in shown.stdout
    assert left(folder) == []
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_everything(folder, number):
    with subprocess.Popen(
        DEMO, cwd=ROOT, env=environment(TMPDIR=folder), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            while "the bridge has credited" not in (line := process.stdout.readline()):
                assert line, process.stderr and process.stderr.read()
            running = " ".join(left(folder))
            assert all(name in running for name in ("anvil ", "serve ", "postgres ", "bridge ", "guardian "))
            process.send_signal(number)
            assert process.wait(120) == 128 + number
        finally:
            process.kill()
            process.wait()
            for pid in pids(folder):  # of a demonstration that has failed
                os.kill(pid, signal.SIGKILL)
    until(lambda: left(folder) == [], f"these to end: {left(folder)}")
    assert list(folder.iterdir()) == []


def test_says_in_one_line_that_node_or_npm_is_missing(tmp_path):
    for present in ((), ("node",), ("npm",)):
        programs = tmp_path / "-".join(present or ["none"])
        programs.mkdir()
        for name in present:
            (programs / name).touch(0o755)
        shown = subprocess.run(
            DEMO, cwd=ROOT, env=environment(PATH=programs), capture_output=True, text=True, timeout=60, check=False
        )
        assert (shown.returncode, shown.stdout) == (1, "")
        assert shown.stderr.startswith("demo: make demo needs node and npm")
        assert shown.stderr.count("\n") == 1
