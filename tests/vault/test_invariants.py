"""Random calls of everybody: an honest group beside those of a dishonest publisher, in one vault.

Every call is compared with the model, and the invariants are checked after each. The honest group has an operator who
does what the bridge does; everybody else is hostile to it. The watched group has a dishonest publisher, a guardian who
is awake, and participants who use what they hold. Nobody looks at the third one.
"""

import os
from collections import Counter
from collections.abc import Iterator
from typing import Any, ClassVar

import hypothesis.strategies as st
from hypothesis import HealthCheck, Phase, note, seed, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from tests.vault.evms import Outcome, PyEvm, Revm
from tests.vault.model import Deposited, Model, Published
from tests.vault.receivers import BURNS
from tests.vault.vault import (
    DELAY,
    GUARDIAN,
    NO_ROOT,
    PUBLISHER,
    SILENCE,
    STRANGER,
    WINDOW,
    Books,
    Refused,
    Root,
    Vault,
    encoded,
    header_tuple,
    person,
)

EXAMPLES = int(os.environ.get("EXAMPLES") or 40)
MOST_ROUNDS = 8
CALLS = 50
HONEST = 1
THIEF = person(99)
# Two of the owners have code: one refuses ether with less than 100,000 gas, and one burns all that it gets.
PEOPLE = range(1, 7)
CODES = {5: bytes.fromhex("5a620186a011600a57005b5f5ffd"), 6: BURNS}
# The operator, the guardian and the participants look this often.
STEP = DELAY - 600
Leaf = tuple[int, bool, bool, int]
LEAVES = st.lists(st.tuples(st.integers(1, 7), st.booleans(), st.booleans(), st.integers(0, 5)), min_size=0, max_size=6)
FIELDS = ("number", "previous", "deposits", "credited", "settled", "total", "leaf_count")


class Recorder(Revm):
    """An EVM that keeps what was asked and answered, so that another one can be asked the same."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[tuple[int, tuple]] = []
        self.answers: list[Outcome] = []

    def call(self, *message: Any) -> Outcome:
        answer = super().call(*message)
        self.messages.append((self.time, message))
        self.answers.append(answer)
        return answer

    def would_succeed(self, *message: Any) -> bool:
        """Whether a message would succeed, without its effects."""
        before = self.evm.snapshot()
        answer = super().call(*message)
        self.evm.revert(before)
        return answer.succeeded


def chain(evm: Any) -> Vault:
    for participant, code in CODES.items():
        evm.put_code(person(participant), code)
    return Vault(evm)


class Everybody(RuleBasedStateMachine):
    # How often each function was called with each result.
    seen: ClassVar[Counter[tuple[str, str]]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.evm = Recorder()
        self.vault = chain(self.evm)
        self.models: dict[int, Model] = {}
        self.known: dict[int, list[Root]] = {}
        self.owed: dict[str, int] = {}
        self.forced = 0
        self.watched, self.loose = HONEST, HONEST
        for group in (HONEST, HONEST + 1, HONEST + 2):
            self.begin(group)
        self.watched, self.loose = HONEST + 1, HONEST + 2
        self.books = Books(self.vault, HONEST)

    def begin(self, group: int) -> int:
        self.vault.send("open", group, by=PUBLISHER)
        self.models[group] = Model(group)
        self.known[group] = []
        for participant in (1, 2, 3, 5):
            self.pay_in(self.models[group], participant, 100 * participant)
        return group

    @property
    def now(self) -> int:
        return self.evm.time

    def group(self, which: int) -> int:
        return (HONEST, self.watched, self.loose)[which]

    def attempt(self, expected: bool, name: str, *arguments: Any, **options: Any) -> Outcome | None:
        """Send a message that must succeed, or must be refused, as the model says."""
        try:
            outcome = self.vault.send(name, *arguments, **options)
        except Refused as error:
            if expected:
                raise AssertionError(f"{name} is refused with {error}") from None
            self.seen[name, str(error)] += 1
            return None
        assert expected, f"{name} succeeded"
        self.seen[name, "done"] += 1
        return outcome

    # What anybody may do

    @rule(which=st.integers(0, 2), participant=st.sampled_from(PEOPLE), amount=st.integers(8, 1_000))
    def deposit(self, which: int, participant: int, amount: int) -> None:
        self.pay_in(self.models[self.group(which)], participant, amount)

    def pay_in(self, model: Model, participant: int, amount: int) -> None:
        owner = person(participant)
        if self.attempt(model.takes_deposit(amount), "deposit", model.group, owner, value=amount):
            if model.held == 0:
                model.filled_at = self.now
            model.deposits.append(Deposited(owner, amount, self.now))
            model.held += amount

    def roots(self, which: int, choice: int) -> tuple[Model, Root] | None:
        """A root of the group, accepted or not: the newest ones more often."""
        group = self.group(which)
        known = [root for root in self.known[group] if root.leaves]
        return (self.models[group], known[-1 - choice % len(known)]) if known else None

    @rule(which=st.integers(0, 2), choice=st.sampled_from([0, 0, 0, 1, 1, 2, 5]), index=st.integers(0, 6))
    def withdraw(self, which: int, choice: int, index: int) -> None:
        if found := self.roots(which, choice):
            self.pay(*found, index % len(found[1].leaves))

    def pay(self, model: Model, root: Root, index: int, *, must: bool = False) -> None:
        expected = model.pays(root, index, self.now)
        assert expected or not must
        if self.attempt(expected, "withdraw", *root.proof(index)):
            model.pay(root, index)
            self.receive(root.leaves[index]["owner"], root.leaves[index]["amount"])

    def receive(self, owner: str, amount: int) -> None:
        if amount and owner in map(person, CODES):
            self.owed[owner] = self.owed.get(owner, 0) + amount

    @rule(which=st.integers(0, 2), choice=st.integers(0, 2), picks=st.lists(st.integers(0, 6), max_size=8))
    def withdraw_many(self, which: int, choice: int, picks: list[int]) -> None:
        if not (found := self.roots(which, choice)):
            return
        model, root = found
        picks = [pick % len(root.leaves) for pick in picks]
        if choice == 0:  # those that a careful sender chooses
            picks = [each for each, leaf in enumerate(root.leaves) if leaf["exit_entry"] or model.emergency]
        number = root.header["number"]
        unpaid = list(dict.fromkeys(pick for pick in picks if (number, pick) not in model.spent))
        latest = model.latest()
        payable = latest is not None and latest.root is root
        if not model.emergency and payable and latest:
            payable = latest.at + DELAY <= self.now < latest.at + DELAY + WINDOW
        expected = payable and all(model.pays(root, pick, self.now) for pick in unpaid)
        proofs = [root.proof(pick) for pick in picks]
        arguments = header_tuple(root.header), [proof[1] for proof in proofs], [proof[2] for proof in proofs]
        if self.attempt(expected, "withdraw_many", *arguments):
            for pick in unpaid:
                model.pay(root, pick)
                self.receive(root.leaves[pick]["owner"], root.leaves[pick]["amount"])

    @rule(which=st.integers(0, 2), first=st.integers(0, 6), second=st.integers(0, 6))
    def paying_a_leaf_does_not_change_whether_another_can_be_paid(self, which: int, first: int, second: int) -> None:
        if not (found := self.roots(which, 0)):
            return
        model, root = found
        first, second = first % len(root.leaves), second % len(root.leaves)
        if first != second:
            message = encoded("withdraw", *root.proof(second))
            before = self.evm.would_succeed(STRANGER, self.vault.address, message)
            assert before == model.pays(root, second, self.now)
            self.pay(model, root, first)
            assert self.evm.would_succeed(STRANGER, self.vault.address, message) == before

    @rule(which=st.integers(0, 2), choice=st.integers(0, 3), index=st.integers(0, 6), own=st.sampled_from([1, 1, 1, 0]))
    def request(self, which: int, choice: int, index: int, own: int) -> None:
        if not (found := self.roots(which, choice)):
            return
        model, root = found
        ripe = model.ripe(self.now)
        if choice > 1 and ripe and ripe.root.leaves:
            root = ripe.root
        index %= len(root.leaves)
        owner = root.leaves[index]["owner"] if own else STRANGER
        if owner in map(person, CODES):
            return  # a contract sends nothing by itself
        expected = model.takes_request(root, index, owner, self.now)
        if self.attempt(expected, "request_exit", *root.proof(index), by=owner):
            model.request(root, index, self.now)

    def ask(self, model: Model) -> None:
        """After each third root, the first participant present requests an exit."""
        ripe = model.ripe(self.now)
        if ripe and ripe.number % 3 == 0 and not model.requests:
            for index, leaf in enumerate(ripe.root.leaves):
                if leaf["owner"] not in map(person, CODES) and model.takes_request(
                    ripe.root, index, leaf["owner"], self.now
                ):
                    self.attempt(True, "request_exit", *ripe.root.proof(index), by=leaf["owner"])
                    model.request(ripe.root, index, self.now)
                    return

    @rule(which=st.integers(0, 2))
    def declare(self, which: int) -> None:
        model = self.models[self.group(which)]
        if self.attempt(model.is_silent(self.now), "declare_emergency", model.group):
            model.declare(self.now)

    @rule(which=st.integers(0, 2), choice=st.integers(0, 20))
    def declare_of_request(self, which: int, choice: int) -> None:
        model = self.models[self.group(which)]
        if model.requests:
            key = list(model.requests)[choice % len(model.requests)]
            if self.attempt(model.is_unanswered(key, self.now), "declare_emergency_of_request", model.group, *key):
                model.declare(self.now)

    @rule(which=st.sampled_from([0, 1, 2, 2, 2]), index=st.integers(0, 8))
    def reclaim(self, which: int, index: int) -> None:
        self.reclaim_from(self.models[self.group(which)], index)

    def reclaim_from(self, model: Model, index: int) -> None:
        if self.attempt(model.reclaims(index), "reclaim", model.group, index):
            model.deposits[index].reclaimed = True
            model.held -= model.deposits[index].amount
            self.receive(model.deposits[index].owner, model.deposits[index].amount)

    @rule(kind=st.sampled_from(["collect", "force", "veto", "close", "open", "publish"]), number=st.integers(0, 11))
    def something_rare(self, kind: str, number: int) -> None:
        if kind == "collect":
            self.collect(number if number in PEOPLE else 5)
        elif kind == "force":
            self.evm.fund(self.vault.address, self.vault.balance + 1 + number)
            self.forced += 1 + number
        elif kind == "veto" and number % 2:
            self.veto_of(self.models[self.loose])  # without a reason
        elif kind == "close" and number % 2:
            self.close()
        else:
            self.without_a_key(self.group(number % 3), kind)

    def collect(self, participant: int) -> None:
        owner = person(participant)
        expected = self.owed.get(owner, 0) > 0 and participant != 6
        if self.attempt(expected, "collect", owner, gas=300_000):
            self.owed[owner] = 0

    # What the dishonest publisher does with their own groups, and the guardian

    @rule(
        which=st.integers(1, 2),
        leaves=LEAVES,
        included=st.sampled_from(["all", "all", "same", "fewer", "one more"]),
        change=st.sampled_from([None] * 8 + list(FIELDS)),
        by=st.sampled_from([1, 1, -1, 2**32]),
        withheld=st.sampled_from([False, False, True]),
    )
    def publish(
        self, which: int, leaves: list[Leaf], included: str, change: str | None, by: int, withheld: bool
    ) -> None:
        self.publish_for(self.models[self.group(which)], leaves, included, change, by, withheld)

    def publish_for(
        self,
        model: Model,
        leaves: list[Leaf],
        included: str,
        change: str | None = None,
        by: int = 0,
        withheld: bool = False,
    ) -> None:
        before, there = model.included(), len(model.deposits)
        count = {"all": there, "same": before, "fewer": max(before - 1, 0), "one more": min(before + 1, there)}[
            included
        ]
        credited = sum(each.amount for each in model.deposits[:count])
        total = max(credited - model.paid, 0)
        latest = model.latest()
        header = {
            **{"group_id": model.group, "number": model.used + 1, "chain_id": 31337, "vault": self.vault.address},
            **{"previous": latest.root.header["header"] if latest else NO_ROOT, "deposits": count},
            **{"credited": credited, "settled": model.paid, "leaf_count": 0, "total": 0, "root": NO_ROOT},
        }
        root = Root(header, [], []).altered(shared(leaves, total))
        if change == "previous":
            root = root.altered(
                previous=self.known[model.group][-1].header["header"] if self.known[model.group] else "0x" + "11" * 32
            )
        elif change == "leaf_count":
            root = root.altered(leaf_count=0 if by == 1 else 2**40 + 1)
        elif change:
            root = root.altered(**{change: max(root.header[change] + by, 0)})
        expected = model.takes_root(root.header, self.now)
        if root.header["leaf_count"] == 0:
            expected = expected and root.header["root"] == NO_ROOT
        self.known[model.group].append(root)
        if self.attempt(expected, "publish", header_tuple(root.header), by=PUBLISHER):
            model.used = root.header["number"]
            model.accepted.append(Published(root, self.now, withheld))
            uncredited = sum(each.amount for each in model.deposits[root.header["deposits"] :])
            assert root.header["total"] + uncredited == model.held

    def veto_of(self, model: Model) -> None:
        if self.attempt(model.takes_veto(self.now), "veto", model.group, by=GUARDIAN):
            model.accepted.pop()

    def close(self) -> None:
        model = self.models[self.loose]
        if self.attempt(model.is_open and model.held == 0, "close", self.loose, by=PUBLISHER):
            model.is_open = False
            self.loose = self.begin(max(self.models) + 1)

    def without_a_key(self, group: int, name: str) -> None:
        if name == "publish":
            header = (group, 10**6, bytes(32), 0, 0, 0, 0, 0, bytes(32))
            self.attempt(False, name, header, by=STRANGER)
            self.attempt(False, name, header, by=GUARDIAN)
        else:
            self.attempt(False, name, group, by=STRANGER)
            self.attempt(False, name, group, by=PUBLISHER if name == "veto" else GUARDIAN)

    # The honest operator

    @rule(sender=st.integers(0, 5), recipient=st.integers(0, 5), share=st.integers(0, 3), leave=st.booleans())
    def transfer(self, sender: int, recipient: int, share: int, leave: bool) -> None:
        """Send a share, and perhaps exit."""
        people = list(self.books.people)
        if people:
            sender, recipient = people[sender % len(people)], people[recipient % len(people)]
            self.books.transfer(sender, recipient, self.books.people[sender][1] * share // 3)
            if leave:
                self.books.exit(sender)

    def operate(self) -> None:
        """Answer requests, pay exits in the window, and publish after it."""
        model = self.models[HONEST]
        latest = model.latest()
        if latest and self.now < latest.at + DELAY + WINDOW:
            if self.now >= latest.at + DELAY:
                for index in range(len(latest.root.leaves)):
                    if latest.root.leaves[index]["exit_entry"] and (latest.number, index) not in model.spent:
                        self.pay(model, latest.root, index, must=True)
            return
        for index, leaf in enumerate(latest.root.leaves if latest else ()):
            if (latest and latest.number, index) in model.spent:
                self.books.exits.pop(leaf["participant_id"], None)
        self.books.credit()
        for (participant, _), request in model.requests.items():
            if not request.answered and participant in self.books.people:
                self.books.exit(participant)
        uncredited = self.books.deposits > model.included()
        age = self.now - latest.at if latest else 0
        if uncredited or self.books.exits or (model.held > 0 and age >= SILENCE // 4):
            root = self.books.checkpoint()
            assert model.takes_root(root.header, self.now)
            self.attempt(True, "publish", header_tuple(root.header), by=PUBLISHER)
            self.books.number, self.books.previous = root.header["number"], root.header["header"]
            model.used = root.header["number"]
            model.accepted.append(Published(root, self.now))
            self.known[HONEST].append(root)

    def try_to_end(self) -> None:
        """Nobody ends the group of an honest operator."""
        model = self.models[HONEST]
        self.attempt(False, "declare_emergency", HONEST)
        for key in model.requests:
            self.attempt(False, "declare_emergency_of_request", HONEST, *key)

    # The guardian and the participants of the watched group

    def watch(self) -> None:
        model = self.models[self.watched]
        latest = model.latest()
        if latest and model.takes_veto(self.now) and not is_clean(latest):
            self.veto_of(model)
        elif model.group % 2 == 0 and (latest is None or self.now >= latest.at + DELAY + WINDOW):
            # This publisher is never silent, keeps everybody as present, and answers no request.
            self.publish_for(model, [(each, False, False, each) for each in (1, 2, 3, 5)], "all")
        unanswered = [key for key in model.requests if model.is_unanswered(key, self.now)]
        if model.is_silent(self.now):
            self.attempt(True, "declare_emergency", model.group)
            model.declare(self.now)
        elif unanswered:
            self.attempt(True, "declare_emergency_of_request", model.group, *unanswered[0])
            model.declare(self.now)
        elif not model.emergency:
            ripe = model.ripe(self.now)
            included = ripe.root.header["deposits"] if ripe else 0
            for each in model.deposits[included:]:
                assert self.now - each.at < 2 * SILENCE + STEP
        if model.emergency:
            self.settle(model)
            self.watched = self.begin(max(self.models) + 1)

    def settle(self, model: Model) -> None:
        """Pay everybody after an emergency, from what they know."""
        latest = model.latest()
        if latest:
            assert not latest.withheld
            for index in range(len(latest.root.leaves)):
                if (latest.number, index) not in model.spent:
                    self.pay(model, latest.root, index, must=True)
        for index in range(len(model.deposits)):
            if model.reclaims(index):
                assert self.now - model.deposits[index].at < 2 * SILENCE + STEP
            self.reclaim_from(model, index)
        assert model.held == 0
        self.attempt(True, "close", model.group, by=PUBLISHER)
        model.is_open = False

    # Time

    def wait(self, seconds: int) -> None:
        end = self.now + seconds
        while self.now < end:
            self.evm.time = min(self.now + STEP, end)
            self.operate()
            self.try_to_end()
            self.watch()
            for group in (HONEST, self.watched, self.loose):
                self.ask(self.models[group])

    @rule(seconds=st.sampled_from([1, STEP, DELAY, WINDOW, DELAY + WINDOW, SILENCE // 2, SILENCE]))
    def some_time_passes(self, seconds: int) -> None:
        self.wait(seconds)

    @rule(choice=st.integers(0, 40), offset=st.integers(-1, 0))
    def time_passes_until_something_becomes_possible(self, choice: int, offset: int) -> None:
        moments = sorted({each + offset for model in self.models.values() for each in moments_of(model)})
        later = [each for each in moments if each > self.now]
        if later:
            self.wait(later[choice % len(later)] - self.now)

    @invariant()
    def each_group_holds_what_came_in_less_what_went_out(self) -> None:
        for group in (HONEST, self.watched, self.loose):
            model = self.models[group]
            shown = [self.vault.read(name, group) for name in ("held", "paid", "deposits", "emergency", "is_open")]
            assert shown == [model.held, model.paid, len(model.deposits), model.emergency, model.is_open]
            came = sum(each.amount for each in model.deposits)
            returned = sum(each.amount for each in model.deposits if each.reclaimed)
            assert model.held == came - model.paid - returned
            ripe, latest = model.ripe(self.now), model.latest()
            assert self.vault.read("ripe", group)[0] == (ripe.number if ripe else 0)
            assert self.vault.read("latest", group)[0] == (latest.number if latest else 0)

    @invariant()
    def the_balance_is_what_groups_hold_and_owners_are_owed(self) -> None:
        held = sum(self.vault.read("held", group) for group, model in self.models.items() if model.is_open)
        owed = [self.vault.read("owed", person(each)) for each in PEOPLE]
        assert owed == [self.owed.get(person(each), 0) for each in PEOPLE]
        assert self.vault.read("owed", THIEF) == 0
        assert held + sum(owed) + self.forced == self.vault.balance
        assert not self.models[HONEST].emergency

    def teardown(self) -> None:
        """The operator of the honest group vanishes, and everybody is paid."""
        model = self.models[HONEST]
        if model.held:
            last = max([each.at for each in model.accepted] + [model.filled_at])
            self.evm.time = max(last + SILENCE + DELAY, self.now)
            self.attempt(True, "declare_emergency", HONEST)
            model.declare(self.now)
            self.settle(model)
        self.each_group_holds_what_came_in_less_what_went_out()


def shared(leaves: list[Leaf], total: int) -> list[dict]:
    """Leaves of a dishonest publisher that add up to the total, if there is any."""
    weight = sum(each[3] for each in leaves)
    made = [
        {
            "participant_id": participant,
            "exit_entry": 100 + number if exited else 0,
            "owner": THIEF if stolen else person(participant),
            "amount": total * share // weight if weight else 0,
        }
        for number, (participant, stolen, exited, share) in enumerate(leaves)
    ]
    if made:
        made[0]["amount"] += total - sum(each["amount"] for each in made)
    elif total:
        made.append({"participant_id": 1, "exit_entry": 0, "owner": person(1), "amount": total})
    return made


def is_clean(published: Published) -> bool:
    participants = [leaf["participant_id"] for leaf in published.root.leaves]
    return not published.withheld and len(participants) == len(set(participants))


def moments_of(model: Model) -> Iterator[int]:
    """When the vault's answers change."""
    for published in model.accepted[-2:]:
        yield from (published.at + DELAY, published.at + DELAY + WINDOW, published.at + SILENCE)
    for deposited in model.deposits[-2:]:
        yield deposited.at + SILENCE
    for request in model.requests.values():
        yield request.at + SILENCE
    yield model.filled_at + SILENCE


class OnAnotherEvm(Everybody):
    """The same messages have the same answers on another EVM."""

    def teardown(self) -> None:
        super().teardown()
        other = chain(PyEvm())
        assert other.address == self.vault.address
        for (time, message), answer in zip(self.evm.messages, self.evm.answers, strict=True):
            other.evm.time = time
            assert other.evm.call(*message) == answer
        for address in [self.vault.address, *map(person, range(100))]:
            assert other.evm.balance(address) == self.evm.balance(address) - self.forced * (
                address == self.vault.address
            )
        note(f"{len(self.evm.messages)} messages")


# Without shrinking: the calls that fail are printed, and shrinking them takes minutes.
OPTIONS: dict[str, Any] = {
    "phases": [Phase.generate],
    "deadline": None,
    "database": None,
    "print_blob": False,
    "suppress_health_check": list(HealthCheck),
}


# The results without which a run has shown nothing; the rare ones have tests of their own.
RESULTS = {
    "deposit": ["done"],
    "publish": ["done", "in flight"],
    "veto": ["done"],
    "withdraw": ["done", "header", "young", "present"],
    "withdraw_many": ["done"],
    "request_exit": ["done"],
    "declare_emergency": ["done", "not silent"],
    "declare_emergency_of_request": ["done", "not silent", "no request"],
    "reclaim": ["done", "no emergency", "credited"],
    "close": ["done"],
}


def test_nobody_takes_what_is_not_theirs() -> None:
    expected = {(function, result) for function, results in RESULTS.items() for result in results}
    Everybody.seen.clear()
    for number in range(MOST_ROUNDS):
        options = settings(max_examples=EXAMPLES, stateful_step_count=CALLS, **OPTIONS)
        run_state_machine_as_test(seed(number)(Everybody), settings=options)
        if number >= 2 and expected <= set(Everybody.seen):
            break
    assert expected - set(Everybody.seen) == set()


def test_another_evm_gives_the_same_answers() -> None:
    options = settings(max_examples=5, stateful_step_count=40, **OPTIONS)
    run_state_machine_as_test(seed(7)(OnAnotherEvm), settings=options)
