"""The image: built from the Dockerfile, and run without root, without any right, and with a read-only file system.

Its base is a Debian that mmdebstrap makes from the packages of this machine's own sources, and pip's packages are those
that this machine's pip finds.
"""

from __future__ import annotations

import json
import os
import platform
import re
import select
import shlex
import shutil
import signal
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.deploy.containers import Image, Store
from tests.documents.pages import block
from tests.documents.test_container import SERVICES, Composed, composed, dotenv  # noqa: F401
from tests.running.commands import LEDGER, ROOT, free_port
from tests.support import until

PATIENCE = 120.0  # seconds
LACKING = [name for name in ("buildah", "mmdebstrap", "unshare") if shutil.which(name) is None]


def can_contain() -> bool:
    """Whether this machine lets us mount something in a namespace."""
    if LACKING:
        return False
    mounting = ["unshare", "--mount", "--pid", "--fork", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return subprocess.run(mounting, capture_output=True).returncode == 0


pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="building and running an image without an engine needs root"),
    pytest.mark.skipif(bool(LACKING), reason="an image is built by: apt-get install buildah mmdebstrap"),
    pytest.mark.skipif(not can_contain(), reason="needs the right to mount in a namespace"),
]


def make_base(tar: Path) -> None:
    """A Debian with what the Dockerfile needs of its base, from the mirror that apt uses."""
    codename = platform.freedesktop_os_release()["VERSION_CODENAME"]
    selected = ["Identifier: Packages", "Origin: Debian", f"Codename: {codename}"]
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)", *selected], check=True, capture_output=True, text=True
    )
    packages = "--include=ca-certificates,passwd,python3-venv"
    subprocess.run(
        ["mmdebstrap", "--quiet", "--variant=essential", packages, codename, tar, listed.stdout.split()[0]], check=True
    )


def download_wheels(context: Path) -> None:
    """What the Dockerfile installs, as files, by the page's own commands."""
    *lines, _ = block("container", "sh", "PIP_NO_INDEX").splitlines()
    path = f"{LEDGER.parent}:{os.environ['PATH']}"
    subprocess.run(["sh", "-e", "-c", "\n".join(lines)], check=True, cwd=context, env=os.environ | {"PATH": path})


def copy_checkout(folder: Path) -> None:
    """The files of the repository as they are now."""
    names = ["git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(names, check=True, capture_output=True, text=True).stdout.split("\0"):
        if name and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    with tempfile.TemporaryDirectory(prefix="ledger-image-") as path:
        folder = Path(path)
        folder.chmod(0o711)
        store, context, tar = Store(folder), folder / "context", folder / "base.tar"
        context.mkdir()
        copy_checkout(context)
        with ThreadPoolExecutor() as pool:
            for done in (pool.submit(make_base, tar), pool.submit(download_wheels, context)):
                done.result()
        try:
            store.import_base(tar, "base")
            tar.unlink()
            docker, build, *options, _ = shlex.split(block("container", "sh", "PIP_NO_INDEX").splitlines()[-1])
            assert (docker, build) == ("docker", "build")
            base = ("--build-arg", "BASE=localhost/base")
            store.buildah("build", "--isolation", "chroot", "--format", "docker", *base, *options, context)
            yield store.image("ledger")
        finally:
            store.remove()


@pytest.fixture
def volume(image: Image) -> Iterator[Path]:
    """A new volume, which begins as a copy of the folder in the image."""
    with tempfile.TemporaryDirectory(prefix="ledger-volume-") as path:
        (mounted,) = image.config["Volumes"]
        subprocess.run(["cp", "-a", f"{image.root}{mounted}", f"{path}/data"], check=True)
        yield Path(path) / "data"


@contextmanager
def served(image: Image, volume: Path, **settings: str) -> Iterator[tuple[str, dict[str, str]]]:
    """A container that serves, at an address; and the settings that it has."""
    settings |= {"LEDGER_PORT": str(free_port())}
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(
            image.command(volume, **settings), stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
    ):
        try:
            assert process.stdout is not None
            heard, _, _ = select.select([process.stdout], [], [], PATIENCE)
            announced = process.stdout.readline() if heard else ""
            errors.seek(0)
            assert announced.startswith("Ledger answers on"), errors.read()
            yield f"http://127.0.0.1:{settings['LEDGER_PORT']}", settings
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            os.kill(int(children[0]), signal.SIGTERM)  # as an engine does, to the container's first process
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()


def asked(url: str, secret: str = "", body: object = None) -> tuple[int, object]:
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {secret}"} if secret else {})
    request = urllib.request.Request(url, None if body is None else json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def test_its_user_is_not_root_and_can_write_to_the_volume_alone(image: Image, volume: Path) -> None:
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", image.config["User"])
    found = image.run(volume, "-c", "id -u; id -un; grep CapEff /proc/self/status", entrypoint=["sh"]).split()
    assert found == [image.config["User"].partition(":")[0], "ledger", "CapEff:", "0" * 16]
    (mounted,) = image.config["Volumes"]
    find = "find / -xdev -path /proc -prune -o -path /dev -prune -o -writable ! -type l -print 2>/dev/null || true"
    assert image.run(volume, "-c", find, entrypoint=["sh"]).split() == [mounted]


def test_it_has_no_program_that_installs_packages_of_python(image: Image, volume: Path) -> None:
    assert not [*image.root.glob("opt/ledger/bin/pip*")]
    assert not (image.root / "source").exists()
    assert image.run(volume, "--version").startswith("ledger ")


def test_it_serves_its_embedded_database_again_after_a_stop(image: Image, volume: Path) -> None:
    refused = subprocess.run(image.command(volume), capture_output=True, text=True)
    assert "there is no API key yet" in refused.stderr
    secret = image.run(volume, "key", "create", "first", "--scope", "admin").split()[-1]
    for start in (1, 2):
        with served(image, volume) as (url, settings):
            assert asked(f"{url}/api/health/live")[0] == 200
            assert asked(f"{url}/api/groups")[0] == 401
            assert asked(f"{url}/api/groups", secret, {"name": f"group {start}"})[0] == 201
            groups = asked(f"{url}/api/groups", secret)[1]
            assert isinstance(groups, dict)
            assert [group["name"] for group in groups["data"]] == [f"group {n + 1}" for n in range(start)]
            kind, *check = image.config["Healthcheck"]["Test"]
            assert kind == "CMD"
            image.run(volume, *check, entrypoint=[], **settings)
        ended = subprocess.run(image.command(volume, check, [], **settings), capture_output=True)
        assert ended.returncode == 1  # nothing listens any more
        until(lambda: not (volume / "pgdata" / "postmaster.pid").exists(), "the database to stop")


def test_it_serves_the_database_of_compose(image: Image, volume: Path, composed: Composed) -> None:  # noqa: F811
    *shell, script = SERVICES["migrate"]["command"]
    shutil.copy(ROOT / "deploy" / "login.sql", volume)
    (mounted,) = image.config["Volumes"]
    script = script.replace("/login.sql", f"{mounted}/login.sql")
    administrator = composed.environment("migrate")
    image.run(volume, *shell, script, entrypoint=SERVICES["migrate"]["entrypoint"], **administrator)
    secret = image.run(volume, "key", "create", "first", "--scope", "admin", **administrator).split()[-1]
    (volume / "login.sql").unlink()
    with served(image, volume, **composed.environment("service")) as (url, _):
        assert asked(f"{url}/api/groups", secret, {"name": "ETH"})[0] == 201
        assert asked(f"{url}/api/health")[0] == 200
    assert [*volume.iterdir()] == []
