"""Freeze changed functions into a new migration: `make migration name=why`.

db/functions/<name>.sql is the current truth of one function. This copies the text of each one that differs from what
the migrations last said into db/migrations/NNNN.why.sql, and its previous text into NNNN.why.rollback.sql, so that a
release is plain SQL that applies and rolls back without Python. A function with another signature or other grants is
dropped before it is created anew, since `create or replace` keeps both; a function whose file is gone is dropped.

In a migration each copied text stands between two marker lines:

    -- >>> db/functions/transfer.sql
    -- <<< db/functions/transfer.sql
"""

import re
import sys
from pathlib import Path

DB = Path(__file__).resolve().parent
FUNCTIONS = DB / "functions"
MIGRATIONS = DB / "migrations"

SECTION = re.compile(r"^-- >>> db/functions/(\w+)\.sql\n(.*?)^-- <<< db/functions/\1\.sql\n", re.DOTALL | re.MULTILINE)
DECLARATION = re.compile(r"^create or replace function ledger\.(\w+)\s*(\(.*?)\nlanguage ", re.DOTALL | re.MULTILINE)
CREATION = re.compile(r"^create\b", re.IGNORECASE | re.MULTILINE)
GRANT = re.compile(r"^(?:grant|revoke) [^;]*;", re.MULTILINE)

HEADER = """\
set local lock_timeout = '5s';
set local role ledger_owner;
-- Functions may call each other in any order.
set local check_function_bodies = off;
"""


class FreezeError(Exception):
    """What keeps a migration from being written, in words for the person who asked for it."""


def current(functions: Path = FUNCTIONS) -> dict[str, str]:
    """The text of each function's file, by name."""
    texts = {path.stem: path.read_text().rstrip() + "\n" for path in sorted(functions.glob("*.sql"))}
    for name, text in texts.items():
        if [match[1] for match in DECLARATION.finditer(text)] != [name] or len(CREATION.findall(text)) > 1:
            raise FreezeError(f"db/functions/{name}.sql must create exactly one function, ledger.{name}")
    return texts


def scripts(migrations: Path = MIGRATIONS) -> list[Path]:
    """The migrations in the order in which they apply, roll-backs left out."""
    return sorted(path for path in migrations.glob("*.sql") if not path.name.endswith(".rollback.sql"))


def frozen(migrations: Path = MIGRATIONS) -> dict[str, str]:
    """The text that the migrations leave each function with, by name."""
    texts: dict[str, str] = {}
    for script in scripts(migrations):
        for name, section in SECTION.findall(script.read_text()):
            text = section.removeprefix(drop(name))
            if text:
                texts[name] = text
            else:
                texts.pop(name, None)
    return texts


def drop(name: str) -> str:
    return f"drop function if exists ledger.{name};\n"


def lasting(text: str) -> list[str]:
    """A function's parameters and result, and its grants, layout aside: what `create or replace` cannot take back."""
    match = DECLARATION.search(text)
    assert match is not None
    return [" ".join(part.split()) for part in (match[2], *GRANT.findall(text))]


def section(name: str, before: str | None, after: str | None) -> str:
    """The statements that take a function from one text to another; None is no function."""
    if after is None:
        statements = drop(name)
    elif before is not None and lasting(before) != lasting(after):
        statements = drop(name) + after
    else:
        statements = after
    return f"-- >>> db/functions/{name}.sql\n{statements}-- <<< db/functions/{name}.sql\n"


def freeze(why: str, functions: Path = FUNCTIONS, migrations: Path = MIGRATIONS) -> tuple[Path, Path]:
    """Write a migration and its roll-back for every function that changed; return both paths."""
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", why):
        raise FreezeError("name a migration in lower-case words joined by hyphens: make migration name=refuse-overflow")
    now, was = current(functions), frozen(migrations)
    changed = sorted(name for name in now.keys() | was.keys() if now.get(name) != was.get(name))
    if not changed:
        raise FreezeError(
            "no function differs from what is frozen. A change of tables alone is written by hand, "
            "with its roll-back, as db/migrations/0001.the-ledger.sql shows"
        )
    last = scripts(migrations)[-1]
    name = f"{int(last.name.split('.')[0]) + 1:04}.{why}"
    script, rollback = migrations / f"{name}.sql", migrations / f"{name}.rollback.sql"
    title = why.replace("-", " ").capitalize()
    forth = [section(function, was.get(function), now.get(function)) for function in changed]
    back = [section(function, now.get(function), was.get(function)) for function in changed]
    script.write_text("\n".join([f"-- {title}.\n-- depends: {last.stem}\n", HEADER, *forth]))
    rollback.write_text("\n".join([f"-- Undo: {title.lower()}.\n", HEADER, *back]))
    return script, rollback


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: make migration name=why")
    try:
        for path in freeze(sys.argv[1]):
            print(path.relative_to(DB.parent))
    except FreezeError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
