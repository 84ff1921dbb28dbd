"""Follow the chain, publish and pay, round after round, or once; halt where anything does not fit."""

import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from eth_account.signers.local import LocalAccount

from api.admin.schedule import Stop, log
from api.telemetry import textfile
from bridge import contract, follow, ledger
from bridge.chain import Block, Chain, Node, Terms
from bridge.halts import EXIT_STATUS, Halt, Later
from bridge.ledger import Ledger
from bridge.metrics import BridgeMetrics
from bridge.pay import Payer
from bridge.publish import Group, Publisher
from bridge.transactions import Outbox

LONGEST_PAUSE = 300.0  # seconds between two rounds that fail
UNKNOWN = "the publisher's key signed a root that this ledger did not make or has lost, and it was taken back"
IMMUTABLES = 5 * 32  # bytes that follow the vault's code on the chain


@dataclass(frozen=True)
class Plan:
    """What to do: `every` so many seconds, or once. Amounts and fees are in wei."""

    conninfo: str
    chain: Chain
    publisher: LocalAccount
    payer: LocalAccount | None
    guardian: str | None  # as it must be; None: any
    first: int  # the block at which groups begin that were not followed yet
    pay_from: int
    ceiling: int
    every: int | None
    metrics_file: Path | None


class Bridge:
    """The bridge with a session of the database, for the vaults of one chain."""

    def __init__(self, plan: Plan, session: Ledger, metrics: BridgeMetrics) -> None:
        self.plan = plan
        self.chain = plan.chain
        self.ledger = session
        self.metrics = metrics
        self.chain_id = self.chain.chain_id()
        keys = {"publisher": plan.publisher, "payer": plan.payer}
        self.outboxes = {
            name: Outbox(self.chain, session, key, self.chain_id, plan.ceiling, say)
            for name, key in keys.items()
            if key is not None
        }
        self.publisher = Publisher(self.chain, session, self.outboxes["publisher"], plan.pay_from, say)
        self.payer = Payer(self.chain, session, self.outboxes["payer"], plan.pay_from, say) if plan.payer else None
        self.compared = False

    def locked(self) -> bool:
        """Whether no other bridge works with these keys; it then has to wait for this one."""
        return all(self.ledger.lock(self.chain_id, outbox.sender) for outbox in self.outboxes.values())

    def round(self) -> None:
        """Do all that can be done now. Raises Later and Halt."""
        if self.chain.chain_id() != self.chain_id:
            raise Halt("wrong_chain", f"the node was of chain {self.chain_id}, and is of another one now")
        rows = [row for row in self.ledger.vaults(self.chain_id) if not row.closed]
        if not rows and not self.compared:
            say("no_vault", level="error", chain_id=self.chain_id, message="no group has a vault on this chain")
        head = self.chain.final()
        read: list[tuple[follow.Followed, Terms]] = []
        for vault in sorted({row.vault for row in rows}):
            terms = self.check_vault(vault, head)
            own = [row for row in rows if row.vault == vault]
            read += [(found, terms) for found in follow.read(self.chain, self.ledger, own, head, self.plan.first)]
        if not self.compared:
            for outbox in self.outboxes.values():
                outbox.compare(head)
            self.compared = True
        # Nothing is written before all groups have been compared.
        planned = [(found, follow.plan(found, head)) for found, _ in read]
        for found, calls in planned:
            for call in follow.unknown_roots(calls):
                group, number, header = call.arguments[:3]
                say("unknown_root", level="error", group_id=group, number=number, header=header, message=UNKNOWN)
            events = follow.write(self.ledger, calls)
            if events:
                say("followed", group_id=found.row.group_id, block=head.number, events=events)
        changed = {row.group_id: row for row in self.ledger.vaults(self.chain_id)}
        groups = [Group(changed[found.row.group_id], found.state, terms) for found, terms in read]
        self.send(groups, head)
        self.measure(groups, head)

    def check_vault(self, vault: str, head: Block) -> Terms:
        """Compare the code, the chain and the keys of a vault with what they should be."""
        code = self.chain.code(vault, head)
        if not code:
            raise Later(f"there is no contract at {vault} in block {head.number}, the newest final one")
        runtime = bytes.fromhex(contract.artifact()["runtime"].removeprefix("0x"))
        if not code.startswith(runtime) or len(code) != len(runtime) + IMMUTABLES:
            raise Halt("wrong_code", f"the code of {vault} is not that of this release's vault")
        terms = self.chain.terms(vault, head)
        if terms.chain_id != self.chain_id:
            raise Halt("wrong_chain", f"{vault} was deployed on chain {terms.chain_id}, and this is {self.chain_id}")
        if terms.publisher != self.plan.publisher.address:
            raise Halt("wrong_key", f"{vault} has the publisher {terms.publisher}, not {self.plan.publisher.address}")
        if self.plan.guardian is not None and terms.guardian != self.plan.guardian:
            raise Halt("wrong_key", f"{vault} has the guardian {terms.guardian}, not {self.plan.guardian}")
        if self.plan.payer is not None and self.plan.payer.address in (terms.publisher, terms.guardian):
            raise Halt("wrong_key", f"the payer {self.plan.payer.address} is the publisher or the guardian of {vault}")
        return terms

    def send(self, groups: Sequence[Group], head: Block) -> None:
        """Send open transactions again, then new ones. A group that has to wait does not stop the others."""
        self.by_id = {group.id: group for group in groups}
        self.now = self.chain.node.latest().time
        for outbox in self.outboxes.values():
            outbox.settle(head, self.makes_sense)
        waits: Later | None = None
        for group in groups:
            for work in (lambda group: self.publisher.work(group, head), self.payer.work if self.payer else None):
                if work is not None:
                    try:
                        work(group)
                    except Later as error:
                        if self.ledger.session.closed:
                            raise
                        waits = error
        if waits is not None:
            raise waits

    def makes_sense(self, row: Any) -> bool:
        """Whether the vault could still carry out an open transaction."""
        group = self.by_id.get(int(row.group_id))
        if group is None or (group.row.emergency and row.purpose == "publish"):
            return False
        (publication,) = (
            one for one in self.ledger.rows("list_publications", group.id) if int(one.number) == int(row.number)
        )
        if row.purpose == "publish":
            return bool(publication.state == "prepared")
        root = group.state.latest
        end = root.published_at + group.terms.delay + group.terms.window
        return bool(publication.state == "accepted" and root.number == row.number and self.now < end)

    def measure(self, groups: Sequence[Group], head: Block) -> None:
        """Note the state in which a round has left everything."""
        metrics = self.metrics
        latest = self.chain.node.latest()
        metrics.followed, metrics.lag = head.time, max(latest.number - head.number, 0)
        metrics.roots, metrics.silent = {}, {}
        metrics.requests = metrics.exits = 0
        for group in groups:
            exits = self.ledger.rows("list_open_exits", group.id)
            metrics.exits += len(exits)
            metrics.requests += sum(bool(one.requested) for one in exits)
            if group.state.held and not group.state.emergency:
                ripe = group.state.ripe.published_at
                metrics.roots[group.id] = ripe or group.state.filled_at
                metrics.silent[group.id] = max(ripe, group.state.filled_at) + group.terms.silence
        metrics.transactions = sum(len(outbox.open()) for outbox in self.outboxes.values())
        metrics.at_ceiling = any(outbox.held for outbox in self.outboxes.values())
        for name, outbox in self.outboxes.items():
            metrics.balances[name] = self.chain.node.number("eth_getBalance", outbox.sender, "latest")


def run(plan: Plan) -> int:
    """Work until the end, and return the exit status. Raises psycopg.Error for a database that is not the ledger's."""
    metrics = BridgeMetrics()
    bridge: Bridge | None = None
    failures = 0
    try:
        while True:
            done = False
            try:
                if bridge is None:
                    bridge = start(plan, metrics)
                if bridge is not None:
                    bridge.round()
                    metrics.round_at = time.time()
                    done = True
            except (Later, psycopg.OperationalError) as error:
                metrics.failed += 1
                say("later", level="error", message=str(error).strip())
                if bridge is None or bridge.ledger.session.closed or isinstance(error, psycopg.Error):
                    close(bridge)
                    bridge = None
            write(plan, metrics)
            if plan.every is None:
                return 0 if done else 1
            failures = 0 if done else failures + 1
            time.sleep(min(plan.every * math.pow(2, max(failures - 1, 0)), max(LONGEST_PAUSE, plan.every)))
    except Halt as halt:
        metrics.halted = halt.reason
        say("halted", level="error", reason=halt.reason, message=str(halt))
        write(plan, metrics)
        return EXIT_STATUS
    except Stop:
        return 0
    finally:
        close(bridge)


def start(plan: Plan, metrics: BridgeMetrics) -> Bridge | None:
    """Connect, and lock the keys; None while another bridge has them."""
    session = ledger.connect(plan.conninfo)
    try:
        bridge = Bridge(plan, session, metrics)
        locked = bridge.locked()
    except BaseException:
        session.close()
        raise
    if not locked:
        session.close()
        say("waiting", message="another bridge works with these keys")
        return None
    keys = {name: outbox.sender for name, outbox in bridge.outboxes.items()}
    say("started", chain_id=bridge.chain_id, nodes=[node.host for node in plan.chain.nodes], **keys)
    return bridge


def close(bridge: Bridge | None) -> None:
    if bridge is not None:
        bridge.ledger.close()


def write(plan: Plan, metrics: BridgeMetrics) -> None:
    """Write the metrics, where they are wanted. Without them the bridge goes on."""
    if plan.metrics_file is None:
        return
    try:
        textfile.write(metrics, plan.metrics_file)
    except OSError as error:
        say("metrics_failed", level="error", message=f"cannot write {plan.metrics_file}: {error.strerror}")


def say(event: str, level: str | None = None, **members: object) -> None:
    """Log an event as a line of JSON: errors to the standard error."""
    line = {"event": event, **members}
    if level is not None:
        line = {"level": level, **line}
    log(sys.stderr if level == "error" else sys.stdout, line)


def nodes(url: str, check: str | None, confirmations: int | None) -> Chain:
    return Chain(Node(url), Node(check) if check else None, confirmations)
