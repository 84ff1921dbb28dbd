"""`make migration name=why`: the migration applies through yoyo, and rolls back to the state before."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from api.postgres import migrate
from db import freeze
from tests.migrations.steps import ROOT, fingerprint, fingerprint_of, run
from tests.support import Database

HEALTH = freeze.FUNCTIONS / "api" / "health.sql"
NEW = HEALTH.read_text().replace("ledger.health", "ledger.greet").replace("'ok'", "'hello'")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of db/ to change, whose migrations are all released."""
    folder = tmp_path / "db"
    shutil.copytree(freeze.DB, folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(migrate, "MIGRATIONS", folder / "migrations")
    release(folder)
    return folder


def release(folder: Path) -> None:
    (folder / "RELEASED").write_text(f"{freeze.number(freeze.scripts(folder / 'migrations')[-1]):04}\n")


def frozen(folder: Path, why: str = "try-it") -> tuple[Path, ...]:
    return freeze.freeze(why, folder / "functions", folder / "migrations")


def file_of(folder: Path, name: str) -> Path:
    (file,) = (folder / "functions").rglob(f"{name}.sql")
    return file


def edit(folder: Path, name: str, old: str, new: str) -> None:
    file = file_of(folder, name)
    text = file.read_text()
    assert text.count(old) == 1, f"{old!r} is there {text.count(old)} times"
    file.write_text(text.replace(old, new))


def add(folder: Path) -> None:
    (folder / "functions" / "api" / "greet.sql").write_text(NEW)


def remove(folder: Path) -> None:
    file_of(folder, "health").unlink()


def change_body(folder: Path) -> None:
    edit(folder, "health", "select 'ok'", "select 'fine'")


def change_comment(folder: Path) -> None:
    edit(folder, "health", "Returns ok while", "Answers ok while")


def add_parameter(folder: Path) -> None:
    edit(folder, "health", "out status text", "loudly boolean,\n  out status text")


def add_default(folder: Path) -> None:
    edit(folder, "invalid_name", "name text\n", "name text default ''\n")


def rename_parameter(folder: Path) -> None:
    file = file_of(folder, "invalid_name")
    file.write_text(re.sub(r"\bname\b(?! that)", "title", file.read_text()))


def remove_parameter(folder: Path) -> None:
    edit(folder, "refuse_taken_name", "  field text,\n", "")


def change_result(folder: Path) -> None:
    edit(folder, "health", "out status text", "out status varchar")


def publish(folder: Path) -> None:
    file = file_of(folder, "invalid_name")
    file.write_text(f"{file.read_text()}grant execute on function ledger_internal.invalid_name to ledger_api;\n")


def withdraw(folder: Path) -> None:
    edit(folder, "health", "grant execute on function ledger.health to ledger_api;\n", "")


def move(folder: Path) -> None:
    """Move a function to another folder, and so to the other schema."""
    text = file_of(folder, "fingerprint").read_text()
    file_of(folder, "fingerprint").unlink()
    (folder / "functions" / "owner" / "fingerprint.sql").write_text(text.replace("ledger_internal.", "ledger."))


def test_a_function_whose_file_moves_within_its_schema_stays(folder, database: Database):
    """Constraints call it, so that it could not be dropped."""
    conninfo = database.url(database.admin)
    before = functions(conninfo)
    file = file_of(folder, "participant_is_valid")
    file.rename(folder / "functions" / "internal" / "validation" / file.name)
    script, _ = frozen(folder)
    assert freeze.frozen(folder / "migrations") == freeze.current(folder / "functions")
    assert "drop function" not in script.read_text()
    assert migrate.migrate(conninfo) == [script.stem]
    run(conninfo, script.stem, "rollback")
    assert functions(conninfo) == before


def leave_out_the_last_newline(folder: Path) -> None:
    change_body(folder)
    file = file_of(folder, "health")
    file.write_text(file.read_text().rstrip())


def do_several(folder: Path) -> None:
    for change in (add, change_body, add_default, remove_parameter):
        change(folder)
    file_of(folder, "group_total").unlink()


def functions(conninfo: str) -> list[tuple]:
    return fingerprint_of(conninfo)["functions"]


def made_by(folder: Path, conninfo: str) -> list[tuple]:
    """The functions that the files alone make, in a transaction that is rolled back."""
    with psycopg.connect(conninfo) as database:
        names = database.execute(
            """
            select oid::regproc from pg_proc
            where pronamespace in ('ledger'::regnamespace, 'ledger_internal'::regnamespace)
            """
        ).fetchall()
        for (name,) in names:
            database.execute(f"drop function {name} cascade")
        database.execute("set local check_function_bodies = off")
        for file in (folder / "functions").rglob("*.sql"):
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
        move,
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
        release(folder)
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


def test_it_holds_only_the_changed_functions(folder):
    change_body(folder)
    script, rollback = frozen(folder)
    for file in (script, rollback):
        assert [path for path, _ in freeze.SECTION.findall(file.read_text())] == ["api/health"]
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
def test_refuses_a_name_other_than_words_joined_by_hyphens(folder, why):
    change_body(folder)
    with pytest.raises(freeze.FreezeError):
        frozen(folder, why)


@pytest.mark.parametrize(
    "text",
    [
        NEW.replace("greet", "other"),
        NEW.replace("ledger.", "ledger_internal."),
        NEW + NEW.replace("greet", "other"),
        NEW.replace("create or replace function", "create function"),
        NEW + "create function ledger.other() returns int\nlanguage sql as 'select 1';\n",
        NEW + "CREATE OR REPLACE FUNCTION ledger.other() returns int language sql as 'select 1';\n",
        "",
    ],
    ids=[
        "another name",
        "another schema",
        "two functions",
        "no replace",
        "a second one without replace",
        "a second one in capitals",
        "empty",
    ],
)
def test_refuses_a_file_that_does_not_create_its_one_function(folder, text):
    (folder / "functions" / "api" / "greet.sql").write_text(text)
    with pytest.raises(freeze.FreezeError, match=r"greet\.sql"):
        frozen(folder)


BY_HAND = "alter table ledger.groups set (fillfactor = 90);\n"
BACK_BY_HAND = "alter table ledger.groups reset (fillfactor);\n"


def test_an_unreleased_migration_is_rewritten(folder, database: Database):
    conninfo = database.url(database.admin)
    before = fingerprint_of(conninfo)
    script, rollback = add_and_freeze(folder)
    # Between two functions, where somebody has put it.
    for file, statement in ((script, BY_HAND), (rollback, BACK_BY_HAND)):
        (first, second) = file.read_text().split("-- >>> db/functions/api/health.sql\n")
        file.write_text(f"{first}{statement}\n-- >>> db/functions/api/health.sql\n{second}")
    edit(folder, "health", "select 'fine'", "select 'well'")
    add_parameter(folder)
    add_default(folder)
    (folder / "functions" / "api" / "greet.sql").unlink()
    assert frozen(folder) == frozen_paths(folder) == (script, rollback)

    for file in (script, rollback):
        paths = [path for path, _ in freeze.SECTION.findall(file.read_text())]
        assert paths == ["api/health", "internal/validation/invalid_name"]
    assert freeze.frozen(folder / "migrations") == freeze.current(folder / "functions")
    expected = made_by(folder, conninfo)
    assert migrate.migrate(conninfo) == [script.stem]
    assert functions(conninfo) == expected
    assert fingerprint_of(conninfo)["relations"] != before["relations"]
    run(conninfo, script.stem, "rollback")
    assert fingerprint_of(conninfo) == before


def add_and_freeze(folder: Path) -> tuple[Path, ...]:
    add(folder)
    change_body(folder)
    return frozen(folder)


def frozen_paths(folder: Path) -> tuple[Path, Path]:
    script = freeze.scripts(folder / "migrations")[-1]
    return script, freeze.rollback_of(script)


def test_functions_join_a_migration_that_is_written_by_hand(folder, database: Database):
    conninfo = database.url(database.admin)
    before = fingerprint_of(conninfo)
    last = freeze.scripts(folder / "migrations")[-1]
    script = folder / "migrations" / f"{freeze.number(last) + 1:04}.by-hand.sql"
    timeout = "set local lock_timeout = '5s';\n"
    script.write_text(f"-- By hand.\n-- depends: {last.stem}\n\n{timeout}{BY_HAND}")
    freeze.rollback_of(script).write_text(f"-- Undo: by hand.\n\n{timeout}{BACK_BY_HAND}")
    change_body(folder)
    assert frozen(folder) == (script, freeze.rollback_of(script))
    assert migrate.migrate(conninfo) == [script.stem]
    assert functions(conninfo) == made_by(folder, conninfo)
    run(conninfo, script.stem, "rollback")
    assert fingerprint_of(conninfo) == before

    edit(folder, "health", "select 'fine'", "select 'ok'")
    frozen(folder)
    assert not freeze.SECTION.search(script.read_text())
    assert BY_HAND in script.read_text()


def test_an_empty_migration_is_removed(folder):
    before = sorted(folder.rglob("*"))
    add_and_freeze(folder)
    (folder / "functions" / "api" / "greet.sql").unlink()
    edit(folder, "health", "select 'fine'", "select 'ok'")
    assert frozen(folder) == ()
    assert sorted(folder.rglob("*")) == before
    with pytest.raises(freeze.FreezeError):
        frozen(folder)


def test_a_new_migration_can_be_begun_before_a_release(folder):
    first, _ = add_and_freeze(folder)
    text = first.read_text()
    add_parameter(folder)
    second, _ = freeze.freeze("second", folder / "functions", folder / "migrations", new=True)
    assert freeze.number(second) == freeze.number(first) + 1
    assert first.read_text() == text
    assert f"-- depends: {first.stem}\n" in second.read_text()


def test_tests_call_a_function_as_its_file_defines_it(tmp_path):
    """A rule that is broken in its file, and nowhere else, fails its tests."""
    for part in ("api", "bench", "db", "seeds", "tests", "pyproject.toml"):
        (shutil.copytree if (ROOT / part).is_dir() else shutil.copy)(ROOT / part, tmp_path / part)
    function = tmp_path / "db" / "functions" / "api" / "get_group.sql"
    function.write_text(function.read_text().replace("\nbegin\n", "\nbegin\n  raise exception 'broken';\n"))
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x",
        "-p",
        "no:cacheprovider",
        "tests/functions/api/test_get_group.py",
    ]
    done = subprocess.run(command, cwd=tmp_path, text=True, capture_output=True, timeout=120)
    assert done.returncode == 1
    assert "broken" in done.stdout


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


def test_the_command_reports_that_an_unreleased_migration_was_rewritten(folder):
    change_body(folder)
    written = command(folder, "say-fine").stdout
    edit(folder, "health", "select 'fine'", "select 'well'")
    done = command(folder, "say-well")
    assert (done.returncode, done.stdout) == (0, written)
    assert "new=1" in done.stderr
    edit(folder, "health", "select 'well'", "select 'ok'")
    done = command(folder)
    assert (done.returncode, done.stdout) == (0, "")
    assert "removed" in done.stderr


@pytest.mark.parametrize("arguments", [[], ["a", "b"], ["Bad Name"], ["nothing-changed"]])
def test_the_command_reports_errors(folder, arguments):
    done = command(folder, *arguments)
    assert done.returncode in (1, 2)
    assert done.stderr
    assert "Traceback" not in done.stderr
