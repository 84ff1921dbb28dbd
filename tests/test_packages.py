"""The packages of api/: the map lists every module, and imports run downwards only."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import api
import bridge

ROOT = Path(api.__file__).parent
MODULES = sorted(path for path in ROOT.rglob("*.py") if path.name not in ("__init__.py", "__main__.py"))

# The modules that every package may import, and that import nothing but each other.
BOTTOM = {"routes", "problems", "resources"}
# The packages that each package may import, besides itself.
BELOW: dict[str, set[str]] = {
    "postgres": set(),
    "telemetry": {"postgres"},
    "http": {"telemetry", "postgres"},
    "server": {"http", "telemetry", "postgres"},
    "admin": {"postgres", "http", "proofs", "telemetry"},
    "commands": set(),
    "proofs": set(),
    "openapi": {"http"},
    "settings": {"http"},
    "cli": {"server", "postgres", "admin", "commands", "proofs", "settings"},
}
# The packages of api/ that bridge/ may import.
BRIDGE_BELOW = {"admin", "postgres", "proofs", "telemetry", *BOTTOM}
BRIDGE = sorted(Path(bridge.__file__).parent.glob("*.py"))


def parts(path: Path) -> tuple[str, ...]:
    return path.relative_to(ROOT).with_suffix("").parts


def imports(path: Path) -> Iterator[str]:
    """Return the package, or the module outside of one, of each import from api, including those for type checkers."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "api":
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("api."):
            yield str(node.module).split(".")[1]
        elif isinstance(node, ast.Import):
            yield from (alias.name.split(".")[1] for alias in node.names if alias.name.startswith("api."))


def test_map_lists_the_modules_of_each_package() -> None:
    listed, package = set(), ""
    for line in (api.__doc__ or "").splitlines():
        if found := re.fullmatch(r"(\w+)/ +\S.*", line):
            package = found[1]
        elif found := re.fullmatch(r"( *)(\w+)\.py +\S.*", line):
            listed.add((package, found[2]) if found[1] else (found[2],))
    assert listed == {parts(path) for path in MODULES}


def test_each_package_has_a_docstring() -> None:
    packages = {path.parent for path in MODULES}
    assert [
        path.name for path in sorted(packages) if not ast.get_docstring(ast.parse((path / "__init__.py").read_text()))
    ] == []


@pytest.mark.parametrize("path", MODULES, ids=lambda path: "/".join(parts(path)))
def test_imports_run_downwards(path: Path) -> None:
    own = parts(path)[0]
    allowed = BOTTOM if own in BOTTOM else {own, *BOTTOM, *BELOW[own]}
    assert set(imports(path)) <= allowed


def test_imports_are_found(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text(
        "import api.a\nfrom api import b\nfrom api.c import d\nif True:\n    from api.e.f import g\nimport apis.h"
    )
    assert {*imports(module)} == {"a", "b", "c", "e"}


def test_map_lists_the_modules_of_the_bridge() -> None:
    listed = re.findall(r"^(\w+)\.py +\S", bridge.__doc__ or "", re.MULTILINE)
    assert sorted([*listed, "__init__"]) == [path.stem for path in BRIDGE]


def test_the_bridge_imports_what_is_below_it() -> None:
    assert {name for path in BRIDGE for name in imports(path)} <= BRIDGE_BELOW


def test_nothing_but_the_command_imports_the_bridge() -> None:
    importing = {path.name for path in MODULES if re.search(r"^(from|import) bridge\b", path.read_text(), re.MULTILINE)}
    assert importing == {"cli.py"}
