"""Freeze changed functions into a migration: `make migration name=why`.

db/functions/<name>.sql is the current truth of one function. This copies the text of each one that differs from what
the migrations last said into db/migrations/NNNN.why.sql, and its previous text into NNNN.why.rollback.sql, so that a
release is plain SQL that applies and rolls back without Python. A function with another signature or other grants is
dropped before it is created again, since `create or replace` keeps both; a function whose file is gone is dropped.

db/RELEASED holds the number of the newest migration that was released. While a later one is there, the newest is
rewritten: a function that is edited ten times before a release is in one migration. Its statements by hand are kept.

In a migration each copied text stands between two marker lines:

    -- >>> db/functions/transfer.sql
    -- <<< db/functions/transfer.sql
"""

import argparse
import re
import sys
from collections.abc import Mapping
from pathlib import Path

DB = Path(__file__).resolve().parent
FUNCTIONS = DB / "functions"
MIGRATIONS = DB / "migrations"

SECTION = re.compile(
    r"^-- >>> db/functions/(?P<name>\w+)\.sql\n(.*?)^-- <<< db/functions/(?P=name)\.sql\n", re.DOTALL | re.MULTILINE
)
BLANK_AND_SECTION = re.compile(f"^(?P<blank>\n?){SECTION.pattern}", SECTION.flags)
DECLARATION = re.compile(r"^create or replace function ledger\.(\w+)\s*(\(.*?)\nlanguage ", re.DOTALL | re.MULTILINE)
CREATION = re.compile(r"^create\b", re.IGNORECASE | re.MULTILINE)
GRANT = re.compile(r"^(?:grant|revoke) [^;]*;", re.MULTILINE)

BODIES_UNCHECKED = """\
-- Functions may call each other in any order.
set local check_function_bodies = off;
"""
HEADER = f"""\
set local lock_timeout = '5s';
set local role ledger_owner;
{BODIES_UNCHECKED}"""


class FreezeError(Exception):
    """Why no migration can be written."""


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


def unreleased(migrations: Path = MIGRATIONS) -> Path | None:
    """The newest migration, unless it was released."""
    newest = scripts(migrations)[-1]
    return newest if number(newest) > int((migrations.parent / "RELEASED").read_text()) else None


def number(script: Path) -> int:
    return int(script.name.partition(".")[0])


def frozen(migrations: Path = MIGRATIONS, before: Path | None = None) -> dict[str, str]:
    """The text that the migrations, or those before one of them, leave each function with, by name."""
    texts: dict[str, str] = {}
    for script in scripts(migrations):
        if script == before:
            break
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


def sections(was: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str]:
    """The section of each function that differs between two states, by name."""
    changed = sorted(name for name in now.keys() | was.keys() if now.get(name) != was.get(name))
    return {name: section(name, was.get(name), now.get(name)) for name in changed}


def edits() -> str:
    """The statements that take a migrated database to what the functions' files say; empty where all is frozen."""
    changed = sections(frozen(), current())
    return "\n".join([HEADER, *changed.values()]) if changed else ""


def with_sections(text: str, sections: Mapping[str, str]) -> str:
    """A migration with exactly these sections: each where it was, and new ones at the end."""
    left = dict(sections)
    text = BLANK_AND_SECTION.sub(
        lambda match: match["blank"] + left.pop(match["name"]) if match["name"] in left else "", text
    )
    if left and BODIES_UNCHECKED not in text:
        text += f"\n{BODIES_UNCHECKED}"
    return text + "".join(f"\n{section}" for section in left.values())


def is_empty(text: str) -> bool:
    """Whether a migration changes nothing: no functions, nothing written by hand."""
    return {line for line in text.splitlines() if line and not line.startswith("--")} <= {*HEADER.splitlines()}


def freeze(
    why: str = "", functions: Path = FUNCTIONS, migrations: Path = MIGRATIONS, new: bool = False
) -> tuple[Path, ...]:
    """Write the functions that changed into the newest migration and its roll-back; return both paths.

    Where that one was released, or with `new`, they go into a new one, which `why` names. An unreleased one of which
    nothing is left is removed. Raises FreezeError.
    """
    now = current(functions)
    if now == frozen(migrations):
        raise FreezeError(
            "no function differs from what is frozen. A change of tables alone is written by hand, "
            "with its roll-back, as db/migrations/0001.the-ledger.sql shows"
        )
    script = None if new else unreleased(migrations)
    if script is None:
        script, forth, back = begin(why, migrations)
    else:
        forth, back = script.read_text(), rollback_of(script).read_text()
    was = frozen(migrations, before=script)
    forth, back = with_sections(forth, sections(was, now)), with_sections(back, sections(now, was))
    if is_empty(forth) and is_empty(back):
        script.unlink()
        rollback_of(script).unlink()
        return ()
    script.write_text(forth)
    rollback_of(script).write_text(back)
    return script, rollback_of(script)


def begin(why: str, migrations: Path) -> tuple[Path, str, str]:
    """The path of a new migration, and the first lines of it and of its roll-back."""
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", why):
        raise FreezeError("name a migration in lower-case words joined by hyphens: make migration name=refuse-overflow")
    last = scripts(migrations)[-1]
    title = why.replace("-", " ").capitalize()
    script = migrations / f"{number(last) + 1:04}.{why}.sql"
    return script, f"-- {title}.\n-- depends: {last.stem}\n\n{HEADER}", f"-- Undo: {title.lower()}.\n\n{HEADER}"


def rollback_of(script: Path) -> Path:
    return script.with_name(f"{script.stem}.rollback.sql")


def main() -> None:
    parser = argparse.ArgumentParser(prog="make migration", description="Freeze changed functions into a migration.")
    parser.add_argument("name", nargs="?", default="", help="words joined by hyphens, for a new migration")
    parser.add_argument("--new", action="store_true", help="leave the newest migration as it is")
    options = parser.parse_args()
    newest = None if options.new else unreleased()
    try:
        paths = freeze(options.name, new=options.new)
    except FreezeError as error:
        sys.exit(str(error))
    if newest is not None and options.name and newest.stem.partition(".")[2] != options.name:
        print(f"{newest.stem} is not released, so it was rewritten: new=1 begins another one", file=sys.stderr)
    if not paths:
        print(f"nothing is left of {newest.stem if newest else options.name}: it was removed", file=sys.stderr)
    for path in paths:
        print(path.relative_to(DB.parent))


if __name__ == "__main__":
    main()
