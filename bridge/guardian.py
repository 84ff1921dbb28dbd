"""Watch a vault, and veto each root whose snapshot cannot be had in time or is not clean. No database is needed.

A guardian follows the head of the chain, because a root must be vetoed before it is ripe. What it has seen paid is
recorded at final blocks alone, so that no reorganization makes it refuse an exit that was not paid after all.

Whether a snapshot is *withheld* is decided by the chain's clock and by a last attempt to get it: while the guardian's
own node is away, or stays at one block, no time passes. A fault of this machine, such as a full disk, is no reason.
"""

import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from api.proofs.verify_proof import digest, int64, parse_hex, word
from bridge import contract
from bridge.chain import Block, Node, Refused
from bridge.contract import Log, Root
from bridge.guardian_metrics import GuardianMetrics
from bridge.halts import Later
from bridge.judgement import Mirrored, Paid, Unclean, Unreadable, compare, judge
from bridge.record import Record, Seen
from bridge.signer import Fees, Signer
from bridge.sources import Broken, Limits, Missing, Source, fetch

STEP = 100_000  # blocks whose events are recorded at once
SWEEP = 300.0  # seconds between two looks at all groups, also those without an event
FETCHES = 4  # snapshots that are fetched at once
SHORTEST_FETCH, LONGEST_FETCH = 5.0, 3_600.0  # seconds for one attempt
SHORTEST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # seconds between two attempts
VETO_GAS = 150_000  # a veto takes less than 60,000
PLAIN_GAS = 21_000
PATIENCE = 30.0  # seconds that a veto waits before its fee is raised
ATTEMPTS = 20  # to raise the fee of an underpriced veto in one round

Say = Callable[..., None]


@dataclass(frozen=True)
class Watched:
    """What a guardian guards: all groups of a vault, or some. `first` is the block of the vault's first event."""

    vault: str
    chain_id: int
    delay: int
    groups: frozenset[int] | None
    first: int
    confirmations: int | None


@dataclass(frozen=True)
class Mirror:
    """Where snapshots are from and where they are kept: of each group the `keep` newest of at most `largest` bytes."""

    source: Source
    folder: Path
    keep: int
    largest: int

    def path(self, group: int, number: int, suffix: str = ".json") -> Path:
        return self.folder / str(group) / f"{number}{suffix}"


@dataclass(frozen=True)
class Finding:
    """What came of an attempt: clean, unclean, missing or broken, and why."""

    outcome: str
    reason: str = ""


@dataclass
class Attempt:
    """An attempt to get and to judge a snapshot, in a thread of its own."""

    number: int  # of attempts at this root so far
    began_at: int  # the chain's time
    deadline: float
    finding: Finding | None = None
    ended_at: float | None = None


@dataclass(frozen=True)
class Sent:
    """A veto that was sent with a nonce."""

    header: str
    fees: Fees
    at: float


@dataclass
class Guardian:
    """One guardian. Its times are those of time.monotonic(), unless they are called the chain's."""

    node: Node
    signer: Signer
    watched: Watched
    mirror: Mirror
    record: Record
    metrics: GuardianMetrics
    say: Say
    attempts: dict[str, Attempt] = field(default_factory=dict)  # by the root's header
    sent: dict[int, Sent] = field(default_factory=dict)  # by nonce
    said: set[tuple[str, str]] = field(default_factory=set)  # what was said of a root, to say it once
    swept_at: float | None = None

    def round(self) -> bool:
        """Look at the chain once, and do what is to be done; return whether every root in flight is decided."""
        if self.node.chain_id() != self.watched.chain_id:
            raise Later(f"{self.node.host} is of another chain than before")
        head, final = self.node.latest(), self.node.final(self.watched.confirmations)
        self.follow(final)
        newer = self.node.logs(self.watched.vault, final.number + 1, head.number)
        self.metrics.head_at = head.time
        vetoes: list[tuple[Seen, Root]] = []
        waits: Later | None = None
        for group in self.candidates(newer):
            try:
                vetoes += self.look(group, head, newer)
            except Later as error:  # the other groups need not wait
                waits = error
        self.send_vetoes(vetoes, head)
        self.end_roots(final)
        if waits is not None:
            raise waits
        pending = [root for root in self.roots() if root.outcome is None]
        self.metrics.pending = len(pending)
        self.metrics.balance = self.signer.balance()
        return not pending and not vetoes

    def follow(self, final: Block) -> None:
        """Record what happened up to a final block."""
        followed = self.record.followed()
        first = self.watched.first
        if followed is not None:
            number, known = followed
            if number >= final.number:
                return
            block = self.node.block(number)
            if block is None:
                raise Later(f"{self.node.host} does not have block {number}")
            if block.hash == known:
                first = number + 1
            else:  # everything that is recorded can be read again
                self.say("reorganized", level="error", block=number)
                self.record.forget()
        while first <= final.number:
            # In steps, so that a node which fails at a long way does not make it begin again.
            last = min(first + STEP - 1, final.number)
            end = final if last == final.number else self.node.block(last)
            if end is None:
                raise Later(f"{self.node.host} does not have block {last}")
            self.record.follow(end, self.node.logs(self.watched.vault, first, last))
            first = last + 1

    def roots(self) -> list[Seen]:
        """The roots of the groups that are watched, as far as they have not ended."""
        return [
            root for root in self.record.roots() if self.watched.groups is None or root.group in self.watched.groups
        ]

    def candidates(self, newer: Sequence[Log]) -> list[int]:
        """The groups that may have a root to look at; now and then all of them, whatever the events say."""
        found = {root.group for root in self.roots()}
        found |= {int(log.values["group"]) for log in newer if log.name in ("Published", "Vetoed")}
        now = time.monotonic()
        if self.swept_at is None or now > self.swept_at + SWEEP:
            found |= self.watched.groups or set(self.record.groups())
            self.swept_at = now
        tried: Counter[int] = Counter()
        for root in self.roots():
            if root.header in self.attempts:
                tried[root.group] += self.attempts[root.header].number
        # Those that were tried least come first, so that slow sources of some groups do not keep others waiting.
        chosen = found if self.watched.groups is None else found & self.watched.groups
        return sorted(chosen, key=lambda group: (tried[group], group))

    def look(self, group: int, head: Block, newer: Sequence[Log]) -> list[tuple[Seen, Root]]:
        """Look at the roots of a group; return the one that must be vetoed, if there is one."""
        latest, ripe = self.root("latest", group, head), self.root("ripe", group, head)
        vetoes = []
        for root in {each.header: each for each in (ripe, latest) if each.number}.values():
            self.record.see(group, root.header, root.number, head.number)
            self.record.want(group, root.header, head.time)
            seen = self.record.root(group, root.header)
            in_flight = root is latest and head.time < root.published_at + self.watched.delay
            if seen.outcome is None:
                seen = self.decide(seen, root, ripe, head, newer, in_flight)
            if in_flight and seen.outcome in ("unclean", "withheld"):
                vetoes.append((seen, root))
            elif not in_flight and seen.outcome != "clean":
                self.say_once("ripe_without_check", seen, reason=seen.reason)
        for seen in self.record.roots(group):
            if seen.outcome in ("unclean", "withheld") and seen.header not in (latest.header, ripe.header):
                self.say_once("gone", seen)
        return vetoes

    def root(self, view: str, group: int, at: Block) -> Root:
        return Root(*self.node.call(self.watched.vault, view, group, at=at.number))

    def decide(self, seen: Seen, root: Root, ripe: Root, head: Block, newer: Sequence[Log], in_flight: bool) -> Seen:
        """Get and judge a snapshot, in the background; return what is known of the root now."""
        attempt = self.attempts.get(seen.header)
        finding = attempt.finding if attempt is not None else None
        if finding is not None and finding.outcome in ("clean", "unclean"):
            return self.settle(seen, finding.outcome, finding.reason)
        give_up_at = self.give_up_at(root, head.time if seen.wanted_at is None else seen.wanted_at)
        over = attempt is not None and (attempt.ended_at is not None or time.monotonic() > attempt.deadline)
        failed = over and (finding is None or finding.outcome == "missing")
        if attempt is not None and failed and in_flight and attempt.began_at >= give_up_at:
            return self.settle(seen, "withheld", finding.reason if finding else "it was not there in time")
        if attempt is None or over:
            late_from = give_up_at if in_flight and head.time >= give_up_at else None
            self.try_again(seen, root, ripe, head, newer, late_from)
        return seen

    def settle(self, seen: Seen, outcome: str, reason: str) -> Seen:
        self.record.decide(seen, outcome, reason or None)
        self.metrics.decided[outcome] += 1
        self.attempts.pop(seen.header, None)
        level = None if outcome == "clean" else "error"
        self.say("root", level=level, **spelled(seen), outcome=outcome, reason=reason or None)
        return self.record.root(seen.group, seen.header)

    def give_up_at(self, root: Root, wanted_at: int) -> int:
        """The chain's time from which a snapshot that is missing is withheld.

        It is half of the delay after the publication; later if the guardian came late, as long as a veto is in time.
        One more attempt, which begins after that, must fail.
        """
        delay = self.watched.delay
        return root.published_at + min(max(delay // 2, wanted_at - root.published_at + delay // 8), delay - delay // 8)

    def try_again(
        self, seen: Seen, root: Root, ripe: Root, head: Block, newer: Sequence[Log], late_from: int | None
    ) -> None:
        """Begin an attempt, unless there are too many, or the last one has just failed and the root is not late.

        `late_from` is the chain's time from which a failure counts, once it has come.
        """
        now = time.monotonic()
        last = self.attempts.get(seen.header)
        count = last.number + 1 if last is not None else 1
        if last is not None and last.ended_at is not None:
            if last.finding is not None:
                self.say_once("attempt_failed", seen, key=last.finding.reason, reason=last.finding.reason)
            pause = min(SHORTEST_PAUSE * 2 ** min(count - 2, 10), self.longest_pause())
            if late_from is None and now < last.ended_at + pause:
                return
        running = [one for one in self.attempts.values() if one.finding is None and now < one.deadline]
        # Whatever other roots do, each has the last attempt without which it cannot be vetoed.
        is_last = late_from is not None and (last is None or last.began_at < late_from)
        if len(running) >= FETCHES and not is_last:
            return
        paid = self.paid(seen.group, head, newer)
        domain = domain_of(self.watched, seen.group)
        before = self.mirror.path(seen.group, ripe.number)
        previous = Mirrored(before, ripe.header) if ripe.header != seen.header and before.exists() else None
        # A source that answers slowly must not outlast the time in which a veto is possible.
        left = root.published_at + self.watched.delay - head.time
        seconds = min(max(left / 4, SHORTEST_FETCH), LONGEST_FETCH) if left > 0 else LONGEST_FETCH
        attempt = Attempt(count, head.time, now + seconds)
        self.attempts[seen.header] = attempt

        def run() -> None:
            limits = Limits(self.mirror.largest, attempt.deadline)
            attempt.finding = examine(self.mirror, seen, count, domain, paid, previous, limits)
            attempt.ended_at = time.monotonic()

        try:
            threading.Thread(target=run, name=f"root {seen.number} of group {seen.group}", daemon=True).start()
        except RuntimeError as error:  # there are no more threads
            attempt.finding, attempt.ended_at = Finding("broken", str(error)), time.monotonic()

    def longest_pause(self) -> float:
        """Several attempts fit into the time until a snapshot is given up."""
        return max(min(LONGEST_PAUSE, self.watched.delay / 20), SHORTEST_PAUSE)

    def paid(self, group: int, head: Block, newer: Sequence[Log]) -> Paid:
        """The exits of a group that were paid, as the events have them. Raises Later where these are not all."""
        payments = self.record.payments(group, [log for log in newer if log.name == "Paid"])
        total = int(self.node.call(self.watched.vault, "paid", group, at=head.number))
        if payments.total != total:
            raise Later(f"{self.node.host} has events of {payments.total} that group {group} was paid, of {total}")
        return payments.exits

    def send_vetoes(self, vetoes: list[tuple[Seen, Root]], head: Block) -> None:
        """Send what is not sent yet, each with a nonce of its own, and raise the fee of what waits."""
        if not vetoes and not self.sent:
            return
        used = self.signer.nonce()
        self.sent = {nonce: sent for nonce, sent in self.sent.items() if nonce >= used}
        nonces = {sent.header: nonce for nonce, sent in self.sent.items()}
        free = max([used, *(nonce + 1 for nonce in self.sent)])
        # A node keeps a limited number of one account's transactions, and the gas may not do for all: where most is at
        # stake comes first.
        at_stake = {
            seen.group: int(self.node.call(self.watched.vault, "held", seen.group, at=head.number))
            for seen, _ in vetoes
        }
        for seen, _ in sorted(vetoes, key=lambda veto: (-at_stake[veto[0].group], veto[1].published_at)):
            data = contract.call_data("veto", seen.group)
            if seen.header not in nonces:
                try:
                    call = {"from": self.signer.address, "to": self.watched.vault, "data": data}
                    self.node.request("eth_call", call, "latest")
                except Refused as error:
                    self.metrics.failed += 1
                    self.say("veto_refused", level="error", **spelled(seen), message=error.reason or str(error))
                    continue
                nonces[seen.header] = free
                free += 1
            self.send(nonces[seen.header], seen.header, self.watched.vault, data, VETO_GAS, head)
        # A veto whose root is gone must not meet another root of the group.
        wanted = {seen.header for seen, _ in vetoes}
        for nonce, sent in list(self.sent.items()):
            if sent.header not in wanted:
                self.send(nonce, sent.header, self.signer.address, "0x", PLAIN_GAS, head)

    def send(self, nonce: int, header: str, to: str, data: str, gas: int, head: Block) -> None:
        """Send a transaction, or the one that replaces it once it has waited."""
        now = time.monotonic()
        sent = self.sent.get(nonce)
        if sent is not None and now < sent.at + PATIENCE:
            return
        fees = self.signer.fees(head)
        if sent is not None:
            higher = self.signer.raised(sent.fees, fees)
            if higher is None:
                self.say("fee_ceiling", level="error", nonce=nonce, ceiling=self.signer.ceiling)
            fees = higher or sent.fees
        for _ in range(ATTEMPTS):
            outcome = self.signer.deliver(self.signer.sign(nonce, to, data, gas, fees))
            higher = self.signer.raised(fees, fees) if outcome == "underpriced" else None
            if higher is None:
                break
            fees = higher
        self.sent[nonce] = Sent(header, fees, now)
        failed = outcome not in ("sent", "known", "used")
        self.metrics.failed += failed
        self.metrics.vetoes += not failed and to == self.watched.vault and sent is None
        level = "error" if failed else None
        self.say("transaction", level=level, header=header, nonce=nonce, fee=fees.most, outcome=outcome[:200])

    def end_roots(self, final: Block) -> None:
        """Forget the roots of which nothing can be expected any more, as of a final block."""
        for group in {root.group for root in self.roots()}:
            known = [root for root in self.record.roots(group) if root.seen_at <= final.number]
            if not known:
                continue
            latest, ripe = self.root("latest", group, final), self.root("ripe", group, final)
            for seen in known:
                in_flight = seen.header == latest.header and latest.header != ripe.header
                open_still = seen.header == ripe.header and seen.outcome is None
                if not in_flight and not open_still:
                    self.record.end(seen)
                    self.attempts.pop(seen.header, None)

    def say_once(self, event: str, seen: Seen, key: str = "", **more: Any) -> None:
        if (event + key, seen.header) not in self.said:
            self.said.add((event + key, seen.header))
            self.metrics.unchecked += event == "ripe_without_check"
            level = None if event == "gone" else "error"
            self.say(event, level=level, **spelled(seen), **more)


def spelled(seen: Seen) -> dict[str, object]:
    return {"group_id": seen.group, "number": seen.number, "header": seen.header}


def domain_of(watched: Watched, group: int) -> str:
    parts = (word(watched.chain_id), parse_hex(watched.vault, 20), int64(group))
    return "0x" + digest(b"\x03ledger/vault/1", *parts).hex()


def examine(
    mirror: Mirror, root: Seen, attempt: int, domain: str, paid: Paid, previous: Mirrored | None, limits: Limits
) -> Finding:
    """Get the snapshot of a root, judge it and keep it."""
    target = mirror.path(root.group, root.number)
    part = mirror.path(root.group, root.number, f".{root.header[2:18]}.{attempt}.part")
    try:
        return examined(mirror, root, domain, paid, previous, limits, part)
    except Unclean as error:
        with suppress(OSError):
            keep(part if part.exists() else target, mirror.path(root.group, root.number, ".unclean.json"))
        return Finding("unclean", str(error))
    except (Broken, OSError) as error:
        return Finding("broken", str(error))
    except Missing as error:
        return Finding("missing", str(error))
    except Exception as error:  # whatever a file does to this program, it is not a snapshot that was checked
        return Finding("missing", f"what was fetched is not the snapshot: {error}")
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def examined(
    mirror: Mirror, root: Seen, domain: str, paid: Paid, previous: Mirrored | None, limits: Limits, part: Path
) -> Finding:
    """The same. Raises Missing, Broken, Unclean, OSError, and ValueError where a file is not the snapshot."""
    target = mirror.path(root.group, root.number)
    target.parent.mkdir(mode=0o755, exist_ok=True)
    source = part
    try:
        # Before a kill it may have been kept already.
        judge(Mirrored(target, root.header), domain, paid)
        source = target
    except (ValueError, FileNotFoundError):
        if (free := shutil.disk_usage(target.parent).free) < mirror.largest:
            raise Broken(f"{free} bytes are free, and a snapshot may have {mirror.largest}") from None
        fetch(mirror.source, root.group, root.number, root.header, part, limits)
        judge(Mirrored(part, root.header), domain, paid)
    note = ""
    if previous is not None:
        try:
            compare(Mirrored(source, root.header), previous, paid)
        except Unreadable as error:
            note = str(error)
    if source == part:
        keep(part, target)
    prune(mirror, root.group)
    return Finding("clean", note)


def keep(part: Path, target: Path) -> None:
    """Move a file that is complete, so that it is there as a whole after a kill."""
    part.chmod(0o644)
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.replace(target)


def prune(mirror: Mirror, group: int) -> None:
    """Delete the oldest snapshots of a group."""
    for pattern in ("*[0-9].json", "*.unclean.json"):
        files = sorted(mirror.path(group, 0).parent.glob(pattern), key=lambda file: int(file.name.partition(".")[0]))
        for file in files[: -mirror.keep]:
            file.unlink(missing_ok=True)
