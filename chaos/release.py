"""The release of before the newest migration, out of the repository's history."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from api import migrate
from bench.ledgers import environment, free_port, stopped_at_end, until_answered
from bench.load import ROOT
from chaos.machine import MissingError

NEWEST = migrate.shipped()[-1].id


def code_before(folder: Path) -> Path:
    """Put the code of before the newest migration into a new folder. Raises MissingError."""
    git = ["git", "-C", str(ROOT), "-c", f"safe.directory={ROOT}"]
    missing = MissingError("needs git, and the repository's history back to before the newest migration")
    if shutil.which("git") is None:
        raise missing
    added = subprocess.run(
        [*git, "log", "--diff-filter=A", "--format=%H", "--", f"db/migrations/{NEWEST}.sql"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.split()
    archive = subprocess.run(
        [*git, "archive", f"{added[-1]}^" if added else "", "api", "db", "seeds"], capture_output=True, check=False
    )
    if archive.returncode:
        raise missing
    folder.mkdir()
    subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
    return folder


@contextmanager
def served(code: Path, conninfo: str, workers: int) -> Iterator[int]:
    """The port of that release, serving a database beside the one that is new. Raises BenchError."""
    port = free_port()
    # -P, or the new release in the working directory would come first.
    command = [sys.executable, "-P", "-m", "api.cli", "serve", "--port", str(port), "--workers", str(workers)]
    variables = environment(code) | {"PYTHONPATH": str(code), "DATABASE_URL": conninfo}
    with stopped_at_end(command, variables) as process:
        until_answered(f"http://127.0.0.1:{port}/api/health", process)
        yield port
