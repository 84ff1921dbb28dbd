"""Programs in packages of npm: fetched once, into .venv, and into no file of the project."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

OPTIONS = (
    "--ignore-scripts",
    "--no-audit",
    "--no-fund",
    "--no-save",
    "--fetch-retries=1",
    "--fetch-retry-mintimeout=1000",
    "--fetch-timeout=60000",
)
RETRY = 600.0  # seconds after a failure until npm is asked again


class MissingError(Exception):
    """The program cannot be had; the message says how to get it."""


def fetched(name: str, version: str, packages: Sequence[str], program: str) -> Path:
    """Return a program of these packages, each with its version, fetched if it is not there yet. Raises MissingError.

    The folder is named for the program's name and the version.
    """
    folder = Path(sys.prefix) / name
    place = folder / version
    found = place / "node_modules" / program
    if found.exists():
        return found
    npm = shutil.which("npm")
    if npm is None:
        raise MissingError(f"is {name}, which npm fetches: apt-get install npm")
    folder.mkdir(exist_ok=True)
    # Of the processes of a run one fetches it; if it cannot, the others do not wait for that again.
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        failure = folder / "failure"
        if not found.exists():
            if failure.exists() and time.time() - failure.stat().st_mtime < RETRY:
                raise MissingError(failure.read_text())
            command = [npm, "install", *OPTIONS, "--prefix", place, *packages]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode != 0:
                failure.write_text(f"is {name}, and npm does not fetch {packages[0]}: {done.stderr.strip()[-200:]}")
                raise MissingError(failure.read_text())
    return found
