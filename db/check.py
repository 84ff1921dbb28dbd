"""Run the tests that a change of one function can break: `make check f=transfer`.

They are the tests of each function that reaches it, by calls or because it guards a table; where it has none of its
own, those that name it, and else those that name one that reaches it; and what holds for every function: its form, its
grants, and what plpgsql_check finds.
"""

import difflib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from db import freeze

ROOT = freeze.DB.parent
TESTS = [ROOT / "tests" / folder for folder in ("functions", "exits", "vaults")]
FOR_EACH_FUNCTION = [
    ROOT / "tests" / "catalog" / f"test_{name}.py" for name in ("functions", "grants", "plpgsql_check")
]
# In the catalog of a migrated database: a constraint, an index, a trigger or a view, and the function that it calls.
GUARD = r"^(?:constraint|index|trigger|table|view)\b.*\bledger(?:_internal)?\.{}\("
COMMENT_OR_STRING = re.compile(r"--.*|'[^']*'")
TABLE = re.compile(r"\bof table ledger\.(\w+)|\bON ledger\.(\w+)")


def functions() -> dict[str, str]:
    """The text of each function's file, by the function's name."""
    return {freeze.name_of(path): text for path, text in freeze.current().items()}


def users(name: str, texts: dict[str, str]) -> Iterator[str]:
    """The functions that call a function, and those that write the tables that it guards."""
    call = re.compile(rf"\b{name}\s*\(")
    catalog = (freeze.DB / "schema.txt").read_text()
    guarded = {
        table
        for line in re.findall(GUARD.format(name) + ".*", catalog, re.MULTILINE)
        for found in TABLE.findall(line)
        for table in found
        if table
    }
    writes = re.compile(rf"\b(?:insert into|update|delete from)\s+(?:ledger\.)?(?:{'|'.join(guarded)})\b")
    for other, text in texts.items():
        body = COMMENT_OR_STRING.sub("", text.partition("\nas $$\n")[2])
        if other != name and (call.search(body) or (guarded and writes.search(body))):
            yield other


def reaching(name: str, texts: dict[str, str]) -> set[str]:
    """A function and all that reach it."""
    found, left = {name}, [name]
    while left:
        for other in users(left.pop(), texts):
            if other not in found:
                found.add(other)
                left.append(other)
    return found


def tests_of(name: str, texts: dict[str, str]) -> list[Path]:
    """The files of tests that a change of a function can break."""
    own = {path.stem.removeprefix("test_"): path for folder in TESTS for path in folder.rglob("test_*.py")}
    reached = reaching(name, texts)
    found = {own[each] for each in reached if each in own}
    if name not in own:
        found |= {path for stem, path in own.items() if stem not in texts and names(path, name)}
    if not found:
        found = {path for path in (ROOT / "tests").rglob("test_*.py") if any(names(path, each) for each in reached)}
    return [*sorted(found), *FOR_EACH_FUNCTION]


def names(test: Path, function: str) -> bool:
    return re.search(rf"\b{re.escape(function)}\b", test.read_text()) is not None


def main() -> None:
    (name,) = sys.argv[1:]
    texts = functions()
    if name not in texts:
        near = ", ".join(difflib.get_close_matches(name, texts)) or "ls db/functions/* shows them"
        sys.exit(f"there is no function {name!r}: make check f=<function> ({near})")
    tests = [str(path.relative_to(ROOT)) for path in tests_of(name, texts)]
    print("\n".join(tests), flush=True)
    sys.exit(pytest.main(["-q", "-n", "2", "--dist", "worksteal", *tests]))


if __name__ == "__main__":
    main()
