"""Every link resolves, and everything that a document names exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.documents.pages import BLOCK, DOCS, PAGES, README, ROOT, anchors, blocks, name_of

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
# Blocks that no test runs: they start the service, activate an environment or draw a picture.
NOT_RUN = ("make run ", ". .venv/bin/activate\n", "ledger psql\n", "python\n", "HTTP clients ──►")


def links(path: Path) -> list[str]:
    return LINK.findall(BLOCK.sub("", path.read_text()))


def test_the_readme_is_short():
    assert len(README.read_text().splitlines()) <= 150
    tours = [text for language, text in blocks("README") if language in ("sh", "sql") and "make" not in text]
    assert [len(text.splitlines()) for text in tours] == [8, 8, 5]


def test_the_readme_links_to_every_page():
    assert {str(path.relative_to(ROOT)) for path in PAGES if path != README} <= set(links(README))


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_every_link_resolves(path):
    broken = []
    for target in links(path):
        file, _, anchor = target.partition("#")
        if "://" in file:
            continue
        leads_to = (path.parent / file).resolve() if file else path
        if not leads_to.exists() or (anchor and anchor not in anchors(leads_to)):
            broken.append(target)
    assert broken == []


def test_the_code_names_documents_that_exist():
    """Also those in comments, docstrings and messages."""
    named = set()
    for folder in ("api", "bench", "bridge", "chaos", "client", "contracts", "db", "deploy", "seeds", "tests"):
        for file in (ROOT / folder).rglob("*"):
            if file.suffix in (".py", ".sql", ".service", ".ini"):
                named |= set(re.findall(r"\bdocs/([a-z-]+\.md)", file.read_text()))
    assert named
    assert {name for name in named if not (DOCS / name).exists()} == set()


def test_every_named_file_exists():
    """A name without a folder is in the folder of the one before it."""
    missing = []
    for path in PAGES:
        folder = ROOT
        for name in re.findall(
            r"`((?:(?:tests|bench|chaos|deploy|seeds|api|db)/[\w/.]*)|test_\w+\.py)`", path.read_text()
        ):
            file = (ROOT if "/" in name else folder) / name
            folder = file.parent
            if not file.exists():
                missing.append((path.stem, name))
    assert missing == []


def test_every_target_of_make_exists():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {name for path in PAGES for name in re.findall(r"(?:`|^)make ([a-z-]+)", path.read_text(), re.MULTILINE)}
    assert {"run", "test", "check", "migration", "lint"} <= named
    assert named <= targets


def test_every_block_is_run_or_compared():
    """docs/operations.md has a test of its own: tests/operations/test_guide.py."""
    chosen = [
        tuple(ast.literal_eval(argument) for argument in call.args)
        for folder in ("documents", "client")
        for file in (ROOT / "tests" / folder).glob("*.py")
        for call in ast.walk(ast.parse(file.read_text()))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "block"
        if all(isinstance(argument, ast.Constant) for argument in call.args)
    ]
    left = [
        (path.stem, text)
        for path in PAGES
        if path.stem != "operations"
        for name in [name_of(path).removeprefix("docs/")]
        for language, text in blocks(name)
        if not any((name, language) == where[:2] and where[2] in text for where in chosen)
        if not text.startswith(NOT_RUN)
    ]
    assert left == []


def test_each_test_that_a_target_leaves_out_is_there():
    # pytest ignores a name that it does not find among those to leave out.
    names = re.findall(r"^ +(tests/\S+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert len(names) > 40
    for name in names:
        path, _, function = name.partition("::")
        assert (ROOT / path).exists(), name
        assert not function or f"def {function}(" in (ROOT / path).read_text(), name
