"""Run `ledger` in the process of the tests: a command that needs web3 takes a second to load it."""

from __future__ import annotations

import io
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

from api import cli
from tests.running.commands import environment


@contextmanager
def as_of(settings: dict[str, str]) -> Iterator[None]:
    """The environment and the signals of before are restored."""
    kept = dict(os.environ)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    os.environ.clear()
    os.environ.update(settings)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(kept)
        for number, handler in handlers.items():
            signal.signal(number, handler)


def command(*arguments: object, **settings: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    words = [*map(str, arguments)]
    output, errors = io.StringIO(), io.StringIO()
    status: object = 0
    with as_of(environment(**settings)), redirect_stdout(output), redirect_stderr(errors):
        try:
            cli.main(words)
        except SystemExit as end:
            status = end.code
    if isinstance(status, str):
        errors.write(f"{status}\n")
        status = 1
    assert isinstance(status, int)
    return subprocess.CompletedProcess(words, status, output.getvalue(), errors.getvalue())


def done(*arguments: object, **settings: str | Path) -> str:
    """Run a command that must succeed, and return its output."""
    result = command(*arguments, **settings)
    assert result.returncode == 0, result.stderr
    return result.stdout


def refusal(*arguments: object, **settings: str | Path) -> str:
    """Run a command that must be refused with one line, and return it."""
    result = command(*arguments, **settings)
    assert result.returncode == 1, (result.returncode, result.stdout, result.stderr)
    *notes, refused = result.stderr.splitlines()
    assert refused.startswith("ledger: ")
    assert all(note.startswith("ledger: vault ") for note in notes)
    return refused
