"""Folders for the embedded server: each kind is made once, and tests get copies.

data         a folder that the tests of a module share: migrated and seeded, its server stopped
app          the application of a worker without a database
fresh        a test's own folder: migrated, without a group
unmigrated   a test's own folder: initialised, nothing migrated
unused       the path of a folder that does not exist yet
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sanic import Sanic

from api.http.app import App, create_app
from api.http.request import Telemetry
from api.postgres import embedded
from api.telemetry import metrics
from api.telemetry.log import Log
from tests.running.commands import done, postmaster, users_of
from tests.support import until


@contextmanager
def room() -> Iterator[Path]:
    """A folder that everybody may enter. For root the server runs as another user, so it is not below pytest's."""
    path = Path(tempfile.mkdtemp(prefix="ledger-"))
    path.chmod(0o755)
    try:
        yield path
    finally:
        if pid := postmaster(path / "data"):
            os.kill(pid, signal.SIGQUIT)
            until(lambda: not users_of(path / "data"), "the server to end")
        shutil.rmtree(path)


def copy(folder: Path, place: Path) -> Path:
    """A copy of a folder whose server is stopped; several times quicker than making one."""
    subprocess.run(["cp", "-a", folder, place], check=True)
    return place


@pytest.fixture
def unused() -> Iterator[Path]:
    with room() as path:
        yield path / "data"


@pytest.fixture(scope="session")
def initialised() -> Iterator[Path]:
    with room() as path:
        with embedded.running(path / "data"):
            pass
        yield path / "data"


@pytest.fixture(scope="session")
def migrated(initialised: Path) -> Iterator[Path]:
    with room() as path:
        done("migrate", LEDGER_DATA=copy(initialised, path / "data"))
        yield path / "data"


@pytest.fixture(scope="session")
def seeded(migrated: Path) -> Iterator[Path]:
    with room() as path:
        done("seed", LEDGER_DATA=copy(migrated, path / "data"))
        yield path / "data"


@pytest.fixture
def unmigrated(initialised: Path, unused: Path) -> Path:
    return copy(initialised, unused)


@pytest.fixture
def fresh(migrated: Path, unused: Path) -> Path:
    return copy(migrated, unused)


@pytest.fixture(scope="module")
def data(seeded: Path) -> Iterator[Path]:
    with room() as path:
        yield copy(seeded, path / "data")


@pytest.fixture(autouse=True)
def nothing_remains(request: pytest.FixtureRequest) -> Iterator[None]:
    """After every test no process uses a folder that it used."""
    folders = [request.getfixturevalue(name) for name in ("data", "unused") if name in request.fixturenames]
    yield
    for folder in folders:
        assert users_of(folder) == []


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Iterator[App]:
    monkeypatch.setattr(Sanic, "test_mode", True)  # several may start in one process
    memory = metrics.share(1)
    counts = metrics.Metrics(memory, 0)
    log = Log(0, False, memory, lambda lines: None)
    app = create_app("postgresql://", "ledger serve test", Telemetry(counts, log), True, False)
    yield app
    Sanic.unregister_app(app)
    os.close(memory)
