"""The documents: their tables, their blocks of code and their headings."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
DOCS = ROOT / "docs"
PAGES = (
    *sorted(ROOT.glob("*.md")),
    ROOT / "client" / "README.md",
    ROOT / "db" / "README.md",
    *sorted(DOCS.glob("*.md")),
)
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def page(name: str) -> Path:
    """The path of a page: README, CONTRIBUTING, db/README and so on, or the name of one in docs/."""
    (found,) = (path for path in PAGES if name_of(path).removeprefix("docs/") == name)
    return found


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT).with_suffix(""))


def blocks(name: str) -> list[tuple[str, str]]:
    """The language and the text of each block of code in a page."""
    return BLOCK.findall(page(name).read_text())


def block(name: str, language: str, containing: str) -> str:
    """The block of code in that page and language that contains the text."""
    (found,) = (text for known, text in blocks(name) if known == language and containing in text)
    return found


def tables(name: str) -> list[list[list[str]]]:
    """The tables of a page, each with its first row: rows of cells."""
    found: list[list[list[str]]] = [[]]
    for line in page(name).read_text().splitlines():
        if line.startswith("|"):
            found[-1].append([cell.strip() for cell in line.strip("|").split("|")])
        elif found[-1]:
            found.append([])
    return [rows for rows in found if rows]


def table(name: str, first_column: str, number: int = 0) -> list[list[str]]:
    """The rows of the table with that first column; `number` chooses one of several."""
    found = [rows[2:] for rows in tables(name) if rows[0][0] == first_column]
    return found[number]


def anchors(path: Path) -> set[str]:
    """The anchors that a forge makes of a page's headings."""
    made: list[str] = []
    for line in re.findall(r"^#+ (.*)$", BLOCK.sub("", path.read_text()), re.MULTILINE):
        plain = re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-")
        repeated = sum(1 for anchor in made if re.fullmatch(rf"{re.escape(plain)}(-\d+)?", anchor))
        made.append(f"{plain}-{repeated}" if repeated else plain)
    return set(made)
