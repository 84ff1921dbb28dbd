"""The blocks of docs/operations.md, and machines to paste them on: folders that play hosts, servers on Unix sockets.

A block is run unchanged, except for host names, ports and folders. The programs of PostgreSQL's own user run as it, the
others as ourselves.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psycopg

from api.postgres import embedded
from tests.running.commands import LEDGER, ROOT, Service, environment, serving

GUIDE = ROOT / "docs" / "operations.md"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PATIENCE = 120.0  # seconds
MAIN = "/var/lib/postgresql/18/main"
LOGS = "/var/log/postgresql"


def block(language: str, containing: str) -> str:
    """The block of the guide in that language that contains the text."""
    (found,) = (text for name, text in BLOCK.findall(GUIDE.read_text()) if name == language and containing in text)
    return found


def number(pattern: str) -> int:
    """The number that the pattern's group finds in the guide, which says it once."""
    (found,) = re.findall(pattern.replace(" ", r"\s+"), GUIDE.read_text())
    return int(found)


@dataclass(frozen=True)
class Site:
    """A folder with all hosts of a test. Each has its server's files in `main` and its socket in `run`."""

    folder: Path
    version: int
    programs: Path

    @property
    def path(self) -> str:
        """PATH, with the programs of this site first."""
        return f"{LEDGER.parent}:{self.programs}:{os.environ['PATH']}"

    def main(self, host: str) -> Path:
        return self.folder / host / "main"

    def url(self, host: str, role: str, database: str = "ledger") -> str:
        return f"postgresql://{role}@{quote(str(self.folder / host / 'run'), safe='')}/{database}"

    def connect(self, host: str, role: str = embedded.ADMIN, database: str = "ledger") -> psycopg.Connection:
        return psycopg.connect(self.url(host, role, database), autocommit=True)

    def prepare(self, host: str) -> None:
        """Make a host, without a server yet."""
        self.run("install", "-d", "-m", "0700", *(self.folder / host / part for part in ("", "run", "log")))

    def run(self, *command: str | Path) -> None:
        as_server_user(command, self.folder, {"PATH": self.path})

    def start(self, host: str) -> None:
        self.run("pg_ctl", "start", "-w", "-D", self.main(host), "-l", self.folder / host / "log" / "ledger.log")

    def stop(self, host: str, mode: str = "fast") -> None:
        self.run("pg_ctl", "stop", "-w", "-m", mode, "-D", self.main(host))

    def substituted(self, script: str, host: str, folders: dict[str, Path] | None = None) -> str:
        """A block with the hosts and folders of this site; `host` is the one that it is pasted on."""
        for name in ("db", "replica", "restored"):
            run = self.folder / name / "run"
            script = script.replace(f"@{name}.example/", f"@{quote(str(run), safe='')}/")
            script = script.replace(f"{name}.example", str(run))
        given = folders or {}
        ours = {MAIN: self.main(host), LOGS: self.folder / host / "log", "/backup": self.folder / "backup"}
        for theirs, folder in (given | {name: ours[name] for name in ours if name not in given}).items():
            script = script.replace(theirs, str(folder))
        return script

    def paste(
        self,
        script: str,
        host: str = "db",
        *,
        server_user: bool = False,
        folders: dict[str, Path] | None = None,
        checkout: Path = ROOT,
        **settings: str | Path,
    ) -> str:
        """Run a block of sh on a host, in a checkout, and return its output. `server_user` runs PostgreSQL."""
        script = self.substituted(script, host, folders)
        given = {"PATH": self.path} | {name: str(value) for name, value in settings.items()}
        if server_user:
            given |= {"PGHOST": str(self.folder / host / "run"), "PGUSER": embedded.ADMIN, "PGDATABASE": "postgres"}
            return as_server_user(["sh", "-e", "-c", script], self.folder, given)
        return ended(["sh", "-e", "-c", script], cwd=checkout, env=environment(**given))

    def psql(self, script: str, host: str, role: str, database: str) -> list[str]:
        """Paste a block of SQL into psql; the lines that it printed."""
        program = [self.programs / "psql", "-XAtq", "--set=ON_ERROR_STOP=1", self.url(host, role, database)]
        return ended(program, cwd=ROOT, env=environment(), said=self.substituted(script, host)).splitlines()


def as_server_user(command: Sequence[str | Path], cwd: Path, settings: dict[str, str]) -> str:
    """Run a command to its end as the user that PostgreSQL runs as: for root, another user."""
    account = embedded._account(embedded._ACCOUNT)
    user = (account.pw_uid, account.pw_gid) if os.geteuid() == 0 else (None, None)
    return ended(command, cwd=cwd, env={"LC_ALL": "C"} | settings, user=user[0], group=user[1])


def ended(
    command: Sequence[str | Path],
    *,
    cwd: Path,
    env: dict[str, str],
    said: str = "",
    user: int | None = None,
    group: int | None = None,
) -> str:
    """Run a command that must succeed, and return its output."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env=env,
        input=said,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        umask=0o077,
        user=user,
        group=group,
        extra_groups=None if user is None else [],
    )
    assert done.returncode == 0, (command, done.returncode, done.stdout, done.stderr)
    return done.stdout


def initialise(site: Site, host: str = "db") -> None:
    """A server of its own version on a host, with nothing in it; it runs."""
    site.prepare(host)
    initdb = ["initdb", "-D", site.main(host), f"--username={embedded.ADMIN}", "--auth=trust", "--encoding=UTF8"]
    site.run(*initdb, "--no-sync", "--locale=C")
    # Paths are relative, so that a copy of the files is a host of its own.
    settings = """
        listen_addresses = ''
        unix_socket_directories = '../run'
        fsync = off
        shared_buffers = 16MB
    """
    with (site.main(host) / "postgresql.conf").open("a") as file:
        file.write(settings)
    site.start(host)


@contextmanager
def sited(folder: Path, version: int) -> Iterator[Site]:
    """A site in a folder that belongs to the server's user; its servers are stopped in the end."""
    server = embedded._server(folder, version)
    folder.mkdir(mode=0o700, exist_ok=True)
    if os.geteuid() == 0:
        os.chown(folder, server.account.pw_uid, server.account.pw_gid)
    site = Site(folder, version, embedded._reachable(server, version).bin)
    try:
        yield site
    finally:
        for file in folder.glob("*/*/postmaster.pid"):
            site.stop(file.parents[1].name, "immediate")
        shutil.rmtree(folder)


def answer(service: Service, method: str, path: str, body: object = None) -> object:
    """The data of an answer that is no refusal."""
    status, answered = service.ask(method, path, body)
    assert status in (200, 201), answered
    assert isinstance(answered, dict)
    return answered["data"]


@contextmanager
def served(site: Site, line: str, host: str, *further: str) -> Iterator[Service]:
    """The service that a line `DATABASE_URL=… ledger serve …` starts, on a port of its own."""
    setting, *command = site.substituted(line, host).split()
    name, _, url = setting.partition("=")
    assert (name, command[:2]) == ("DATABASE_URL", ["ledger", "serve"])
    options = command[2:]
    if "--port" in options:
        place = options.index("--port")
        options[place : place + 2] = []
    with serving("serve", *options, *further, locked=True, DATABASE_URL=url) as service:
        yield service
