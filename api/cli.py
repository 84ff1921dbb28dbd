"""The `ledger` command: see COMMANDS."""

import argparse
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from ipaddress import ip_address
from pathlib import Path
from types import FrameType

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from api.admin import api_keys, checkpoints, exporting, importing, kept, schedule, seed
from api.admin.progress import beside, progress, waiting
from api.admin.verify import NEW_GROUPS, PARTS, Discrepancy, Step, VerifyError, verify
from api.commands.arguments import DEFAULT_URL, SERVICE_COMMANDS, SHELLS, add_commands
from api.postgres import embedded, migrate, sessions
from api.postgres.connection import is_away
from api.postgres.preflight import StartError, check_at_start
from api.postgres.session_settings import TIMEOUTS
from api.proofs import snapshot_proof, verify_proof, verify_snapshot
from api.routes import SCOPES
from api.server.listener import listen
from api.server.settings import Settings
from api.server.supervisor import supervise
from api.settings import Given, conninfo_error, one_of, origins, positive, seconds, setting, source, trust_the_system
from bridge import arguments
from bridge import command as bridge
from bridge.halts import Refusal as BridgeRefusal

EPILOG = """\
settings, each of which may have LEDGER_ before its name (LEDGER_PORT, say), and then goes before the bare one:
  DATABASE_URL      the database to serve, postgresql://…; unset: an embedded PostgreSQL
  LEDGER_ADMIN_URL  what every command but serve logs in with (DATABASE_URL)
  LEDGER_DATA       where the embedded PostgreSQL keeps its files
  HOST, PORT        where to listen (127.0.0.1, 4000)
  WORKERS           processes that answer (1)
  LOG               requests: a line for each; faults: for errors alone (requests)
  METRICS           who may read them: local, those on this machine; all (local)
  CORS_ORIGINS      the origins whose web pages may use it, with commas between them (none)
  DRAIN             seconds of a failing health check before a stop (0)
  DATABASE_WAIT     seconds to wait at start for a database that cannot be reached (30)
  LEDGER_URL        the service that import, group, participant, transfer and so on use (http://127.0.0.1:4000)
  LEDGER_KEY        the API key that they send (none)
  RPC, CHECK_RPC    the nodes of the chain that bridge, guardian and vault ask, http://… or https://…
"""

COMMANDS = (
    *("serve", "migrate", "seed", "reset", "import", "export", "verify"),
    *("checkpoint", "proof", "verify-proof", "snapshot", "verify-snapshot"),
    *("bridge", "guardian", "vault", "key"),
    *SERVICE_COMMANDS,
    *("completion", "url", "psql"),
)

LOGS = ("requests", "faults")
READERS = ("local", "all")

CLEAR_LOG_SECONDS = 60
MAX_PAUSE = 30  # seconds between two attempts to start an embedded server that has died


class Refusal(Exception):
    """Why a command cannot be carried out, in words for the person who gave it."""


@dataclass(frozen=True)
class Login:
    """How to reach the database: as the service and as its administrator."""

    service: str
    admin: str
    embedded: bool


def main(arguments: Sequence[str] | None = None) -> None:
    # If a standard stream is closed, the next file that is opened, such as a connection, takes its descriptor.
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    trust_the_system()
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or (given[0].startswith("-") and given[0] not in ("-h", "--help", "--version")):
        given.insert(0, "serve")
    # SystemExit unwinds the command, which stops the embedded server.
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup has SIGHUP
            signal.signal(number, stop)
    try:
        sys.exit(run(given))
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # The reader of the output has ended; Python flushes the output once more when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except (Refusal, StartError, embedded.EmbeddedError, migrate.MigrationError, VerifyError, kept.KeptError) as error:
        sys.exit(f"ledger: {error}")
    except BridgeRefusal as error:
        sys.exit(f"ledger: {error}")
    except (psycopg.errors.InvalidSchemaName, psycopg.errors.UndefinedFunction) as error:
        sys.exit(f"ledger: the database is not migrated: {error.diag.message_primary}. Run: ledger migrate")
    except psycopg.Error as error:
        # Without a SQLSTATE no server answered.
        said = "the database refused" if error.sqlstate else "cannot connect to the database"
        hint = f"\n{error.diag.message_hint}" if error.diag.message_hint else ""
        sys.exit(f"ledger: {said}: {str(error).strip()}{hint}")


def stop(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


def run(given: list[str]) -> int:
    if given[0] == "psql":  # everything after it is psql's
        return run_psql(given[1:])
    options = parser().parse_args(given)
    if options.command in SERVICE_COMMANDS:
        from api.commands import command as service_command  # its client takes time that others need not wait for

        return service_command.run(options)
    if options.command == "completion":
        from api.commands import completion

        print(completion.script(parser(), options.shell), end="")
        return 0
    if options.command == "verify":
        return run_verify(options)
    if options.command == "import":
        url = os.environ.get("LEDGER_URL") or DEFAULT_URL
        key = os.environ.get("LEDGER_KEY") or None
        return importing.run(options.file, options.group, options.format, options.decimals, url, key)
    if options.command == "checkpoint":
        return run_checkpoint(options)
    if options.command == "bridge":
        return run_bridge(options)
    if options.command in ("guardian", "vault"):
        return run_on_chain(options)
    if options.command == "verify-proof":
        return verify_proof.run(options.file, options.header, options.root, options.rpc, options.vault, options.owner)
    if options.command == "verify-snapshot":
        return verify_snapshot.run(options.file, options.header, options.root)
    command = {
        "serve": run_serve,
        "migrate": run_migrate,
        "seed": run_seed,
        "reset": run_reset,
        "proof": run_proof,
        "snapshot": run_snapshot,
        "export": run_export,
        "key": run_key,
        "url": run_url,
    }
    command[options.command](options)
    return 0


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="ledger",
        description="A RESTful ledger service. Without a command it serves.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"ledger {version('ledger')}")
    commands = top.add_subparsers(dest="command", metavar="command")
    serve = commands.add_parser("serve", help="serve HTTP (the default)")
    serve.add_argument("--host", default=setting("HOST", "127.0.0.1"), help="address to listen on")
    serve.add_argument("--port", type=positive, default=setting("PORT", "4000"), help="port to listen on")
    serve.add_argument("--workers", type=positive, default=setting("WORKERS", "1"), help="processes that answer")
    for option, choices, meaning in (
        ("log", LOGS, "a line for each request, or for errors alone"),
        ("metrics", READERS, "who may read them: those on this machine, or all"),
    ):
        # Not argparse's choices: it does not check a default, and the environment's value may be none of them.
        default = setting(option.upper(), choices[0])
        serve.add_argument(
            f"--{option}", type=one_of(choices), default=default, metavar="|".join(choices), help=meaning
        )
    serve.add_argument(
        "--cors-origins",
        type=origins,
        default=setting("CORS_ORIGINS"),
        metavar="ORIGIN,…",
        help="the origins whose web pages may use it",
    )
    serve.add_argument(
        "--drain",
        type=seconds,
        default=setting("DRAIN", "0"),
        metavar="SECONDS",
        help="how long the health check fails before a stop",
    )
    serve.add_argument(
        "--wait",
        type=seconds,
        default=setting("DATABASE_WAIT", "30"),
        metavar="SECONDS",
        help="how long to wait for a database that cannot be reached",
    )
    serve.add_argument(
        "--insecure",
        action="store_true",
        help="serve without API keys, or with a login that may do more than it should",
    )
    commands.add_parser("migrate", help="apply pending migrations")
    load = commands.add_parser("seed", help="load the demo groups of seeds/, or a large data set")
    load.add_argument("--groups", type=positive, help="make this many groups …")
    load.add_argument("--participants", type=positive, help="… of this many participants each")
    reset = commands.add_parser("reset", help="drop the schema with all its data and API keys, migrate, seed")
    reset.add_argument("--yes", action="store_true", help="do not ask")
    take = commands.add_parser("import", help="import participants and transfers from a file into a group")
    take.add_argument("file", metavar="FILE", type=Path, help="CSV, NDJSON, or a genesis with an alloc")
    take.add_argument("--group", metavar="GROUP", type=identifier, required=True, help="the id of the group")
    take.add_argument(
        "--format",
        type=one_of(("csv", "ndjson", "genesis")),
        metavar="FORMAT",
        help="csv, ndjson or genesis; without it by the file's name: .csv, .ndjson, .jsonl, .json",
    )
    take.add_argument(
        "--decimals", metavar="N", type=int, choices=range(78), default=0, help="decimal places of the unit of amounts"
    )
    give = commands.add_parser("export", help="print all participants, entries and checkpoints of a group")
    give.add_argument("group", metavar="GROUP", type=identifier, help="the id of the group")
    check = commands.add_parser("verify", help="prove that the books are right, or say where they are not")
    check.add_argument("group", metavar="GROUP", nargs="?", type=identifier, help="its id; all of them without it")
    check.add_argument(
        "--against", metavar="FILE", type=Path, help="checkpoints that were kept elsewhere, which the record must give"
    )
    commit = commands.add_parser("checkpoint", help="commit to what everybody in a group holds")
    commit.add_argument("group", metavar="GROUP", nargs="?", type=identifier, help="its id")
    commit.add_argument(
        "--all", action="store_true", help="of each group in which something has moved since its newest"
    )
    commit.add_argument("--every", metavar="INTERVAL", type=interval, help="again and again: 30s, 5m, 1h, say")
    commit.add_argument("--metrics-file", metavar="PATH", type=Path, help="where --all writes its metrics")
    commit.add_argument("--idempotency-key", metavar="KEY", help="make one checkpoint however often it is given")
    commit.add_argument(
        "--keep",
        metavar="N",
        type=identifier,
        help="delete the leaves of all checkpoints of the group but the newest N",
    )
    prove = commands.add_parser("proof", help="prove what a participant held in a checkpoint")
    prove.add_argument("group", metavar="GROUP", type=identifier, help="the id of the group")
    prove.add_argument("participant", metavar="PARTICIPANT", type=identifier, help="the id of the participant")
    prove.add_argument("--number", metavar="N", type=identifier, help="the checkpoint; the newest one without it")
    prove.add_argument("--snapshot", metavar="FILE", type=Path, help="of these leaves, without the database")
    look = commands.add_parser("verify-proof", help="check a proof, without the database")
    verify_proof.add_arguments(look, "the proof")
    verify_proof.add_arguments_of_chain(look)
    export = commands.add_parser("snapshot", help="print all leaves of a checkpoint")
    export.add_argument("group", metavar="GROUP", type=identifier, help="the id of the group")
    export.add_argument("--number", metavar="N", type=identifier, help="the checkpoint; the newest one without it")
    verify_proof.add_arguments(
        commands.add_parser("verify-snapshot", help="check all leaves of a checkpoint, without the database"),
        "the snapshot",
    )
    bridge.add_arguments(
        commands.add_parser("bridge", help="connect groups with their vaults on a chain"),
        identifier,
        setting("RPC"),
        setting("CHECK_RPC"),
    )
    arguments.add_guardian(
        commands.add_parser("guardian", help="veto roots that are withheld or not clean"), identifier, setting("RPC")
    )
    arguments.add_vault(
        commands.add_parser("vault", help="deploy vaults, look at them, and leave them"), identifier, setting("RPC")
    )
    actions = commands.add_parser("key", help="make, list and revoke API keys").add_subparsers(
        dest="action", metavar="create|list|revoke", required=True
    )
    create = actions.add_parser("create", help="make an API key and print its secret, for the only time")
    create.add_argument("name", metavar="NAME", help="who is to use it")
    create.add_argument("--scope", choices=SCOPES[1:], required=True, help="what it is for")
    create.add_argument("--group", type=identifier, metavar="ID", help="the only group that it is for")
    actions.add_parser("list", help="list the API keys, those revoked as well")
    revoke = actions.add_parser("revoke", help="make an API key useless")
    revoke.add_argument("key", metavar="ID", type=identifier, help="its number, as list and its secret say it")
    add_commands(commands, identifier)
    complete = commands.add_parser("completion", help="print a script that completes commands and options")
    complete.add_argument("shell", metavar="SHELL", choices=SHELLS, help=" or ".join(SHELLS))
    commands.add_parser("url", help="print the administrator's connection string")
    commands.add_parser("psql", help="open psql as the administrator; takes psql's arguments", add_help=False)
    return top


def identifier(value: str) -> int:
    if not (value.isascii() and value.isdigit() and len(value) < 20 and 0 < int(value) < 2**63):
        raise argparse.ArgumentTypeError(f"{value!r} is not an id")
    return int(value)


def interval(value: str) -> int:
    """Read an interval, in seconds."""
    found = re.fullmatch(r"([1-9][0-9]{0,4})([smh])", value)
    if not found:
        raise argparse.ArgumentTypeError(f"{value!r} is not an interval: 30s, 5m or 1h, say")
    return int(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2]]


@contextmanager
def database(keep: bool = False) -> Iterator[Login]:
    """Yield how to log in to the database; run the embedded one during this time, or with `keep` for longer."""
    service, admin = setting("DATABASE_URL"), os.environ.get("LEDGER_ADMIN_URL")
    if service or admin:
        for name, value in (("DATABASE_URL", service), ("LEDGER_ADMIN_URL", admin)):
            if value:
                check_conninfo(value, name)
        yield Login(service or "", admin or service or "", embedded=False)
        return
    # libpq reads each PG* variable beside the address: PGHOSTADDR, for one, leads to another server.
    for name in [name for name in os.environ if name.startswith("PG")]:
        del os.environ[name]
    data = embedded.default_data()
    if not data.exists():
        print(f"ledger: DATABASE_URL is not set; making an embedded PostgreSQL in {data}", file=sys.stderr)
    with embedded.running(data, keep=keep):
        login = Login(embedded.url(data, embedded.SERVICE), embedded.url(data, embedded.ADMIN), embedded=True)
        # Once more on a connection like those of the command itself.
        with psycopg.connect(login.admin, autocommit=True) as connection:
            embedded.check_data_directory(data, connection.execute("show data_directory").fetchall()[0][0])
        yield login


def check_conninfo(value: str, name: str) -> None:
    if problem := conninfo_error(value):
        raise Refusal(f"{value.variable if isinstance(value, Given) else name} {problem}")


def apply_migrations(login: Login) -> list[str]:
    applied = migrate.migrate(login.admin)
    if login.embedded:
        with sessions.connect(login.admin, "ledger: login") as connection:
            if connection.execute("select to_regrole(%s)", [embedded.SERVICE]).fetchone() == (None,):
                connection.execute(f"create role {embedded.SERVICE} login in role ledger_api")
                for name, value in TIMEOUTS.items():
                    connection.execute(f"alter role {embedded.SERVICE} set {name} = '{value}'")
            for setting, undo in sessions.undocumented(connection, embedded.SERVICE).items():
                print(f"ledger: warning: {setting} was set for the service's login; undoing it", file=sys.stderr)
                connection.execute(undo.encode())
            keep_refusals_out_of_log(connection)
            # ledger.activity shows since when transactions are open, those of other roles too.
            connection.execute("grant pg_read_all_stats to ledger_owner")
    return applied


def keep_refusals_out_of_log(connection: psycopg.Connection) -> None:
    """Have the server not log the service's errors, unless its role has a setting of its own for that.

    A refusal would log balances and names, with its DETAIL, its CONTEXT and the statement. The service itself logs an
    error that is no refusal. In log_min_messages LOG is above ERROR, so lines about slow statements or waits are kept.
    """
    with connection.transaction():
        connection.execute("select pg_advisory_xact_lock(%s)", [migrate.LOCK_KEY])  # two starts at once
        ((own,),) = connection.execute(
            """
            select exists (
              select from pg_db_role_setting as s
              cross join unnest(s.setconfig) as c (setting)
              where s.setrole = to_regrole(%s) and c.setting like 'log_min_messages=%%'
            )
            """,
            [embedded.SERVICE],
        )
        if not own:
            connection.execute(f"alter role {embedded.SERVICE} set log_min_messages = log")


def run_serve(options: argparse.Namespace) -> None:
    with listen_on(options.host, options.port) as sock, database() as login:
        if not login.service:
            raise Refusal("DATABASE_URL must say which database to serve")
        if login.embedded:
            apply_migrations(login)
        else:
            wait_for(login.service, options.wait)
        found = check_at_start(login.service, any_login=options.insecure or login.embedded)
        for warning in found.warnings:
            print(f"ledger: warning: {warning}", file=sys.stderr)
        open_at_first = options.insecure or (login.embedded and is_loopback(sock))
        if not (found.keys_required or open_at_first):
            raise Refusal(
                "there is no API key yet, so every client could move money. Create one: "
                "ledger key create NAME --scope admin. Or start with --insecure."
            )
        where = f"embedded in {embedded.default_data()}" if login.embedded else address_of(login.service)
        host = f"[{options.host}]" if ":" in options.host else options.host
        address = f"http://{host}:{sock.getsockname()[1]}"
        announcement = f"Ledger answers on {address} (PostgreSQL {found.version}, {where})"
        if not found.keys_required:
            print("ledger: there is no API key yet, so every client has full access: see ledger key", file=sys.stderr)
        settings = Settings(
            options.workers,
            open_at_first,
            options.log == "requests",
            options.metrics == "all",
            options.drain,
            options.host,
            options.cors_origins,
            account.pw_name if login.embedded and (account := embedded.web_account()) else "",
        )
        monitor = EmbeddedMonitor(embedded.default_data()) if login.embedded else None
        supervise(sock, login.service, settings, announcement, monitor)


def listen_on(host: str, port: int) -> socket.socket:
    """A listening socket. Raises StartError, which names the variables that the host and the port are from."""
    try:
        return listen(host, port)
    except StartError as error:
        chosen = setting("PORT")
        raise StartError(f"{error}{source(host)}{source(chosen) if chosen == str(port) else ''}") from error


def wait_for(conninfo: str, patience: int) -> None:
    """Wait until a database can be asked, `patience` seconds at most."""
    deadline = time.monotonic() + patience
    if patience and is_away(conninfo):
        print(f"ledger: the database is away; waiting for it for {counted(patience, 'second')}", file=sys.stderr)
        while is_away(conninfo) and time.monotonic() < deadline:
            time.sleep(0.5)


def is_loopback(sock: socket.socket) -> bool:
    """Whether a socket listens for this machine alone."""
    return ip_address(sock.getsockname()[0].partition("%")[0]).is_loopback


class EmbeddedMonitor:
    """Restarts the embedded server when it has died, and logs that; clears the server's log.

    After a failed restart it pauses, longer each time.
    """

    def __init__(self, data: Path) -> None:
        self.data = data
        self.died = False
        self.pause = 0  # seconds
        self.pause_until = 0.0
        self.clear_log_at = 0.0

    def __call__(self) -> None:
        """Look once, for some seconds at most."""
        if time.monotonic() >= self.clear_log_at:
            self.clear_log_at = time.monotonic() + CLEAR_LOG_SECONDS
            try:
                embedded.clear_log(self.data)
            except embedded.EmbeddedError as error:
                print(error, file=sys.stderr, flush=True)
        if time.monotonic() < self.pause_until:
            return
        try:
            if embedded.revive(self.data):
                if self.died:
                    print("the database has died again", file=sys.stderr)
                self.died = True
        except embedded.EmbeddedError as error:
            self.died = True
            self.pause = min(2 * self.pause or 1, MAX_PAUSE)
            self.pause_until = time.monotonic() + self.pause
            print(
                f"the database has died and was not started: {error} Trying again in {counted(self.pause, 'second')}.",
                file=sys.stderr,
                flush=True,
            )
            return
        if self.died and not is_away(embedded.url(self.data)):
            self.died = False
            self.pause = 0
            print("the database had died; it runs again", file=sys.stderr, flush=True)


def run_migrate(options: argparse.Namespace) -> None:
    with database() as login:
        applied = apply_migrations(login)
        print("\n".join(f"applied {name}" for name in applied) or "nothing to apply")


def run_seed(options: argparse.Namespace) -> None:
    if (options.groups is None) != (options.participants is None):
        raise Refusal("--groups and --participants go together")
    with database() as login:
        if login.embedded:
            apply_migrations(login)
        if options.groups is None:
            seed.seed(login.admin)
            print("the demo groups are there")
            return
        with progress("participants", options.groups * options.participants) as shown:
            filled = seed.seed_many(login.admin, options.groups, options.participants, shown.advance)
            for number, (joined, present) in enumerate(filled, 1):
                with beside():
                    print(f"group {number} of {options.groups}: {joined} joined, {present} were there", flush=True)


def run_reset(options: argparse.Namespace) -> None:
    with database() as login:
        if not options.yes:
            print(f"This drops every group, balance, entry and API key of {address_of(login.admin)}, for good.")
            try:
                answer = input("Type yes to go on: ")
            except EOFError:
                answer = ""
            if answer.strip() != "yes":
                raise Refusal("nothing was changed")
        migrate.reset(login.admin)
        seed.seed(login.admin)
        print("the ledger is as new")
        with psycopg.connect(login.admin, autocommit=True) as connection:
            if migrate.had_keys(connection):
                print(
                    "its API keys are gone, and requests still need one: ledger key create NAME --scope admin",
                    file=sys.stderr,
                )


def run_verify(options: argparse.Namespace) -> int:
    """Print discrepancies to the standard output and progress to the standard error; return 1 if there are any."""
    against = kept.read(options.against) if options.against else []
    seen: Counter[str] = Counter()
    with database() as login:
        if login.embedded:
            apply_migrations(login)
        with progress("rows") as shown:
            for step in verify(login.admin, options.group, against, shown.expect):
                if step.discrepancies or step.note is not None:
                    with beside():
                        print("".join(f"{describe(found)}\n" for found in step.discrepancies), end="", flush=True)
                        if step.note is not None:
                            print(f"ledger: {step.note}", file=sys.stderr, flush=True)
                seen[step.part] += step.rows
                seen["discrepancies"] += len(step.discrepancies)
                shown.advance(step.rows if step.part in PARTS else 0, place_of(step, seen))
    counts = ["entries", "participants", "idempotency keys", *(["kept checkpoints"] if against else [])]
    parts = ", ".join(f"{part}: {seen[part]:,}" for part in counts)
    found = counted(seen["discrepancies"], "discrepancy", "discrepancies")
    print(f"{found} in {counted(seen['total'], 'group')} ({parts})")
    return 1 if seen["discrepancies"] else 0


def describe(found: Discrepancy) -> str:
    """Return a discrepancy as a line."""
    if found.group_id is None:
        return f"{found.kind}: {found.detail}"
    place = "new groups" if found.group_id == NEW_GROUPS else f"group {found.group_id}"
    if found.entry_id is not None:
        place += f", entry {found.entry_id}"
    if found.participant_id is not None:
        place += f", participant {found.participant_id}"
    return f"{place}: {found.kind}: {found.detail}"


def place_of(step: Step, seen: Counter[str]) -> str:
    """Return how far a verification is."""
    at = f"{step.part} up to {step.last}" if step.last is not None else step.part
    place = "" if step.group is None else f"group {step.group}: "
    return f"{counted(seen['total'], 'group')} done; {place}{at}"


def counted(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def run_checkpoint(options: argparse.Namespace) -> int:
    """Make a checkpoint, or those of all groups. Print only checkpoints to the standard output."""
    if (options.group is None) is not options.all:
        raise Refusal("give the id of a group, or --all")
    if options.all and options.idempotency_key is not None:
        raise Refusal("--idempotency-key is for the checkpoint of one group")
    if not options.all and (options.every is not None or options.metrics_file is not None):
        raise Refusal("--every and --metrics-file go with --all")
    with database() as login:
        if login.embedded:
            apply_migrations(login)
        if options.all:
            return make_checkpoints(login, options)
        with sessions.connect(login.admin, "ledger checkpoint") as connection:
            with waiting(f"checkpoint of group {options.group}"):
                made = checkpoints.make(connection, options.group, options.idempotency_key)
            print(made, flush=True)
            if options.keep is not None:
                dropped = checkpoints.drop(connection, options.group, options.keep)
                print(f"deleted the leaves of {counted(dropped, 'checkpoint')}", file=sys.stderr)
    return 0


def make_checkpoints(login: Login, options: argparse.Namespace) -> int:
    """Make the checkpoints of all groups; return 1 if one failed, and 0 for a stop between two rounds or in one."""
    if options.metrics_file is not None and not os.access(options.metrics_file.parent, os.W_OK | os.X_OK):
        raise Refusal(f"cannot write into the folder of --metrics-file: {options.metrics_file.parent}")
    if options.every is not None:
        signal.signal(signal.SIGTERM, end_schedule)
    try:
        plan = schedule.Schedule(login.admin, options.every, options.keep, options.metrics_file)
        return 0 if schedule.follow(plan) else 1
    except schedule.Stop:
        return 0


def end_schedule(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)
    raise schedule.Stop


def run_bridge(options: argparse.Namespace) -> int:
    if options.action == "key":
        return bridge.make_key(options)
    with database() as login:
        if login.embedded:
            apply_migrations(login)
        return bridge.run(options, login.admin)


def run_on_chain(options: argparse.Namespace) -> int:
    """Run a command that needs web3, and the database only for some of its actions."""
    bridge.check_installed(options.command)
    from bridge import guardian_command, vault

    return guardian_command.run(options) if options.command == "guardian" else vault.run(options, administrator)


@contextmanager
def administrator() -> Iterator[str]:
    """Yield the administrator's connection string, on an embedded database that is migrated."""
    with database() as login:
        if login.embedded:
            apply_migrations(login)
        yield login.admin


def run_proof(options: argparse.Namespace) -> None:
    if options.snapshot is not None:
        try:
            proof = snapshot_proof.prove(options.snapshot, options.participant, options.group, options.number)
        except (OSError, ValueError) as error:
            raise Refusal(f"cannot prove it by {options.snapshot}: {error}") from None
        print(json.dumps(proof, separators=(",", ":")))
        return
    with database() as login:
        if login.embedded:
            apply_migrations(login)
        with sessions.connect(login.admin, "ledger proof") as connection:
            print(checkpoints.proof(connection, options.group, options.participant, options.number))


def run_snapshot(options: argparse.Namespace) -> None:
    with database() as login:
        if login.embedded:
            apply_migrations(login)
        with sessions.connect(login.admin, "ledger snapshot") as connection:
            for piece in checkpoints.snapshot(connection, options.group, options.number):
                print(piece, end="")


def run_export(options: argparse.Namespace) -> None:
    with database() as login:
        if login.embedded:
            apply_migrations(login)
        with sessions.connect(login.admin, "ledger export") as connection:
            try:
                with progress("lines", hidden=sys.stdout.isatty()) as shown:
                    sys.stdout.writelines(exporting.export(connection, options.group, shown.expect, shown.advance))
            except exporting.UnknownGroupError as error:
                raise Refusal(str(error)) from None


def run_key(options: argparse.Namespace) -> None:
    """Create, list or revoke API keys. Print only the secret of a new API key to the standard output."""
    with database() as login:
        if login.embedded:
            apply_migrations(login)
        with sessions.connect(login.admin, "ledger key") as connection:
            if options.action == "create":
                key, secret = api_keys.create(connection, options.name, options.scope, options.group)
                print(f"made {key}; its secret is not shown again:", file=sys.stderr, flush=True)
                print(secret)
            elif options.action == "list":
                for key in api_keys.every(connection):
                    print(key)
            else:
                print(api_keys.revoke(connection, options.key))


def run_url(options: argparse.Namespace) -> None:
    with database(keep=True) as login:
        print(login.admin)


def run_psql(arguments: list[str]) -> int:
    with database() as login:
        parts = conninfo_to_dict(sessions.bounded(login.admin))
        environment = dict(os.environ)
        if login.embedded:
            environment["PGOPTIONS"] = "-c log_min_messages=log"  # psql shows the refusals, with balances and names
        if password := parts.pop("password", None):
            environment["PGPASSWORD"] = str(password)  # on the command line everybody could read it
        program = shutil.which("psql") or str(embedded.binaries() / "psql")
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # psql's to handle
        # psql shows an error with its SQLSTATE and without its CONTEXT. A pager would swallow input that is pasted
        # after a long answer.
        shown = ["--set=VERBOSITY=verbose", "--set=SHOW_CONTEXT=never", "--pset=pager=off"]
        command = [program, "--dbname", make_conninfo("", **parts), *shown, *arguments]
        return subprocess.run(command, env=environment, check=False, restore_signals=True).returncode


def address_of(conninfo: str) -> str:
    parts = conninfo_to_dict(conninfo)
    return f"database {parts.get('dbname', 'by default')} on {parts.get('host', 'the local socket')}"


if __name__ == "__main__":
    main()
