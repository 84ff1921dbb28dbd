"""Folders for the embedded server: one that was initialised once, and copies of it.

data     a folder that the tests of a module share: initialised and seeded, its server stopped
app      the application of a worker without a database
fresh    a test's own folder: initialised, nothing migrated
unused   the path of a folder that does not exist yet
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


@pytest.fixture
def fresh(initialised: Path, unused: Path) -> Path:
    subprocess.run(["cp", "-a", initialised, unused], check=True)
    return unused


@pytest.fixture(scope="module")
def data(initialised: Path) -> Iterator[Path]:
    with room() as path:
        subprocess.run(["cp", "-a", initialised, path / "data"], check=True)
        done("seed", LEDGER_DATA=path / "data")
        yield path / "data"


@pytest.fixture(autouse=True)
def nothing_remains(request: pytest.FixtureRequest) -> Iterator[None]:
    """After every test no process uses a folder that it used."""
    folders = [request.getfixturevalue(name) for name in ("data", "fresh", "unused") if name in request.fixturenames]
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
