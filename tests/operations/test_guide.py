"""No block of the guide goes untested, and what it links is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tests.operations.guide import BLOCK, GUIDE
from tests.running.commands import ROOT


def test_every_block_is_run_by_a_test() -> None:
    chosen = [
        tuple(ast.literal_eval(argument) for argument in call.args)
        for file in Path(__file__).parent.glob("*.py")
        for call in ast.walk(ast.parse(file.read_text()))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "block"
        if all(isinstance(argument, ast.Constant) for argument in call.args)
    ]
    blocks = BLOCK.findall(GUIDE.read_text())
    assert len(blocks) > 20
    assert [
        text
        for language, text in blocks
        if not any(language == name and containing in text for name, containing in chosen)
    ] == []


def test_every_link_leads_somewhere() -> None:
    text = GUIDE.read_text()
    headings = {
        re.sub(r"[^a-z0-9 -]", "", line.lower()).replace(" ", "-") for line in re.findall(r"^#+ (.*)$", text, re.M)
    }
    for target in re.findall(r"\]\(([^)]+)\)", text):
        file, _, heading = target.partition("#")
        assert (GUIDE.parent / file).exists()
        assert not heading or heading in headings
    assert "(docs/operations.md)" in (ROOT / "README.md").read_text()
