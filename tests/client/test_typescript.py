"""A client in TypeScript that is generated from the OpenAPI document compiles, and moves money."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from api.resources import OPENAPI
from tests import npm
from tests.documents.pages import block

VERSIONS = {"openapi-typescript": "7.13.0", "typescript": "5.9.3", "openapi-fetch": "0.17.0"}
PACKAGES = [f"{name}@{version}" for name, version in VERSIONS.items()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the example, in which the compiler and what it needs are installed."""
    if shutil.which("node") is None:
        pytest.skip("the compiler needs node: apt-get install nodejs")
    try:
        compiler = npm.fetched("typescript", "-".join(VERSIONS.values()), PACKAGES, ".bin/tsc")
    except npm.MissingError as error:
        pytest.skip(f"the compiler of these tests {error}")
    folder = tmp_path_factory.mktemp("typescript")
    (folder / "node_modules").symlink_to(compiler.parents[1])
    (folder / "package.json").write_text('{"type": "module"}')
    (folder / "openapi.json").write_bytes(OPENAPI.read_bytes())
    (folder / "example.ts").write_text(block("client", "ts", "Demo in TypeScript"))
    generate, compile_it = block("client", "sh", "openapi-typescript").splitlines()[-2:]
    in_folder(folder, generate)
    # A name that does not exist does not compile, so the compiler looks.
    wrong = (folder / "example.ts").read_text().replace('username: "alice"', 'user_name: "alice"')
    (folder / "wrong.ts").write_text(wrong)
    refused = in_folder(folder, f"{compile_it.replace('example.ts', 'wrong.ts')} --noEmit", status=2)
    assert re.search(r"wrong\.ts\(\d+,\d+\): error TS\d+: .*'user_name' does not exist", refused)
    assert in_folder(folder, compile_it) == ""
    return folder


def in_folder(folder: Path, line: str, status: int = 0) -> str:
    done = subprocess.run(["sh", "-c", line], cwd=folder, capture_output=True, text=True)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


def test_the_example_compiles_and_its_amounts_are_exact(folder: Path, url: str) -> None:
    compiled = (folder / "example.js").read_text()
    (folder / "here.js").write_text(compiled.replace("http://127.0.0.1:4000", url))
    assert in_folder(folder, "node here.js") == f"alice {2**256 - 1}n\n"
