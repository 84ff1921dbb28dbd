"""A group with a vault beside the banks: a chain, a bridge, and people who deposit, transfer and leave.

It has a database of its own on the same server, since a restore of the banks' would lose what they were answered.
"""

import asyncio
import json
import random
import secrets
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
from eth_abi.abi import encode
from eth_account import Account

from api.admin import checkpoints
from api.postgres import embedded
from bench.ledgers import LEDGER, Ledger, environment
from bench.load import ROOT, BenchError
from bridge import contract
from bridge.halts import EXIT_STATUS
from chaos.machine import MissingError
from tests import anvil
from tests.anvil import Anvil

DATABASE, BACKUP = "ledger_vault", "ledger_vault_backup"
ETHER = 10**18
DELAY, WINDOW, SILENCE = 60, 120, 86_400  # seconds of the chain
PACE = 0.2  # seconds between two acts, which are TICK seconds of the chain
TICK = 10
PATIENCE = 60.0  # seconds
ROUNDS = 20  # of the bridge at the end, until everybody is paid
MATURE = 40  # blocks after which the last root is ripe and final

# A node that restarts, a database that is away, an act that is not possible now: the next one may be.
NOT_NOW = (psycopg.Error, anvil.NodeError, OSError, AssertionError)


class Vault:
    """The chain, the group, and the process of the bridge. What must not happen is noted in `wrong`."""

    def __init__(self, ledger: Ledger, node: Anvil, folder: Path) -> None:
        self.ledger = ledger
        self.node = node
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None
        self.wrong: list[str] = []
        self.mirrored: dict[str, Path] = {}  # snapshots by the header of their checkpoint
        self.resting = asyncio.Lock()  # held while nobody may act
        self.closing = False
        self.make()

    def url(self, database: str = DATABASE) -> str:
        return embedded.url(self.ledger.data, embedded.ADMIN, database)

    def connect(self, database: str = DATABASE) -> psycopg.Connection:
        return psycopg.connect(self.url(database), autocommit=True)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a `ledger` command on the group's database."""
        variables = environment(self.ledger.data) | {"DATABASE_URL": self.url()}
        command = [*LEDGER, *arguments]
        return subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, check=False)

    # Before it

    def make(self) -> None:
        """Make the database, the vault and the group. Raises BenchError."""
        with self.connect("postgres") as connection:
            connection.execute(f"create database {DATABASE}")
        if (migrated := self.run("migrate")).returncode:
            raise BenchError(migrated.stderr)
        self.folder.mkdir()
        self.keys = {}
        words = secrets.token_hex()
        (passphrase := self.folder / "passphrase").write_text(words)
        passphrase.chmod(0o600)
        for name in ("publisher", "payer"):
            account = Account.create()
            self.keys[name] = account.address
            file = self.folder / f"{name}.json"
            file.write_text(json.dumps(Account.encrypt(account.key, words, kdf="scrypt", iterations=2)))
            file.chmod(0o600)
            self.node("anvil_setBalance", account.address, hex(1_000 * ETHER))
        publisher = self.keys["publisher"]
        self.node("anvil_impersonateAccount", publisher)
        terms = [publisher, self.node.accounts[1], DELAY, WINDOW, SILENCE, 1]
        arguments = encode(["address", "address", *["uint256"] * 4], terms).hex()
        made = self.node.send(publisher, None, contract.artifact()["bytecode"] + arguments)
        self.address = str(contract.plain(made["contractAddress"]))
        with self.connect() as connection:
            ((self.group,),) = connection.execute("select id from ledger.create_group('chaos')").fetchall()
            connection.execute("set role ledger_bridge")
            chain_id = int(self.node("eth_chainId"), 16)
            connection.execute("select ledger.link_vault(%s, %s, %s)", [self.group, chain_id, self.address])
        self.node.send(publisher, self.address, contract.call_data("open", self.group))
        self.node.finalize()

    def options(self) -> list[str]:
        files = [f"--{key}-key={self.folder / key}.json" for key in self.keys]
        files += [f"--{key}-passphrase={self.folder / 'passphrase'}" for key in self.keys]
        return ["bridge", "--rpc", self.node.url, *files]

    # During the run

    def start(self) -> None:
        variables = environment(self.ledger.data) | {"DATABASE_URL": self.url()}
        command = [*LEDGER, *self.options(), "--every", "1s"]
        quiet = subprocess.DEVNULL
        self.process = subprocess.Popen(command, cwd=ROOT, env=variables, stdout=quiet, stderr=quiet)

    def kill(self) -> None:
        """Kill the bridge. Raises OSError if it does not run."""
        if self.process is None or self.process.poll() is not None:
            raise ProcessLookupError
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    async def live(self) -> None:
        """Act, keep snapshots, and start the bridge when it has ended, until `closing`."""
        while not self.closing:
            async with self.resting:
                with suppress(*NOT_NOW):
                    await asyncio.to_thread(self.act)
                self.watch()
            await asyncio.sleep(PACE)

    def watch(self) -> None:
        """Start the bridge where it does not run; note a halt, which only a restore explains."""
        status = self.process.poll() if self.process else 0
        if status is not None:
            if status == EXIT_STATUS:
                self.wrong.append("the bridge halted without a restore")
                self.closing = True
            else:
                self.start()

    def act(self) -> None:
        """Let somebody do something, and time pass on the chain."""
        owner = random.choice(self.node.accounts[2:])
        with self.connect() as connection:
            kind = random.choices(("deposit", "transfer", "exit"), (4, 4, 1))[0]
            query = "select id, amount from ledger.participants where group_id = %s and exited_at is null"
            present = connection.execute(query, [self.group]).fetchall()
            if kind == "deposit" or len(present) < 4:
                data = contract.call_data("deposit", self.group, owner)
                self.node.send(owner, self.address, data, random.randrange(1, ETHER))
            elif kind == "transfer":
                (sender, amount), (recipient, _) = random.sample(present, 2)
                move = "select ledger.transfer(%s, %s, %s, %s)"
                connection.execute(move, [self.group, sender, recipient, max(1, int(amount) // 3)])
            else:
                connection.execute("select ledger.exit_group(%s, %s)", [self.group, random.choice(present)[0]])
            self.node("evm_increaseTime", TICK)
            self.node.mine()
            self.keep(connection)

    def keep(self, connection: psycopg.Connection) -> None:
        """Keep the snapshot of the last accepted checkpoint, as a guardian does."""
        query = "select accepted_number, accepted_header from ledger.get_vault(%s)"
        connection.execute("set role ledger_bridge")
        ((number, header),) = connection.execute(query, [self.group]).fetchall()
        connection.execute("reset role")
        if number is not None and header not in self.mirrored:
            file = self.folder / f"{header}.json"
            file.write_text("".join(checkpoints.snapshot(connection, self.group, number)))
            self.mirrored[header] = file

    # Faults

    def go_back(self) -> None:
        """Have the chain forget its two newest blocks, and what was in them."""
        self.node("anvil_reorg", 2, [])

    async def restore(self) -> None:
        """Restore the database to before the last root; have the bridge halt, adopt, and go on. Raises BenchError."""
        async with self.resting:
            await asyncio.to_thread(self.copy, DATABASE, BACKUP)
            self.start()
        known = len(self.mirrored)
        deadline = asyncio.get_running_loop().time() + PATIENCE
        while len(self.mirrored) == known:  # until there is a root that the backup lacks
            if asyncio.get_running_loop().time() > deadline:
                raise BenchError("no root was published during a minute")
            await asyncio.sleep(PACE)
        async with self.resting:
            await asyncio.to_thread(self.restored)
            self.start()

    def copy(self, name: str, to: str) -> None:
        """Replace a database by a copy of another one, once the bridge is killed."""
        with suppress(ProcessLookupError):
            self.kill()
        with self.connect("postgres") as connection:
            query = "select pg_terminate_backend(pid) from pg_stat_activity where datname = %s"
            connection.execute(f"drop database if exists {to} with (force)")
            connection.execute(query, [name])
            # A copy by way of the WAL keeps how far a sequence has logged its numbers, and logs it for the original
            # alone: after a crash it gives some of them a second time.
            connection.execute(f"create database {to} template {name} strategy file_copy")

    def restored(self) -> None:
        """Restore the backup; check that the bridge halts and that nothing is settled; adopt. Raises BenchError."""
        self.copy(BACKUP, DATABASE)
        for _ in range(MATURE):  # until the last root is ripe and final
            self.node("evm_increaseTime", TICK)
            self.node.mine()
        payouts = self.payouts()
        latest = contract.returned(
            "latest", self.node("eth_call", {"to": self.address, "data": self.latest_data}, "finalized")
        )
        # The backup may have been taken between the making of a root and its publication.
        query = "select exists (select from ledger.checkpoints where header = decode(substr(%s, 3), 'hex'))"
        with self.connect() as connection:
            ((known,),) = connection.execute(query, [latest[1]])
        ended = self.once()
        if ended.returncode != (0 if known else EXIT_STATUS) or (not known and self.payouts() != payouts):
            self.wrong.append(f"after a restore the bridge ended with {ended.returncode}: {ended.stderr[-300:]}")
        file = self.mirrored.get(latest[1])
        if file is None:
            raise BenchError(f"nobody has kept the snapshot of root {latest[0]}")
        words = ["bridge", "adopt", str(self.group), "--snapshot", str(file), "--rpc", self.node.url]
        adopted = self.run(*words)
        if adopted.returncode:
            self.wrong.append(f"the snapshot was not adopted: {adopted.stderr[-300:]}")

    @property
    def latest_data(self) -> str:
        return contract.call_data("latest", self.group)

    def once(self) -> subprocess.CompletedProcess[str]:
        return self.run(*self.options(), "--once")

    def payouts(self) -> list[Any]:
        query = "select participant_id, subject, amount from ledger.payouts where transaction is not null order by 2"
        with self.connect() as connection:
            return [(one, two, int(amount)) for one, two, amount in connection.execute(query)]

    # After it

    def judge(self) -> list[str]:
        """Return what is wrong once everything that has happened on the chain is final and followed."""
        with suppress(ProcessLookupError):
            self.kill()
        wrong = list(self.wrong)
        last = self.leave()
        if last.returncode:
            wrong.append(f"at the end the bridge ended with {last.returncode}: {last.stderr[-300:]}")
        logs = [
            log
            for raw in self.node("eth_getLogs", {"address": self.address, "fromBlock": "0x0", "toBlock": "finalized"})
            if (log := contract.read_log(raw)) is not None
        ]
        paid = [
            (log.values["participant_id"], log.values["exit_entry"], log.values["amount"])
            for log in logs
            if log.name == "Paid"
        ]
        if sorted(paid) != sorted(self.payouts()):
            wrong.append(f"the vault has paid {sorted(paid)}, and settled are {sorted(self.payouts())}")
        deposited = [log.values["amount"] for log in logs if log.name == "Deposit"]
        query = """
            select
              (select count(*) from ledger.vault_deposits),
              (select coalesce(sum(amount), 0) from ledger.vault_deposits),
              (select coalesce(sum(amount), 0) from ledger.participants),
              (
                select coalesce(sum(e.amount), 0)
                from ledger.settlements as s
                join ledger.entries as e on e.group_id = s.group_id and e.id = s.entry_id
                where s.settled_at is null
              )
        """
        with self.connect() as connection:
            ((count, credited, held, owed),) = connection.execute(query).fetchall()
        if (count, credited) != (len(deposited), sum(deposited)):
            wrong.append(f"{len(deposited)} deposits of {sum(deposited)} were made, and {count} of {credited} credited")
        if held + owed != sum(deposited) - sum(amount for _, _, amount in paid):
            wrong.append(f"the vault holds {sum(deposited)} less what it paid, and the ledger {held} and {owed}")
        if (verified := self.run("verify")).returncode:
            wrong.append(verified.stdout[:500])
        if held or not paid:
            wrong.append(f"everybody has left, and the ledger has {held} of them, after {len(paid)} payments")
        return wrong

    def leave(self) -> subprocess.CompletedProcess[str]:
        """Have everybody leave and be paid; return how the bridge ended last."""
        held = contract.call_data("held", self.group)
        for _ in range(ROUNDS):
            self.node("evm_increaseTime", DELAY)
            self.node.mine()
            self.node.finalize()
            last = self.once()
            with self.connect() as connection:  # also those whose deposits were on their way
                query = "select id from ledger.participants where group_id = %s and exited_at is null"
                for (participant,) in connection.execute(query, [self.group]).fetchall():
                    connection.execute("select ledger.exit_group(%s, %s)", [self.group, participant])
            if int(self.node("eth_call", {"to": self.address, "data": held}, "finalized"), 16) == 0:
                break
        return last


@contextmanager
def chained(ledger: Ledger, folder: Path) -> Iterator[Vault]:
    """A group with a vault during this time. Raises MissingError without anvil."""
    try:
        anvil.fetched()
    except anvil.MissingError as error:
        raise MissingError(f"needs a chain: it {error}") from None
    with anvil.running() as node:
        vault = Vault(ledger, node, folder)
        vault.start()
        try:
            yield vault
        finally:
            with suppress(ProcessLookupError):
                vault.kill()
