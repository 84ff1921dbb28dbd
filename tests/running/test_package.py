"""The installed package: one command, with its migrations, functions, seeds and the vault, from any folder."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.running.commands import ROOT, done, postmaster
from tests.running.test_commands import SHIPPED

PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Without hatchling beside it, pip fetches the one to build with.
    isolation = ["--no-build-isolation"] if find_spec("hatchling") else []
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([*PIP, "wheel", "--no-deps", *isolation, "--wheel-dir", folder, ROOT], check=True, cwd="/")
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path) -> Iterator[Path]:
    """The command in its own environment: the project from the wheel, its dependencies from ours."""
    with tempfile.TemporaryDirectory(prefix="ledger-") as folder:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True, cwd="/")
        python = Path(folder) / "bin" / "python"
        subprocess.run([*PIP, "--python", python, "install", "--no-deps", "--no-index", wheel], check=True, cwd="/")
        (packages,) = Path(folder).glob("lib/python*/site-packages")
        (packages / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
        yield Path(folder) / "bin" / "ledger"


def test_wheel_contains_migrations_functions_and_seeds(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        carried = {name for name in archive.namelist() if ".dist-info/" not in name}
    data = [
        *ROOT.glob("db/**/*.sql"),
        ROOT / "db" / "schema.txt",
        *ROOT.glob("seeds/*.sql"),
        *ROOT.glob("contracts/vault.*"),
    ]
    explorer = {str(file.relative_to(ROOT)) for file in ROOT.glob("api/explorer/*")}
    assert "api/explorer/index.html" in explorer
    assert explorer <= carried
    assert len(data) > 20
    assert {f"api/{file.relative_to(ROOT)}" for file in data} <= carried
    assert "api/openapi.json" in carried
    for package in ("api", "bridge"):
        assert {str(file.relative_to(ROOT)) for file in ROOT.glob(f"{package}/**/*.py")} <= carried
    client = {str(file.relative_to(ROOT / "client")) for file in ROOT.glob("client/ledger_client/*.py")}
    assert {"ledger_client/py.typed", "ledger_client/client.py"} <= client | {"ledger_client/py.typed"} <= carried
    # Nothing outside the packages: `tests` or `db` at the top would be everybody's.
    assert {name.split("/")[0] for name in carried} == {"api", "bridge", "ledger_client"}


def test_wheel_contains_no_other_files(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if ".dist-info/" not in name]
    assert {Path(name).suffix for name in names if Path(name).name != "RELEASED"} == {
        ".css",
        ".html",
        ".js",
        ".json",
        ".md",
        ".py",
        ".sql",
        ".svg",
        ".txt",
        ".typed",
        ".vy",
    }
    assert len(names) == len(set(names))


def test_installed_command_prints_its_version(installed: Path) -> None:
    assert done("--version", program=installed) == done("--version")


def test_installed_command_uses_its_own_files(installed: Path, unmigrated: Path) -> None:
    assert done("migrate", program=installed, LEDGER_DATA=unmigrated) == SHIPPED
    assert done("seed", program=installed, LEDGER_DATA=unmigrated) == "the demo groups are there\n"
    asked = done("psql", "-XAtc", "select count(*) from ledger.participants", program=installed, LEDGER_DATA=unmigrated)
    assert asked == "7\n"
    assert postmaster(unmigrated) is None


def test_installed_command_has_the_vault(installed: Path) -> None:
    code = "from bridge import contract; print(contract.__file__, len(contract.functions()))"
    path, functions = done("-P", "-c", code, program=installed.parent / "python").split()
    assert Path(path).is_relative_to(installed.parents[1])
    assert int(functions) > 30


def test_installed_command_runs_its_own_modules(installed: Path) -> None:
    code = (
        "from api import cli; from api.admin import seed; from api.postgres import migrate; "
        "print(cli.__file__, migrate.MIGRATIONS, seed.SEEDS)"
    )
    shown = done("-P", "-c", code, program=installed.parent / "python").split()
    assert len(shown) == 3
    assert all(Path(path).is_relative_to(installed.parents[1]) and Path(path).exists() for path in shown)
