"""`make migration name=why`: what it writes applies through yoyo, and rolls back to what was there."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from api import migrate
from db import freeze
from tests.migrations.steps import fingerprint, fingerprint_of, run
from tests.support import Database

HEALTH = freeze.FUNCTIONS / "health.sql"
NEW = HEALTH.read_text().replace("ledger.health", "ledger.greet").replace("'ok'", "'hello'")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of db/ to change."""
    folder = tmp_path / "db"
    shutil.copytree(freeze.DB, folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(migrate, "MIGRATIONS", folder / "migrations")
    return folder


def frozen(folder: Path, why: str = "try-it") -> tuple[Path, Path]:
    return freeze.freeze(why, folder / "functions", folder / "migrations")


def edit(folder: Path, name: str, old: str, new: str) -> None:
    file = folder / "functions" / f"{name}.sql"
    text = file.read_text()
    assert text.count(old) == 1, f"{old!r} is there {text.count(old)} times"
    file.write_text(text.replace(old, new))


def add(folder: Path) -> None:
    (folder / "functions" / "greet.sql").write_text(NEW)


def remove(folder: Path) -> None:
    (folder / "functions" / "health.sql").unlink()


def change_body(folder: Path) -> None:
    edit(folder, "health", "select 'ok'", "select 'fine'")


def change_comment(folder: Path) -> None:
    edit(folder, "health", "Returns ok while", "Says ok while")


def add_parameter(folder: Path) -> None:
    edit(folder, "health", "out status text", "loudly boolean,\n  out status text")


def add_default(folder: Path) -> None:
    edit(folder, "name_fault", "name text\n", "name text default ''\n")


def rename_parameter(folder: Path) -> None:
    file = folder / "functions" / "name_fault.sql"
    file.write_text(re.sub(r"\bname\b(?! that)", "title", file.read_text()))


def remove_parameter(folder: Path) -> None:
    edit(folder, "refuse_taken", "  field text,\n", "")


def change_result(folder: Path) -> None:
    edit(folder, "health", "out status text", "out status varchar")


def publish(folder: Path) -> None:
    file = folder / "functions" / "name_fault.sql"
    file.write_text(f"{file.read_text()}grant execute on function ledger.name_fault to ledger_api;\n")


def withdraw(folder: Path) -> None:
    edit(folder, "health", "grant execute on function ledger.health to ledger_api;\n", "")


def leave_out_the_last_newline(folder: Path) -> None:
    change_body(folder)
    file = folder / "functions" / "health.sql"
    file.write_text(file.read_text().rstrip())


def do_several(folder: Path) -> None:
    for change in (add, change_body, add_default, remove_parameter):
        change(folder)
    (folder / "functions" / "group_total.sql").unlink()


def functions(conninfo: str) -> list[tuple]:
    return fingerprint_of(conninfo)["functions"]


def made_by(folder: Path, conninfo: str) -> list[tuple]:
    """The functions that the files alone make, in a transaction that is rolled back."""
    with psycopg.connect(conninfo) as database:
        names = database.execute("select proname from pg_proc where pronamespace = 'ledger'::regnamespace").fetchall()
        for (name,) in names:
            database.execute(f"drop function ledger.{name} cascade")
        database.execute("set local check_function_bodies = off")
        for file in (folder / "functions").glob("*.sql"):
            database.execute(file.read_text())
        made = fingerprint(database)["functions"]
        database.rollback()
    return made


@pytest.mark.parametrize(
    "change",
    [
        add,
        remove,
        change_body,
        change_comment,
        add_parameter,
        add_default,
        rename_parameter,
        remove_parameter,
        change_result,
        publish,
        withdraw,
        leave_out_the_last_newline,
        do_several,
    ],
    ids=lambda change: change.__name__,
)
def test_a_change_applies_and_rolls_back(folder, database: Database, change: Callable[[Path], None]):
    conninfo = database.url(database.admin)
    before = functions(conninfo)
    change(folder)
    script, _ = frozen(folder)
    with pytest.raises(freeze.FreezeError):
        frozen(folder)
    expected = made_by(folder, conninfo)
    assert functions(conninfo) == before != expected

    assert migrate.migrate(conninfo) == [script.stem]
    assert functions(conninfo) == expected
    # Twice, as after a run that was killed before it could note the first time.
    for direction, result in (("apply", expected), ("rollback", before), ("rollback", before), ("apply", expected)):
        run(conninfo, script.stem, direction)
        assert functions(conninfo) == result


def test_two_in_a_row_build_on_each_other(folder, database: Database):
    conninfo = database.url(database.admin)
    states = [functions(conninfo)]
    scripts = []
    for why, change in (("add-greet", add), ("add-a-parameter", add_parameter), ("drop-health", remove)):
        change(folder)
        scripts.append(frozen(folder, why)[0])
        assert migrate.migrate(conninfo) == [scripts[-1].stem]
        states.append(functions(conninfo))
        assert states[-1] == made_by(folder, conninfo)
    for state in reversed(states[:-1]):
        with migrate.locked(conninfo) as backend:
            backend.rollback_one(backend.to_rollback(migrate.shipped())[0])
        assert functions(conninfo) == state

    numbers = [int(script.name.split(".")[0]) for script in freeze.scripts(folder / "migrations")]
    assert numbers == list(range(1, len(numbers) + 1))
    assert f"-- depends: {scripts[0].stem}\n" in scripts[1].read_text()


def test_only_what_changed_is_in_it(folder):
    change_body(folder)
    script, rollback = frozen(folder)
    for file in (script, rollback):
        assert [name for name, _ in freeze.SECTION.findall(file.read_text())] == ["health"]
    assert freeze.frozen(folder / "migrations") == freeze.current(folder / "functions")


def test_nothing_is_written_when_nothing_changed(folder):
    before = sorted(folder.rglob("*"))
    with pytest.raises(freeze.FreezeError):
        frozen(folder)
    add(folder)
    frozen(folder)
    with pytest.raises(freeze.FreezeError):
        frozen(folder)
    assert len(sorted(folder.rglob("*"))) == len(before) + 3


@pytest.mark.parametrize(
    "why", ["", "Upper", "two words", "under_score", "-a", "a-", "a--b", "../a", "a.b", "größe", "a\n"]
)
def test_refuses_a_name_that_is_no_words_joined_by_hyphens(folder, why):
    change_body(folder)
    with pytest.raises(freeze.FreezeError):
        frozen(folder, why)


@pytest.mark.parametrize(
    "text",
    [
        NEW.replace("greet", "other"),
        NEW + NEW.replace("greet", "other"),
        NEW.replace("create or replace function", "create function"),
        NEW + "create function ledger.other() returns int\nlanguage sql as 'select 1';\n",
        NEW + "CREATE OR REPLACE FUNCTION ledger.other() returns int language sql as 'select 1';\n",
        "",
    ],
    ids=[
        "another name",
        "two functions",
        "no replace",
        "a second one without replace",
        "a second one in capitals",
        "empty",
    ],
)
def test_refuses_a_file_that_does_not_create_its_one_function(folder, text):
    (folder / "functions" / "greet.sql").write_text(text)
    with pytest.raises(freeze.FreezeError, match=r"greet\.sql"):
        frozen(folder)


def command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, folder / "freeze.py", *arguments], text=True, capture_output=True, timeout=30
    )


def test_the_command_prints_what_it_wrote(folder):
    change_body(folder)
    done = command(folder, "say-fine")
    assert (done.returncode, done.stderr) == (0, "")
    paths = [folder.parent / line for line in done.stdout.splitlines()]
    assert [path.name.partition(".")[2] for path in paths] == ["say-fine.sql", "say-fine.rollback.sql"]
    assert all(path.is_file() for path in paths)


@pytest.mark.parametrize("arguments", [[], ["a", "b"], ["Bad Name"], ["nothing-changed"]])
def test_the_command_says_what_is_wrong(folder, arguments):
    done = command(folder, *arguments)
    assert done.returncode == 1
    assert done.stderr
    assert "Traceback" not in done.stderr
