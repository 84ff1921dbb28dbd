"""What the vault does with a group, written a second time: the tests of invariants compare every call with it."""

from dataclasses import dataclass, field

from tests.vault.vault import DELAY, MINIMUM, NOBODY, SILENCE, WINDOW, Root

GAP = 2**32


@dataclass
class Published:
    root: Root
    at: int
    withheld: bool = False  # nobody but the publisher has its leaves

    @property
    def number(self) -> int:
        return self.root.header["number"]


@dataclass
class Deposited:
    owner: str
    amount: int
    at: int
    reclaimed: bool = False


@dataclass
class Request:
    at: int
    present: int
    answered: int = 0


@dataclass
class Model:
    """The state of an open group, and which calls it accepts at a time."""

    group: int
    deposits: list[Deposited] = field(default_factory=list)
    accepted: list[Published] = field(default_factory=list)  # without vetoed ones
    used: int = 0
    held: int = 0
    paid: int = 0
    filled_at: int = 0
    spent: set[tuple[int, int]] = field(default_factory=set)
    requests: dict[tuple[int, str], Request] = field(default_factory=dict)
    emergency: bool = False
    is_open: bool = True

    def latest(self) -> Published | None:
        return self.accepted[-1] if self.accepted else None

    def ripe(self, now: int) -> Published | None:
        return next((each for each in reversed(self.accepted) if now >= each.at + DELAY), None)

    def included(self) -> int:
        """How many deposits the latest root includes."""
        return self.accepted[-1].root.header["deposits"] if self.accepted else 0

    def takes_deposit(self, amount: int) -> bool:
        return self.is_open and not self.emergency and amount >= MINIMUM

    def takes_root(self, header: dict, now: int) -> bool:
        latest = self.latest()
        count = header["deposits"]
        return (
            self.is_open
            and not self.emergency
            and self.used < header["number"] <= self.used + GAP
            and (latest is None or now >= latest.at + DELAY + WINDOW)
            and header["previous"] == (latest.root.header["header"] if latest else "0x" + "00" * 32)
            and self.included() <= count <= len(self.deposits)
            and (count == len(self.deposits) or now < self.deposits[count].at + SILENCE)
            and int(header["credited"]) == sum(each.amount for each in self.deposits[:count])
            and int(header["settled"]) == self.paid
            and int(header["total"]) == int(header["credited"]) - int(header["settled"])
            and (0 < header["leaf_count"] <= 2**40 or int(header["total"]) == header["leaf_count"] == 0)
        )

    def takes_veto(self, now: int) -> bool:
        latest = self.latest()
        return latest is not None and now < latest.at + DELAY

    def pays(self, root: Root, index: int, now: int) -> bool:
        latest, leaf = self.latest(), root.leaves[index]
        if latest is None or latest.root is not root or leaf["owner"] == NOBODY:
            return False
        if (latest.number, index) in self.spent:
            return False
        in_window = latest.at + DELAY <= now < latest.at + DELAY + WINDOW
        return self.emergency or (in_window and leaf["exit_entry"] > 0)

    def pay(self, root: Root, index: int) -> None:
        leaf = root.leaves[index]
        self.spent.add((root.header["number"], index))
        self.held -= leaf["amount"]
        self.paid += leaf["amount"]
        request = self.requests.get((leaf["participant_id"], leaf["owner"]))
        if leaf["exit_entry"] and request and not request.answered and root.header["number"] > request.present:
            request.answered = root.header["number"]

    def takes_request(self, root: Root, index: int, by: str, now: int) -> bool:
        ripe, leaf = self.ripe(now), root.leaves[index]
        known = self.requests.get((leaf["participant_id"], leaf["owner"]))
        return (
            not self.emergency
            and by == leaf["owner"]
            and leaf["exit_entry"] == 0
            and ripe is not None
            and ripe.root is root
            and (known is None or known.answered > 0)
        )

    def request(self, root: Root, index: int, now: int) -> None:
        leaf = root.leaves[index]
        key, number = (leaf["participant_id"], leaf["owner"]), root.header["number"]
        known = self.requests.get(key)
        at = known.at if known and known.answered == number else now
        self.requests[key] = Request(at, number)

    def is_silent(self, now: int) -> bool:
        ripe = self.ripe(now)
        since = max(self.filled_at, ripe.at if ripe else 0)
        return not self.emergency and self.held > 0 and now >= since + SILENCE

    def is_unanswered(self, key: tuple[int, str], now: int) -> bool:
        request = self.requests.get(key)
        waited = request is not None and not request.answered and now >= request.at + SILENCE
        return not self.emergency and self.held > 0 and waited

    def declare(self, now: int) -> None:
        if self.takes_veto(now):
            self.accepted.pop()
        self.emergency = True

    def reclaims(self, index: int) -> bool:
        known = self.included() <= index < len(self.deposits)
        return self.emergency and known and not self.deposits[index].reclaimed
