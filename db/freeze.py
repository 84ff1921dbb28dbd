"""Freeze changed functions into a migration: `make migration name=why`.

A file below db/functions is the current truth of one function. The folder shows who may call it, and so its schema:
api/ and owner/ are in schema ledger, internal/ is in ledger_internal. This copies the text of each function that is not
its last frozen text into db/migrations/NNNN.why.sql, and the previous text into NNNN.why.rollback.sql, so that a
release is plain SQL that applies and rolls back without Python. A function with another signature or schema, or without
a grant that it had, is dropped before it is created again, since `create or replace` keeps them; a function without a
file is dropped.

db/RELEASED holds the number of the newest released migration. While there is a later one, the newest is rewritten: a
function that is edited ten times before a release is in one migration. Its statements by hand are kept. The first
migration's roll-back is written by hand: it drops all functions.

In a migration each copied text stands between two marker lines, in the order of their paths:

    -- >>> db/functions/api/transfer.sql
    -- <<< db/functions/api/transfer.sql
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
    r"^-- >>> db/functions/(?P<path>[\w/]+)\.sql\n(?P<text>.*?)^-- <<< db/functions/(?P=path)\.sql\n",
    re.DOTALL | re.MULTILINE,
)
BLANK_AND_SECTION = re.compile(f"^(?P<blank>\n?){SECTION.pattern}", SECTION.flags)
DECLARATION = re.compile(
    r"^create or replace function (?P<name>\w+\.\w+)\s*(?P<signature>\(.*?)\nlanguage ", re.DOTALL | re.MULTILINE
)
DROP = re.compile(r"\Adrop function if exists [\w.]+;\n")
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
    """The text of each function's file, by its path without suffix. Raises FreezeError."""
    files = sorted(functions.rglob("*.sql"))
    texts = {str(file.relative_to(functions).with_suffix("")): file.read_text().rstrip() + "\n" for file in files}
    for path, text in texts.items():
        name = qualified_name(path)
        if [match["name"] for match in DECLARATION.finditer(text)] != [name] or len(CREATION.findall(text)) > 1:
            raise FreezeError(f"db/functions/{path}.sql must create exactly one function, {name}")
    names = [name_of(path) for path in texts]
    for name in names:
        if names.count(name) > 1:
            raise FreezeError(f"two files below db/functions are named {name}.sql")
    return texts


def name_of(path: str) -> str:
    return path.rpartition("/")[2]


def qualified_name(path: str) -> str:
    """A function's name with its schema, which its folder determines."""
    schema = "ledger_internal" if path.startswith("internal/") else "ledger"
    return f"{schema}.{name_of(path)}"


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
    """The text of each function after all migrations, or after those before one of them, by its path."""
    texts: dict[str, str] = {}
    for script in scripts(migrations):
        if script == before:
            break
        for path, section in SECTION.findall(script.read_text()):
            text = DROP.sub("", section)
            for earlier in [known for known in texts if qualified_name(known) == qualified_name(path)]:
                del texts[earlier]  # also where its file was in another folder
            if text:
                texts[path] = text
    return texts


def drop(path: str) -> str:
    return f"drop function if exists {qualified_name(path)};\n"


def lasting(text: str) -> set[str]:
    """A function's parameters and result, and its grants, layout aside: what `create or replace` cannot take back."""
    match = DECLARATION.search(text)
    assert match is not None
    return {" ".join(part.split()) for part in (match["signature"], *GRANT.findall(text))}


def section(path: str, before: str | None, after: str | None) -> str:
    """The statements that take a function from one text to another; None is no function."""
    if after is None:
        statements = drop(path)
    elif before is not None and not lasting(before) <= lasting(after):
        statements = drop(path) + after
    else:
        statements = after
    return f"-- >>> db/functions/{path}.sql\n{statements}-- <<< db/functions/{path}.sql\n"


def sections(was: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str]:
    """The section of each function that differs between two states, by its path; those that are dropped first.

    A function whose file moved within its schema is the same function: its section has its new path, and drops nothing.
    """
    before = {qualified_name(path): text for path, text in was.items()}
    after = {qualified_name(path) for path in now}
    dropped = sorted(path for path in was if qualified_name(path) not in after)
    made = sorted(path for path in now if path not in was or now[path] != was[path])
    return {path: section(path, was[path], None) for path in dropped} | {
        path: section(path, before.get(qualified_name(path)), now[path]) for path in made
    }


def edits() -> str:
    """The statements that take a migrated database to what the functions' files say; empty where all is frozen."""
    changed = sections(frozen(), current())
    return "\n".join([HEADER, *changed.values()]) if changed else ""


def with_sections(text: str, sections: Mapping[str, str]) -> str:
    """A migration with exactly these sections: each where it was, a new one after those that it follows."""
    left = dict(sections)
    text = BLANK_AND_SECTION.sub(
        lambda match: match["blank"] + left.pop(match["path"]) if match["path"] in left else "", text
    )
    if left and BODIES_UNCHECKED not in text:
        text += f"\n{BODIES_UNCHECKED}"
    order = [*sections]
    for path, section in left.items():
        earlier = [match for match in SECTION.finditer(text) if order.index(match["path"]) < order.index(path)]
        later = SECTION.search(text)
        if earlier:
            place = earlier[-1].end()
            text = f"{text[:place]}\n{section}{text[place:]}"
        elif later:
            text = f"{text[: later.start()]}{section}\n{text[later.start() :]}"
        else:
            text += f"\n{section}"
    return text


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
            "with its roll-back, as db/migrations/0001.baseline.sql shows"
        )
    script = None if new else unreleased(migrations)
    if script is None:
        script, forth, back = begin(why, migrations)
    else:
        forth, back = script.read_text(), rollback_of(script).read_text()
    was = frozen(migrations, before=script)
    forth = with_sections(forth, sections(was, now))
    if was:
        back = with_sections(back, sections(now, was))
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
