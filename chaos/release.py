"""A release after this one: a copy of the code, with one more migration."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.ledgers import environment, free_port, stopped_at_end, until_answered
from bench.load import ROOT, BenchError
from db import freeze

FORTH = """\
-- Example.
-- depends: {last}

set local lock_timeout = '5s';
set local role ledger_owner;

alter table ledger.groups add column if not exists note text;
comment on column ledger.groups.note is 'A note.';
"""
BACK = """\
-- Undo: example.

set local lock_timeout = '5s';
set local role ledger_owner;

alter table ledger.groups drop column if exists note;
"""
COLUMN = "table ledger.groups\tcolumn note\t5 text\n"


def add_migration(migrations: Path) -> str:
    """Add an example that follows the newest migration of a folder; return its name."""
    last = freeze.scripts(migrations)[-1]
    script = migrations / f"{freeze.number(last) + 1:04}.example.sql"
    script.write_text(FORTH.format(last=last.stem))
    freeze.rollback_of(script).write_text(BACK)
    return script.stem


def code_after(folder: Path) -> Path:
    """Copy the code into a new folder, and add a migration to it; return the folder."""
    folder.mkdir()
    shutil.copy(ROOT / "yoyo.ini", folder)
    for part in ("api", "db", "seeds"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    add_migration(folder / "db" / "migrations")
    with (folder / "db" / "schema.txt").open("a") as manifest:
        manifest.write(COLUMN)
    return folder


def newest(code: Path) -> str:
    """The name of the newest migration of a release."""
    return freeze.scripts(code / "db" / "migrations")[-1].stem


def command(*arguments: str) -> list[str]:
    """The command `ledger` of the release that PYTHONPATH has."""
    # -P, or the release in the working directory would come first.
    return [sys.executable, "-P", "-m", "api.cli", *arguments]


def migrate(code: Path, admin: str) -> None:
    """Migrate a database with a release. Raises BenchError."""
    variables = environment(code) | {"PYTHONPATH": str(code), "DATABASE_URL": admin}
    done = subprocess.run(command("migrate"), env=variables, capture_output=True, text=True, check=False)
    if done.returncode or newest(code) not in done.stdout:
        raise BenchError(f"{newest(code)} was not applied: {done.stderr or done.stdout}")


def roll_back(code: Path, admin: str) -> None:
    """Roll the newest migration of a release back. Raises BenchError."""
    url = re.sub("^[a-z]+:", "postgresql+psycopg:", admin)
    yoyo = str(Path(sys.executable).with_name("yoyo"))
    done = subprocess.run(
        [yoyo, "rollback", "-r", newest(code), "-d", url], cwd=code, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise BenchError(f"{newest(code)} cannot be rolled back: {done.stderr}")


@contextmanager
def served(code: Path, conninfo: str, workers: int) -> Iterator[int]:
    """The port of a release that serves a database beside the one of now. Raises BenchError."""
    port = free_port()
    variables = environment(code) | {"PYTHONPATH": str(code), "DATABASE_URL": conninfo}
    serve = command("serve", "--port", str(port), "--workers", str(workers))
    with stopped_at_end(serve, variables) as process:
        until_answered(f"http://127.0.0.1:{port}/api/health", process)
        yield port
