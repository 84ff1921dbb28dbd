"""The distribution of the client: its package alone, and no dependency but httpx."""

import ast
import subprocess
import sys
import zipfile
from email.parser import Parser
from importlib.util import find_spec
from pathlib import Path

import ledger_client

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "client" / "ledger_client"


def test_the_wheel_has_the_package_and_needs_httpx(tmp_path: Path) -> None:
    # Without hatchling beside it, pip fetches the one to build with.
    isolation = ["--no-build-isolation"] if find_spec("hatchling") else []
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    build = [*pip, "wheel", "--no-deps", *isolation, "--wheel-dir", tmp_path, ROOT / "client"]
    subprocess.run(build, check=True, cwd="/")
    (wheel,) = tmp_path.glob("ledger_client-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        (metadata,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
        described = Parser().parsestr(archive.read(metadata).decode())
    assert names == {f"ledger_client/{path.name}" for path in PACKAGE.iterdir() if path.is_file()}
    assert "ledger_client/py.typed" in names
    assert described.get_all("Requires-Dist") == ["httpx"]


def test_the_package_imports_httpx_and_the_standard_library() -> None:
    imported = set()
    for path in PACKAGE.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(str(node.module).split(".")[0])
    assert imported - sys.stdlib_module_names == {"httpx", "ledger_client"}


def test_its_map_lists_its_modules() -> None:
    listed = {line.split()[0] for line in (ledger_client.__doc__ or "").splitlines() if ".py " in line}
    assert listed == {path.name for path in PACKAGE.glob("*.py")} - {"__init__.py"}
